"""Threads for blocking work that never keep the interpreter from exiting. Knows no event loop and no provider."""

from __future__ import annotations

import atexit
import concurrent.futures
import functools
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from abstractllm.errors import UnsupportedOperationError

T = TypeVar("T")
P = ParamSpec("P")

EXIT_GRACE = 2.0
"""Seconds that the interpreter's exit gives running work to end by itself."""

at_exit: set[Callable[[], None]] = set()
"""What to call at exit so that running jobs end; each call must return at once and never raise."""


def check_not_forked(pid: int) -> None:
    """Raise UnsupportedOperationError where this process is not `pid`: the threads that `pid` started are not here."""
    if os.getpid() != pid:
        raise UnsupportedOperationError(
            "This process was forked from one that had already used this provider or made sync calls, and threads do"
            " not survive a fork. Create the provider in the child, before any use in the parent, or start processes"
            " with multiprocessing's 'spawn' method."
        )


_Job = tuple["concurrent.futures.Future[Any]", Callable[[], Any]]


class ForkSafeLock:
    """A lock that is free in a forked child, even where a thread that is not there held it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.Lock()


class DaemonThreads(concurrent.futures.Executor):
    """An executor of at most `limit` threads, which the interpreter's exit does not wait for without end.

    Threads that are `held_back` do not count: were they to, that many readers who each hold a stream open would keep
    every further stream from beginning. So there are at most `limit` threads and one for each that was held back.

    The standard library's executor is joined at exit before any exit handler runs, so that one stream that nobody
    reads to its end would keep the process alive for ever. Here, what runs at exit is told to stop and given a moment.
    """

    def __init__(self, limit: int, name: str) -> None:
        self._pid = os.getpid()
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._closed = False
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        weakref.finalize(self, _dismiss, self._jobs, self._threads).atexit = False
        _executors.add(self)

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> concurrent.futures.Future[T]:
        """Have `function` called in a thread. Raises UnsupportedOperationError once shut down, and after a fork."""
        check_not_forked(self._pid)
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            if self._closed:
                raise UnsupportedOperationError("This provider is closed; create a new one.")
            self._jobs.put((future, functools.partial(function, *args, **kwargs)))
            if not self._idle.acquire(blocking=False):
                self._grow()
        return future

    def _grow(self) -> None:
        if len(self._threads) >= self._limit:
            return
        name = f"{self._name}-{len(self._threads)}"
        thread = threading.Thread(target=_serve, args=(self._jobs, self._idle), name=name, daemon=True)
        self._threads.append(thread)
        _running.add(thread)
        thread.start()

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Give the place of the calling thread, which is one of these and only waits, to another meanwhile."""
        with self._lock:
            self._limit += 1
            if not self._closed and not self._jobs.empty():
                self._grow()
        try:
            yield
        finally:
            with self._lock:
                self._limit -= 1

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs and end the threads after those that wait, or that run, with `cancel_futures`."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            waiting = [] if self._closed or not cancel_futures else _drain(self._jobs)
            if not self._closed:
                _dismiss(self._jobs, self._threads)
            self._closed = True
        for future, _ in waiting:
            future.cancel()
        if wait:
            self.join()

    def join(self) -> None:
        """Wait until the threads have ended, which they do after a `shutdown`."""
        for thread in list(self._threads):
            thread.join()


_executors: weakref.WeakSet[DaemonThreads] = weakref.WeakSet()
_locks: weakref.WeakSet[ForkSafeLock] = weakref.WeakSet()
_running: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def _serve(jobs: queue.SimpleQueue[_Job | None], idle: threading.Semaphore) -> None:
    """Run jobs until None comes. Knows no executor, so that one which is forgotten can be collected."""
    while (job := jobs.get()) is not None:
        _work(*job)
        del job  # an idle thread would keep the last one alive
        idle.release()


def _work(future: concurrent.futures.Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except BaseException as error:  # handed to whoever holds the future
        future.set_exception(error)


def _dismiss(jobs: queue.SimpleQueue[_Job | None], threads: list[threading.Thread]) -> None:
    for _ in threads:
        jobs.put(None)


def _drain(jobs: queue.SimpleQueue[_Job | None]) -> list[_Job]:
    found: list[_Job] = []
    while True:
        try:
            job = jobs.get_nowait()
        except queue.Empty:
            return found
        if job is not None:
            found.append(job)


@atexit.register
def _end_threads() -> None:
    """At exit: tell what runs to end, and give the threads a moment for it."""
    until = time.monotonic() + EXIT_GRACE
    for leave in list(at_exit):
        leave()
    for executor in list(_executors):
        executor.shutdown(wait=False, cancel_futures=True)
    for thread in list(_running):
        thread.join(max(0.0, until - time.monotonic()))


def _after_fork() -> None:
    at_exit.clear()
    _executors.clear()
    _running.clear()
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
