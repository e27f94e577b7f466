"""Metrics: what observers are told is counted, once each, whatever the face, the thread and the ending."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from decimal import Decimal

import pytest

from abstractllm import Metrics, create_llm
from abstractllm.errors import GenerationError, InvalidParameterError, RequestTimeoutError
from abstractllm.observing.summary import Summary
from abstractllm.prices import Cost, Price
from abstractllm.providers.echo import Reply
from abstractllm.providers.run import GenerationEvent
from abstractllm.testing.faces import Face, ask
from abstractllm.types import GenerateRequest, GenerateResponse, Message, Timings, Usage

from .counting import DOLLARS, REQUEST, ended, run


def observed(**settings):
    llm, metrics = create_llm("echo", **settings), Metrics()
    llm.observers.append(metrics)
    return llm, metrics


@pytest.mark.parametrize("face", list(Face))
def test_every_face_counts_each_request_once(face):
    llm, metrics = observed()
    for prompt in ("one two three", "four"):
        ask(llm, face, prompt)
    summary = metrics.summary().requests
    assert (summary.total, summary.successful, summary.success_rate) == (2, 2, 1.0)
    assert (summary.tokens.prompt, summary.tokens.completion, summary.tokens.total) == (4, 4, 8)
    assert [one.usage for one in metrics.requests] == [Usage(3, 3), Usage(1, 1)]
    assert {one.stream for one in metrics.requests} == {face.streams}
    assert list(metrics.summary().by_model) == ["echo:echo"]


def test_a_failure_and_a_cancelled_stream_are_told_apart():
    llm, metrics = observed(replies=[Reply("a b c", error=GenerationError("no"), error_after=1), "a b c", "fine"])
    with pytest.raises(GenerationError):
        llm.generate("x")
    with llm.generate("x", stream=True) as stream:
        next(stream)
    llm.generate("x")
    summary = metrics.summary().requests
    assert (summary.total, summary.successful, summary.failed, summary.cancelled) == (3, 1, 1, 1)
    assert summary.success_rate == 0.5
    assert summary.errors == {"GenerationError": 1}
    assert [(one.outcome, one.error) for one in metrics.requests] == [
        ("failed", "GenerationError"),
        ("cancelled", None),
        ("finished", None),
    ]
    assert summary.latency.count == 1


def test_a_timeout_is_a_failure():
    llm, metrics = observed(replies=[Reply("a b", delay=60)])
    with pytest.raises(RequestTimeoutError):
        llm.generate("x", timeout=0.01)
    assert metrics.summary().requests.errors == {"RequestTimeoutError": 1}


def test_nothing_counted_is_a_summary_without_numbers():
    summary = Metrics().summary()
    assert (summary.requests.total, summary.requests.success_rate, summary.requests.latency.avg) == (0, None, None)
    assert (summary.by_model, summary.tools, summary.runs.total) == ({}, {}, 0)
    assert json.loads(Metrics().to_json())["requests"] == []


def test_the_fields_of_a_record_are_what_was_told():
    metrics = Metrics()
    metrics(ended(usage=Usage(10, 40, 4, 8), timings=Timings(0.5, 1.5, 2.0), seconds=4.0))
    (record,) = metrics.requests
    assert (record.first_token, record.tokens_per_second, record.decode_tokens_per_second) == (2.0, 10.0, 20.0)
    told = record.to_dict()
    assert told["ended"] > 0
    del told["ended"]
    assert told == {
        "provider": "p",
        "model": "m",
        "outcome": "finished",
        "error": None,
        "seconds": 4.0,
        "first_token": 2.0,
        "stream": False,
        "prompt_tokens": 10,
        "completion_tokens": 40,
        "cached_tokens": 4,
        "reasoning_tokens": 8,
        "tokens_per_second": 10.0,
        "decode_tokens_per_second": 20.0,
        "cost": None,
    }


def test_what_is_not_known_is_none():
    metrics = Metrics()
    metrics(ended(seconds=0.0))
    told = metrics.requests[0].to_dict()
    assert [name for name, value in told.items() if value is None] == [
        "error",
        "first_token",
        "prompt_tokens",
        "completion_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "tokens_per_second",
        "decode_tokens_per_second",
        "cost",
    ]


def test_a_start_alone_counts_nothing():
    metrics = Metrics()
    metrics(GenerationEvent("started", "p", REQUEST))
    assert metrics.summary().requests.total == 0


# Money.


@pytest.mark.parametrize("key", ["m", "p:m", "m-2026"])
def test_a_price_of_the_users_counts_by_any_name_of_the_model(key):
    metrics = Metrics({key: DOLLARS})
    metrics(ended(usage=Usage(1_000_000, 100_000, 400_000), model="m"))
    metrics(GenerationEvent("finished", "p", REQUEST, GenerateResponse(model="m-2026", usage=Usage(8, 0, 8))))
    costs = {None if one.cost is None else one.cost.currency for one in metrics.requests}
    assert costs == ({"USD"} if key != "m-2026" else {None, "USD"})
    amount = Decimal("1.800001") if key != "m-2026" else Decimal("0.000001")
    assert metrics.summary().requests.cost == {"USD": amount}


def test_the_users_price_goes_before_the_providers_and_currencies_are_not_mixed():
    metrics = Metrics({"mine": Price(Decimal(1), Decimal(1), Decimal(1), "EUR")})
    usage = Usage(1_000_000)
    for model in ("mine", "other"):
        request = GenerateRequest((Message("user", "Hi"),), model=model)
        response = GenerateResponse(usage=usage)
        metrics(GenerationEvent("finished", "p", request, response, known_cost=lambda _: Cost(Decimal(7), "BRL")))
    assert metrics.summary().requests.cost == {"EUR": Decimal(1), "BRL": Decimal(7)}
    assert metrics.summary().by_model["p:other"].cost == {"BRL": Decimal(7)}
    assert json.loads(metrics.to_json())["summary"]["requests"]["cost"] == {"EUR": "1", "BRL": "7"}


def test_an_answer_without_usage_costs_nothing_that_is_known():
    metrics = Metrics({"m": DOLLARS})
    metrics(ended("failed", error=GenerationError("no")))
    assert metrics.requests[0].cost is None


def test_without_a_price_for_cached_tokens_they_cost_as_all_others():
    metrics = Metrics({"m": {"input": 2, "output": 0, "currency": "USD"}})
    metrics(ended(usage=Usage(500_000, 7, 400_000)))
    assert metrics.summary().requests.cost == {"USD": Decimal(1)}


@pytest.mark.parametrize(
    "price",
    [5, {}, {"input": 1, "output": 1}, {**DOLLARS, "batch": 1}, {**DOLLARS, "input": "x"}, {**DOLLARS, "output": -1}]
    + [{**DOLLARS, "cached": value} for value in (float("nan"), float("inf"), None)],
)
def test_what_is_no_price_is_refused(price):
    with pytest.raises(InvalidParameterError, match="per million tokens"):
        Metrics({"m": price})


# Output.


def test_json_goes_to_a_file_and_holds_all_of_the_summary(tmp_path):
    metrics = Metrics({"m": DOLLARS})
    metrics(ended(usage=Usage(3, 4)))
    run(metrics)
    text = metrics.to_json(tmp_path / "metrics.json")
    told = json.loads((tmp_path / "metrics.json").read_text())
    assert told == json.loads(text)
    assert told["summary"] == json.loads(json.dumps(metrics.summary().to_dict()))
    assert told["runs"][0]["stop"] == "end"
    assert told["runs"][0]["prompt_tokens"] == 30
    same_fields(metrics.summary(), told["summary"])


def same_fields(value, told):
    """Every field of the dataclasses is in the JSON, and nothing else."""
    if is_dataclass(value):
        assert {field.name for field in fields(value)} == set(told)
        for name in told:
            same_fields(getattr(value, name), told[name])


def test_every_documented_field_exists():
    kinds = [Summary, *(type(getattr(Metrics().summary(), name)) for name in ("requests", "runs"))]
    for kind in kinds:
        named = {word for line in kind.__doc__.splitlines() for word in line.split("`")[1::2]}
        known = {field.name for one in kinds for field in fields(one)} | {"prompt", "completion"}
        assert {word for word in named if word.isidentifier()} <= known
