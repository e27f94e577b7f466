"""Anthropic's provider against a service on this machine: what goes over the wire, and what never does."""

from __future__ import annotations

import base64
import json
from contextlib import contextmanager

import pytest

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    InvalidParameterError,
    ModelNotFoundError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    UnsupportedFeatureError,
)
from abstractllm.providers.anthropic import AnthropicProvider, quirks_of
from abstractllm.providers.http import Backoff
from abstractllm.schema import Regex
from abstractllm.testing import ProviderConformance
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import LoopbackServer, Reply
from abstractllm.types import DocumentPart, GenerateResponse, ImagePart, Message, TextPart, ToolCall, Usage
from abstractllm.wire.anthropic import AnthropicMessages

from .serving import WEATHER, Opened, body_of, friendly, served, streamed

KEY = "sk-ant-loopback-0123"
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""
CODEC = AnthropicMessages()
HELLO = GenerateResponse("Hello", finish_reason="stop", usage=Usage(3, 1), model="served")
OLD, MIDDLE, NEW = "claude-sonnet-4-5-20250929", "claude-opus-4-6", "claude-opus-4-7"


class Quick(AnthropicProvider):
    """One that waits for nothing between its tries."""

    backoff = Backoff(draw=lambda: 0.0)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def asked(*script, model=OLD, **settings):
    replies = script or (lambda request: friendly(CODEC, request),)
    replies = replies[0] if callable(replies[0]) else replies
    settings = {"api_key": KEY, "model": model, **settings}
    with LoopbackServer(replies) as server, Quick(base_url=server.url, **settings) as llm:
        yield llm, server


def sent(model=OLD, **params):
    """Return the body of the request for a call."""
    with asked(served(CODEC, HELLO), model=model) as (llm, server):
        llm.generate(None if "messages" in params else "Hi", **params)
    return body_of(server.requests[0])


# The wire.


def test_a_request_on_the_wire():
    with asked(served(CODEC, HELLO)) as (llm, server):
        answer = llm.generate("Hi", system_prompt="Be brief.", max_tokens=9, temperature=0.5, stop=["#"])
    assert (answer.content, answer.finish_reason, answer.model) == ("Hello", "stop", "served")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 1)
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert "anthropic-beta" not in request.headers
    assert body_of(request) == {
        "model": OLD,
        "max_tokens": 9,
        "stream": False,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "stop_sequences": ["#"],
    }


@pytest.mark.parametrize("face", Face)
def test_every_face_gives_the_answer(face):
    with asked() as (llm, server):
        answer = ask(llm, face, "one two three").whole
    assert (answer.content, answer.finish_reason) == ("one two three", "stop")
    assert body_of(server.requests[0])["stream"] is face.streams


def test_betas_are_a_header():
    with asked(served(CODEC, HELLO), betas=["one-2025-01-01", "two"]) as (llm, server):
        llm.generate("Hi")
    assert server.requests[0].headers["anthropic-beta"] == "one-2025-01-01,two"


@pytest.mark.parametrize("betas", ["one", 3, ["a\r\nx: y"], [None], [""]])
def test_bad_betas_are_refused(betas):
    with pytest.raises(InvalidParameterError, match="betas"):
        AnthropicProvider(betas=betas)


def test_options_stand_in_the_body():
    options = {"service_tier": "auto", "metadata": {"user_id": "u"}, "cache_control": {"type": "ephemeral"}}
    body = sent(options={**options, "disable_parallel_tool_use": True}, tools=[WEATHER])
    assert {name: body[name] for name in options} == options
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_images_and_documents_go_along():
    parts = (ImagePart(DOT, "image/png"), DocumentPart(b"%PDF", "application/pdf", "a.pdf"), TextPart("What?"))
    body = sent(messages=[Message("user", parts)])
    blocks = body["messages"][0]["content"]
    assert [block["type"] for block in blocks] == ["image", "document", "text"]
    assert [block["source"]["data"] for block in blocks[:2]] == [base64.b64encode(DOT).decode(), "JVBERg=="]


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_and_their_results(stream):
    with asked() as (llm, server):
        face = Face.STREAM if stream else Face.WHOLE
        answer = ask(llm, face, "Look!", tools=[WEATHER], tool_choice="required").whole
        assert answer.tool_calls == (ToolCall("call_1", "look_up", {"word": "x"}),)
        assert answer.finish_reason == "tool_calls"
        result = Message("tool", "a letter", tool_call_id="call_1")
        llm.generate(messages=[Message("user", "Look!"), answer.to_message(), result])
    first, second = map(body_of, server.requests)
    assert first["tool_choice"] == {"type": "any"}
    assert first["tools"][0]["input_schema"] == WEATHER["parameters"]
    assert second["messages"][1]["content"] == [
        {"type": "tool_use", "id": "call_1", "name": "look_up", "input": {"word": "x"}}
    ]
    assert second["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "call_1", "content": "a letter"}]


# Reasoning.


def test_how_reasoning_is_asked_for_depends_on_the_model():
    assert sent(OLD, reasoning="low")["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    for model in (MIDDLE, NEW):
        body = sent(model, reasoning="high")
        assert body["thinking"] == {"type": "adaptive"}
        assert body["output_config"] == {"effort": "high"}
    assert sent(OLD, reasoning="none")["thinking"] == {"type": "disabled"}
    assert "thinking" not in sent(OLD)


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_goes_back_as_it_came(stream):
    blocks = [
        {"type": "thinking", "thinking": "Let me see.", "signature": "EqQB=="},
        {"type": "redacted_thinking", "data": "Er8C"},
        {"type": "text", "text": "Look!"},
        {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"word": "x"}},
    ]
    thought = GenerateResponse(
        "Look!",
        "Let me see.",
        (ToolCall("toolu_1", "look_up", {"word": "x"}),),
        finish_reason="tool_calls",
        usage=Usage(3, 9),
        provider_data={"anthropic": blocks},
    )
    first = streamed(CODEC, thought) if stream else served(CODEC, thought)
    with asked(first, served(CODEC, HELLO)) as (llm, server):
        face = Face.STREAM if stream else Face.WHOLE
        answer = ask(llm, face, "Hi", tools=[WEATHER], reasoning="high").whole
        assert (answer.reasoning, answer.content) == ("Let me see.", "Look!")
        result = Message("tool", "a letter", tool_call_id="toolu_1")
        turns = [Message("user", "Hi"), answer.to_message(), result]
        llm.generate(messages=turns, tools=[WEATHER], reasoning="high")
    assert body_of(server.requests[1])["messages"][1] == {"role": "assistant", "content": blocks}


MODELS = {
    "claude-2.1": ("none", True, False),
    "claude-3-haiku-20240307": ("none", True, False),
    "claude-3-5-sonnet-latest": ("none", True, False),
    "claude-3-7-sonnet-20250219": ("budget", True, False),
    "claude-sonnet-4-20250514": ("budget", True, False),
    "claude-sonnet-4@20250514": ("budget", True, False),
    "claude-opus-4": ("budget", True, False),
    "claude-opus-4-1-20250805": ("budget", True, False),
    "claude-haiku-4-5": ("budget", True, True),
    "anthropic/claude-sonnet-4.5": ("budget", True, True),
    "claude-opus-4-6": ("effort", True, True),
    "anthropic.claude-opus-4-7-v1": ("effort", False, True),
    "claude-opus-4-10": ("effort", False, True),
    "claude-sonnet-5": ("effort", False, True),
    "kimi-k2": ("budget", True, True),
}


@pytest.mark.parametrize("model", MODELS)
def test_what_a_model_takes(model):
    quirks = quirks_of(model)
    assert (quirks.reasoning, quirks.sampling, quirks.json_output) == MODELS[model]


# What is refused before any request.

FORM = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
LATE = [Message("user", "Hi"), Message("system", "Be brief."), Message("user", "Now")]
REFUSED = [
    (NEW, {"temperature": 0.5}, UnsupportedFeatureError),
    (NEW, {"top_k": 5}, UnsupportedFeatureError),
    (OLD, {"temperature": 1.5}, InvalidParameterError),
    (OLD, {"seed": 1}, UnsupportedFeatureError),
    (OLD, {"options": {"num_ctx": 1}}, UnsupportedFeatureError),
    (OLD, {"options": {"thinking": {"type": "disabled"}}, "reasoning": "low"}, InvalidParameterError),
    (OLD, {"reasoning": "low", "temperature": 0.5}, UnsupportedFeatureError),
    (OLD, {"reasoning": "low", "top_k": 5}, UnsupportedFeatureError),
    (OLD, {"reasoning": "low", "top_p": 0.5}, UnsupportedFeatureError),
    (OLD, {"reasoning": "low", "tools": [WEATHER], "tool_choice": "required"}, UnsupportedFeatureError),
    (OLD, {"reasoning": "low", "max_tokens": 1024}, InvalidParameterError),
    ("claude-3-5-haiku-latest", {"reasoning": "low"}, UnsupportedFeatureError),
    ("claude-3-5-haiku-latest", {"response_format": Regex("a+")}, UnsupportedFeatureError),
    ("claude-mythos-preview", {"reasoning": "none"}, UnsupportedFeatureError),
    (OLD, {"response_format": Regex("a+")}, UnsupportedFeatureError),
    (OLD, {"messages": LATE}, UnsupportedFeatureError),
    (OLD, {"messages": [Message("user", (DocumentPart(b"x", "application/zip"),))]}, UnsupportedFeatureError),
    (OLD, {"messages": [Message("user", "Hi", name="Ann")]}, UnsupportedFeatureError),
    (None, {}, InvalidParameterError),
]


@pytest.mark.parametrize(("model", "params", "error"), REFUSED)
def test_what_cannot_be_said_is_refused_at_the_call(model, params, error):
    with asked(served(CODEC, HELLO), model=model) as (llm, server):
        for stream in (False, True):
            for ask_for in (llm.generate, llm.generate_async):
                with pytest.raises(error):
                    ask_for(None if "messages" in params else "Hi", stream=stream, **params)
    assert server.requests == []


def test_capabilities_follow_the_model():
    def able(model):
        return AnthropicProvider(model=model, api_key=KEY).get_capabilities()

    assert able(OLD)[ModelCapability.REASONING] is True
    assert able("claude-3-haiku-20240307")[ModelCapability.REASONING] is False
    assert able("claude-3-haiku-20240307")[ModelCapability.STRUCTURED_OUTPUT] is True
    assert able("kimi-k2")[ModelCapability.VISION] is None


def test_a_response_format_is_closed_and_parsed():
    answer = GenerateResponse('{"a": 1}', finish_reason="stop", usage=Usage(1, 1))
    with asked(served(CODEC, answer)) as (llm, server):
        assert llm.generate("Hi", response_format=FORM).parsed == {"a": 1}
    assert body_of(server.requests[0])["output_config"] == {"format": {"type": "json_schema", "schema": FORM}}


# Configuration.


def test_without_a_key_there_is_no_request():
    with asked(served(CODEC, HELLO), api_key=None) as (llm, server):
        with pytest.raises(AuthenticationError, match="ANTHROPIC_API_KEY"):
            llm.generate("Hi")
        assert server.requests == []


def test_key_and_address_come_from_the_environment(monkeypatch):
    with LoopbackServer([served(CODEC, HELLO)]) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url + "/")
        with Quick(model=OLD) as llm:
            assert llm.generate("Hi").content == "Hello"
            assert KEY not in repr(llm.get_config())
    assert server.requests[0].path == "/v1/messages"
    assert server.requests[0].headers["x-api-key"] == KEY


def test_an_address_that_is_given_wins(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    with asked(served(CODEC, HELLO)) as (llm, _):
        assert llm.generate("Hi").content == "Hello"


# Errors.


def problem(status, kind, message, **headers):
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return Reply(status, headers, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (problem(401, "authentication_error", "invalid x-api-key"), AuthenticationError),
        (problem(404, "not_found_error", "model: claude-x"), ModelNotFoundError),
        (problem(400, "invalid_request_error", "max_tokens: too many"), ProviderAPIError),
        (problem(429, "rate_limit_error", "slow down"), QuotaExceededError),
    ],
)
def test_errors_are_typed(reply, error):
    with asked(reply, max_retries=0) as (llm, server):
        for stream in (False, True):
            with pytest.raises(error) as caught:
                ask(llm, Face.STREAM if stream else Face.WHOLE, "Hi")
            assert caught.value.provider == "anthropic"
    assert len(server.requests) == 2


def test_an_overloaded_service_is_tried_again():
    with asked(problem(529, "overloaded_error", "Overloaded"), served(CODEC, HELLO)) as (llm, server):
        assert llm.generate("Hi").content == "Hello"
    assert len(server.requests) == 2


def test_an_error_in_the_middle_of_a_stream():
    broken = streamed(CODEC, GenerateResponse("Hel"), error=ProviderAPIError("Overloaded", status_code=529))
    with asked(broken) as (llm, server):
        stream = llm.generate("Hi", stream=True)
        with pytest.raises(AbstractLLMError):
            list(stream)
        assert stream.response.content == "Hel"
    assert len(server.requests) == 1


def test_a_stream_that_is_cut_off():
    whole = streamed(CODEC, GenerateResponse("Hel"))
    with asked(Reply(chunks=list(whole.chunks)[:-1])) as (llm, _), pytest.raises(ProviderConnectionError):
        list(llm.generate("Hi", stream=True))


class TestConformance(ProviderConformance):
    """The rules of all providers."""

    prompt = "one two three"
    other_prompts = ("four", "five six")
    tool_prompt = "Look!"
    tools = (WEATHER,)
    model = OLD

    @pytest.fixture(autouse=True)
    def server(self):
        self.script = lambda request: friendly(CODEC, request)
        with LoopbackServer(lambda request: self.script(request)) as server:
            self.url = server.url
            yield

    def make(self):
        return Quick(base_url=self.url, model=self.model, api_key=KEY)

    def make_failing(self):
        self.script = lambda request: problem(404, "not_found_error", "model: claude-x")
        return self.make()

    def make_waiting(self, gate):
        def waiting(request):
            reply = friendly(CODEC, request)
            return Reply(chunks=[Opened(gate), *(reply.chunks or [reply.body])])

        self.script = waiting
        return self.make()
