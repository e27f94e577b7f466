"""From threads to event loops: an event loop reads a sync generator, or waits for a function, that runs in a thread.

`portal` leads the other way. Nothing here knows what the items are.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from typing import Generic, TypeVar

from abstractllm.errors import UnsupportedOperationError
from abstractllm.threads import DaemonThreads, at_exit

logger = logging.getLogger("abstractllm")

T = TypeVar("T")

BUFFER = 16
"""Items that wait between a producer and its consumer before the producer is held back."""

_HELD_BACK = 0.05
"""Seconds without room after which a producer gives its place to another: its reader holds, and is not just slower."""

_VANISHED_CHECK = 1.0
"""Seconds after which a held-back producer looks whether its consumer's event loop still exists."""


class End:
    """The last thing that a producer hands over: nothing, or the error that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self._error = error

    @property
    def failed(self) -> bool:
        """Whether an error was the end."""
        return self._error is not None

    def check(self) -> None:
        """Raise the error, if there is one, and let go of it: its traceback would keep the reader's frames alive."""
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
        finally:
            del error


class _ThreadToLoop(Generic[T]):
    """A bounded buffer written by one thread and read by one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, threads: DaemonThreads, limit: int) -> None:
        self._loop = loop
        self._threads = threads
        self._items: deque[T | End] = deque()
        self._room = threading.Semaphore(limit)
        self._ready = asyncio.Event()
        self._left = False

    def produce(self, make: Callable[[], Iterator[T]]) -> None:
        """Run the generator from start to end in this thread, and close it here."""
        try:
            self._produce(make())
            self._post(End(None))
        except BaseException as error:  # handed to the consumer, who raises it
            if self._left:
                logger.debug("A generator raised after its reader had left", exc_info=True)
            self._post(End(error))

    def drop(self, job: concurrent.futures.Future[None]) -> None:
        """End the stream of a job that was taken off the executor's list before it ran."""
        if job.cancelled():
            self._post(End(UnsupportedOperationError("The provider was closed before this request's turn came.")))

    def _produce(self, source: Iterator[T]) -> None:
        try:
            for item in source:
                if not self._put(item):
                    return
        finally:
            close = getattr(source, "close", None)
            if close is not None:
                close()

    def _put(self, item: T) -> bool:
        """Wait for room and hand over; False when the consumer has left."""
        if not self._room.acquire(timeout=_HELD_BACK) and not self._wait_for_room():
            return False
        return not self._left and self._post(item)

    def _wait_for_room(self) -> bool:
        """Wait as long as it takes, in nobody's way; False when the loop is gone."""
        with self._threads.held_back():
            while not self._room.acquire(timeout=_VANISHED_CHECK):
                if self._loop.is_closed():
                    return False
        return True

    def _post(self, item: T | End) -> bool:
        self._items.append(item)
        if len(self._items) > 1:
            return True
        try:
            self._loop.call_soon_threadsafe(self._ready.set)
        except RuntimeError:  # the loop is closed: nobody will ever read this
            return False
        return True

    async def consume(self) -> AsyncGenerator[T, None]:
        """Yield the items as they come; raise what the producer raised."""
        while True:
            while not self._items:
                self._ready.clear()
                if not self._items:
                    await self._ready.wait()
            item = self._items.popleft()
            if isinstance(item, End):
                item.check()
                return
            self._room.release()
            yield item

    def leave(self) -> None:
        """Tell the producer that nobody reads any more; never waits."""
        self._left = True
        self._room.release()


async def iterate_in_thread(
    make: Callable[[], Iterator[T]],
    executor: DaemonThreads,
    *,
    on_leave: Callable[[], None],
    buffer: int = BUFFER,
) -> AsyncGenerator[T, None]:
    """Yield the items of the generator that `make` returns, which runs in one thread of `executor`.

    The event loop never runs a step of it. A slow reader holds it back after `buffer` items. When the reader
    leaves, however it leaves, `on_leave` is called and the generator is closed in its own thread at its next item.
    """
    channel: _ThreadToLoop[T] = _ThreadToLoop(asyncio.get_running_loop(), executor, buffer)

    def leave() -> None:
        on_leave()
        channel.leave()

    job = executor.submit(contextvars.copy_context().run, channel.produce, make)
    job.add_done_callback(channel.drop)
    at_exit.add(leave)
    job.add_done_callback(lambda _: at_exit.discard(leave))
    try:
        async with aclosing(channel.consume()) as items:
            async for item in items:
                yield item
    finally:
        leave()
        job.cancel()


async def to_the_end(function: Callable[[], T]) -> T:
    """Return what a blocking function returns, which runs in a thread, and never leave before it has ended.

    A cancellation that comes meanwhile is raised after that; an error of the function goes before it.
    """
    context = contextvars.copy_context()
    work = asyncio.get_running_loop().run_in_executor(None, context.run, function)
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError as error:
            cancelled = error
    value = work.result()
    if cancelled is not None:
        raise cancelled
    return value
