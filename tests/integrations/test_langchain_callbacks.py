"""Callbacks that count costs, times and pieces: whole answers and streams alike, and many runs at a time."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from uuid import uuid4

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from abstractllm.errors import InvalidParameterError, QuotaExceededError
from abstractllm.integrations.langchain import (
    ChatAbstractLLM,
    ChatMaritaca,
    CombinedCallback,
    CostTrackingCallback,
    LatencyTrackingCallback,
    TokenStreamingCallback,
)
from abstractllm.integrations.langchain.latency import StreamedRun
from abstractllm.prices import Cost
from abstractllm.providers.echo import Reply
from abstractllm.testing.loopback import LoopbackServer

from ..providers.maritaca_service import KEY, OK, STREAM

ECHO = {"input": 1_000_000, "output": 2_000_000, "currency": "BRL"}
"""A real a word of the prompt, and two a word of the answer."""


async def ask_all(model, prompt="one two", config=None):
    model.invoke(prompt, config)
    await model.ainvoke(prompt, config)
    list(model.stream(prompt, config))
    [_ async for _ in model.astream(prompt, config)]


# Costs.


async def test_streams_cost_as_whole_answers_do():
    """The price is of the provider's one table, in reais; flex is cheaper."""
    costs = CostTrackingCallback()
    with LoopbackServer([OK, OK, STREAM, STREAM]) as server:
        async with ChatMaritaca(api_key=KEY, base_url=server.url, callbacks=[costs]) as model:
            await ask_all(model)
    found = costs.get_summary()
    assert (found["call_count"], found["unpriced_calls"], found["currency"]) == (4, 0, "BRL")
    assert (found["total_input_tokens"], found["total_output_tokens"], found["total_tokens"]) == (4800, 1200, 6000)
    assert [one.cost for one in found["calls"][:2]] == [Cost(Decimal("0.00825"), "BRL")] * 2
    assert all(one.cost.amount > 0 and one.model == "sabia-4" for one in found["calls"])
    assert found["total_cost"] == sum(one.cost.amount for one in found["calls"])
    assert found["average_cost_per_call"] == found["total_cost"] / 4


async def test_prices_of_ones_own_are_for_any_model():
    costs = CostTrackingCallback({"echo": ECHO})
    await ask_all(ChatAbstractLLM("echo", callbacks=[costs]))
    assert costs.total_cost == 4 * (2 + 2 * 2)
    dollars = CostTrackingCallback({"echo": {**ECHO, "currency": "USD"}})
    ChatAbstractLLM("echo").invoke("one", {"callbacks": [dollars]})
    assert (dollars.total_cost, dollars.costs) == (0, {"USD": Decimal(3)})


def test_what_has_no_price_is_said_to_have_none():
    costs = CostTrackingCallback()
    ChatAbstractLLM("echo").invoke("one two", {"callbacks": [costs]})
    FakeListChatModel(responses=["x"]).invoke("a", {"callbacks": [costs]})
    assert (costs.call_count, costs.unpriced_calls, costs.total_tokens, costs.total_cost) == (2, 2, 4, 0)
    with pytest.raises(InvalidParameterError, match="price"):
        CostTrackingCallback({"echo": {"input": 1}})


def test_an_answer_from_the_cache_costs_nothing():
    costs = CostTrackingCallback({"echo": ECHO})
    model = ChatAbstractLLM("echo", cache=InMemoryCache(), callbacks=[costs])
    for _ in range(3):
        model.invoke("one")
    assert (costs.call_count, costs.total_cost) == (1, 3)


async def test_concurrent_runs_are_all_counted():
    both = CombinedCallback({"echo": ECHO})
    model = ChatAbstractLLM("echo", callbacks=[both])
    await asyncio.gather(*(ask_all(model, "one") for _ in range(10)))
    found = both.get_summary()
    assert (found["cost"]["call_count"], found["cost"]["total_cost"]) == (40, 120)
    assert (found["latency"]["call_count"], len(both.latency.times_to_first_token)) == (40, 20)
    both.reset()
    assert (both.cost.call_count, both.cost.total_cost, both.latency.call_count) == (0, 0, 0)


def test_failures_are_counted_apart():
    both = CombinedCallback()
    failing = Reply("one two three", error=QuotaExceededError("wait"), error_after=1)
    model = ChatAbstractLLM("echo", settings={"replies": [failing, failing, "fine"]}, callbacks=[both])
    for ask in (model.invoke, lambda prompt: list(model.stream(prompt))):
        with pytest.raises(QuotaExceededError):
            ask("a")
    model.invoke("a")
    assert (both.cost.failed_calls, both.cost.call_count) == (2, 1)
    assert (both.latency.error_count, both.latency.call_count) == (2, 1)


# Times.


def measured(seconds):
    """Return a callback that has measured these."""
    callback = LatencyTrackingCallback()
    callback._latencies.extend(seconds)
    return callback


def test_percentiles_are_values_that_were_measured():
    found = measured([float(number) for number in range(100, 0, -1)])
    assert (found.p50_latency, found.p95_latency, found.p99_latency) == (50.0, 95.0, 99.0)
    alone = measured([3.0])
    assert (alone.p50_latency, alone.p99_latency) == (3.0, 3.0)
    assert LatencyTrackingCallback().p95_latency == 0.0


async def test_times_are_in_order_and_of_their_own_runs():
    """A first token comes no later than the end, and waits for no other run."""
    times = LatencyTrackingCallback()
    await ask_all(ChatAbstractLLM("echo", callbacks=[times]))
    found = times.get_summary()
    assert (found["call_count"], len(times.latencies), len(times.times_to_first_token)) == (4, 4, 2)
    assert 0 < found["min_latency"] <= found["average_latency"] <= found["max_latency"] <= found["total_latency"]
    assert all(first <= whole for first, whole in zip(times.times_to_first_token, times.latencies[2:], strict=True))
    assert 0 < found["p50_time_to_first_token"] <= found["p99_time_to_first_token"]
    assert not times._started


def test_two_runs_that_overlap_are_told_apart():
    """The second begins last and ends first; with one start for all, the first would seem as short."""
    times, early, late = LatencyTrackingCallback(), uuid4(), uuid4()
    times.on_chat_model_start({}, [], run_id=early)
    times.on_chat_model_start({}, [], run_id=late)
    times.on_llm_end(None, run_id=late)
    times.on_llm_end(None, run_id=early)
    short, long = times.latencies
    assert short < long


def test_a_piece_without_text_is_no_first_token():
    times, run = LatencyTrackingCallback(), uuid4()
    times.on_chat_model_start({}, [], run_id=run)
    times.on_llm_new_token("", run_id=run)
    assert times.times_to_first_token == []
    times.on_llm_new_token([{"type": "text", "text": "a"}], run_id=run)
    times.on_llm_new_token("b", run_id=run)
    assert len(times.times_to_first_token) == 1


# Pieces.


async def test_pieces_of_streams_are_counted_apart():
    pieces = TokenStreamingCallback()
    model = ChatAbstractLLM("echo", callbacks=[pieces])

    async def stream(prompt):
        return [one async for one in model.astream(prompt)]

    await asyncio.gather(stream("one two three"), stream("four five"))
    assert sorted("".join(run.pieces) for run in pieces.runs.values()) == ["four five", "one two three"]
    assert (pieces.token_count, len(pieces.tokens)) == (5, 5)
    assert pieces.elapsed_time > 0
    assert pieces.tokens_per_second > 0
    pieces.reset()
    assert (pieces.token_count, pieces.runs, pieces.tokens_per_second) == (0, {}, 0)


def test_the_rate_of_a_run_is_of_what_came_after_its_first_piece():
    assert StreamedRun(0.0, ["a", "b", "c"], first=1.0, last=2.0).tokens_per_second == 2.0
    assert StreamedRun(0.0, ["a"], first=1.0, last=1.0).tokens_per_second == 0.0
    assert StreamedRun(0.0, ["a"], first=1.0, last=1.0).elapsed_time == 1.0


async def test_they_run_where_the_answer_is_made():
    """In a thread each, they would come late and in any order."""
    pieces = TokenStreamingCallback()
    async for _ in ChatAbstractLLM("echo", callbacks=[pieces]).astream("a b c d e f"):
        pass
    assert "".join(pieces.tokens) == "a b c d e f"
    assert pieces.run_inline
