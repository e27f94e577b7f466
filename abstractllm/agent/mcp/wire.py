"""What an MCP server of ours listens on: standard input and output, or HTTP. Knows the protocol not at all."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from abstractllm.errors import UnsupportedOperationError

if TYPE_CHECKING:
    import uvicorn

_STDIN = 0

_CHUNK = 1 << 16
"""Bytes that are read of standard input at a time, at most."""

_WAITING = 2048
"""Connections that wait to be accepted, at most."""

_GRACE = 1
"""Seconds that requests have for their end once a server over HTTP is told to stop."""


@contextmanager
def own_stdin() -> Iterator[int]:
    """Yield a descriptor of standard input that is the server's alone: tools and their children read nothing."""
    own = os.dup(_STDIN)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, _STDIN)
    os.close(nothing)
    try:
        yield own
    finally:
        os.dup2(own, _STDIN)  # `own` stays open, as a thread may still read it


class Lines:
    """The lines of a file descriptor, for one reader, who can leave while none comes.

    The SDK's own reading of standard input, in a thread that is waited for, would keep a server that is cancelled from
    ending until the client says something.
    """

    def __init__(self, descriptor: int) -> None:
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(descriptor,), name="abstractllm-mcp-stdin", daemon=True).start()

    async def __aiter__(self) -> AsyncIterator[str]:
        while (line := await self._lines.get()) is not None:
            yield line

    def _read(self, descriptor: int) -> None:
        rest = b""
        while data := os.read(descriptor, _CHUNK):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if not self._tell(line.decode("utf-8", "replace")):
                    return
        self._tell(None)

    def _tell(self, line: str | None) -> bool:
        try:
            self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
        except RuntimeError:  # the loop is closed: nobody reads any more
            return False
        return True


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises UnsupportedOperationError where there can be none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol by name: asyncio sends small pieces at once only for sockets that say that they are of TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_WAITING)
    except (OSError, OverflowError) as error:
        listener.close()
        message = f"The MCP server cannot listen on port {port} of {host!r} ({error}); choose others."
        raise UnsupportedOperationError(message) from error
    return listener


async def serve_http(app: Any, listener: socket.socket) -> None:
    """Serve an ASGI application until this is cancelled; then requests have a moment for their end."""
    server = _uvicorn(app)
    work = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await asyncio.shield(work)
    finally:
        server.should_exit = True
        await asyncio.wait((work,))


def _uvicorn(app: Any) -> uvicorn.Server:
    import uvicorn

    class Server(uvicorn.Server):
        """A server that leaves the process's signals to the application."""

        @contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            yield

    config = uvicorn.Config(
        app, log_config=None, access_log=False, lifespan="on", ws="none", timeout_graceful_shutdown=_GRACE
    )
    return Server(config)
