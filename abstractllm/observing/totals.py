"""What is counted for ever: requests by model, tool calls by tool, runs by agent. Their memory has a bound."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Generic, TypeVar

from abstractllm.observing.distribution import Distribution
from abstractllm.observing.records import RequestRecord, RunRecord, ToolRecord
from abstractllm.types import Usage

MOST_ROWS = 1000
"""Rows of one table; a model may invent names of tools without end. What comes after is counted in one row more."""

OTHER = "(other)"
"""Every part of the key of that one row."""


class TokenCounts:
    """Tokens of many answers; cached ones are among those of the prompts, reasoning ones among those of the answers."""

    __slots__ = ("cached", "completion", "prompt", "reasoning")

    def __init__(self) -> None:
        self.prompt = self.completion = self.cached = self.reasoning = 0

    def add(self, usage: Usage) -> None:
        """Count the tokens of one answer."""
        self.prompt += usage.prompt_tokens
        self.completion += usage.completion_tokens
        self.cached += usage.cached_tokens
        self.reasoning += usage.reasoning_tokens

    def merge(self, other: TokenCounts) -> None:
        """Count all that another one has counted."""
        self.prompt += other.prompt
        self.completion += other.completion
        self.cached += other.cached
        self.reasoning += other.reasoning


class RequestTotals:
    """Requests of one model. `latency` and `first_token` are of those that finished."""

    __slots__ = ("cancelled", "costs", "errors", "failed", "finished", "first_token", "latency", "tokens")

    def __init__(self) -> None:
        self.finished = self.failed = self.cancelled = 0
        self.latency, self.first_token = Distribution(), Distribution()
        self.tokens = TokenCounts()
        self.errors: dict[str, int] = {}
        self.costs: dict[str, Decimal] = {}

    def add(self, record: RequestRecord) -> None:
        """Count one request."""
        if record.outcome == "finished":
            self.finished += 1
            self.latency.add(record.seconds)
            if record.timings is not None:
                self.first_token.add(record.timings.queued + record.timings.first_token)
        elif record.outcome == "cancelled":
            self.cancelled += 1
        else:
            self.failed += 1
            count(self.errors, record.error or "")
        if record.usage is not None:
            self.tokens.add(record.usage)
        if record.cost is not None:
            self.costs[record.cost.currency] = self.costs.get(record.cost.currency, Decimal()) + record.cost.amount

    def outcomes(self) -> dict[str, int]:
        """Return how many ended in each way."""
        return {"finished": self.finished, "failed": self.failed, "cancelled": self.cancelled}

    def merge(self, other: RequestTotals) -> None:
        """Count all that another one has counted."""
        self.finished += other.finished
        self.failed += other.failed
        self.cancelled += other.cancelled
        self.latency.merge(other.latency)
        self.first_token.merge(other.first_token)
        self.tokens.merge(other.tokens)
        for name, number in other.errors.items():
            count(self.errors, name, number)
        for currency, amount in other.costs.items():
            self.costs[currency] = self.costs.get(currency, Decimal()) + amount


class ToolTotals:
    """Calls of one tool: how many ended in each way, and how long they took."""

    __slots__ = ("kinds", "seconds")

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self.seconds = Distribution()

    def add(self, record: ToolRecord) -> None:
        """Count one call."""
        count(self.kinds, record.kind)
        self.seconds.add(record.seconds)

    def merge(self, other: ToolTotals) -> None:
        """Count all that another one has counted."""
        for kind, number in other.kinds.items():
            count(self.kinds, kind, number)
        self.seconds.merge(other.seconds)


class RunTotals:
    """Runs of one agent: how many stopped in each way, how long they took, and what they used."""

    __slots__ = ("seconds", "stops", "tokens", "tool_calls", "turns")

    def __init__(self) -> None:
        self.stops: dict[str, int] = {}
        self.seconds = Distribution()
        self.turns = self.tool_calls = 0
        self.tokens = TokenCounts()

    def add(self, record: RunRecord) -> None:
        """Count one run."""
        count(self.stops, record.stop)
        self.seconds.add(record.seconds)
        self.turns += record.turns
        self.tool_calls += record.tool_calls
        self.tokens.add(record.usage)

    def merge(self, other: RunTotals) -> None:
        """Count all that another one has counted."""
        for stop, number in other.stops.items():
            count(self.stops, stop, number)
        self.seconds.merge(other.seconds)
        self.turns += other.turns
        self.tool_calls += other.tool_calls
        self.tokens.merge(other.tokens)


T = TypeVar("T", RequestTotals, ToolTotals, RunTotals)
Key = tuple[str, ...]


class Table(Generic[T]):
    """Rows of totals by key; beyond `MOST_ROWS`, new keys share one row."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] = make
        self.rows: dict[Key, T] = {}

    def row(self, key: Key) -> T:
        """Return the row of a key, a new one where there is none yet."""
        found = self.rows.get(key)
        if found is not None:
            return found
        if len(self.rows) >= MOST_ROWS:
            key = (OTHER,) * len(key)
        return self.rows.setdefault(key, self._make())

    def copied(self) -> dict[Key, T]:
        """Return all rows, which change no more."""
        return {key: merged([row], self._make) for key, row in self.rows.items()}


def merged(rows: Iterable[T], make: Callable[[], T]) -> T:
    """Return the sum of some rows."""
    whole = make()
    for row in rows:
        whole.merge(row)
    return whole


def count(numbers: dict[str, int], name: str, more: int = 1) -> None:
    """Add to the number of a name."""
    numbers[name] = numbers.get(name, 0) + more
