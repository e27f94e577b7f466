"""Writes files in the background, one after another, in a thread that is there only while there is something to do.

Knows no MLX beyond whether its thread still works, and not what is written.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from abstractllm.providers.mlx.worker import mlx_thread
from abstractllm.threads import EXIT_GRACE, ForkSafeLock

logger = logging.getLogger("abstractllm.mlx")

MOST_HELD = 2**28
"""Bytes that may wait to be written; one larger value may wait alone."""


@dataclass(frozen=True, slots=True)
class _Job:
    size: int
    write: Callable[[], None]


class PrefixWriter:
    """Calls what it is given, in order; a call that fails is logged, as a warning the first time."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._jobs: deque[_Job] = deque()
        self._held = 0
        self._thread: threading.Thread | None = None
        self._warned = False
        self._end: float | None = None

    def has_room(self, size: int) -> bool:
        """Whether `add` may be called: so many bytes more would not be too many in memory."""
        return not self._held or self._held + size <= MOST_HELD

    def add(self, size: int, write: Callable[[], None]) -> None:
        """Have `write` called, which keeps so many bytes in memory until then.

        The interpreter's exit waits for it. While that goes on, and no thread can be started, `write` is called at
        once, in the first two seconds; after these nothing is written any more.
        """
        if mlx_thread().alive and self._start(_Job(size, write)):
            return
        if self._end is None:
            self._end = time.monotonic() + EXIT_GRACE
        if time.monotonic() < self._end:
            self._write(_Job(size, write))

    def wait(self, seconds: float) -> None:
        """Wait until everything is written, but not for longer than this."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _start(self, job: _Job) -> bool:
        """Take a job, and see to it that the thread runs; False if none can be started any more."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="abstractllm-mlx-write", daemon=False)
                try:
                    self._thread.start()
                except RuntimeError:  # the interpreter ends
                    self._thread = None
                    return False
            self._jobs.append(job)
            self._held += job.size
            return True

    def _work(self) -> None:
        while (job := self._next()) is not None:
            self._write(job)
            size = job.size
            del job  # what it wrote is freed before more is taken
            with self._lock:
                self._held -= size

    def _next(self) -> _Job | None:
        with self._lock:
            if self._jobs:
                return self._jobs.popleft()
            self._thread = None
            return None

    def _write(self, job: _Job) -> None:
        try:
            job.write()
        except Exception as error:  # a full disk, a folder that is gone: no request may suffer for it
            level = logging.DEBUG if self._warned else logging.WARNING
            self._warned = True
            logger.log(level, "A computed prefix cannot be written to disk: %s: %s", type(error).__name__, error)


_writer = PrefixWriter()
# Called after the MLX thread has ended, which came later: what that left behind may have started the thread anew, when
# the interpreter had waited for all threads.
atexit.register(_writer.wait, EXIT_GRACE)


def prefix_writer() -> PrefixWriter:
    """Return the process's writer."""
    return _writer
