"""Metrics of requests, tool calls and runs of agents, as an observer of both. Knows neither provider nor text."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, overload

from abstractllm.agent.events import Event, RunFailed, RunFinished, RunInfo, RunStarted, ToolFinished, TurnFinished
from abstractllm.observing.pricing import PriceLike, to_price
from abstractllm.observing.prometheus import exposition
from abstractllm.observing.records import RequestRecord, RunRecord, ToolRecord
from abstractllm.observing.runs import OpenRuns
from abstractllm.observing.summary import Counted, Summary, summarize
from abstractllm.observing.totals import RequestTotals, RunTotals, Table, ToolTotals
from abstractllm.providers.run import GenerationEvent
from abstractllm.threads import ForkSafeLock

if TYPE_CHECKING:
    from abstractllm.prices import Cost
    from abstractllm.types import GenerateResponse

KEPT = 10_000
"""Records of each kind that are kept; older ones are forgotten, and what they counted is not."""


class Metrics:
    """Counts requests (`llm.observers.append(metrics)`) and runs (`Agent(llm, observers=[metrics])`), from any thread.

    Each object counts by itself: one that several providers and agents share counts them together. An agent's turns are
    requests of its provider, so that a provider has to be observed for their tokens to be among those of `requests`.
    A fallback and its members each tell of their requests: observe the one or the others.

    `prices` are per million tokens, by model or "provider:model": `{"gpt-5": {"input": 1.25, "output": 10, "cached":
    0.125, "currency": "USD"}}`, or `Price`. They go before those that a provider knows by itself. Raises
    InvalidParameterError for a price that is none.
    """

    def __init__(self, prices: Mapping[str, PriceLike] | None = None) -> None:
        self._prices = {model: to_price(model, given) for model, given in (prices or {}).items()}
        self._lock = ForkSafeLock()
        self._forget()

    def _forget(self) -> None:
        self._requests = Table(RequestTotals)
        self._tools = Table(ToolTotals)
        self._runs = Table(RunTotals)
        self._open = OpenRuns()
        self._request_records: deque[RequestRecord] = deque(maxlen=KEPT)
        self._tool_records: deque[ToolRecord] = deque(maxlen=KEPT)
        self._run_records: deque[RunRecord] = deque(maxlen=KEPT)

    # As an observer.

    @overload
    def __call__(self, told: GenerationEvent) -> None: ...

    @overload
    def __call__(self, told: RunInfo, event: Event | RunFailed) -> None: ...

    def __call__(self, told: GenerationEvent | RunInfo, event: Event | RunFailed | None = None) -> None:
        """Take what a provider or an agent tells."""
        if isinstance(told, GenerationEvent):
            if told.kind != "started":
                self._request_ended(told)
        elif isinstance(event, _TOLD):
            with self._lock:
                self._run_told(told, event)

    def _request_ended(self, event: GenerationEvent) -> None:
        request, response, error = event.request, event.response, event.error
        usage = None if response is None else response.usage
        model = event.model or (response and response.model) or ""
        record = RequestRecord(
            event.provider,
            model,
            "finished" if event.kind == "finished" else "cancelled" if event.kind == "cancelled" else "failed",
            time.time(),
            event.seconds,
            request.stream,
            usage,
            None if response is None else response.timings,
            None if error is None else type(error).__name__,
            None if response is None or usage is None else self._cost(event, response, model),
        )
        with self._lock:
            self._request_records.append(record)
            self._requests.row((event.provider, model)).add(record)

    def _cost(self, event: GenerationEvent, response: GenerateResponse, model: str) -> Cost | None:
        """Return what an answer cost, by the user's price or else by what the provider knows."""
        if self._prices and response.usage is not None:
            for name in (f"{event.provider}:{model}", model, response.model or ""):
                price = self._prices.get(name)
                if price is not None:
                    return price.cost(response.usage)
        return event.known_cost(response)

    def _run_told(self, info: RunInfo, event: Event | RunFailed) -> None:
        match event:
            case RunStarted():
                self._open.begin(info)
            case TurnFinished():
                self._open.turn(info, event)
            case ToolFinished():
                call = self._open.tool(info, event)
                self._tool_records.append(call)
                self._tools.row((call.agent, call.name)).add(call)
            case RunFinished() | RunFailed():
                run = self._open.end(info, event)
                self._run_records.append(run)
                self._runs.row((run.agent,)).add(run)

    # What was counted.

    @property
    def requests(self) -> list[RequestRecord]:
        """The latest 10,000 requests, oldest first."""
        with self._lock:
            return list(self._request_records)

    @property
    def tool_calls(self) -> list[ToolRecord]:
        """The latest 10,000 calls of tools, oldest first."""
        with self._lock:
            return list(self._tool_records)

    @property
    def runs(self) -> list[RunRecord]:
        """The latest 10,000 runs of agents, oldest first."""
        with self._lock:
            return list(self._run_records)

    def summary(self) -> Summary:
        """Return all that was counted since this object was made or cleared."""
        return summarize(self._counted())

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return `{"summary": ..., "requests": [...], "tool_calls": [...], "runs": [...]}`, and write it to `path`."""
        counted = self._counted()
        found = {
            "summary": summarize(counted).to_dict(),
            "requests": [one.to_dict() for one in counted.request_records],
            "tool_calls": [one.to_dict() for one in counted.tool_records],
            "runs": [one.to_dict() for one in counted.run_records],
        }
        text = json.dumps(found, indent=2, allow_nan=False)
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_prometheus(self) -> str:
        """Return all totals as text for Prometheus; serve it as `observing.prometheus.CONTENT_TYPE` says."""
        with self._lock:
            rows = self._requests.copied(), self._tools.copied(), self._runs.copied()
        return exposition(*rows)

    def clear(self) -> None:
        """Forget everything that was counted; runs that are not over count from here on."""
        with self._lock:
            self._forget()

    def _counted(self) -> Counted:
        with self._lock:
            return Counted(
                self._requests.copied(),
                self._tools.copied(),
                self._runs.copied(),
                list(self._request_records),
                list(self._tool_records),
                list(self._run_records),
            )


_TOLD = (RunStarted, TurnFinished, ToolFinished, RunFinished, RunFailed)
