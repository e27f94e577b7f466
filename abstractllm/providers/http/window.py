"""A sliding window: at most so much in any span of time. Pure: it is told the time, and knows no thread."""

from __future__ import annotations

from collections import deque

SPAN = 60.0
"""Seconds that a window is long."""


class Entry:
    """So much, taken at a moment in seconds."""

    __slots__ = ("amount", "moment")

    def __init__(self, moment: float, amount: int) -> None:
        self.moment = moment
        self.amount = amount


class Window:
    """What was taken of late. No span `[t, t + SPAN)` holds more than `limit`; None is no limit.

    One who asks for more than the limit gets a window of its own. Moments never go back. A bucket that fills up
    evenly would let twice its size through in one span, so what was taken is kept instead.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self._entries: deque[Entry] = deque()
        self._sum = 0

    def copy(self) -> Window:
        """Return a window in the same state, to try something out."""
        other = Window(self.limit)
        other._entries, other._sum = self._entries.copy(), self._sum
        return other

    def wait(self, amount: int, now: float) -> float:
        """Return the seconds from `now` until so much may be taken, if nothing is taken meanwhile."""
        if self.limit is None:
            return 0.0
        self._forget(now)
        excess = self._sum + min(amount, self.limit) - self.limit
        if excess <= 0:
            return 0.0
        for entry in self._entries:
            excess -= entry.amount
            if excess <= 0:
                return entry.moment + SPAN - now
        raise AssertionError("what was taken does not add up")

    def take(self, amount: int, now: float) -> Entry | None:
        """Take so much, or as much as may be taken at most; return what was taken, None where there is no limit."""
        if self.limit is None:
            return None
        entry = Entry(now, min(amount, self.limit))
        self._entries.append(entry)
        self._sum += entry.amount
        return entry

    def correct(self, entry: Entry | None, amount: int) -> None:
        """Say what an entry was in the end; one that has left the window stays out of it."""
        if entry is not None and self._entries and entry.moment >= self._entries[0].moment:
            self._sum += amount - entry.amount
            entry.amount = amount

    def _forget(self, now: float) -> None:
        while self._entries and self._entries[0].moment + SPAN <= now:
            self._sum -= self._entries.popleft().amount
