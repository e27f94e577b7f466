"""Ollama's provider against a service on this machine: chat, models, downloads, and where the service is."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from contextlib import aclosing, contextmanager

import pytest

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    GenerationError,
    InvalidParameterError,
    ModelNotFoundError,
    ProviderAPIError,
    ProviderConnectionError,
    RequestTimeoutError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.providers.base import ModelInfo
from abstractllm.providers.http import Backoff
from abstractllm.providers.http.pacing import Pace
from abstractllm.providers.ollama import OllamaProvider
from abstractllm.providers.ollama_address import base_url_of
from abstractllm.schema import Regex
from abstractllm.testing import ProviderConformance
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import DocumentPart, GenerateResponse, ImagePart, Message, TextPart, ToolCall, Usage
from abstractllm.wire.ollama import OllamaChat
from abstractllm.wire.ollama_models import PullProgress

from .serving import WEATHER, Opened, body_of, friendly, served, streamed

KEY = "ollama-loopback-0123"
CODEC = OllamaChat()
HELLO = GenerateResponse("Hello", finish_reason="stop", usage=Usage(3, 1), model="served")
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
"""One pixel."""


class Quick(OllamaProvider):
    """One that waits for nothing between its tries."""

    backoff = Backoff(draw=lambda: 0.0)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("OLLAMA_HOST", "OLLAMA_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def asked(*script, model="qwen3", **settings):
    replies = script or (lambda request: friendly(CODEC, request),)
    replies = replies[0] if callable(replies[0]) else replies
    with LoopbackServer(replies) as server, Quick(base_url=server.url, model=model, **settings) as llm:
        yield llm, server


def sent(model="qwen3", **params):
    """Return the body of the request for a call."""
    with asked(served(CODEC, HELLO), model=model) as (llm, server):
        llm.generate(None if "messages" in params else "Hi", **params)
    return body_of(server.requests[0])


def reply(value, status=200):
    return Reply(status, body=json.dumps(value).encode())


# The wire.


def test_a_request_on_the_wire():
    with asked(served(CODEC, HELLO)) as (llm, server):
        options = {"num_ctx": 8192, "keep_alive": "5m"}
        answer = llm.generate("Hi", system_prompt="Be brief.", max_tokens=9, seed=7, stop=["#"], options=options)
    assert (answer.content, answer.finish_reason, answer.model) == ("Hello", "stop", "served")
    assert answer.usage == Usage(3, 1)
    request = server.requests[0]
    assert (request.method, request.path) == ("POST", "/api/chat")
    assert "authorization" not in request.headers
    assert body_of(request) == {
        "model": "qwen3",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "stream": False,
        "keep_alive": "5m",
        "options": {"num_predict": 9, "seed": 7, "stop": ["#"], "num_ctx": 8192},
    }


@pytest.mark.parametrize("face", Face)
def test_every_face_gives_the_answer(face):
    with asked() as (llm, server):
        answer = ask(llm, face, "one two three").whole
    assert (answer.content, answer.finish_reason) == ("one two three", "stop")
    assert body_of(server.requests[0])["stream"] is face.streams


@pytest.mark.parametrize("stream", [False, True])
def test_tool_calls_and_their_results(stream):
    with asked() as (llm, server):
        face = Face.STREAM if stream else Face.WHOLE
        answer = ask(llm, face, "Look!", tools=[WEATHER]).whole
        assert answer.tool_calls == (ToolCall("call_1", "look_up", {"word": "x"}),)
        assert answer.finish_reason == "tool_calls"
        result = Message("tool", "a letter", tool_call_id="call_1")
        llm.generate(messages=[Message("user", "Look!"), answer.to_message(), result])
    first, second = map(body_of, server.requests)
    assert first["tools"][0]["function"]["parameters"] == WEATHER["parameters"]
    assert second["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"word": "x"}
    assert second["messages"][2] == {
        "role": "tool",
        "content": "a letter",
        "tool_name": "look_up",
        "tool_call_id": "call_1",
    }


@pytest.mark.parametrize("stream", [False, True])
def test_thinking_is_kept_and_goes_back(stream):
    thought = GenerateResponse("Hello", "Let me see.", finish_reason="stop", usage=Usage(3, 9))
    first = streamed(CODEC, thought) if stream else served(CODEC, thought)
    with asked(first, served(CODEC, HELLO)) as (llm, server):
        answer = ask(llm, Face.STREAM if stream else Face.WHOLE, "Hi", reasoning="high").whole
        assert answer.reasoning == "Let me see."
        llm.generate("And now?", messages=[Message("user", "Hi"), answer.to_message()])
    first, second = map(body_of, server.requests)
    assert first["think"] is True
    assert second["messages"][1] == {"role": "assistant", "content": "Hello", "thinking": "Let me see."}


def test_thinking_has_levels_where_the_model_knows_them():
    assert sent(reasoning="none")["think"] is False
    assert sent("gpt-oss:20b", reasoning="high")["think"] == "high"
    assert "think" not in sent()


def test_images_go_along_and_forms_are_asked_for():
    body = sent(messages=[Message("user", (ImagePart(PNG, "image/png"), TextPart("What?")))])
    assert body["messages"] == [{"role": "user", "content": "What?", "images": [base64.b64encode(PNG).decode()]}]
    answer = GenerateResponse('{"a": 1}', finish_reason="stop", usage=Usage(1, 1))
    form = {"type": "object", "properties": {"a": {"type": "integer"}}}
    with asked(served(CODEC, answer)) as (llm, server):
        assert llm.generate("Hi", response_format=form).parsed == {"a": 1}
    assert body_of(server.requests[0])["format"] == form


# What is refused before any request.

REFUSED = [
    ("qwen3", {"n": 2}, UnsupportedFeatureError),
    ("qwen3", {"options": {"service_tier": "auto"}}, UnsupportedFeatureError),
    ("qwen3", {"tools": [WEATHER], "tool_choice": "required"}, UnsupportedFeatureError),
    ("qwen3", {"response_format": Regex("a+")}, UnsupportedFeatureError),
    ("qwen3", {"messages": [Message("user", (DocumentPart(b"x", "application/zip"),))]}, UnsupportedFeatureError),
    (
        "qwen3",
        {"messages": [Message("user", (ImagePart(b"", "", url="https://a.org/b.png"),))]},
        UnsupportedFeatureError,
    ),
    ("qwen3", {"messages": [Message("user", "Hi", name="Ann")]}, UnsupportedFeatureError),
    ("gpt-oss:20b", {"reasoning": "none"}, UnsupportedFeatureError),
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


# Where the service is.

HOSTS = {
    "": "http://127.0.0.1:11434",
    "  'gpu' ": "http://gpu:11434",
    "gpu:8080": "http://gpu:8080",
    ":8080": "http://127.0.0.1:8080",
    "0.0.0.0": "http://127.0.0.1:11434",
    "http://0.0.0.0:8080/": "http://127.0.0.1:8080",
    "[::]:8080": "http://[::1]:8080",
    "::1": "http://[::1]:11434",
    "[fe80::1]": "http://[fe80::1]:11434",
    "http://gpu": "http://gpu",
    "HTTPS://gpu:443/ollama/": "https://gpu:443/ollama",
    "gpu/ollama": "http://gpu:11434/ollama",
    "ollama.com": "https://ollama.com",
    "https://ollama.com": "https://ollama.com",
}


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_completed(host, monkeypatch):
    assert base_url_of(host) == HOSTS[host]
    monkeypatch.setenv("OLLAMA_HOST", host)
    assert OllamaProvider(model="m")._endpoint.base_url == HOSTS[host]
    assert base_url_of(HOSTS[host]) == HOSTS[host]


@pytest.mark.parametrize("host", ["gpu:port", "a:b@gpu", "gpu:99999", "a b", "ftp://gpu", "gpu?x=1"])
def test_a_host_that_cannot_be_read_is_refused(host, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", host)
    with pytest.raises(InvalidParameterError) as caught:
        OllamaProvider(model="m")
    assert "b@gpu" not in str(caught.value)


def test_the_environment_says_where_the_service_is(monkeypatch):
    with LoopbackServer([served(CODEC, HELLO)]) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
        with OllamaProvider(model="m") as llm:
            assert llm.generate("Hi").content == "Hello"
    assert len(server.requests) == 1


def test_a_key_that_is_given_is_sent():
    with asked(served(CODEC, HELLO), api_key=KEY) as (llm, server):
        llm.generate("Hi")
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_the_key_of_the_environment_stays_off_this_machine_and_off_plain_http(monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", KEY)
    with asked(served(CODEC, HELLO)) as (llm, server):
        llm.generate("Hi")
    assert "authorization" not in server.requests[0].headers
    for place, sends in {"http://gpu:11434": False, "https://localhost": False, "https://gpu": True}.items():
        key = OllamaProvider(model="m", base_url=place)._endpoint.key
        assert (key is not None and key.reveal() == KEY) is sends, place


def test_the_service_on_the_network_wants_a_key():
    llm = OllamaProvider(model="m", base_url="ollama.com")
    with pytest.raises(AuthenticationError, match="OLLAMA_API_KEY"):
        llm.generate("Hi")


def test_the_pace_that_is_set_is_kept_and_a_wrong_one_refused():
    pace = {"requests_per_minute": 60, "tokens_per_minute": 100_000, "max_concurrency": 4}
    llm = OllamaProvider(model="m", **pace)
    assert llm._pacer.pace == Pace(**pace)
    llm.set_config(max_concurrency=2)
    assert llm._pacer.pace == Pace(**pace | {"max_concurrency": 2})
    with pytest.raises(InvalidParameterError) as caught:
        OllamaProvider(model="m", requests_per_minute="many")
    assert caught.value.parameter == "requests_per_minute"


# Models.

TAGS = reply({"models": [{"name": "qwen3:4b", "size": 5, "details": {"family": "qwen3"}}]})
SHOWN = reply(
    {
        "capabilities": ["completion", "vision"],
        "model_info": {"general.architecture": "qwen3", "qwen3.context_length": 40960},
    }
)


def test_the_models_of_a_service(monkeypatch):
    with asked(TAGS, api_key=KEY) as (llm, server):
        assert [(model.name, model.size, model.family) for model in llm.models()] == [("qwen3:4b", 5, "qwen3")]
        assert asyncio.run(llm.models_async()) == llm.models()
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert OllamaProvider.list_models() == [ModelInfo("qwen3:4b", 5)]
    request = server.requests[0]
    assert (request.method, request.path, request.body) == ("GET", "/api/tags", b"")
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_capabilities_are_known_once_they_were_asked_for():
    with asked(SHOWN, served(CODEC, HELLO)) as (llm, server):
        unknown = llm.get_capabilities()
        assert (unknown[ModelCapability.TOOL_USE], unknown[ModelCapability.VISION]) == (None, None)
        assert server.requests == []
        assert llm.show().context_window == 40960
        known = llm.get_capabilities()
        assert (known[ModelCapability.TOOL_USE], known[ModelCapability.VISION]) == (False, True)
        for params in ({"tools": [WEATHER]}, {"reasoning": "low"}):
            with pytest.raises(UnsupportedFeatureError):
                llm.generate("Hi", **params)
        llm.set_config(model="other")
        assert llm.get_capabilities()[ModelCapability.TOOL_USE] is None
        llm.set_config(model="qwen3:latest")
        assert llm.get_capabilities()[ModelCapability.TOOL_USE] is False
    assert [(request.path, body_of(request)) for request in server.requests] == [("/api/show", {"model": "qwen3"})]


def test_the_window_is_the_one_that_was_set():
    llm = OllamaProvider(model="m", options={"num_ctx": 8192})
    assert llm.get_capabilities()[ModelCapability.CONTEXT_WINDOW] == 8192


PULL = [
    b'{"status":"pulling manifest"}\n{"status":"pulling 16',
    b'35","digest":"sha256:1635","total":8,"completed":2}\n',
    b'{"status":"success"}\n',
]
STEPS = [
    PullProgress("pulling manifest"),
    PullProgress("pulling 1635", "sha256:1635", 8, 2),
    PullProgress("success"),
]


def test_a_download_tells_how_far_it_is(monkeypatch):
    with asked(Reply(chunks=PULL)) as (llm, server):
        assert list(llm.pull("gemma3")) == STEPS

        async def pulled():
            return [step async for step in llm.pull_async()]

        assert asyncio.run(pulled()) == STEPS
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        assert OllamaProvider.pull_model("gemma3") == f"gemma3 at {server.url}"
    wanted = [{"model": name, "stream": True} for name in ("gemma3", "qwen3", "gemma3")]
    assert [body_of(request) for request in server.requests] == wanted
    assert {(request.method, request.path) for request in server.requests} == {("POST", "/api/pull")}


def test_steps_come_as_they_are_made():
    gate = Gate()
    with asked(Reply(chunks=[PULL[0], gate, *PULL[1:]])) as (llm, _):
        steps = llm.pull()
        assert next(steps) == STEPS[0]
        gate.open()
        assert list(steps) == STEPS[1:]


def test_leaving_a_download_ends_it():
    with asked(Reply(chunks=[PULL[0], Gate()])) as (llm, server):
        steps = llm.pull()
        next(steps)
        steps.close()
        assert server.requests[0].left.wait(10)

        async def leave():
            async with aclosing(llm.pull_async()) as steps:
                await anext(steps)

        asyncio.run(leave())
        assert server.requests[1].left.wait(10)


def test_closing_the_provider_ends_a_download_that_waits():
    gate = Gate()
    with asked(Reply(chunks=[PULL[0], gate])) as (llm, server):
        steps = llm.pull()
        next(steps)
        ended: list[BaseException] = []

        def wait():
            try:
                next(steps)
            except BaseException as error:
                ended.append(error)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        assert gate.reached.wait(10)
        llm.close()
        waiting.join(10)
        assert [type(error) for error in ended] == [UnsupportedOperationError]
        assert server.requests[0].left.wait(10)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply({"error": "model 'x' not found"}, 404), ModelNotFoundError),
        (reply({"error": "unauthorized"}, 401), AuthenticationError),
        (reply({"error": "broken"}, 500), ProviderAPIError),
        (Reply(body=b"<html>\n"), GenerationError),
        (Reply(body=b"{}", headers={"Content-Encoding": "br"}), GenerationError),
        (Reply.redirect("http://127.0.0.1:1/"), ProviderAPIError),
        (Reply.hang_up(), ProviderConnectionError),
        (Reply(body=b'{"models": []}', cut_after=3), ProviderConnectionError),
    ],
)
def test_errors_beside_answers_are_typed(answer, error):
    with asked(answer) as (llm, _):
        for work in (llm.models, llm.show, lambda: list(llm.pull())):
            with pytest.raises(error) as caught:
                work()
            assert caught.value.provider == "ollama"


def test_a_download_that_fails_says_why():
    with asked(Reply(chunks=[PULL[0][:30], b'{"error":"file does not exist"}\n'])) as (llm, _):
        steps = llm.pull()
        assert next(steps) == STEPS[0]
        with pytest.raises(ProviderAPIError, match="does not exist"):
            next(steps)


def test_a_service_that_says_nothing_is_not_waited_for_for_ever():
    with asked(Reply(chunks=[Gate()])) as (llm, server):
        llm.patience = 1.0
        with pytest.raises(RequestTimeoutError, match="/api/tags"):
            llm.models()
        assert server.requests[0].left.wait(10)


def test_no_model_to_show_or_pull():
    with asked(model=None) as (llm, server):
        for work in (llm.show, llm.pull):
            with pytest.raises(InvalidParameterError, match="No model"):
                work()
        assert server.requests == []


# Errors.


def test_a_model_that_is_not_there():
    with asked(reply({"error": "model 'qwen3' not found"}, 404)) as (llm, server):
        for face in Face:
            with pytest.raises(ModelNotFoundError) as caught:
                ask(llm, face, "Hi")
            assert caught.value.provider == "ollama"
    assert len(server.requests) == 4


def test_an_error_in_the_middle_of_a_stream():
    broken = streamed(CODEC, GenerateResponse("Hel"), error=ProviderAPIError("It broke.", status_code=500))
    with asked(broken) as (llm, server):
        stream = llm.generate("Hi", stream=True)
        with pytest.raises(AbstractLLMError):
            list(stream)
        assert stream.response.content == "Hel"
    assert len(server.requests) == 1


def test_a_stream_that_is_cut_off():
    whole = list(streamed(CODEC, GenerateResponse("Hel"), GenerateResponse("lo")).chunks)
    with asked(Reply(chunks=whole[:2])) as (llm, _), pytest.raises(ProviderConnectionError):
        list(llm.generate("Hi", stream=True))


class TestConformance(ProviderConformance):
    """The rules of all providers."""

    prompt = "one two three"
    other_prompts = ("four", "five six")
    tool_prompt = "Look!"
    tools = (WEATHER,)
    names_stops = False

    @pytest.fixture(autouse=True)
    def server(self):
        self.script = lambda request: friendly(CODEC, request)
        with LoopbackServer(lambda request: self.script(request)) as server:
            self.url = server.url
            yield

    def make(self):
        return Quick(base_url=self.url, model="qwen3")

    def make_failing(self):
        self.script = lambda request: reply({"error": "model 'qwen3' not found"}, 404)
        return self.make()

    def make_waiting(self, gate):
        def waiting(request):
            answer = friendly(CODEC, request)
            return Reply(chunks=[Opened(gate), *(answer.chunks or [answer.body])])

        self.script = waiting
        return self.make()


class TestKnownConformance(TestConformance):
    """The same rules where the service was asked what the model can do."""

    def make(self):
        with LoopbackServer([reply({"capabilities": ["completion", "tools", "thinking"]})]) as server:
            llm = Quick(base_url=server.url, model="qwen3")
            facts = llm.show()
        llm.set_config(base_url=self.url)
        llm._facts[self.url, "qwen3:latest"] = facts
        return llm
