"""The summary of what was counted, as data. Knows how to add up, and nothing of where the numbers come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from abstractllm.observing.distribution import Spread, spread
from abstractllm.observing.records import RequestRecord, RunRecord, ToolRecord
from abstractllm.observing.totals import Key, RequestTotals, RunTotals, TokenCounts, ToolTotals, merged


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts: `cached` ones are among those of the `prompt`, `reasoning` ones among those of the `completion`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class RequestSummary:
    """Requests added up.

    - `success_rate`: successful ones among those that succeeded or failed, from 0 to 1; None where there are none. Who
      cancels a request does not make it fail.
    - `latency`, `first_token`: seconds of successful ones; `first_token` of those whose provider times it.
    - `cost`: by currency, exact, of those whose price is known.
    - `errors`: how many failed with each class of error.
    """

    total: int
    successful: int
    failed: int
    cancelled: int
    success_rate: float | None
    latency: Spread
    first_token: Spread
    tokens: Tokens
    cost: Mapping[str, Decimal]
    errors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ToolSummary:
    """Calls of one tool: how many, how many of them `ok`, how many ended in each way, and their seconds."""

    total: int
    successful: int
    kinds: Mapping[str, int]
    seconds: Spread


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Runs of agents: how many, how many stopped in each way ("failed" is one), their turns, tool calls and tokens."""

    total: int
    failed: int
    stops: Mapping[str, int]
    turns: int
    tool_calls: int
    seconds: Spread
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Summary:
    """All that was counted.

    `requests` are those of providers, each turn of an agent among them if its provider is observed; `by_model` the
    same by "provider:model"; `tools` by the tool's name; `runs` are those of agents, `by_agent` by the agent's name.
    Tokens of `runs` are not to be added to those of `requests`.
    """

    requests: RequestSummary
    by_model: Mapping[str, RequestSummary]
    tools: Mapping[str, ToolSummary]
    runs: RunSummary
    by_agent: Mapping[str, RunSummary]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as JSON takes it; amounts of money are text, so that they stay exact."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


@dataclass(frozen=True, slots=True)
class Counted:
    """What a summary is made of: all rows of totals, and the latest records."""

    requests: Mapping[Key, RequestTotals]
    tools: Mapping[Key, ToolTotals]
    runs: Mapping[Key, RunTotals]
    request_records: Sequence[RequestRecord]
    tool_records: Sequence[ToolRecord]
    run_records: Sequence[RunRecord]


def summarize(counted: Counted) -> Summary:
    """Return the summary of what was counted."""
    requests, tools, runs = counted.request_records, counted.tool_records, counted.run_records
    return Summary(
        requests=_requests(counted.requests.values(), requests),
        by_model={
            ":".join(key): _requests([row], [one for one in requests if (one.provider, one.model) == key])
            for key, row in counted.requests.items()
        },
        tools={
            name: _tools([counted.tools[key] for key in counted.tools if key[1] == name], tools, name)
            for name in dict.fromkeys(key[1] for key in counted.tools)
        },
        runs=_runs(counted.runs.values(), runs),
        by_agent={
            key[0]: _runs([row], [one for one in runs if one.agent == key[0]]) for key, row in counted.runs.items()
        },
    )


def _requests(rows: Iterable[RequestTotals], records: Sequence[RequestRecord]) -> RequestSummary:
    whole = merged(rows, RequestTotals)
    judged = whole.finished + whole.failed
    good = [one for one in records if one.outcome == "finished"]
    return RequestSummary(
        total=judged + whole.cancelled,
        successful=whole.finished,
        failed=whole.failed,
        cancelled=whole.cancelled,
        success_rate=whole.finished / judged if judged else None,
        latency=spread(whole.latency, (one.seconds for one in good)),
        first_token=spread(whole.first_token, (one.first_token for one in good if one.first_token is not None)),
        tokens=_tokens(whole.tokens),
        cost=whole.costs,
        errors=whole.errors,
    )


def _tools(rows: Iterable[ToolTotals], records: Sequence[ToolRecord], name: str) -> ToolSummary:
    whole = merged(rows, ToolTotals)
    kept = (one.seconds for one in records if one.name == name)
    return ToolSummary(whole.seconds.count, whole.kinds.get("ok", 0), whole.kinds, spread(whole.seconds, kept))


def _runs(rows: Iterable[RunTotals], records: Sequence[RunRecord]) -> RunSummary:
    whole = merged(rows, RunTotals)
    return RunSummary(
        total=whole.seconds.count,
        failed=whole.stops.get("failed", 0),
        stops=whole.stops,
        turns=whole.turns,
        tool_calls=whole.tool_calls,
        seconds=spread(whole.seconds, (one.seconds for one in records)),
        tokens=_tokens(whole.tokens),
    )


def _tokens(counts: TokenCounts) -> Tokens:
    total = counts.prompt + counts.completion
    return Tokens(counts.prompt, counts.completion, counts.cached, counts.reasoning, total)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return str(value) if isinstance(value, Decimal) else value
