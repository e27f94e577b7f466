"""The one thread of the process in which all MLX work happens.

MLX binds streams, lazy arrays and random state to threads (mlx-lm issues 1181 and 1256), so models are loaded, stepped
and dropped here, for life. The thread steps all busy engines in turn. It knows nothing of models.
"""

from __future__ import annotations

import asyncio
import atexit
import copy
import logging
import os
import queue
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Generic, Protocol, TypeVar

from abstractllm.errors import UnsupportedOperationError
from abstractllm.providers.mlx.budget import step_timeout
from abstractllm.providers.mlx.watchdog import Watchdog
from abstractllm.threads import EXIT_GRACE, ForkSafeLock

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


class Reader(Protocol):
    """Somebody who waits for what the MLX thread computes."""

    def abandon(self, error: Exception) -> None:
        """Raise this error instead of waiting any longer. Called on another thread than the MLX thread."""


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


class _Work(Generic[T]):
    """A call whose result somebody waits for."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.done: Future[T] = Future()
        self._call = call

    def __call__(self) -> None:
        if not self.done.set_running_or_notify_cancel():
            return
        try:
            self.done.set_result(self._call())
        except BaseException as error:  # handed to whoever waits for the future
            self.done.set_exception(error)

    def refuse(self, error: Exception) -> None:
        """End a call that was never made."""
        if self.done.set_running_or_notify_cancel():
            self.done.set_exception(error)


class MLXThread:
    """The thread, its inbox, and the engines that it steps. Get the process's one from `mlx_thread()`.

    With a `step_timeout`, in seconds, a step or a posted call that takes longer makes the thread a broken one: all
    readers get an error, and so does whoever comes later. Calls that `run` makes, such as to load, may take any time.
    """

    def __init__(self, step_timeout: float | None = None) -> None:
        self.outbox = Outbox()
        self._broken: UnsupportedOperationError | None = None
        self._readers: set[Reader] = set()
        self._step_timeout = step_timeout
        self._watchdog = None if step_timeout is None else Watchdog(step_timeout, self._break)
        self._pid = os.getpid()
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._engines: list[Engine] = []
        self._stopped = False
        self._idle = threading.Event()  # set by the thread itself at its end
        self._ended = threading.Event()  # set then, or when it is given up
        self._thread = threading.Thread(target=self._live, name="abstractllm-mlx", daemon=True)
        self._thread.start()
        if self._watchdog is not None:
            self._watchdog.start()

    @property
    def alive(self) -> bool:
        """Whether what is posted will be done: not in a fork, not while the process ends, not after a hung step."""
        return os.getpid() == self._pid and not self._stopped and self._broken is None

    def check(self) -> None:
        """Raise UnsupportedOperationError where nothing that is posted would ever be done."""
        if os.getpid() != self._pid:
            raise UnsupportedOperationError(
                "This process was forked after MLX had been used, and MLX does not survive a fork. Start worker"
                " processes before the first request, or with multiprocessing's 'spawn' method.",
                provider="mlx",
            )
        if self._broken is not None:
            raise copy.copy(self._broken)
        if self._stopped:
            raise UnsupportedOperationError("The interpreter is shutting down.", provider="mlx")

    @contextmanager
    def waiting(self, reader: Reader) -> Iterator[None]:
        """Have `reader` told, as long as this lasts, when there is nothing to wait for any more."""
        self._readers.add(reader)
        try:
            self.check()  # only now: whoever is not refused here is told
            yield
        finally:
            self._readers.discard(reader)

    def post(self, call: Callable[[], None]) -> None:
        """Have `call` run on the MLX thread before the next step."""
        self.check()
        self._inbox.put(call)

    def run(self, call: Callable[[], T]) -> Future[T]:
        """Have `call` run on the MLX thread, and return the future of its result."""
        work = _Work(call)
        self.post(work)
        return work.done

    def add_engine(self, engine: Engine) -> None:
        """Step this engine whenever it is busy. Call on the MLX thread; safe to call twice."""
        if all(one is not engine for one in self._engines):
            self._engines.append(engine)

    def remove_engine(self, engine: Engine) -> None:
        """Step this engine no more. Call on the MLX thread."""
        self._engines = [one for one in self._engines if one is not engine]

    def stop(self) -> None:
        """End every request with an error, and all work of the thread. Safe to call twice.

        A step that hangs is not waited for, but one that goes on after all gets a moment: the process would abort if
        it ended in the middle of MLX's code.
        """
        if self.alive:
            self._stopped = True
            self._inbox.put(None)
            self._ended.wait()
        if os.getpid() == self._pid and self._broken is not None:
            self._idle.wait(EXIT_GRACE)

    def _live(self) -> None:
        """Work, and then wait for the process to end.

        The thread never returns: its C++ destructors would ask for the GIL while the interpreter goes away, and the
        process would abort ("terminate called without an active exception", seen with mlx 0.32.4's compile cache).
        """
        self._work()
        self._idle.set()
        self._ended.set()
        threading.Event().wait()

    def _work(self) -> None:
        while self._take_in():
            self._step()
            self.outbox.flush()
        if self._broken is not None:
            return
        for engine in self._engines:
            with self._watched():
                engine.close(UnsupportedOperationError("The interpreter is shutting down.", provider="mlx"))
        self.outbox.flush()

    def _watched(self) -> AbstractContextManager[None]:
        return nullcontext() if self._watchdog is None else self._watchdog.watching()

    def _break(self) -> None:
        """Give the thread up, tell everybody who waits, and from then on whoever was too late to be refused.

        Runs on the watchdog's thread. The hung work may end one day; nothing is done after it.
        """
        self._broken = error = _hung(self._step_timeout)
        for reader in list(self._readers):
            reader.abandon(copy.copy(error))
        logger.critical("%s It is here:\n%s", error.message, _place(self._thread))
        self._ended.set()
        while True:
            call = self._inbox.get()
            if isinstance(call, _Work):
                call.refuse(copy.copy(error))

    def _step(self) -> None:
        for engine in list(self._engines):
            try:
                if engine.busy and self._broken is None:
                    with self._watched():
                        engine.step()
            except Exception as error:  # an engine that fails must not take the others and the thread with it
                logger.exception("An MLX engine failed; its requests end with this error")
                with self._watched():
                    _fail(engine, error)

    def _take_in(self) -> bool:
        """Run what has been posted; wait for something when there is no other work. False at the end."""
        while self._broken is None:
            try:
                if not self._run_next():
                    return False
            except queue.Empty:
                return True
        return False

    def _run_next(self) -> bool:
        """Run what was posted next; False at the end. Holds nothing afterwards, so that models can be freed."""
        call = self._next()
        if call is None:
            return False
        try:
            with nullcontext() if isinstance(call, _Work) else self._watched():
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


def _hung(seconds: float | None) -> UnsupportedOperationError:
    return UnsupportedOperationError(
        f"A step on the MLX thread has not ended within {seconds:g} s, so it counts as hung: a driver or a lock of MLX."
        " Nothing can run on MLX in this process any more; restart the process. If steps may take that long, raise"
        " ABSTRACTLLM_MLX_STEP_TIMEOUT.",
        provider="mlx",
    )


def _place(thread: threading.Thread) -> str:
    """Return where a thread is, for the log."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else "unknown"


_lock = ForkSafeLock()
_thread: MLXThread | None = None


def mlx_thread() -> MLXThread:
    """Return the process's MLX thread, started at the first call.

    `ABSTRACTLLM_MLX_STEP_TIMEOUT` says after how many seconds a step counts as hung (never). Raises
    ConfigurationError for one that is no number.
    """
    global _thread
    with _lock:
        if _thread is None:
            _thread = MLXThread(step_timeout())
            atexit.register(_thread.stop)
        return _thread
