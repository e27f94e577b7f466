"""The one thread of the process in which all MLX work happens.

MLX binds streams, lazy arrays and random state to threads (mlx-lm issues 1181 and 1256), so models are loaded, stepped
and dropped here, for life. The thread steps all busy engines in turn. It knows nothing of models.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import queue
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from abstractllm.errors import UnsupportedOperationError
from abstractllm.threads import ForkSafeLock

logger = logging.getLogger("abstractllm.mlx")

T = TypeVar("T")


class Engine(Protocol):
    """Something that has work to do, in steps. Every method runs on the MLX thread."""

    @property
    def busy(self) -> bool:
        """Whether a step would do anything."""

    @property
    def patience(self) -> float:
        """Seconds to wait for more requests before the next step, 0 for none."""

    def step(self) -> None:
        """Do a small piece of work."""

    def fail_all(self, cause: Exception) -> None:
        """End every request with an error that this one caused."""

    def close(self, error: Exception) -> None:
        """End every request with this error, and wait for what is still being computed."""


class Outbox:
    """Collects what is to be done on event loops, and sends it once per step and loop.

    Waking a loop costs a system call, so 32 rows of one batch share one.
    """

    def __init__(self) -> None:
        self._calls: dict[asyncio.AbstractEventLoop, list[Callable[[], None]]] = defaultdict(list)

    def put(self, loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
        """Have `call` run on `loop` after this step."""
        self._calls[loop].append(call)

    def flush(self) -> None:
        """Send what has been collected. A closed loop has no readers left, so its share is dropped."""
        if not self._calls:
            return
        calls, self._calls = self._calls, defaultdict(list)
        for loop, batch in calls.items():
            try:
                loop.call_soon_threadsafe(_run_each, batch)
            except RuntimeError:
                logger.debug("an event loop closed before its answers were read")


def _run_each(calls: list[Callable[[], None]]) -> None:
    for call in calls:
        call()


class MLXThread:
    """The thread, its inbox, and the engines that it steps. Get the process's one from `mlx_thread()`."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self._pid = os.getpid()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._engines: list[Engine] = []
        self._stopped = False
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._live, name="abstractllm-mlx", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether what is posted will be done: not after the process has forked, and not while it ends."""
        return os.getpid() == self._pid and not self._stopped

    def check(self) -> None:
        """Raise UnsupportedOperationError where nothing that is posted would ever be done."""
        if os.getpid() != self._pid:
            raise UnsupportedOperationError(
                "This process was forked after MLX had been used, and MLX does not survive a fork. Start worker"
                " processes before the first request, or with multiprocessing's 'spawn' method.",
                provider="mlx",
            )
        if self._stopped:
            raise UnsupportedOperationError("The interpreter is shutting down.", provider="mlx")

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` run on the MLX thread before the next step."""
        self.check()
        self._inbox.put(call)

    def run(self, call: Callable[[], T]) -> Future[T]:
        """Have `call` run on the MLX thread, and return the future of its result."""
        done: Future[T] = Future()

        def work() -> None:
            if not done.set_running_or_notify_cancel():
                return
            try:
                done.set_result(call())
            except BaseException as error:  # handed to whoever waits for the future
                done.set_exception(error)

        self.post(work)
        return done

    def add_engine(self, engine: Engine) -> None:
        """Step this engine whenever it is busy. Call on the MLX thread; safe to call twice."""
        if all(one is not engine for one in self._engines):
            self._engines.append(engine)

    def remove_engine(self, engine: Engine) -> None:
        """Step this engine no more. Call on the MLX thread."""
        self._engines = [one for one in self._engines if one is not engine]

    def stop(self) -> None:
        """End every request with an error, and all work of the thread. Safe to call twice."""
        if not self.alive:
            return
        self._stopped = True
        self._inbox.put(None)
        self._idle.wait()

    def _live(self) -> None:
        """Work, and then wait for the process to end.

        The thread never returns: its C++ destructors would ask for the GIL while the interpreter goes away, and the
        process would abort ("terminate called without an active exception", seen with mlx 0.32.4's compile cache).
        """
        self._work()
        self._idle.set()
        threading.Event().wait()

    def _work(self) -> None:
        while self._take_in():
            self._step()
            self.outbox.flush()
        for engine in self._engines:
            engine.close(UnsupportedOperationError("The interpreter is shutting down.", provider="mlx"))
        self.outbox.flush()

    def _step(self) -> None:
        for engine in list(self._engines):
            try:
                if engine.busy:
                    engine.step()
            except Exception as error:  # an engine that fails must not take the others and the thread with it
                logger.exception("An MLX engine failed; its requests end with this error")
                _fail(engine, error)

    def _take_in(self) -> bool:
        """Run what has been posted; wait for something when there is no other work. False at the end."""
        while True:
            try:
                if not self._run_next():
                    return False
            except queue.Empty:
                return True

    def _run_next(self) -> bool:
        """Run what was posted next; False at the end. Holds nothing afterwards, so that models can be freed."""
        call = self._next()
        if call is None:
            return False
        try:
            call()
        except Exception:  # the thread must live, or every later request would wait for ever
            logger.exception("A piece of work failed on the MLX thread")
        self.outbox.flush()
        return True

    def _next(self) -> Callable[[], None] | None:
        """Return what was posted next; raise queue.Empty when the engines should step instead."""
        busy = [engine for engine in self._engines if engine.busy]
        if not busy:
            return self._inbox.get()
        patience = min(engine.patience for engine in busy)
        return self._inbox.get(timeout=patience) if patience else self._inbox.get_nowait()


def _fail(engine: Engine, cause: Exception) -> None:
    """End every request of an engine. Whatever fails on the way, such as a lost device, must not take the thread."""
    try:
        engine.fail_all(cause)
    except Exception:
        logger.exception("An MLX engine failed again while it ended its requests")


_lock = ForkSafeLock()
_thread: MLXThread | None = None


def mlx_thread() -> MLXThread:
    """Return the process's MLX thread, started at the first call."""
    global _thread
    with _lock:
        if _thread is None:
            _thread = MLXThread()
            atexit.register(_thread.stop)
        return _thread
