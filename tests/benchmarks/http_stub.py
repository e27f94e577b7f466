"""A service of OpenAI's Chat Completions that costs next to nothing: two canned answers. A process of its own.

    python tests/benchmarks/http_stub.py

Prints its port and serves until its standard input ends. A request whose body says `"stream":true` gets 200 chunks of
some 210 bytes, usage and the end marker, `BURST` events to a write; any other gets an answer of some 700 bytes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

CHUNKS = 200
BURST = 25
_ID = "chatcmpl-0123456789abcdef0123456789"


def _answer() -> bytes:
    message = {"role": "assistant", "content": "All work and no play makes a dull day. " * 8, "refusal": None}
    body = {
        "id": _ID,
        "object": "chat.completion",
        "created": 1750000000,
        "model": "stub",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 80, "total_tokens": 92},
        "system_fingerprint": "fp_0123456789",
    }
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def _event(choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> bytes:
    body = {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": 1750000000,
        "model": "stub",
        "system_fingerprint": "fp_0123456789",
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()


def _choice(delta: dict[str, str], finish_reason: str | None = None) -> list[dict[str, object]]:
    return [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]


def _stream() -> list[bytes]:
    """Return the writes of a streamed answer."""
    events = [_event(_choice({"role": "assistant", "content": ""}))]
    events += [_event(_choice({"content": f" word{number:03}"})) for number in range(CHUNKS)]
    events += [_event(_choice({}, "stop"))]
    events += [_event([], {"prompt_tokens": 12, "completion_tokens": CHUNKS, "total_tokens": CHUNKS + 12})]
    events += [b"data: [DONE]\n\n"]
    bursts = [b"".join(events[start : start + BURST]) for start in range(0, len(events), BURST)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return [head, *(f"{len(burst):x}\r\n".encode() + burst + b"\r\n" for burst in bursts), b"0\r\n\r\n"]


class Stub(asyncio.Protocol):
    """One connection."""

    answer = _answer()
    stream = _stream()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._seen += data
        head, blank, rest = self._seen.partition(b"\r\n\r\n")
        if not blank:
            return
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        size = int(length or 0)
        if len(rest) < size:
            return
        self._seen = rest[size:]
        wants_stream = b'"stream":true' in rest[:size].replace(b" ", b"")
        for piece in self.stream if wants_stream else [self.answer]:
            self._transport.write(piece)


async def main() -> None:
    """Serve."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Stub, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
