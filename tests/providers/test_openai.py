"""OpenAI: which API and which words each family of models gets, and that the provider keeps all rules."""

from __future__ import annotations

import json

import pytest

from abstractllm import create_llm
from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AuthenticationError,
    ContextWindowExceededError,
    InvalidParameterError,
    ProviderAPIError,
    SpentQuotaError,
    UnsupportedFeatureError,
)
from abstractllm.providers.openai import FAMILIES, UNKNOWN, OpenAIProvider, family_of
from abstractllm.testing import ProviderConformance
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import LoopbackServer, Reply
from abstractllm.types import ToolCall
from abstractllm.wire.openai_chat import ChatQuirks, OpenAIChat
from abstractllm.wire.openai_responses import OpenAIResponses

from .speaking import Opened, answering

KEY = "sk-of-a-test"
TOOL = {
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
CHAT = OpenAIChat(ChatQuirks(max_tokens="max_completion_tokens"))
RESPONSES = OpenAIResponses()
TO_CHAT, TO_RESPONSES = "/chat/completions", "/responses"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    """No key and no proxy of this machine reaches a test."""
    for name in ("OPENAI_API_KEY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def friendly(request):
    """Answer in the format of the address."""
    return answering(RESPONSES if request.path == TO_RESPONSES else CHAT)(request)


@pytest.fixture
def server():
    with LoopbackServer(friendly) as server:
        yield server


def openai(server, model, **settings):
    return OpenAIProvider(base_url=server.url, api_key=KEY, model=model, **settings)


def sent(server, model, prompt="Hi", *, api=None, **params):
    """Ask a model; return the address and the body of the request."""
    with openai(server, model, api=api) as llm:
        llm.generate(prompt, **params)
    (request,) = server.requests
    return request.path, json.loads(request.body)


# Families.


@pytest.mark.parametrize(
    ("model", "api", "reasons", "efforts"),
    [
        ("gpt-4o", "chat", False, ""),
        ("gpt-4o-mini-2024-07-18", "chat", False, ""),
        ("gpt-4.1-nano", "chat", False, ""),
        ("gpt-4", "chat", False, ""),
        ("gpt-4-0125-preview", "chat", False, ""),
        ("gpt-3.5-turbo-0125", "chat", False, ""),
        ("gpt-5-chat-latest", "chat", False, ""),
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123", "chat", False, ""),
        ("o1", "chat", True, "high low medium"),
        ("o3-mini-2025-01-31", "chat", True, "high low medium"),
        ("ft:o4-mini-2025-04-16:acme::abc123", "chat", True, "high low medium"),
        ("gpt-5", "chat", True, "high low medium"),
        ("gpt-5-nano-2025-08-07", "chat", True, "high low medium"),
        ("gpt-5.1-2025-11-13", "chat", True, "high low medium none"),
        ("gpt-5.2", "chat", True, "high low medium none"),
        ("gpt-5.4-mini", "chat", True, "high low medium none"),
        ("gpt-5.5", "chat", True, "high low medium none"),
        ("gpt-5.6-terra-2026-07-09", "chat", True, "high low medium none"),
        ("gpt-5.10", "chat", True, "high low medium none"),
        ("gpt-5.1-chat-latest", "chat", True, "medium"),
        ("o1-pro-2025-03-19", "responses", True, "high low medium"),
        ("o3-deep-research", "responses", True, "high low medium"),
        ("gpt-5-codex", "responses", True, "high low medium"),
        ("gpt-5.1-codex-max", "responses", True, "high low medium"),
        ("codex-mini-latest", "responses", True, "high low medium"),
        ("gpt-5-pro-2025-10-06", "responses", True, "high"),
        ("gpt-5.2-pro", "responses", True, "high medium"),
        ("o5", "chat", None, "high low medium none"),
        ("gpt-40", "chat", None, "high low medium none"),
        ("my-deployment", "chat", None, "high low medium none"),
    ],
)
def test_the_family_of_a_model(model, api, reasons, efforts):
    family = family_of(model)
    assert (family.api, family.reasons, " ".join(sorted(family.efforts))) == (api, reasons, efforts)
    assert (family is UNKNOWN) == (reasons is None)
    assert family is UNKNOWN or family in FAMILIES


@pytest.mark.parametrize(
    ("model", "api", "path"),
    [
        ("gpt-4.1", None, TO_CHAT),
        ("gpt-5-codex", None, TO_RESPONSES),
        ("gpt-4.1", "responses", TO_RESPONSES),
        ("gpt-5-codex", "chat", TO_CHAT),
    ],
)
def test_the_api_is_the_models_or_the_one_that_is_chosen(server, model, api, path):
    assert sent(server, model, api=api)[0] == path


@pytest.mark.parametrize(
    ("model", "params", "path"),
    [
        ("gpt-5.2", {"reasoning": "low"}, TO_CHAT),
        ("gpt-5.4", {"reasoning": "low"}, TO_RESPONSES),
        ("gpt-5.4", {}, TO_CHAT),
        ("gpt-5.4", {"reasoning": "none"}, TO_CHAT),
        ("gpt-5.6-sol", {"reasoning": "low"}, TO_RESPONSES),
        ("gpt-5.6-sol", {}, TO_RESPONSES),
        ("gpt-5.6-sol", {"reasoning": "none", "temperature": 0.5}, TO_CHAT),
        ("gpt-5.6-sol", {"api": "chat"}, TO_CHAT),
    ],
)
def test_tools_beside_reasoning_go_where_the_model_takes_them(server, model, params, path):
    found, body = sent(server, model, "Hi", tools=[TOOL], **params)
    assert found == path
    assert len(body["tools"]) == 1
    assert ("include" in body) == (path == TO_RESPONSES)


def test_without_tools_a_model_that_reasons_is_asked_as_ever(server):
    assert sent(server, "gpt-5.6-sol", reasoning="low")[0] == TO_CHAT


@pytest.mark.parametrize("face", Face)
def test_another_model_is_asked_through_its_own_api(server, face):
    with openai(server, "gpt-4.1") as llm:
        assert ask(llm, face, "Hi you").whole.content == "Hi you"
        llm.set_config(model="o3-pro")
        assert ask(llm, face, "Hi you").whole.content == "Hi you"
        llm.set_config(api="chat")
        assert ask(llm, face, "Hi you").whole.content == "Hi you"
    assert [request.path for request in server.requests] == [TO_CHAT, TO_RESPONSES, TO_CHAT]


def test_an_api_that_does_not_exist():
    with pytest.raises(InvalidParameterError, match="'chat' or 'responses'") as caught:
        OpenAIProvider(api="assistants")
    assert caught.value.parameter == "api"


def test_a_config_string_chooses_all_of_it(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with create_llm("openai:gpt-4.1?api=responses", base_url=server.url) as llm:
        assert llm.generate("Hi").content == "Hi"
    assert server.requests[0].path == TO_RESPONSES
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert OpenAIProvider().get_config()["base_url"] == "https://api.openai.com/v1"


# What goes over the wire.


def test_a_request_to_chat_completions(server):
    path, body = sent(
        server,
        "gpt-4.1",
        system_prompt="Be brief.",
        tools=[TOOL],
        tool_choice="look_up",
        max_tokens=9,
        temperature=0.5,
        seed=7,
        logit_bias={5: -1},
        options={"service_tier": "flex", "verbosity": "low"},
    )
    assert path == TO_CHAT
    assert body == {
        "model": "gpt-4.1",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "seed": 7,
        "max_completion_tokens": 9,
        "logit_bias": {"5": -1.0},
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "service_tier": "flex",
        "verbosity": "low",
    }


def test_a_request_to_a_model_that_reasons(server):
    assert sent(server, "o3", max_tokens=9, reasoning="low", seed=7) == (
        TO_CHAT,
        {
            "model": "o3",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_completion_tokens": 9,
            "reasoning_effort": "low",
            "seed": 7,
        },
    )


def test_a_request_to_responses(server):
    path, body = sent(
        server,
        "gpt-5-codex",
        system_prompt="Be brief.",
        tools=[TOOL],
        max_tokens=9,
        reasoning="high",
        options={"reasoning": {"summary": "auto"}, "truncation": "auto"},
    )
    assert path == TO_RESPONSES
    assert body == {
        "model": "gpt-5-codex",
        "input": [
            {"type": "message", "role": "system", "content": "Be brief."},
            {"type": "message", "role": "user", "content": "Hi"},
        ],
        "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 9,
        "tools": [{"type": "function", **TOOL, "strict": False}],
        "reasoning": {"effort": "high", "summary": "auto"},
        "truncation": "auto",
        "store": False,
    }


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("choice", ["auto", "none"])
def test_without_tools_nothing_is_said_of_a_choice_among_them(server, api, choice):
    _, body = sent(server, "gpt-4.1", api=api, tool_choice=choice)
    assert "tool_choice" not in body


def test_models_that_do_not_reason_are_asked_for_no_reasoning(server):
    _, body = sent(server, "gpt-4.1", api="responses", temperature=0.5)
    assert "include" not in body
    assert body["temperature"] == 0.5


def test_sampling_goes_with_no_reasoning(server):
    with openai(server, "gpt-5.2") as llm:
        llm.generate("Hi", temperature=0.5, reasoning="none")
        llm.generate("Hi", temperature=0.5)
    first, second = [json.loads(request.body) for request in server.requests]
    assert (first["temperature"], first["reasoning_effort"]) == (0.5, "none")
    assert (second["temperature"], "reasoning_effort" in second) == (0.5, False)


@pytest.mark.parametrize(
    ("model", "api", "params", "feature"),
    [
        ("gpt-5", None, {"temperature": 0.5}, "temperature"),
        ("o3", None, {"stop": "#"}, "stop"),
        ("o1", None, {"logprobs": True}, "logprobs"),
        ("gpt-5", None, {"reasoning": "none"}, "reasoning"),
        ("gpt-5-pro", None, {"reasoning": "low"}, "reasoning"),
        ("gpt-5.2", None, {"temperature": 0.5, "reasoning": "low"}, "temperature"),
        ("gpt-5.2", None, {"presence_penalty": 0.5}, "presence_penalty"),
        ("gpt-4.1", None, {"reasoning": "low"}, "reasoning"),
        ("gpt-4.1", "responses", {"seed": 7}, "seed"),
        ("gpt-4.1", "responses", {"n": 2}, "n"),
        ("gpt-4.1", None, {"top_k": 3}, "top_k"),
        ("gpt-4.1", None, {"options": {"truncation": "auto"}}, "options.truncation"),
        ("gpt-4.1", "responses", {"options": {"prediction": {}}}, "options.prediction"),
        ("gpt-4.1", None, {"options": {"num_ctx": 1}}, "options.num_ctx"),
    ],
)
def test_what_a_model_does_not_take_is_refused_before_any_request(server, model, api, params, feature):
    with openai(server, model, api=api) as llm:
        for stream in (False, True):
            with pytest.raises(UnsupportedFeatureError) as caught:
                llm.generate("Hi", stream=stream, **params)
            assert caught.value.feature == feature
            with pytest.raises(UnsupportedFeatureError):
                llm.generate_async("Hi", stream=stream, **params)
    assert server.requests == []


def test_a_model_that_reasons_unless_it_is_told_not_to_takes_no_temperature(server):
    with pytest.raises(UnsupportedFeatureError) as caught, openai(server, "gpt-5.6-sol") as llm:
        llm.generate("Hi", temperature=0.5)
    assert caught.value.feature == "temperature"
    assert server.requests == []


def test_a_missing_key_and_a_missing_model(server):
    with OpenAIProvider(base_url=server.url, model="gpt-4.1") as llm:
        assert "OPENAI_API_KEY" in llm.missing()
        with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
            llm.generate("Hi")
    with OpenAIProvider(base_url=server.url, api_key=KEY) as llm, pytest.raises(InvalidParameterError) as caught:
        llm.generate("Hi")
    assert caught.value.parameter == "model"
    assert server.requests == []


def test_capabilities_are_those_of_the_model():
    def able(model):
        with OpenAIProvider(model=model) as llm:
            return llm.get_capabilities()

    assert able("gpt-4.1")[ModelCapability.REASONING] is False
    assert able("gpt-4.1")[ModelCapability.TOOL_USE] is True
    assert able("gpt-5")[ModelCapability.REASONING] is True
    assert able("something-new")[ModelCapability.REASONING] is None
    assert able(None)[ModelCapability.TOOL_USE] is None


# Answers.


@pytest.mark.parametrize("model", ["gpt-4.1", "o3-pro"])
@pytest.mark.parametrize("face", Face)
def test_tools_are_called_in_both_apis(server, model, face):
    with openai(server, model) as llm:
        answer = ask(llm, face, "Look seven up", tools=[TOOL]).whole
    assert answer.tool_calls == (ToolCall("call_1", "look_up", {"word": "seven"}),)
    assert answer.finish_reason == "tool_calls"
    assert answer.usage.prompt_tokens == 3


@pytest.mark.parametrize("model", ["gpt-4.1", "o3-pro"])
@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"message": f"Incorrect API key: {KEY}", "code": "invalid_api_key"}, AuthenticationError),
        (429, {"message": "You exceeded your quota", "code": "insufficient_quota"}, SpentQuotaError),
        (
            400,
            {"message": "This model's maximum context length is 10 tokens. Your messages resulted in 12 tokens."},
            ContextWindowExceededError,
        ),
        (500, {"message": "The server had an error"}, ProviderAPIError),
    ],
)
def test_errors_are_typed(model, status, error, kind):
    reply = Reply(status, {"x-request-id": "req_7"}, json.dumps({"error": error}).encode())
    with (
        LoopbackServer([reply]) as server,
        openai(server, model, max_retries=0) as llm,
        pytest.raises(kind) as caught,
    ):
        llm.generate("Hi")
    assert caught.value.provider == "openai"
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1


def test_an_error_in_the_middle_of_a_stream(server):
    def failing(request):
        first, *_ = friendly(request).chunks
        return Reply(chunks=[first, b'data: {"error": {"message": "Overloaded", "type": "server_error"}}\n\n'])

    with LoopbackServer(failing) as server, openai(server, "gpt-4.1") as llm:
        stream = llm.generate("one two", stream=True)
        assert next(stream).content == "one "
        with pytest.raises(ProviderAPIError, match="Overloaded"):
            next(stream)


class TestConformance(ProviderConformance):
    """The rules of all providers, with a model that is not known, so that everything is tried."""

    prompt = "one two three"
    other_prompts = ("four", "five six")
    tool_prompt = "look seven up"
    tools = (TOOL,)
    model = "a-model-of-a-test"

    @pytest.fixture(autouse=True)
    def server(self):
        self.script = friendly
        with LoopbackServer(lambda request: self.script(request)) as server:
            self.url = server.url
            yield

    def make(self):
        return OpenAIProvider(base_url=self.url, api_key=KEY, model=self.model)

    def make_failing(self):
        self.script = lambda request: Reply(404, body=b'{"error": {"message": "no such model"}}')
        return self.make()

    def make_waiting(self, gate):
        def waiting(request):
            reply = friendly(request)
            return Reply(chunks=[Opened(gate), *(reply.chunks or [reply.body])])

        self.script = waiting
        return self.make()
