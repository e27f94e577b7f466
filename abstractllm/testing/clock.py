"""A clock that a test moves on, for what waits by a clock that can be chosen. Knows nothing of who waits."""

from __future__ import annotations

from collections.abc import Callable

from abstractllm.threads import ForkSafeLock


class ManualClock:
    """Stands still until `advance`; `waits` are the seconds that it was asked to wait, in order. For any thread."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._lock = ForkSafeLock()
        self._now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        """Return the seconds by which it was moved on."""
        return self._now

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have `callback` called by the `advance` that reaches its moment."""
        with self._lock:
            self._due.append((self._now + seconds, len(self.waits), callback))
            self.waits.append(seconds)

    def advance(self, seconds: float) -> None:
        """Move on, stopping at each moment for which something waits; its callback may wait anew."""
        until = self._now + seconds
        while (due := self._next(until)) is not None:
            due()
        self._now = until

    def _next(self, until: float) -> Callable[[], None] | None:
        with self._lock:
            if not self._due or min(self._due)[0] > until:
                return None
            first = min(self._due)
            self._due.remove(first)
            self._now = max(self._now, first[0])
            return first[2]
