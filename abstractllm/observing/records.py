"""What is kept of one request, one tool call and one run of an agent. Knows neither texts nor keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from abstractllm.prices import Cost
from abstractllm.types import Timings, Usage

Outcome = Literal["finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request to a provider.

    - `outcome`: "finished", "failed" or "cancelled"; `error` is the name of the error's class where it failed.
    - `ended`: seconds since the epoch; `seconds`: from the start of the request to its end.
    - `usage`, `timings`: as the provider told them, None where it did not.
    - `cost`: by the prices that are known, None where there are none.
    """

    provider: str
    model: str
    outcome: Outcome
    ended: float
    seconds: float
    stream: bool
    usage: Usage | None = None
    timings: Timings | None = None
    error: str | None = None
    cost: Cost | None = None

    @property
    def first_token(self) -> float | None:
        """Seconds until the first token, with those in the waiting line; None where the provider does not time it."""
        return None if self.timings is None else self.timings.queued + self.timings.first_token

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens of the answer over the whole time of the request, which can be compared between providers."""
        return _rate(self.usage, self.seconds)

    @property
    def decode_tokens_per_second(self) -> float | None:
        """Tokens of the answer over the time after the first token; None where the provider does not time it."""
        return None if self.timings is None else _rate(self.usage, self.timings.decode)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return {
            "provider": self.provider,
            "model": self.model,
            "outcome": self.outcome,
            "error": self.error,
            "ended": self.ended,
            "seconds": self.seconds,
            "first_token": self.first_token,
            "stream": self.stream,
            **usage_dict(self.usage),
            "tokens_per_second": self.tokens_per_second,
            "decode_tokens_per_second": self.decode_tokens_per_second,
            "cost": None if self.cost is None else {"amount": str(self.cost.amount), "currency": self.cost.currency},
        }


@dataclass(frozen=True, slots=True)
class ToolRecord:
    """One call of a tool: `kind` is how it ended ("ok", "error", "timeout", "denied", "cancelled")."""

    run_id: str
    agent: str
    name: str
    kind: str
    seconds: float
    ended: float
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of an agent.

    `stop` is why it ended ("end", "limit", "cancelled", "approval", "stopped"), or "failed" with the `error`'s class.
    `usage` is that of all its turns together, `tool_calls` how many calls have ended.
    """

    run_id: str
    agent: str
    provider: str
    model: str
    stop: str
    seconds: float
    ended: float
    turns: int
    tool_calls: int
    usage: Usage
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "usage"}
        return {**plain, **usage_dict(self.usage)}


def usage_dict(usage: Usage | None) -> dict[str, int | None]:
    """Return the counts that are kept, None for each where nothing is known."""
    names = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
    return {name: None if usage is None else getattr(usage, name) for name in names}


def _rate(usage: Usage | None, seconds: float) -> float | None:
    return usage.completion_tokens / seconds if usage is not None and seconds > 0 else None
