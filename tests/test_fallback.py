"""Several backends as one: who is asked, for which errors the next one is, and what is told when nobody answers."""

from __future__ import annotations

import logging

import pytest

from abstractllm import AbstractLLMInterface, create_llm, errors
from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    ContentFilterError,
    ContextWindowExceededError,
    InvalidParameterError,
    ModelNotFoundError,
    OutputValidationError,
    ProviderAPIError,
    ProviderConnectionError,
    SpentQuotaError,
    UnsupportedFeatureError,
)
from abstractllm.fallback import CURABLE, curable
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.compatible import CompatibleProvider
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.registry import register_provider
from abstractllm.testing import ProviderConformance
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import LoopbackServer, Reply as HTTPReply
from abstractllm.types import GenerateResponse, ToolCall, Usage

from .backends import DOWN, failing, saying, who

KEY = "sk-fallback-0123456789"
FACES = pytest.mark.parametrize("face", list(Face), ids=lambda face: face.name)


# Who is asked.


@FACES
def test_the_first_that_answers_is_the_one(face):
    with create_llm([saying("first"), saying("second")]) as llm:
        answer = ask(llm, face, "Hi").whole
    assert answer.content == "first"
    assert answer.provider_data["fallback"] == {"member": 0, "name": "echo:echo"}


@FACES
def test_the_next_is_asked_where_one_fails(face):
    with create_llm([failing(DOWN), failing(SpentQuotaError("Spent.")), saying("third")]) as llm:
        answer = ask(llm, face, "Hi").whole
    assert answer.content == "third"
    assert who(answer) == 2
    assert answer.model == "echo"


@FACES
def test_what_fails_after_it_began_is_raised(face):
    broken = ProviderConnectionError("Broken off.")
    if face not in (Face.STREAM, Face.ASYNC_STREAM):
        with create_llm([failing(broken, after=1), saying("second")]) as llm:
            assert who(ask(llm, face, "Hi").whole) == 1, "a whole answer has not begun before it is there"
        return
    with create_llm([failing(broken, after=1), saying("second")]) as llm:
        stream = llm.generate("Hi", stream=True)
        assert next(stream).content == "one "
        with pytest.raises(ProviderConnectionError, match="Broken off") as caught:
            next(stream)
    assert caught.value is broken


def test_members_are_asked_anew_each_time_and_in_order():
    first = EchoProvider(replies=[Reply("", error=DOWN), "back again"])
    with create_llm([first, saying("second")]) as llm:
        assert [who(llm.generate("Hi")) for _ in range(2)] == [1, 0]


def test_conversation_tools_and_parameters_reach_whoever_answers(tmp_path):
    (tmp_path / "note.txt").write_text("noted")
    seen = []

    def look_up(word: str) -> str:
        """Look a word up."""
        return word

    def script(request):
        seen.append(request)
        return Reply(tool_calls=[ToolCall("1", "look_up", {"word": "x"})])

    second = EchoProvider(replies=script, temperature=0.5)
    with create_llm([failing(DOWN), second]) as llm:
        answer = llm.generate(
            "Now", "Be.", [tmp_path / "note.txt"], tools=[look_up], tool_choice="required", max_tokens=7, stop=["."]
        )
    (request,) = seen
    assert [turn.role for turn in request.messages] == ["system", "user"]
    assert "noted" in request.messages[1].text
    assert (request.max_tokens, request.stop, request.temperature) == (7, (".",), 0.5)
    assert (request.tool_choice, request.tools[0].function) == ("required", look_up)
    assert answer.tool_calls[0].arguments == {"word": "x"}


def test_a_response_format_is_kept_and_parsed():
    form = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"]}

    class Formed(EchoProvider):
        parameters = EchoProvider.parameters | {"response_format"}

    formed = Formed(replies=lambda request: '{"yes": true}' if request.messages[0].text == "Hi" else '{"no": 1}')
    with create_llm([saying("unasked"), formed, saying("unasked")]) as llm:
        answer = llm.generate("Hi", response_format=form)
        assert (answer.parsed, who(answer)) == ({"yes": True}, 1)
        with pytest.raises(OutputValidationError):
            llm.generate("Ho", response_format=form)


def test_several_answers_say_who_gave_them():
    class Twice(BaseProvider):
        name = "twice"
        parameters = frozenset({"n"})

        async def _astream(self, request, call):
            parts = [GenerateResponse(text, finish_reason="stop", choice=at) for at, text in enumerate("ab")]
            yield GenerateResponse("a", finish_reason="stop", usage=Usage(1, 2), choices=tuple(parts))

    with create_llm([saying("one answer only"), Twice()]) as llm:
        answer = llm.generate("Hi", n=2)
    assert [one.content for one in answer.choices] == ["a", "b"]
    assert who(answer) == 1


def test_a_plugin_with_plain_coroutines_may_be_a_member():
    class Plugin(AbstractLLMInterface):
        def generate(self, prompt=None, **params):
            raise NotImplementedError

        async def generate_async(self, prompt=None, stream=False, messages=(), **params):
            return self._deltas() if stream else GenerateResponse(messages[-1].text, finish_reason="stop")

        async def _deltas(self):
            yield GenerateResponse("Hi")
            yield GenerateResponse(finish_reason="stop")

    for face in Face:
        with create_llm([failing(DOWN), Plugin()]) as llm:
            answer = ask(llm, face, "Hi").whole
        assert (answer.content, who(answer)) == ("Hi", 1)


def test_an_answer_of_nothing_is_none():
    class Silent(AbstractLLMInterface):
        def generate(self, prompt=None, **params):
            raise NotImplementedError

        async def generate_async(self, prompt=None, **params):
            return self._deltas()

        async def _deltas(self):
            return
            yield

    with create_llm([Silent(), saying("second")]) as llm, llm.generate("Hi", stream=True) as stream:
        assert "".join(delta.content for delta in stream) == "second"


# Which errors.


EXAMPLES = {
    "UnsupportedFeatureError": ("vision", "No eyes."),
    "InvalidParameterError": ("top_p", "Wrong."),
    "ToolArgumentError": ("tool", ["wrong"]),
    "ToolError": ("tool", "Wrong."),
}
KEYWORDS = {
    "ContextWindowExceededError": {"context_window": 8, "prompt_tokens": 9},
    "FileProcessingError": {"path": "x"},
    "ImageProcessingError": {"path": "x"},
    "RequestTimeoutError": {"limit": "connect"},
}
NEXT = {
    *("ProviderConnectionError", "RequestTimeoutError", "QuotaExceededError", "SpentQuotaError", "ProviderAPIError"),
    *("AuthenticationError", "MissingDependencyError", "PluginError", "ModelError", "ModelNotFoundError"),
    *("ModelLoadingError", "UnsupportedModelError", "QueueFullError", "MemoryLimitError", "GenerationError"),
    *("ContextWindowExceededError", "UnsupportedFeatureError"),
}
RAISED = {
    *("AbstractLLMError", "ConfigurationError", "UnsupportedProviderError", "InvalidRequestError", "ToolArgumentError"),
    *("InvalidParameterError", "FileProcessingError", "ImageProcessingError", "UnsupportedOperationError"),
    *("ContentFilterError", "IncompleteOutputError", "OutputValidationError"),
    *("AgentError", "RunLimitError", "ToolError"),
    *("SessionStoreError", "SessionNotFoundError", "SessionConflictError"),
}
ALL = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}


def example(name):
    return ALL[name](*EXAMPLES.get(name, ("What happened.",)), **KEYWORDS.get(name, {}))


def test_every_error_is_decided():
    assert set(ALL) == NEXT | RAISED
    assert not NEXT & RAISED
    assert all(issubclass(kind, AbstractLLMError) for kind in CURABLE)


@pytest.mark.parametrize("name", sorted(NEXT | RAISED))
def test_the_next_is_asked_for_errors_that_it_may_cure_and_no_others(name):
    error, asked = example(name), []
    second = EchoProvider(replies=lambda request: asked.append(request) or "second")
    with create_llm([failing(error), second]) as llm:
        if name in NEXT:
            assert llm.generate("Hi").content == "second"
        else:
            with pytest.raises(type(error)) as caught:
                llm.generate("Hi")
            assert caught.value is error
            assert asked == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, False), (422, False), (404, True), (408, True), (413, True), (500, True), (529, True), (None, True)],
)
def test_statuses_that_say_the_request_is_wrong_are_not_cured(status, expected):
    assert curable(ProviderAPIError("x", status_code=status)) is expected
    assert curable(AuthenticationError("x", status_code=400))


# Nobody answers.


@FACES
def test_the_last_error_tells_of_all(face):
    first, second = ModelNotFoundError("No such model.", provider="a"), ProviderAPIError("Down.", status_code=503)
    with create_llm([failing(first), failing(second)]) as llm, pytest.raises(ProviderAPIError) as caught:
        ask(llm, face, "Hi")
    error = caught.value
    assert error.exceptions == (first,)
    assert error.__cause__ is second
    assert error.status_code == 503
    assert str(error) == (
        "[fallback] No backend answered; those that were asked:"
        "\n- echo:echo: ModelNotFoundError: No such model.\n- echo:echo: ProviderAPIError: Down."
    )
    assert second.message == "Down."


def test_an_error_that_nobody_can_cure_tells_who_failed_before():
    llm = create_llm([failing(DOWN), failing(ContentFilterError("Refused.")), saying("third")])
    with llm, pytest.raises(ContentFilterError, match=r"(?s)Nobody is there.*Refused") as caught:
        llm.generate("Hi")
    assert caught.value.exceptions == (DOWN,)


def test_one_member_alone_raises_its_own_error():
    error = ProviderConnectionError("Alone.")
    error.__cause__ = OSError("why")
    with create_llm([failing(error)]) as llm, pytest.raises(ProviderConnectionError) as caught:
        llm.generate("Hi")
    assert caught.value is error
    assert isinstance(error.__cause__, OSError)


def test_every_change_of_backend_is_logged(caplog):
    with caplog.at_level(logging.WARNING, "abstractllm"), create_llm([failing(DOWN), saying("x")]) as llm:
        llm.generate("Hi")
    assert caplog.messages == ["echo:echo did not answer, so the next backend is asked: Nobody is there."]


def test_no_message_shows_a_key(monkeypatch):
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    with LoopbackServer([HTTPReply(401, body=f'{{"error": "bad key {KEY}"}}'.encode())]) as server:
        llm = create_llm(
            [
                CompatibleProvider(model="m", base_url=server.url, api_key=KEY),
                failing(ContextWindowExceededError("Long.", context_window=8, prompt_tokens=9)),
            ]
        )
        with llm, pytest.raises(ContextWindowExceededError) as caught:
            llm.generate("Hi")
    assert "AuthenticationError" in str(caught.value)
    assert KEY not in str(caught.value) + repr(caught.value) + repr(caught.value.exceptions) + repr(llm.get_config())


# What is checked at the call.


@FACES
def test_a_request_that_no_member_takes_is_refused_at_the_call(face):
    with create_llm([saying("a"), saying("b")]) as llm:
        with pytest.raises(UnsupportedFeatureError, match="No backend answered") as caught:
            begin(llm, face, top_k=5)
        assert len(caught.value.exceptions) == 1
        with pytest.raises(InvalidParameterError, match="temperature"):
            begin(llm, face, temperature=-1)
        with pytest.raises(InvalidParameterError, match="Did you mean"):
            begin(llm, face, temprature=1)


def begin(llm, face, **params):
    """Make a call and do not run it."""
    stream = face in (Face.STREAM, Face.ASYNC_STREAM)
    made = (llm.generate_async if face in (Face.ASYNC, Face.ASYNC_STREAM) else llm.generate)(
        "Hi", stream=stream, **params
    )
    made.close()


def test_a_member_without_its_key_is_passed_over(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    register_provider("fallback-keyed", "abstractllm.providers.openai:OpenAIProvider", replace=True)
    register_provider("fallback-echo", EchoProvider, replace=True)
    with create_llm(["fallback-keyed:gpt-5", "fallback-echo"]) as llm:
        assert who(llm.generate("Hi")) == 1
        assert llm.missing() is None
    with create_llm(["fallback-keyed:gpt-5"] * 2) as llm:
        assert "OPENAI_API_KEY" in llm.missing()
        with pytest.raises(AuthenticationError, match="No backend answered"):
            llm.generate("Hi", stream=True)


class TestFallbackKeepsTheRules(ProviderConformance):
    """The rules for providers hold for several as one, the first of which never answers."""

    def make(self):
        """Return two backends as one."""
        return create_llm([failing(DOWN), EchoProvider()])
