"""Services of OpenAI's format: what each is sent, what each refuses, and that the class of one keeps all rules."""

from __future__ import annotations

import json
import re

import pytest

from abstractllm import create_llm
from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AuthenticationError,
    GenerationError,
    InvalidParameterError,
    ModelNotFoundError,
    ProviderConnectionError,
    QuotaExceededError,
    UnsupportedFeatureError,
)
from abstractllm.providers.compatible import CompatibleProvider
from abstractllm.providers.maritaca import MaritacaProvider as Maritaca
from abstractllm.providers.services import SERVICES, Service
from abstractllm.schema import Regex
from abstractllm.testing import ProviderConformance
from abstractllm.testing.loopback import LoopbackServer, Reply
from abstractllm.types import DocumentPart, GenerateResponse, ImagePart, Message, ToolCall
from abstractllm.wire.openai_chat import ChatQuirks, OpenAIChat

from .services import CLASSES
from .speaking import Opened, answering

KEY = "key-of-a-test"
FORM = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
TOOL = {
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
ANSWER = {
    "id": "chatcmpl-7",
    "object": "chat.completion",
    "created": 1,
    "model": "sabia-4",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Oi!"}, "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 3},
    },
}
OK = Reply(body=json.dumps(ANSWER).encode())


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    """No key and no proxy of this machine reaches a test."""
    for row in SERVICES.values():
        if row.key_variable:
            monkeypatch.delenv(row.key_variable, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def sent(kind, *, reply=OK, prompt="Hi", settings=(), **params):
    """Ask a service on the loopback; return the request's body, and the request."""
    with (
        LoopbackServer([reply]) as server,
        kind(base_url=server.url, **{"api_key": KEY, "model": "m", **dict(settings)}) as llm,
    ):
        llm.generate(prompt, **params)
    (request,) = server.requests
    return json.loads(request.body), request


def events(*values):
    return [*(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values), b"data: [DONE]\n\n"]


def piece(said, **more):
    return {"choices": [{"index": 0, "delta": said, "finish_reason": None, **more}]}


# The table.


def test_every_row_has_its_class_and_its_entry_point():
    assert set(CLASSES) == set(SERVICES)
    for name, cls in CLASSES.items():
        row = SERVICES[name]
        assert cls.service is row
        assert (cls.key_variable, cls.needs_key) == (row.key_variable, row.needs_key)
        assert cls.parameters == row.quirks.accepted
        assert type(create_llm(name, base_url="http://127.0.0.1:1")) is cls
        assert row.source


@pytest.mark.parametrize(
    ("name", "address", "variable"),
    [
        ("maritaca", "https://chat.maritaca.ai/api", "MARITACA_API_KEY"),
        ("vllm", "http://127.0.0.1:8000/v1", "VLLM_API_KEY"),
        ("lmstudio", "http://127.0.0.1:1234/v1", "LM_STUDIO_API_KEY"),
        ("mlx-lm", "http://127.0.0.1:8080/v1", None),
        ("openrouter", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
        ("groq", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
        ("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
        ("deepseek", "https://api.deepseek.com", "DEEPSEEK_API_KEY"),
        ("together", "https://api.together.xyz/v1", "TOGETHER_API_KEY"),
        ("fireworks", "https://api.fireworks.ai/inference/v1", "FIREWORKS_API_KEY"),
        ("xai", "https://api.x.ai/v1", "XAI_API_KEY"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
        ("azure", None, "AZURE_OPENAI_API_KEY"),
    ],
)
def test_where_a_service_is_and_what_its_key_is_called(name, address, variable, monkeypatch):
    row = SERVICES[name]
    assert (row.base_url, row.key_variable) == (address, variable)
    if address:
        assert CLASSES[name]().get_config()["base_url"] == address
    if variable:
        monkeypatch.setenv(variable, KEY)
        _, request = sent(CLASSES[name], settings={"api_key": None})
        assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("name", SERVICES)
def test_a_missing_key_is_told_before_any_request(name):
    row = SERVICES[name]
    with LoopbackServer([OK]) as server, CLASSES[name](base_url=server.url, model="m") as llm:
        if not row.needs_key:
            assert llm.missing() is None
            assert llm.generate("Hi").content == "Oi!"
            assert "authorization" not in server.requests[0].headers
            return
        with pytest.raises(AuthenticationError, match=row.key_variable) as caught:
            llm.generate("Hi")
        assert caught.value.provider == name
        assert llm.missing() in caught.value.message
        assert server.requests == []


@pytest.mark.parametrize("name", [name for name, row in SERVICES.items() if row.needs_model and row.model is None])
def test_a_missing_model_is_told_before_any_request(name):
    with CLASSES[name](base_url="http://127.0.0.1:1", api_key=KEY) as llm, pytest.raises(InvalidParameterError) as told:
        llm.generate("Hi")
    assert told.value.parameter == "model"


@pytest.mark.parametrize("name", ["azure", "compatible"])
def test_a_service_without_an_address_of_its_own_asks_for_one(name):
    with pytest.raises(InvalidParameterError, match="base_url is missing"):
        create_llm(name)


@pytest.mark.parametrize("name", SERVICES)
def test_every_declared_parameter_can_be_said_and_no_other(name):
    samples = {
        "max_tokens": 5,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": 5,
        "min_p": 0.1,
        "seed": 7,
        "stop": ["#"],
        "n": 2,
        "logprobs": True,
        "logit_bias": {1: 1.0},
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.5,
        "tool_choice": "auto",
        "response_format": {"type": "object"},
        "reasoning": "high",
        "priority": 1,
        "deterministic": True,
    }
    with LoopbackServer([OK]) as server, CLASSES[name](base_url=server.url, api_key=KEY, model="m") as llm:
        for parameter, value in samples.items():
            if parameter == "stop" and not CLASSES[name].service.finds_stops:
                continue
            if parameter in llm.parameters and parameter not in ("response_format", "n", "logprobs"):
                tools = {"tools": [TOOL]} if parameter == "tool_choice" else {}
                llm.generate("Hi", **{parameter: value}, **tools)
                assert len(json.loads(server.requests.pop().body)) == 3 + len(tools)
            elif parameter not in llm.parameters:
                with pytest.raises(UnsupportedFeatureError) as caught:
                    llm.generate("Hi", **{parameter: value})
                assert caught.value.feature == parameter
                assert server.requests == []


# What goes over the wire.


def test_the_least_request():
    body, request = sent(Maritaca, settings={"model": None})
    assert body == {"model": "sabia-4", "messages": [{"role": "user", "content": "Hi"}]}
    assert request.path == "/chat/completions"
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_a_request_with_everything_that_maritaca_takes():
    with LoopbackServer([OK]) as server, Maritaca(base_url=server.url, api_key=KEY) as llm:
        llm.generate(
            "Hi",
            "Be brief.",
            tools=[TOOL],
            tool_choice="required",
            max_tokens=9,
            temperature=0.5,
            top_p=0.9,
            stop="#",
            presence_penalty=1,
            frequency_penalty=-1,
            options={"service_tier": "flex"},
        )
    assert json.loads(server.requests[0].body) == {
        "model": "sabia-4",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 1.0,
        "frequency_penalty": -1.0,
        "max_tokens": 9,
        "stop": ["#"],
        "tools": [{"type": "function", "function": TOOL}],
        "tool_choice": "required",
        "service_tier": "flex",
    }


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("mistral", {"seed": 7}, {"random_seed": 7}),
        ("mistral", {"tools": [TOOL], "tool_choice": "required"}, {"tool_choice": "any"}),
        ("groq", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("groq", {"reasoning": "low"}, {"reasoning_effort": "low"}),
        ("xai", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("azure", {"max_tokens": 9}, {"max_completion_tokens": 9}),
        ("together", {"max_tokens": 9, "top_k": 3}, {"max_tokens": 9, "top_k": 3}),
        ("openrouter", {"reasoning": "high"}, {"reasoning": {"effort": "high"}}),
        ("openrouter", {"options": {"provider": {"sort": "price"}}}, {"provider": {"sort": "price"}}),
        ("mlx-lm", {"reasoning": "none"}, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("mlx-lm", {"min_p": 0.1, "repetition_penalty": 1.1}, {"min_p": 0.1, "repetition_penalty": 1.1}),
        ("fireworks", {"logit_bias": {5: -1}}, {"logit_bias": {"5": -1.0}}),
        ("gemini", {"reasoning": "none"}, {"reasoning_effort": "none"}),
        ("deepseek", {"options": {"thinking": {"type": "enabled"}}}, {"thinking": {"type": "enabled"}}),
    ],
)
def test_each_service_is_told_in_its_own_words(name, params, said):
    body, _ = sent(CLASSES[name], **params)
    assert {key: body.get(key) for key in said} == said
    params = {key: value for key, value in params.items() if key not in said and key != "options"}
    assert not params.keys() & body.keys() - {"tools"}


@pytest.mark.parametrize(("name", "back"), [("deepseek", True), ("groq", False)])
def test_reasoning_goes_back_with_its_calls_where_the_service_demands_it(name, back):
    call = ToolCall("call_1", "look_up", {"word": "seven"})
    thought = GenerateResponse("", "It is a number.", (call,)).to_message()
    turns = [Message("user", "Look up."), thought, Message("tool", "7", tool_call_id="call_1")]
    body, _ = sent(CLASSES[name], prompt=None, messages=turns, tools=[TOOL])
    assert body["messages"][1].get("reasoning_content") == ("It is a number." if back else None)
    assert body["messages"][1]["tool_calls"][0]["id"] == "call_1"


def asked_format(name, response_format, answer="{}"):
    """Return how a service is asked for a form."""
    said = {**ANSWER, "choices": [{"index": 0, "message": {"content": answer}, "finish_reason": "stop"}]}
    body, _ = sent(CLASSES[name], reply=Reply(body=json.dumps(said).encode()), response_format=response_format)
    return {key: value for key, value in body.items() if key not in ("model", "messages")}


def test_forms_of_answers():
    schema = {"name": "response", "schema": FORM, "strict": True}
    asked = {"response_format": {"type": "json_schema", "json_schema": schema}}
    assert asked_format("maritaca", FORM, '{"yes": true}') == asked
    any_object = {"type": "object"}
    assert asked_format("deepseek", any_object) == {"response_format": {"type": "json_object"}}
    found = asked_format("lmstudio", any_object)["response_format"]
    assert (found["type"], found["json_schema"]["schema"]) == ("json_schema", any_object)
    assert asked_format("vllm", Regex("[0-9]+"), "42") == {"structured_outputs": {"regex": "[0-9]+"}}


@pytest.mark.parametrize(
    ("name", "params", "feature"),
    [
        ("lmstudio", {"tools": [TOOL], "tool_choice": "look_up"}, "tool_choice"),
        ("mlx-lm", {"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ("mlx-lm", {"reasoning": "low"}, "reasoning"),
        ("vllm", {"reasoning": "none"}, "reasoning"),
        ("deepseek", {"response_format": Regex("a+")}, "response_format"),
        ("mlx-lm", {"response_format": Regex("a+")}, "response_format"),
        ("maritaca", {"response_format": FORM, "retries": 1, "n": 2}, "retries"),
        ("groq", {"response_format": Regex("a+")}, "response_format"),
        ("groq", {"messages": [Message("user", "Hi", name="Ada")]}, "name"),
        ("groq", {"options": {"top_a": 1}}, "options.top_a"),
        ("maritaca", {"messages": [Message("user", (ImagePart(b"\x89PNG", "image/png"),))]}, "vision"),
        ("mistral", {"messages": [Message("user", (DocumentPart(b"x", "application/zip"),))]}, "documents"),
        ("azure", {"messages": [Message("system", (ImagePart(b"\x89PNG", "image/png"),))]}, "vision"),
    ],
)
def test_what_cannot_be_said_is_refused_before_any_request(name, params, feature):
    with LoopbackServer([OK]) as server, CLASSES[name](base_url=server.url, api_key=KEY, model="m") as llm:
        for stream in (False, True):
            with pytest.raises(UnsupportedFeatureError) as caught:
                llm.generate(None if "messages" in params else "Hi", stream=stream, **params)
            assert caught.value.feature == feature
            with pytest.raises(UnsupportedFeatureError):
                llm.generate_async(None if "messages" in params else "Hi", stream=stream, **params)
    assert server.requests == []


def test_capabilities_are_those_of_the_row():
    able = Maritaca().get_capabilities()
    assert able[ModelCapability.TOOL_USE] is True
    assert able[ModelCapability.STRUCTURED_OUTPUT] is True
    assert able[ModelCapability.VISION] is False
    unsure = CLASSES["vllm"]().get_capabilities()
    assert unsure[ModelCapability.TOOL_USE] is None
    assert unsure[ModelCapability.VISION] is None
    asked_by_prompt = CLASSES["mlx-lm"]().get_capabilities()
    assert asked_by_prompt[ModelCapability.STRUCTURED_OUTPUT] is None
    assert asked_by_prompt[ModelCapability.JSON_MODE] is None
    assert CLASSES["deepseek"]().get_capabilities()[ModelCapability.JSON_MODE] is True


# Answers.


def test_a_whole_answer():
    with LoopbackServer([OK]) as server, Maritaca(base_url=server.url, api_key=KEY) as llm:
        answer = llm.generate("Hi")
    assert (answer.content, answer.finish_reason, answer.model) == ("Oi!", "stop", "sabia-4")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.cached_tokens) == (5, 2, 3)


def test_a_stream_with_calls():
    begun = {"index": 0, "id": "call_7", "type": "function", "function": {"name": "look_up", "arguments": ""}}
    chunks = events(
        piece({"role": "assistant", "content": "Let me see."}),
        piece({"tool_calls": [begun]}),
        piece({"tool_calls": [{"index": 0, "function": {"arguments": '{"word":'}}]}),
        piece({"tool_calls": [{"index": 0, "function": {"arguments": ' "oi"}'}}]}),
        piece({}, finish_reason="tool_calls"),
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}},
    )
    with LoopbackServer([Reply(chunks=chunks)]) as server, Maritaca(base_url=server.url, api_key=KEY) as llm:
        stream = llm.generate("Hi", stream=True, tools=[TOOL])
        assert "".join(delta.content for delta in stream) == "Let me see."
    assert stream.response.tool_calls == (ToolCall("call_7", "look_up", {"word": "oi"}),)
    assert stream.response.finish_reason == "tool_calls"
    assert stream.response.usage.completion_tokens == 4
    body = json.loads(server.requests[0].body)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_usage_is_not_asked_for_where_it_comes_unasked():
    chunks = events(piece({"content": "Hi"}), piece({}, finish_reason="stop"))
    mistral = CLASSES["mistral"]
    with LoopbackServer([Reply(chunks=chunks)]) as server, mistral(base_url=server.url, api_key=KEY, model="m") as llm:
        assert "".join(delta.content for delta in llm.generate("Hi", stream=True)) == "Hi"
    assert "stream_options" not in json.loads(server.requests[0].body)


@pytest.mark.parametrize(("kind", "whole"), [(CompatibleProvider, True), (Maritaca, False)])
def test_only_who_may_leave_the_end_marker_out_leaves_it_out(kind, whole):
    chunks = events(piece({"content": "Hi"}), piece({}, finish_reason="stop"))[:-1]
    with LoopbackServer([Reply(chunks=chunks)]) as server, kind(base_url=server.url, api_key=KEY) as llm:
        stream = llm.generate("Hi", stream=True)
        if whole:
            assert "".join(delta.content for delta in stream) == "Hi"
            return
        with pytest.raises(ProviderConnectionError):
            list(stream)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"error": {"message": f"Bad key {KEY}", "code": "invalid_api_key"}}, AuthenticationError),
        (404, {"error": {"message": "The model m does not exist", "code": "model_not_found"}}, ModelNotFoundError),
        (429, {"detail": "Too many requests"}, QuotaExceededError),
    ],
)
def test_errors_are_typed_and_name_the_service(status, body, kind):
    reply = Reply(status, body=json.dumps(body).encode())
    with (
        LoopbackServer([reply]) as server,
        Maritaca(base_url=server.url, api_key=KEY, max_retries=0) as llm,
        pytest.raises(kind) as caught,
    ):
        llm.generate("Hi")
    assert caught.value.provider == "maritaca"
    assert KEY not in str(caught.value)


# Any address, and rows of one's own.


def test_any_address_needs_no_key_and_no_model():
    with LoopbackServer([OK]) as server, create_llm("compatible", base_url=f"{server.url}/v1/") as llm:
        assert llm.generate("Hi", top_k=3).content == "Oi!"
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert "authorization" not in request.headers
    assert json.loads(request.body) == {"messages": [{"role": "user", "content": "Hi"}], "top_k": 3}


def test_a_row_of_ones_own():
    row = Service("mine", "my notes", "http://127.0.0.1:9/v2", "MY_KEY", ChatQuirks(accepted=frozenset({"seed"})))

    class Mine(CompatibleProvider, service=row):
        pass

    class Derived(Mine):
        pass

    assert (Derived.name, Derived.key_variable, Derived.parameters) == ("mine", "MY_KEY", {"seed"})
    assert Derived().get_config()["base_url"] == "http://127.0.0.1:9/v2"
    assert CompatibleProvider.name == "compatible"


class TestConformance(ProviderConformance):
    """The rules of all providers, for one row."""

    prompt = "one two three"
    other_prompts = ("four", "five six")
    tool_prompt = "look seven up"
    tools = (TOOL,)

    @pytest.fixture(autouse=True)
    def server(self):
        self.script = self.friendly = answering(OpenAIChat(SERVICES["maritaca"].quirks))
        with LoopbackServer(lambda request: self.script(request)) as server:
            self.url = server.url
            yield

    def make(self):
        return Maritaca(base_url=self.url, api_key=KEY)

    def make_failing(self):
        self.script = lambda request: Reply(404, body=b'{"error": {"message": "no such model"}}')
        return self.make()

    def make_waiting(self, gate):
        def waiting(request):
            reply = self.friendly(request)
            return Reply(chunks=[Opened(gate), *(reply.chunks or [reply.body])])

        self.script = waiting
        return self.make()


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_that_a_service_does_not_find_are_found_here(stream):
    chunks = events(piece({"content": "one tw"}), piece({"content": "o three"}), piece({}, finish_reason="stop"))
    with LoopbackServer([Reply(chunks=chunks)]) as server, CLASSES["mlx-lm"](base_url=server.url) as llm:
        answer = llm.generate("Hi", stop=["two"], stream=stream)
        text = "".join(delta.content for delta in answer) if stream else answer.content
        assert text == "one "
        assert (answer.response if stream else answer).stop_string == "two"
    asked = json.loads(server.requests[0].body)
    assert "stop" not in asked
    assert asked["stream"] is True


def test_fewer_answers_than_asked_for_are_an_error():
    with LoopbackServer([OK]) as server, CLASSES["vllm"](base_url=server.url) as llm:
        with pytest.raises(GenerationError, match="1 of 2 answers") as caught:
            llm.generate("Hi", n=2)
        assert caught.value.response.content == "Oi!"


# Conversations that began elsewhere.


@pytest.mark.parametrize(("name", "form"), [("mistral", r"[a-zA-Z0-9]{9}"), ("azure", r".{1,40}")])
def test_calls_of_other_services_have_ids_that_this_one_takes(name, form):
    calls = (ToolCall("x" * 41, "f"), ToolCall("abcdef123", "f"))
    results = [Message("tool", "7", tool_call_id=call.id) for call in calls]
    said = [Message("user", "Hi"), Message("assistant", "", tool_calls=calls), *results]
    turns = sent(CLASSES[name], prompt=None, messages=said)[0]["messages"]
    ids = [call["id"] for call in turns[1]["tool_calls"]]
    assert ids == [turn["tool_call_id"] for turn in turns[2:]]
    assert all(re.fullmatch(form, one) for one in ids)
    assert ids[1] == "abcdef123"


def test_an_answer_that_said_nothing_is_not_sent_back():
    said = [Message("user", "Hi"), Message("assistant", "", reasoning="Hm."), Message("user", "Well?")]
    turns = sent(CLASSES["mistral"], prompt=None, messages=said)[0]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "user"]
