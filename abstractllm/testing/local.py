"""A server on this machine in a thread and an event loop of its own. Knows no protocol."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import ssl
import threading
from types import TracebackType
from typing import Self

READ_AHEAD = 2**16
"""Bytes that a server reads before somebody wants them, and of the longest head of a message."""


_ROUNDS = 8
"""Turns of the event loop in which a connection that was just taken is served and closed, which takes five of them."""


class WatchedReader(asyncio.StreamReader):
    """Tells by `left` that the other side has gone away, also while nobody reads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(limit=READ_AHEAD, loop=loop)
        self.left = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.left.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.left.set()


class LocalServer:
    """Serves from `with` to its end, on a free port of 127.0.0.1. With `tls`, over https."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.WriteTransport] = set()
        self._ready: concurrent.futures.Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
        self._ready = concurrent.futures.Future()
        self._thread = threading.Thread(target=self._run, name="abstractllm-test-server", daemon=True)

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections and end the thread. Safe to call twice."""
        if self._thread.is_alive():
            loop, ending = self._ready.result()
            loop.call_soon_threadsafe(ending.set)
            self._thread.join()

    async def _serve_connection(self, number: int, reader: WatchedReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one client until nothing is left to say; its connection is then cut."""
        raise NotImplementedError

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop, ending = asyncio.get_running_loop(), asyncio.Event()
        try:
            listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        except BaseException as error:
            self._ready.set_exception(error)
            raise
        listener.setblocking(False)
        self.port = listener.getsockname()[1]
        loop.add_reader(listener, self._accept, listener)
        self._ready.set_result((loop, ending))
        await ending.wait()
        loop.remove_reader(listener)
        listener.close()
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
            for transport in list(self._transports):
                transport.abort()

    def _accept(self, listener: socket.socket) -> None:
        """Take a connection; asyncio's own servers lose one that comes just when they are closed."""
        try:
            link, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it was given up meanwhile
            return
        link.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._take(link))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, link: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: self._protocol(loop), link, ssl=self._tls)
        except (OSError, asyncio.CancelledError):  # a client that left, or did not like the certificate
            link.close()

    def _protocol(self, loop: asyncio.AbstractEventLoop) -> asyncio.StreamReaderProtocol:
        reader = WatchedReader(loop)

        async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            self._transports.add(writer.transport)
            try:
                await self._serve_connection(self.connections, reader, writer)
            except ValueError:
                writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")  # as other servers do
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
                pass  # the client went away, or the test is over
            finally:
                writer.transport.abort()
                self._transports.discard(writer.transport)

        return asyncio.StreamReaderProtocol(reader, connected, loop=loop)
