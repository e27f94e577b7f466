"""The only bridges between threads and event loops.

`iterate_in_thread` lets an event loop read a sync generator that never runs on the loop; `Portal` lets sync
code use async generators and coroutines. Neither knows what the items are.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import functools
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from abstractllm.errors import UnsupportedOperationError
from abstractllm.threads import EXIT_GRACE, DaemonThreads, ForkSafeLock, at_exit, check_not_forked

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
