"""A sliding window: at most so much in any span of time. Pure: it is told the time, and knows no thread."""

from __future__ import annotations

from collections import deque
from itertools import accumulate

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

    def wait_for_all(self, amount: int, now: float) -> float:
        """Return at least how many seconds from `now` it is until so much is taken, piece by piece, each when it may.

        What is free now and what is taken returns every `SPAN` seconds, in the same order, and all of it together is
        the limit. So the moment follows without going through the pieces; it is exact for pieces of one.
        """
        if self.limit is None:
            return 0.0
        self._forget(now)
        excess = self._sum + amount - self.limit
        if excess <= 0:
            return 0.0
        rounds, over = 1, max(0, self._sum - self.limit)
        if excess > self.limit + over:  # what is over the limit, by a correction, leaves once and does not return
            more, rest = divmod(excess - over - 1, self.limit)
            rounds, excess = rounds + more, rest + 1 + over
        sums = accumulate(entry.amount for entry in self._entries)
        moment = next((entry.moment for entry, total in zip(self._entries, sums, strict=True) if total >= excess), now)
        return moment + SPAN * rounds - now

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
