"""Answers of real services, kept chunk by chunk in a file without keys, and played again. Knows no wire format."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from abstractllm.testing.framing import (
    SECRET_HEADERS,
    Head,
    chunk_bytes,
    head_bytes,
    read_body,
    read_head,
    scrubbed,
)
from abstractllm.testing.local import READ_AHEAD, LocalServer, WatchedReader
from abstractllm.testing.loopback import Reply

_OF_THE_CONNECTION = frozenset({"connection", "content-length", "host", "keep-alive", "te", "transfer-encoding"})
"""Headers that say how a message is sent and not what it is."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request with its answer, whose body came in these chunks; `whole` says that its end came too."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int
    answer_headers: Mapping[str, str]
    chunks: tuple[bytes, ...]
    whole: bool = True

    def reply(self) -> Reply:
        """Return what a `LoopbackServer` is to do to play it again."""
        return Reply(self.status, self.answer_headers, chunks=self.chunks, ends=self.whole)


def without_keys(recorded: Recorded) -> Recorded:
    """Return it without secret headers, and with asterisks wherever the answer repeats one; chunks keep their sizes."""
    secrets = [
        value.split()[-1].encode("latin-1")
        for name, value in recorded.headers.items()
        if name.lower() in SECRET_HEADERS and value.strip()
    ]
    data = b"".join(recorded.chunks)
    for secret in secrets:
        data = data.replace(secret, b"*" * len(secret))
    return replace(
        recorded,
        headers=scrubbed(recorded.headers),
        answer_headers=scrubbed(recorded.answer_headers),
        chunks=_split_as(recorded.chunks, data),
    )


def _split_as(chunks: Iterable[bytes], data: bytes) -> tuple[bytes, ...]:
    found, start = [], 0
    for chunk in chunks:
        found.append(data[start : start + len(chunk)])
        start += len(chunk)
    return tuple(found)


def save(path: str | Path, recorded: Iterable[Recorded]) -> None:
    """Write a file of answers, without keys."""
    entries = [_to_json(without_keys(one)) for one in recorded]
    Path(path).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")


def load(path: str | Path) -> list[Recorded]:
    """Return the answers of a file."""
    return [_from_json(entry) for entry in json.loads(Path(path).read_text(encoding="utf-8"))]


def _to_json(recorded: Recorded) -> dict[str, Any]:
    return {
        "method": recorded.method,
        "path": recorded.path,
        "headers": dict(recorded.headers),
        "body": base64.b64encode(recorded.body).decode("ascii"),
        "status": recorded.status,
        "answer_headers": dict(recorded.answer_headers),
        "chunks": [base64.b64encode(chunk).decode("ascii") for chunk in recorded.chunks],
        "whole": recorded.whole,
    }


def _from_json(entry: Mapping[str, Any]) -> Recorded:
    chunks = tuple(base64.b64decode(chunk) for chunk in entry["chunks"])
    return Recorded(**{**entry, "body": base64.b64decode(entry["body"]), "chunks": chunks})


class Recorder(LocalServer):
    """Hands requests on to the service at `upstream` and its answers back, chunk by chunk; `recorded` holds them.

    Use `url` as the `base_url`, and `save` what was recorded. For recording sessions, not for tests: it connects to
    the service.
    """

    def __init__(self, upstream: str, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.recorded: list[Recorded] = []
        self._upstream = urlsplit(upstream.rstrip("/"))
        self._upstream_tls = tls

    async def _serve_connection(self, number: int, reader: WatchedReader, writer: asyncio.StreamWriter) -> None:
        while (head := await read_head(reader)) is not None:
            body = b"".join([piece async for piece in read_body(reader, head.headers)])
            service, sending = await self._connected()
            try:
                sending.write(self._forwarded(head, body))
                answer = await read_head(service)
                if answer is None:
                    return
                await self._hand_back(_begun(head, body, answer), answer, service, writer)
            finally:
                sending.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        secure = self._upstream.scheme == "https"
        tls = (self._upstream_tls or ssl.create_default_context()) if secure else None
        port = self._upstream.port or (443 if secure else 80)
        return await asyncio.open_connection(self._upstream.hostname, port, ssl=tls, limit=READ_AHEAD)

    def _forwarded(self, head: Head, body: bytes) -> bytes:
        kept = {name: value for name, value in head.headers.items() if name not in _OF_THE_CONNECTION}
        own = {"host": self._upstream.netloc, "connection": "close", "content-length": str(len(body))}
        return head_bytes(f"{head.words[0]} {self._upstream.path}{head.words[1]} HTTP/1.1", {**kept, **own}) + body

    async def _hand_back(
        self, recorded: Recorded, answer: Head, service: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Send the answer as it comes and keep it, even if only a part of it comes."""
        headers = {**recorded.answer_headers, "transfer-encoding": "chunked"}
        writer.write(head_bytes(f"HTTP/1.1 {recorded.status} Recorded", headers))
        chunks: list[bytes] = []
        whole = False
        try:
            async with aclosing(read_body(service, answer.headers, answer=True)) as pieces:
                async for piece in pieces:
                    chunks.append(piece)
                    writer.write(chunk_bytes(piece))
                    await writer.drain()
            whole = True
            writer.write(chunk_bytes(b""))
        finally:
            self.recorded.append(replace(recorded, chunks=tuple(chunks), whole=whole))


def _begun(head: Head, body: bytes, answer: Head) -> Recorded:
    kept = {name: value for name, value in answer.headers.items() if name not in _OF_THE_CONNECTION}
    return Recorded(head.words[0], head.words[1], head.headers, body, int(answer.words[1]), kept, ())


def in_order(recorded: Sequence[Recorded]) -> list[Reply]:
    """Return the script that plays answers again."""
    return [one.reply() for one in recorded]
