"""What a running request tells its provider, and the provider it. Knows nothing of the request's content."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from abstractllm.errors import RequestTimeoutError
from abstractllm.types import Timeout


class Call:
    """One run of a request; safe to use from any thread."""

    def __init__(self, timeout: Timeout | None = None) -> None:
        total = timeout.total if timeout else None
        self.timeout = timeout or Timeout()
        self.started = time.monotonic()
        self.deadline = None if total is None else self.started + total
        self._lock = threading.Lock()
        self._cancelled = False
        self._closed = False
        self._callbacks: list[Callable[[], None]] = []
        self._progress: tuple[int, int] = (0, 0)

    @property
    def cancelled(self) -> bool:
        """Whether the answer is no longer wanted; a provider that works in steps looks at it between them."""
        return self._cancelled

    def cancel(self) -> None:
        """Say that the answer is no longer wanted. Safe to call twice."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @property
    def closed(self) -> bool:
        """Whether the provider was closed while this ran."""
        return self._closed

    def close(self) -> None:
        """Say that the answer is no longer wanted, because the provider is being closed."""
        self._closed = True
        self.cancel()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once when the answer is no longer wanted, at once if that is already so."""
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()

    def remaining(self) -> float | None:
        """Seconds until the deadline, or None without one. Raises RequestTimeoutError when it has passed."""
        if self.deadline is None:
            return None
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise RequestTimeoutError(
                f"No whole answer within {self.timeout.total:g} s; raise timeout or ask for fewer tokens.",
                limit="total",
            )
        return left

    @property
    def progress(self) -> tuple[int, int]:
        """Tokens of the prompt that are computed, and how many there are; (0, 0) while that is not known."""
        return self._progress

    def report_progress(self, done: int, total: int) -> None:
        """Say how much of the prompt is computed."""
        self._progress = (done, total)
