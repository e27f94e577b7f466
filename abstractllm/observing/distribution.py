"""How a number is spread: counted in fixed buckets for ever, or exactly from values at hand. Knows no meaning of it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, inf

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Upper bounds of buckets for durations: those of OpenTelemetry's GenAI metrics, `gen_ai.client.operation.duration`."""


class Distribution:
    """Values counted by the bucket that they fall into; it takes the same memory however many there are.

    `buckets[i]` is how many were at most `SECONDS[i]` and above the bound before it; the last is for all greater ones.
    """

    __slots__ = ("buckets", "count", "greatest", "least", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(SECONDS) + 1)
        self.count = 0
        self.sum = 0.0
        self.least = inf
        self.greatest = -inf

    def add(self, value: float) -> None:
        """Count one value."""
        self.buckets[bisect_left(SECONDS, value)] += 1
        self.count += 1
        self.sum += value
        if value < self.least:
            self.least = value
        if value > self.greatest:
            self.greatest = value

    def merge(self, other: Distribution) -> None:
        """Count all that another one has counted."""
        self.buckets = [mine + its for mine, its in zip(self.buckets, other.buckets, strict=True)]
        self.count += other.count
        self.sum += other.sum
        self.least = min(self.least, other.least)
        self.greatest = max(self.greatest, other.greatest)


@dataclass(frozen=True, slots=True)
class Spread:
    """How a number of seconds is spread; None everywhere where there is none.

    `min`, `avg` and `max` are of all values ever counted, `p50` and `p95` of those whose records are still kept: the
    smallest value that at least 50 or 95 of 100 do not exceed.
    """

    count: int = 0
    min: float | None = None
    avg: float | None = None
    p50: float | None = None
    p95: float | None = None
    max: float | None = None


def spread(counted: Distribution, kept: Iterable[float]) -> Spread:
    """Return how values are spread, of which `counted` has counted all, and `kept` are the latest."""
    if not counted.count:
        return Spread()
    values = sorted(kept)
    return Spread(
        counted.count,
        counted.least,
        counted.sum / counted.count,
        percentile(values, 50),
        percentile(values, 95),
        counted.greatest,
    )


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Return the smallest of sorted values that at least `percent` of 100 do not exceed; None where there is none."""
    return values[max(0, ceil(len(values) * percent / 100) - 1)] if values else None
