"""One set of connections per event loop, closed with its owner or with the loop. Knows no HTTP.

How it learns that a loop ends: it keeps an async generator open there. `asyncio.run`, `asyncio.Runner` and the portal
close all async generators before they close the loop. A loop that is closed without that leaves its sockets to the
garbage collector, as everything else of asyncio does.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from abstractllm.errors import UnsupportedOperationError
from abstractllm.threads import ForkSafeLock

_PATIENCE = 2.0
"""Seconds that closing waits for a loop of another thread, which may be busy."""


class Closing(Protocol):
    """What is kept per loop."""

    async def close(self) -> None:
        """Give everything back; called in its loop, once."""

    def abandon(self) -> None:
        """Forget everything, as the loop is closed."""


C = TypeVar("C", bound=Closing)


@dataclass(frozen=True, slots=True)
class _Pool(Generic[C]):
    connections: C
    keeper: AsyncGenerator[None, None]

    async def close(self) -> None:
        if not getattr(self.keeper, "ag_running", False):  # else the loop itself is closing it
            await self.keeper.aclose()


class Pools(Generic[C]):
    """Makes, finds and closes what is kept per loop; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._pools: dict[asyncio.AbstractEventLoop, _Pool[C]] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._pools)

    def found(self) -> C | None:
        """Return what belongs to the running loop, None where nothing has been made there."""
        pool = self._pools.get(asyncio.get_running_loop())
        return None if pool is None else pool.connections

    async def made(self, make: Callable[[], C]) -> C:
        """Make what is to belong to the running loop. Raises UnsupportedOperationError once closed."""
        loop = asyncio.get_running_loop()
        self._sweep()
        pool = _Pool(made := make(), self._keep(loop, made))
        await anext(pool.keeper)  # does not give up control, so that no other task makes one as well
        self._add(loop, pool)
        return made

    def _add(self, loop: asyncio.AbstractEventLoop, pool: _Pool[C]) -> None:
        with self._lock:
            if not self._closed:
                self._pools[loop] = pool
                return
        _start_closing(loop, pool)
        raise UnsupportedOperationError("This provider is closed; create a new one.")

    async def _keep(self, loop: asyncio.AbstractEventLoop, connections: C) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            with self._lock:
                self._pools.pop(loop, None)
            await connections.close()

    def _sweep(self) -> None:
        """Forget loops that were closed without a word."""
        with self._lock:
            gone = [loop for loop in self._pools if loop.is_closed()]
            pools = [self._pools.pop(loop) for loop in gone]
        for pool in pools:
            pool.connections.abandon()

    def close(self, *, wait: bool = True) -> None:
        """Close everything; with `wait`, it is closed at the return unless that would wait for the calling thread."""
        with self._lock:
            self._closed = True
            pools, self._pools = self._pools, {}
        ending = [_close(loop, pool, wait=wait) for loop, pool in pools.items()]
        if wait:
            concurrent.futures.wait([end for end in ending if end is not None], timeout=_PATIENCE)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:  # no event loop runs in this thread
        return None


_tasks: set[asyncio.Task[None]] = set()
"""Closings that run; their loops know their tasks but weakly."""


def _close(loop: asyncio.AbstractEventLoop, pool: _Pool[C], *, wait: bool) -> concurrent.futures.Future[None] | None:
    """Close what belongs to a loop, at once or soon; return what to wait for, where there is something."""
    if loop.is_closed():
        pool.connections.abandon()
        return None
    running = _running_loop()
    if wait and running is None and not loop.is_running():
        loop.run_until_complete(pool.close())
        return None
    ended = _start_closing(loop, pool)
    return None if running is loop or not loop.is_running() else ended


def _start_closing(loop: asyncio.AbstractEventLoop, pool: _Pool[C]) -> concurrent.futures.Future[None]:
    ended: concurrent.futures.Future[None] = concurrent.futures.Future()

    def start() -> None:
        task = loop.create_task(pool.close())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        task.add_done_callback(lambda _: ended.set_result(None))

    try:
        loop.call_soon_threadsafe(start)
    except RuntimeError:  # closed in this moment
        pool.connections.abandon()
        ended.set_result(None)
    return ended
