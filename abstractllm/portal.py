"""The process's own event loop in a thread of its own, through which sync code uses async generators and coroutines.

It does not know what the items are.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import functools
import os
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from abstractllm.aio import BUFFER, End
from abstractllm.errors import UnsupportedOperationError
from abstractllm.threads import EXIT_GRACE, ForkSafeLock, check_not_forked

T = TypeVar("T")


class _LoopToThread(Generic[T]):
    """A bounded buffer written by one task and read by one thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._items: queue.SimpleQueue[T | End] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(limit)
        self._batch = max(1, limit // 2)
        self._taken = 0

    async def produce(self, make: Callable[[], AsyncGenerator[T, None]]) -> None:
        """Run the async generator from start to end in this task, and close it here."""
        async with aclosing(make()) as source:
            async for item in source:
                await self._room.acquire()
                self._items.put(item)

    def end(self, error: BaseException | None) -> None:
        """Say that nothing more will come, and why."""
        self._items.put(End(error))

    def consume(self) -> Iterator[T]:
        """Yield the items as they come; raise what the producer raised."""
        while True:
            item = self._items.get()
            if isinstance(item, End):
                item.check()
                return
            self._make_room()
            yield item

    def _make_room(self) -> None:
        """Let the producer go on, once for several items: each wake-up of its loop costs a system call."""
        self._taken += 1
        if self._taken == self._batch:
            self._taken = 0
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        for _ in range(self._batch):
            self._room.release()


class Portal:
    """A background thread with an event loop, through which sync code runs async code.

    One per process, from `portal()`. Context variables are carried over; a KeyboardInterrupt in the waiting
    thread cancels the work and waits for its end.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="abstractllm-portal", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def check(self, *, waits: bool = True) -> None:
        """Raise UnsupportedOperationError where work for this portal, or waiting for it, could never end."""
        check_not_forked(self._pid)
        if self._closed:
            raise UnsupportedOperationError("The interpreter is exiting; async work can no longer be started.")
        if waits and threading.current_thread() is self._thread:
            raise UnsupportedOperationError(
                "A sync call was made inside async code that runs on the package's own event loop; it would wait for"
                " itself. Use the async form there."
            )

    def run(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run the coroutine that `make` returns on the portal's loop and return its result."""
        self.check()
        work = _Work(make)
        try:
            self._loop.call_soon_threadsafe(work.start)
            return work.outcome.result()
        finally:
            self._stop(work)

    def iterate(self, make: Callable[[], AsyncGenerator[T, None]], *, buffer: int = BUFFER) -> Generator[T, None, None]:
        """Yield the items of the async generator that `make` returns, which runs in one task of the portal's loop.

        A slow reader holds it back after `buffer` items. It is closed before this generator ends, however it ends.
        """
        self.check()
        channel: _LoopToThread[T] = _LoopToThread(self._loop, buffer)
        work = _Work(lambda: channel.produce(make))
        work.outcome.add_done_callback(lambda outcome: channel.end(outcome.exception()))
        try:
            self._loop.call_soon_threadsafe(work.start)
            yield from channel.consume()
        finally:
            self._stop(work)

    def spawn(self, make: Callable[[], Coroutine[Any, Any, T]], *, awaited: bool = False) -> Job[T]:
        """Start the coroutine that `make` returns on the portal's loop, and return at once.

        `awaited` says that no thread will wait for its outcome, so that the portal's own may start it, too.
        """
        self.check(waits=not awaited)
        work = _Work(make)
        self._loop.call_soon_threadsafe(work.start)
        return Job(self._loop, work)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have `callback`, which is quick, called on the portal's loop after so many seconds; never while it closes."""
        check_not_forked(self._pid)
        if not self._closed:
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, callback)

    def _stop(self, work: _Work[Any]) -> None:
        """Cancel the work and wait for its end, where there can be one."""
        if work.outcome.done() or os.getpid() != self._pid or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(work.cancel)
        if threading.current_thread() is not self._thread:
            concurrent.futures.wait([work.outcome])

    def close(self) -> None:
        """Cancel what still runs, close the loop and end the thread. Safe to call twice."""
        if os.getpid() != self._pid or self._closed:
            return
        self._closed = True
        asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class _Work(Generic[T]):
    """A coroutine that runs in a task of another thread's loop; `start` and `cancel` are called on that loop.

    `outcome` is set when the task has ended, also where it was cancelled before its first step.
    """

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.outcome: concurrent.futures.Future[T] = concurrent.futures.Future()
        self._make = make
        self._task: asyncio.Task[Callable[[], None]] | None = None

    def start(self) -> None:
        if self.outcome.done():
            return
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self.outcome.done():  # an interrupt came before the start
            self.outcome.set_exception(_cancelled())

    async def _run(self) -> Callable[[], None]:
        """Return how to set the outcome. Nothing but a cancellation may leave: a SystemExit would end the loop."""
        try:
            return functools.partial(self.outcome.set_result, await self._make())
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            return functools.partial(self.outcome.set_exception, error)

    def _ended(self, task: asyncio.Task[Callable[[], None]]) -> None:
        if task.cancelled():
            self.outcome.set_exception(_cancelled())
        else:
            task.result()()


class Job(Generic[T]):
    """A coroutine that was started on the portal's loop; safe to use from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, work: _Work[T]) -> None:
        self.outcome = work.outcome
        self._loop = loop
        self._work = work

    def cancel(self) -> None:
        """Cancel it, if it still runs; never waits."""
        if not self.outcome.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._work.cancel)


def _cancelled() -> UnsupportedOperationError:
    return UnsupportedOperationError("The work was cancelled before it had ended.")


async def _cancel_all() -> None:
    """Cancel every other task of this loop and wait until all have ended."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=EXIT_GRACE)
    await asyncio.get_running_loop().shutdown_asyncgens()


_lock = ForkSafeLock()
_portal: Portal | None = None


def portal() -> Portal:
    """Return the process's portal, opened at the first call and closed at exit."""
    global _portal
    with _lock:
        if _portal is None:
            _portal = Portal()
            atexit.register(_portal.close)
        return _portal
