"""The line of requests that wait for a place: the highest priority first, then the first come. Knows no slots."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Generic

from abstractllm.engine.rows import R


class WaitingLine(Generic[R]):
    """Rows that wait. A row that comes back keeps the place that its first arrival gave it."""

    def __init__(self) -> None:
        self._rows: list[R] = []
        self._keys: list[tuple[int, int]] = []
        self._numbers: dict[int, int] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[R]:
        return iter(self._rows)

    @property
    def first(self) -> R:
        """The row whose turn is next."""
        return self._rows[0]

    def add(self, row: R) -> None:
        """Put a row into its place."""
        if id(row) not in self._numbers:
            self._numbers[id(row)] = self._arrivals
            self._arrivals += 1
        key = (-row.priority, self._numbers[id(row)])
        place = bisect.bisect_left(self._keys, key)
        self._keys.insert(place, key)
        self._rows.insert(place, row)

    def take(self) -> R:
        """Remove and return the row whose turn is next; its place is kept until `forget`."""
        self._keys.pop(0)
        return self._rows.pop(0)

    def remove(self, row: R) -> None:
        """Remove a row and forget its place; one that does not wait is only forgotten."""
        place = self.position(row)
        if place is not None:
            del self._keys[place], self._rows[place]
        self.forget(row)

    def forget(self, row: R) -> None:
        """Forget the place of a row that has ended."""
        self._numbers.pop(id(row), None)

    def position(self, row: R) -> int | None:
        """Return how many rows are before this one, or None when it does not wait."""
        number = self._numbers.get(id(row))
        if number is None:
            return None
        key = (-row.priority, number)
        place = bisect.bisect_left(self._keys, key)
        return place if place < len(self._keys) and self._keys[place] == key else None

    def age(self, row: R) -> tuple[int, int]:
        """Return a key that sorts rows as they would wait, whether this one waits or runs."""
        return (-row.priority, self._numbers[id(row)])
