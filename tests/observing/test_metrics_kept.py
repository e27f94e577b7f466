"""Metrics of many requests and of runs of agents: what is kept, what is forgotten, and what is not mixed."""

from __future__ import annotations

import asyncio
import sys
import threading
from decimal import Decimal

import pytest

from abstractllm import Metrics, create_llm
from abstractllm.agent.events import (
    RunFailed,
    RunInfo,
    RunStarted,
    ToolFinished,
    ToolOutcome,
    ToolStarted,
    TurnFinished,
)
from abstractllm.errors import GenerationError
from abstractllm.observing import totals
from abstractllm.observing.metrics import KEPT
from abstractllm.observing.runs import MOST_OPEN
from abstractllm.types import GenerateResponse, ToolCall, Usage

from .counting import DOLLARS, INFO, ended, run


def test_records_are_bounded_and_counters_are_not():
    metrics = Metrics()
    for number in range(KEPT + 5):
        metrics(ended(seconds=float(number), usage=Usage(1, 1)))
    assert len(metrics.requests) == KEPT
    summary = metrics.summary().requests
    assert (summary.total, summary.tokens.total, summary.latency.min) == (KEPT + 5, 2 * KEPT + 10, 0.0)
    assert summary.latency.p50 == 5 + KEPT / 2 - 1


def test_names_without_end_share_one_row():
    metrics = Metrics()
    for number in range(totals.MOST_ROWS + 10):
        metrics(ended(model=f"m{number}"))
        metrics(INFO, ToolFinished(ToolCall("1", f"t{number}"), ToolOutcome("error", "")))
    summary = metrics.summary()
    assert len(summary.by_model) == len(summary.tools) == totals.MOST_ROWS + 1
    assert summary.by_model["(other):(other)"].total == summary.tools["(other)"].total == 10
    assert summary.requests.total == totals.MOST_ROWS + 10


def test_runs_whose_end_is_never_told_are_forgotten():
    metrics = Metrics()
    for number in range(MOST_OPEN + 1):
        metrics(RunInfo(str(number), "a", "p"), TurnFinished(1, GenerateResponse()))
    metrics(RunInfo("0", "a", "p"), RunFailed(ValueError()))
    metrics(RunInfo("9", "a", "p"), RunFailed(ValueError()))
    assert [run.turns for run in metrics.runs] == [0, 1]


@pytest.fixture
def often_switching():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_many_threads_lose_nothing(often_switching):
    metrics = Metrics({"m": DOLLARS})
    each, threads, told = 3000, 6, ended(usage=Usage(1, 2))

    def work():
        for _ in range(each):
            metrics(told)
        metrics.summary()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert metrics.summary().requests.tokens.completion == 2 * each * threads
    assert metrics.summary().requests.latency.count == each * threads
    assert metrics.summary().requests.cost == {"USD": each * threads * Decimal("0.00002125")}


def test_two_objects_share_nothing_and_one_can_be_shared():
    one, other, both = Metrics(), Metrics(), Metrics()
    for metrics in (one, other):
        llm = create_llm("echo")
        llm.observers += [metrics, both]
        llm.generate("Hi")
    assert [metrics.summary().requests.total for metrics in (one, other, both)] == [1, 1, 2]
    both.clear()
    assert (both.summary().requests.total, both.requests, one.summary().requests.total) == (0, [], 1)


# Runs of agents.


def test_a_run_has_all_its_turns_and_calls():
    metrics = Metrics()
    metrics(INFO, RunStarted(()))
    for name, outcome in (
        ("add", ToolOutcome("ok", "", seconds=0.5)),
        ("add", ToolOutcome("timeout", "", seconds=1.5)),
    ):
        metrics(INFO, ToolStarted(ToolCall("c", name)))
        metrics(INFO, ToolFinished(ToolCall("c", name), outcome))
    metrics(INFO, ToolFinished(ToolCall("c", "nope"), ToolOutcome("error", "", error=KeyError("x"))))
    run(metrics)
    summary = metrics.summary()
    assert (summary.runs.total, summary.runs.turns, summary.runs.tool_calls) == (1, 2, 3)
    assert (summary.runs.tokens.prompt, summary.runs.stops) == (30, {"end": 1})
    assert (summary.tools["add"].total, summary.tools["add"].successful) == (2, 1)
    assert summary.tools["add"].kinds == {"ok": 1, "timeout": 1}
    assert (summary.tools["add"].seconds.min, summary.tools["add"].seconds.max) == (0.5, 1.5)
    assert [(call.name, call.kind, call.error) for call in metrics.tool_calls][-1] == ("nope", "error", "KeyError")
    assert summary.requests.total == 0


@pytest.mark.parametrize(
    ("error", "stop", "failed", "name"),
    [(GenerationError("no"), "failed", 1, "GenerationError"), (asyncio.CancelledError(), "cancelled", 0, None)],
)
def test_a_run_that_breaks_off_has_what_its_turns_told(error, stop, failed, name):
    metrics = Metrics()
    run(metrics, end=RunFailed(error))
    (record,) = metrics.runs
    assert (record.stop, record.error, record.turns, record.usage) == (stop, name, 2, Usage(30, 3))
    assert metrics.summary().runs.failed == failed


def test_runs_at_once_are_kept_apart():
    metrics = Metrics()
    first, second = RunInfo("1", "a", "p"), RunInfo("2", "b", "p")
    metrics(first, RunStarted(()))
    run(metrics, second, turns=3)
    metrics(first, TurnFinished(1, GenerateResponse(usage=None)))
    metrics(first, RunFailed(ValueError()))
    assert [(one.agent, one.turns) for one in metrics.runs] == [("b", 3), ("a", 1)]
    assert metrics.summary().by_agent["b"].turns == 3
