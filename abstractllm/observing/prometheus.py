"""Totals in Prometheus' text exposition format, version 0.0.4. Knows the format; needs no library.

Source of the format: prometheus.io/docs/instrumenting/exposition_formats.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from abstractllm.observing.distribution import SECONDS, Distribution
from abstractllm.observing.totals import Key, RequestTotals, RunTotals, ToolTotals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The `Content-Type` to serve the text with."""

_PREFIX = "abstractllm_"
_MODEL = ("provider", "model")
_TOOL = ("agent", "tool")
_AGENT = ("agent",)
_TOKENS = {
    "prompt": "Tokens of prompts, cached ones included.",
    "completion": "Tokens of answers, those for reasoning included.",
    "cached": "Tokens of prompts that needed no computing.",
    "reasoning": "Tokens of answers that were for reasoning.",
}
_BOUNDS = (*map(repr, SECONDS), "+Inf")


def exposition(
    requests: Mapping[Key, RequestTotals], tools: Mapping[Key, ToolTotals], runs: Mapping[Key, RunTotals]
) -> str:
    """Return all totals as text, metric by metric; one without a sample has its HELP and TYPE alone."""
    parts = (_requests(requests), _tokens(requests), _times(requests), _tools(tools), _runs(runs))
    return "".join(f"{line}\n" for part in parts for line in part)


def _requests(rows: Mapping[Key, RequestTotals]) -> Iterator[str]:
    ended = ((*key, kind, number) for key, row in rows.items() for kind, number in row.outcomes().items())
    yield from _counter("requests_total", "Requests to models that have ended.", (*_MODEL, "outcome"), ended)
    errors = ((*key, error, number) for key, row in rows.items() for error, number in row.errors.items())
    yield from _counter("request_errors_total", "Requests that failed, by error.", (*_MODEL, "error"), errors)
    costs = ((*key, currency, float(amount)) for key, row in rows.items() for currency, amount in row.costs.items())
    yield from _counter("cost_total", "Cost of answers whose price is known.", (*_MODEL, "currency"), costs)


def _tokens(rows: Mapping[Key, RequestTotals]) -> Iterator[str]:
    for kind, text in _TOKENS.items():
        counts = ((*key, getattr(row.tokens, kind)) for key, row in rows.items())
        yield from _counter(f"{kind}_tokens_total", text, _MODEL, counts)


def _times(rows: Mapping[Key, RequestTotals]) -> Iterator[str]:
    latency = ((key, row.latency) for key, row in rows.items())
    yield from _histogram("request_duration_seconds", "Time of requests that finished.", _MODEL, latency)
    first = ((key, row.first_token) for key, row in rows.items() if row.first_token.count)
    yield from _histogram("first_token_seconds", "Time to the first token, waiting included.", _MODEL, first)


def _tools(rows: Mapping[Key, ToolTotals]) -> Iterator[str]:
    calls = ((*key, kind, number) for key, row in rows.items() for kind, number in row.kinds.items())
    yield from _counter("tool_calls_total", "Calls of tools that have ended.", (*_TOOL, "kind"), calls)
    times = ((key, row.seconds) for key, row in rows.items())
    yield from _histogram("tool_duration_seconds", "Time of calls of tools.", _TOOL, times)


def _runs(rows: Mapping[Key, RunTotals]) -> Iterator[str]:
    stops = ((*key, stop, number) for key, row in rows.items() for stop, number in row.stops.items())
    yield from _counter("runs_total", "Runs of agents that have ended.", (*_AGENT, "stop"), stops)
    turns = ((*key, row.turns) for key, row in rows.items())
    yield from _counter("run_turns_total", "Answers of models in runs of agents.", _AGENT, turns)
    times = ((key, row.seconds) for key, row in rows.items())
    yield from _histogram("run_duration_seconds", "Time of runs of agents.", _AGENT, times)


def _counter(name: str, text: str, labels: Key, samples: Iterable[tuple[object, ...]]) -> Iterator[str]:
    """Yield the lines of a counter; each sample is the labels' values and, last, the number."""
    yield from _header(name, text, "counter")
    for *values, number in samples:
        yield f"{_PREFIX}{name}{_labelled(labels, values)} {number!r}"


def _histogram(name: str, text: str, labels: Key, samples: Iterable[tuple[Key, Distribution]]) -> Iterator[str]:
    """Yield the lines of a histogram, whose buckets count all values up to their bound."""
    yield from _header(name, text, "histogram")
    for values, found in samples:
        for bound, number in zip(_BOUNDS, accumulate(found.buckets), strict=True):
            yield f"{_PREFIX}{name}_bucket{_labelled((*labels, 'le'), (*values, bound))} {number}"
        yield f"{_PREFIX}{name}_sum{_labelled(labels, values)} {found.sum!r}"
        yield f"{_PREFIX}{name}_count{_labelled(labels, values)} {found.count}"


def _header(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"


def _labelled(names: Iterable[str], values: Iterable[object]) -> str:
    pairs = ",".join(f'{name}="{_escaped(str(value))}"' for name, value in zip(names, values, strict=True))
    return f"{{{pairs}}}"


def _escaped(value: str) -> str:
    """Return a label's value as the format wants it: with backslash, quote and line feed escaped, and as UTF-8 can be.

    A model may invent a name with half of a surrogate pair, which cannot be sent; it is written out.
    """
    sendable = value.encode("utf-8", "backslashreplace").decode("utf-8")
    return sendable.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
