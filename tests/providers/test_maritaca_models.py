"""Maritaca's models, with their limits, and what its answers cost."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from click.testing import CliRunner

from abstractllm.capabilities import ModelCapability
from abstractllm.cli import cli
from abstractllm.errors import (
    AuthenticationError,
    GenerationError,
    InvalidParameterError,
    ProviderAPIError,
    ProviderConnectionError,
    RequestTimeoutError,
    UnsupportedFeatureError,
)
from abstractllm.prices import Cost
from abstractllm.providers.base import ModelInfo
from abstractllm.providers.maritaca import MaritacaModel, MaritacaProvider
from abstractllm.providers.maritaca_prices import PRICES
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import GenerateResponse, Usage

from .maritaca_service import (
    ANSWER,
    KEY,
    MIDNIGHT,
    NOON,
    OK,
    STREAM,
    Quick,
    answered,
    asked,
    chunk,
    events,
    reply,
)

MODELS = {
    "object": "list",
    "data": [
        {
            "id": name,
            "created": 1767657600,
            "object": "model",
            "owned_by": "maritacaai",
            "context_length": 128000,
            "top_provider": {"context_length": 128000, "max_completion_tokens": 32000},
        }
        for name in ("sabia-4-thinking", "sabia-4", "sabiazinho-4", "sabia-5")
    ],
}
"""In the form of documentation/api/en/list-models-response.md."""


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("MARITACA_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


# Models.


LIMITED = MaritacaModel("sabia-4", 128000, 32000, PRICES.models["sabia-4"], 1767657600)


def test_models_with_limits_and_prices():
    with asked(reply(MODELS)) as (llm, server):
        found = llm.models()
        assert asyncio.run(llm.models_async()) == found
    assert found[1] == LIMITED
    assert [model.name for model in found] == ["sabia-4-thinking", "sabia-4", "sabiazinho-4", "sabia-5"]
    assert found[3].price is None
    request = server.requests[0]
    assert (request.method, request.path, request.body) == ("GET", "/models", b"")
    assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("model", ["sabia-4", "sabia-4-2026-01-06"])
def test_limits_are_unknown_until_they_were_asked_for(model):
    limits = (ModelCapability.CONTEXT_WINDOW, ModelCapability.MAX_TOKENS)
    with asked(OK, reply(MODELS), model=model) as (llm, server):
        llm.generate("Oi")
        assert [llm.get_capabilities()[name] for name in limits] == [None, None]
        llm.models()
        assert [llm.get_capabilities()[name] for name in limits] == [128000, 32000]
        llm.set_config(model="sabia-6")
        assert [llm.get_capabilities()[name] for name in limits] == [None, None]
        llm.set_config(model="sabia-4", base_url="http://127.0.0.1:1")
        assert [llm.get_capabilities()[name] for name in limits] == [None, None]
    assert [request.path for request in server.requests] == ["/chat/completions", "/models"]


@pytest.mark.parametrize(
    ("model", "reasons"),
    [("sabia-4-thinking", True), ("sabia-4-thinking-br-sp", True), ("sabiazim-4", False), ("sabia-9", None)],
)
def test_capabilities(model, reasons):
    able = MaritacaProvider(model=model).get_capabilities()
    assert able[ModelCapability.REASONING] is reasons
    assert [able[name] for name in (ModelCapability.VISION, ModelCapability.DOCUMENTS)] == [False, True]
    assert able[ModelCapability.JSON_MODE] is able[ModelCapability.STRUCTURED_OUTPUT] is True


def test_the_command_line_lists_them(monkeypatch):
    with LoopbackServer([reply(MODELS)]) as server:
        monkeypatch.setenv("ABSTRACTLLM_MARITACA_BASE_URL", server.url)
        monkeypatch.setenv("MARITACA_API_KEY", KEY)
        assert MaritacaProvider.list_models()[0] == ModelInfo("sabia-4-thinking", modified=1767657600)
        result = CliRunner().invoke(cli, ["models", "list", "-p", "maritaca", "--json"])
    assert [model["name"] for model in json.loads(result.stdout)][:2] == ["sabia-4-thinking", "sabia-4"]


def test_a_missing_key_is_told_before_any_request():
    with asked(OK, api_key=None) as (llm, server):
        for work in (llm.models, lambda: llm.generate("Oi")):
            with pytest.raises(AuthenticationError, match="MARITACA_API_KEY"):
                work()
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Reply(body=b"<html>"), GenerationError),
        (reply({"models": []}), GenerationError),
        (Reply.hang_up(), ProviderConnectionError),
        (Reply(chunks=[Gate()]), RequestTimeoutError),
    ],
)
def test_a_list_that_is_none(answer, error, monkeypatch):
    with asked(answer) as (llm, _):
        monkeypatch.setattr(Quick, "patience", 0.05 if error is RequestTimeoutError else 30.0)
        with pytest.raises(error):
            llm.models()
        assert llm.get_capabilities()[ModelCapability.CONTEXT_WINDOW] is None


@pytest.mark.parametrize(
    "answer",
    [
        reply({"error": {"message": f"Incorrect key: {KEY}", "code": "invalid_api_key"}}),
        Reply.redirect(f"/{KEY}/models"),
    ],
)
def test_a_list_that_is_none_does_not_repeat_the_key(answer):
    server = LoopbackServer([answer])
    with (
        server,
        Quick(api_key=KEY, base_url=server.url) as llm,
        pytest.raises(ProviderAPIError, match="hidden") as caught,
    ):
        llm.models()
    assert KEY not in f"{caught.value}{caught.value.args}"


def test_recommended_models():
    assert MaritacaProvider.recommended_model() == "sabia-4"
    assert MaritacaProvider.recommended_model("speed", in_brazil=True) == "sabiazinho-4-br-sp"
    assert MaritacaProvider.recommended_model("reasoning") == "sabia-4-thinking"
    for need in ("speed", "balance", "reasoning"):
        assert MaritacaProvider.recommended_model(need, in_brazil=True) in PRICES.models
    with pytest.raises(InvalidParameterError, match="speed, balance, reasoning"):
        MaritacaProvider.recommended_model("luck")


# Money.

BY_DAY = Decimal("0.00825")  # 200 fresh tokens at 5, 1000 cached ones at 1.25, 300 of the answer at 20
FLEX = Decimal("0.00475")
BY_NIGHT = Decimal("0.00615")


@pytest.mark.parametrize(
    ("changed", "amount"),
    [
        ({}, BY_DAY),
        ({"created": MIDNIGHT}, BY_NIGHT),
        ({"service_tier": "flex"}, FLEX),
        ({"service_tier": "flex", "created": MIDNIGHT}, FLEX),
        ({"service_tier": "default"}, BY_DAY),
        ({"model": "sabia-4-2026-01-06"}, BY_DAY),
        ({"created": "now"}, BY_DAY),
        ({"created": 2**60}, BY_DAY),
        (
            {"usage": {**ANSWER["usage"], "extraction_details": {"medium_pdf_pages_extracted": 2}}},
            BY_DAY + Decimal("0.04"),
        ),
    ],
)
def test_an_answer_says_what_it_costs(changed, amount):
    with asked(answered(**changed), model="sabiazinho-4") as (llm, _):
        assert llm.cost(llm.generate("Oi")) == Cost(amount, "BRL")


def test_what_is_given_counts_more_than_what_the_answer_says():
    with asked(answered(service_tier="flex", created=MIDNIGHT)) as (llm, _):
        answer = llm.generate("Oi")
        assert llm.cost(answer, tier="standard").amount == BY_NIGHT
        noon = datetime.fromtimestamp(NOON, UTC)
        assert llm.cost(answer, tier="standard", at=noon).amount == BY_DAY
        assert llm.cost(answer, model="sabiazinho-4").amount < FLEX


def test_a_stream_says_what_it_costs():
    pages = {**ANSWER["usage"], "extraction_details": {"advanced_pdf_pages_extracted": 2}}
    with asked(STREAM, events(chunk({"content": "Oi"}), chunk({}, "stop"), chunk(None, usage=pages))) as (llm, _):
        for amount in (FLEX, BY_DAY + Decimal("0.09")):
            stream = llm.generate("Oi", stream=True)
            *_, last = stream
            assert llm.cost(stream.response).amount == llm.cost(last).amount == amount


def test_several_answers_cost_what_all_of_them_used():
    choices = [{"index": number, "message": {"content": "Oi"}, "finish_reason": "stop"} for number in (1, 0)]
    with asked(answered(choices=choices)) as (llm, _):
        answer = llm.generate("Oi", n=2)
    assert len(answer.choices) == 2
    assert llm.cost(answer).amount == BY_DAY


@pytest.mark.parametrize(("told", "cost"), [({}, Cost(BY_DAY, "BRL")), ({"model": "sabia-1"}, None)])
def test_observers_can_find_out_what_an_answer_cost(told, cost):
    heard = []
    with asked(answered(**told)) as (llm, _):
        llm.observers.append(heard.append)
        llm.generate("Oi")
    started, finished = heard
    assert started.request is finished.request
    assert finished.known_cost(finished.response) == cost


def test_counts_alone_are_of_this_instance():
    usage = Usage(1200, 300, cached_tokens=1000)
    assert MaritacaProvider().cost(usage) == Cost(BY_DAY, "BRL")
    flexible = MaritacaProvider(options={"service_tier": "flex"})
    assert flexible.cost(usage).amount == FLEX
    assert flexible.cost(usage, tier="batch", model="sabia-4-thinking").amount == Decimal("0.00775")


def test_a_cost_that_is_not_known_is_not_guessed():
    llm = MaritacaProvider(options={"service_tier": "priority"})
    with pytest.raises(UnsupportedFeatureError, match="'priority'"):
        llm.cost(Usage(1, 1))
    assert llm.cost(Usage(0, 1), tier="standard").amount == Decimal("0.00002")
    with pytest.raises(UnsupportedFeatureError, match="'sabia-3.1'"):
        MaritacaProvider(model="sabia-3.1").cost(Usage(1, 1))
    with pytest.raises(InvalidParameterError, match="no usage"):
        MaritacaProvider().cost(GenerateResponse("Oi", model="sabia-4"))
