"""What a running request tells its provider, and the provider it. Knows nothing of the request's content."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

from abstractllm.errors import RequestTimeoutError
from abstractllm.types import Timeout

NO_LIMITS = Timeout()
"""The limits of a request that has none."""


class Call:
    """One run of a request; safe to use from any thread.

    `started` is when it began, `asked` when its last try did, in seconds of `time.monotonic`.

    It has no lock, which another thread might hold at the moment of a fork: each callback is taken off the list by one
    thread alone.
    """

    def __init__(self, timeout: Timeout | None = None) -> None:
        total = timeout.total if timeout else None
        self.timeout = timeout or NO_LIMITS
        self.started = self.asked = time.monotonic()
        self.deadline = None if total is None else self.started + total
        self._pid = os.getpid()
        self._cancelled = False
        self._closed = False
        self._begun = False
        self._callbacks: deque[Callable[[], None]] = deque()
        self._progress: tuple[int, int] = (0, 0)
        self._position: Callable[[], int | None] | None = None

    @property
    def cancelled(self) -> bool:
        """Whether the answer is no longer wanted; a provider that works in steps looks at it between them."""
        return self._cancelled

    def cancel(self) -> None:
        """Say that the answer is no longer wanted. Safe to call twice.

        In a child of the process where the request began nothing is called: what would be woken up is not there.
        """
        self._cancelled = True
        self._position = None  # it may know a model, which a stream that has ended must not keep
        self._call_back()

    def _call_back(self) -> None:
        if not self._callbacks or os.getpid() != self._pid:
            return
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread was faster
                return
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
        self._callbacks.append(callback)
        if self._cancelled:
            self._call_back()

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

    def again(self) -> None:
        """Say that the request is asked once more, from now on; its deadline stays.

        That the try before is over, which its source says by `cancel`, is no reason not to want this one.
        """
        self.asked = time.monotonic()
        self._cancelled = False
        if self._closed:  # looked at last: a close at this moment must not be forgotten
            self.cancel()
        self._begun = False
        self._progress = (0, 0)
        self._position = None

    @property
    def begun(self) -> bool:
        """Whether the provider has said that it has its first token."""
        return self._begun

    def first_event(self) -> None:
        """Say that the first token is there. Only for a provider that has it and hands nothing over yet.

        From then on the limit `first_event` has been kept; `idle` counts from the first delta on, not from here.
        """
        self._begun = True

    @property
    def progress(self) -> tuple[int, int]:
        """Tokens of the prompt that are computed, and how many there are; (0, 0) while that is not known."""
        return self._progress

    def report_progress(self, done: int, total: int) -> None:
        """Say how much of the prompt is computed."""
        self._progress = (done, total)

    @property
    def queue_position(self) -> int | None:
        """How many requests wait before this one; None where it does not wait, or nobody knows."""
        position = self._position
        return None if position is None else position()

    def in_line(self, position: Callable[[], int | None]) -> None:
        """Say how to find out how many requests wait before this one. `position` may be called on any thread."""
        self._position = None if self._cancelled else position
