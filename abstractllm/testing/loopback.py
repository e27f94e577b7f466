"""A service on this machine that does what a script says, breaking off and falling silent included. For tests.

Knows as much of HTTP/1.1 as a client's tests need, and no wire format and no provider.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from abstractllm.testing.framing import Head, chunk_bytes, head_bytes, read_body, read_head, scrubbed
from abstractllm.testing.local import LocalServer, WatchedReader


class Gate:
    """A point in an answer at which the server waits, so that a test decides when it goes on."""

    def __init__(self) -> None:
        self._opened: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.reached = threading.Event()

    def open(self) -> None:
        """Let the server go on, now or when it comes here. To be called once, from any thread."""
        self._opened.set_result(None)

    async def wait(self) -> None:
        """Say that the server is here, and wait."""
        self.reached.set()
        await asyncio.shield(asyncio.wrap_future(self._opened))


Chunk = bytes | Gate


@dataclass(frozen=True, slots=True)
class Reply:
    """What the server does with one request.

    `body` is sent with its length. `chunks` are sent instead, one HTTP chunk each, as they are iterated; a `Gate` among
    them is waited for. `cut_after` is a number of bytes of the body after which the connection is closed, or reset with
    `resets`. With `ends` false, the connection is closed where the end of the chunks should be said. With `stalls`,
    nothing comes instead of that end, and the connection stays open. `drip` sends the body in chunks of so many bytes.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: Iterable[Chunk] | None = None
    cut_after: int | None = None
    resets: bool = False
    ends: bool = True
    stalls: bool = False
    drip: int | None = None

    @classmethod
    def redirect(cls, url: str, status: int = 307) -> Reply:
        """Return one that sends the client elsewhere."""
        return cls(status, {"Location": url})

    @classmethod
    def hang_up(cls) -> Reply:
        """Return one that closes the connection without an answer."""
        return cls(status=0)

    @classmethod
    def long_line(cls, size: int) -> Reply:
        """Return a stream of one line of so many bytes, which are never all in memory."""
        piece = b"x" * 2**16
        return cls(chunks=(piece for _ in range(-(-size // len(piece)))))


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came; names of headers in lower case. `left` is set when its client goes away unanswered."""

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    connection: int
    left: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def exported(self) -> Request:
        """Return it without keys, to be shown or kept."""
        return replace(self, headers=scrubbed(self.headers))


Script = Callable[[Request], Reply]


class LoopbackServer(LocalServer):
    """A service at `url` from `with` to its end. `requests` are those that came, `connections` counts connections.

    The script is a list of replies, given in order, the last again and again; or a function of the request. With
    `tls`, it speaks https. With `reads` false, it takes connections and reads nothing after the head of a request.
    """

    def __init__(
        self, script: Sequence[Reply] | Script, *, tls: ssl.SSLContext | None = None, reads: bool = True
    ) -> None:
        super().__init__(tls=tls)
        self.requests: list[Request] = []
        self._script = script if callable(script) else _in_order(script)
        self._reads = reads

    async def _serve_connection(self, number: int, reader: WatchedReader, writer: asyncio.StreamWriter) -> None:
        while (head := await read_head(reader)) is not None:
            if not self._reads:
                self.requests.append(_request(head, b"", number))
                await asyncio.Event().wait()
            request = _request(head, b"".join([piece async for piece in read_body(reader, head.headers)]), number)
            self.requests.append(request)
            if not await _watched(request, self._script(request), reader, writer):
                return


def _request(head: Head, body: bytes, connection: int) -> Request:
    return Request(head.words[0], head.words[1], head.headers, body, connection)


def _in_order(replies: Sequence[Reply]) -> Script:
    left: Iterator[Reply] = iter(replies)
    last = replies[-1]
    return lambda request: next(left, last)


async def _watched(request: Request, reply: Reply, reader: WatchedReader, writer: asyncio.StreamWriter) -> bool:
    """Send a reply unless the client goes away; return whether the connection may have another request."""
    sending = asyncio.create_task(_send(reply, writer))
    leaving = asyncio.create_task(reader.left.wait())
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            return await sending
        request.left.set()
        return False
    finally:
        sending.cancel()
        leaving.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _send(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    if not reply.status:
        return False
    whole = reply.chunks is None and reply.drip is None
    framing = {"Content-Length": str(len(reply.body))} if whole else {"Transfer-Encoding": "chunked"}
    writer.write(head_bytes(f"HTTP/1.1 {reply.status} Scripted", {**framing, **reply.headers}))
    left = reply.cut_after
    for piece in _pieces(reply):
        if isinstance(piece, Gate):
            await writer.drain()
            await piece.wait()
            continue
        cut = left is not None and left < len(piece)
        if left is not None:
            piece, left = piece[:left], max(0, left - len(piece))
        writer.write(piece if whole else chunk_bytes(piece) if piece else b"")
        await writer.drain()
        if cut:
            return await _cut(reply, writer)
    return await _end(reply, writer, whole=whole)


def _pieces(reply: Reply) -> Iterable[Chunk]:
    if reply.chunks is not None:
        return reply.chunks
    size = reply.drip or max(1, len(reply.body))
    return (reply.body[start : start + size] for start in range(0, len(reply.body), size))


async def _end(reply: Reply, writer: asyncio.StreamWriter, *, whole: bool) -> bool:
    if reply.stalls:
        await asyncio.Event().wait()
    if not reply.ends or reply.resets:
        return await _cut(reply, writer)
    if not whole:
        writer.write(chunk_bytes(b""))
    await writer.drain()
    return True


async def _cut(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    """Close the connection once everything is sent, or reset it."""
    if reply.resets:
        own: socket.socket = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
    await writer.wait_closed()
    return False
