"""Several backends as one: who is asked, for which errors the next one is, and what is told when nobody answers."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading

import pytest

import abstractllm
from abstractllm import AbstractLLMInterface, FallbackLLM, create_llm, errors
from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    ConfigurationError,
    ContentFilterError,
    ContextWindowExceededError,
    GenerationError,
    InvalidParameterError,
    MissingDependencyError,
    ModelNotFoundError,
    OutputValidationError,
    ProviderAPIError,
    ProviderConnectionError,
    RequestTimeoutError,
    SpentQuotaError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
    UnsupportedProviderError,
)
from abstractllm.fallback import CURABLE, curable, told
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.compatible import CompatibleProvider
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.registry import register_provider
from abstractllm.testing import ProviderConformance
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply as HTTPReply
from abstractllm.types import GenerateResponse, Timeout, ToolCall, Usage

KEY = "sk-fallback-0123456789"
DOWN = ProviderConnectionError("Nobody is there.")
FACES = pytest.mark.parametrize("face", list(Face), ids=lambda face: face.name)


def failing(error, after=0, text="one two three"):
    """Return a provider that fails after so many deltas."""
    return EchoProvider(replies=lambda request: Reply(text, error=error, error_after=after))


def saying(text, **more):
    return EchoProvider(replies=lambda request: Reply(text, **more))


def who(response):
    return response.provider_data["fallback"]["member"]


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


# Limits of time.


def test_a_member_that_is_too_slow_for_its_own_limit_is_left():
    slow = EchoProvider(replies=lambda request: Reply("late", delay=30), timeout=0.05)
    with create_llm([slow, saying("in time")]) as llm:
        assert llm.generate("Hi").content == "in time"
        assert llm.generate("Hi", timeout=20).content == "in time"


def test_the_first_event_is_waited_for_in_each_member_by_itself():
    slow = EchoProvider(replies=lambda request: Reply("late", delay=30))
    with create_llm([slow, slow, saying("in time")]) as llm:
        assert who(llm.generate("Hi", timeout=Timeout(first_event=0.05))) == 2


def test_when_the_callers_time_is_up_nobody_else_is_asked():
    asked = []
    slow = EchoProvider(replies=lambda request: Reply("late", delay=30))
    second = EchoProvider(replies=lambda request: asked.append(request) or "second")
    with create_llm([slow, second]) as llm:
        with pytest.raises(RequestTimeoutError) as caught:
            llm.generate("Hi", timeout=0.05)
        assert caught.value.limit == "total"
        assert asked == []


def test_members_get_what_is_left_and_their_own_tighter_limits():
    seen = []
    second = EchoProvider(
        replies=lambda request: seen.append(request.timeout) or "x", timeout=Timeout(idle=3, total=900)
    )
    with create_llm([failing(DOWN), second]) as llm:
        llm.generate("Hi", timeout=Timeout(idle=5, total=60))
        llm.generate("Hi")
    assert seen[0].idle == 3
    assert 0 < seen[0].total < 60
    assert seen[1] == Timeout(idle=3, total=900)


async def test_cancelling_asks_nobody_else():
    asked = []
    second = EchoProvider(replies=lambda request: asked.append(request) or "second")
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def script(request):
        loop.call_soon_threadsafe(begun.set)
        return Reply("late", delay=30)

    async with create_llm([EchoProvider(replies=script), second]) as llm:
        task = asyncio.create_task(llm.generate_async("Hi"))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert asked == []


# Making and closing.


def test_closing_closes_all_and_ends_what_runs():
    begun = threading.Event()
    caught = []

    def script(request):
        begun.set()
        return Reply("late", delay=30)

    members = [EchoProvider(replies=script), saying("second")]
    llm = create_llm(members)

    def run():
        try:
            llm.generate("Hi")
        except AbstractLLMError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    llm.close()
    thread.join()
    assert isinstance(caught[0], UnsupportedOperationError)
    for one in (llm, *members):
        with pytest.raises(UnsupportedOperationError, match="closed"):
            one.generate("Hi")


def test_a_member_that_fails_to_close_keeps_none_open():
    class Stuck(EchoProvider):
        def close(self):
            super().close()
            raise OSError("stuck")

    members = [saying("a"), Stuck(), saying("c")]
    with pytest.raises(OSError, match="stuck"):
        create_llm(members).close()
    for one in members:
        with pytest.raises(UnsupportedOperationError):
            one.generate("Hi")


class Needy(EchoProvider):
    """A provider whose library is not installed."""

    def __init__(self, config=None, **settings):
        super().__init__(config, **settings)
        raise MissingDependencyError("A library is not installed.")


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Providers of all kinds, by name, and a folder without any configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    register_provider("fallback-echo", EchoProvider, replace=True)
    register_provider("fallback-needy", Needy, replace=True)
    register_provider("fallback-broken", "no_such_module_anywhere:Class", replace=True)


def test_a_missing_library_or_a_broken_plugin_falls_to_the_next(names):
    with create_llm(["fallback-needy", "fallback-broken", "fallback-echo:small?temperature=0.2"]) as llm:
        answer = llm.generate("Hi")
        assert (answer.content, answer.model) == ("Hi", "small")
        assert answer.provider_data["fallback"] == {"member": 2, "name": "fallback-echo:small"}
        assert [member.llm is None for member in llm.members] == [True, True, False]
        assert llm.get_capabilities()[ModelCapability.STREAMING] is True
        assert llm.count_tokens("one two") == 2
        llm.load()
        llm.unload()


def test_nothing_is_made_where_no_backend_could_ever_answer(names):
    with pytest.raises(MissingDependencyError, match=r"(?s)fallback-broken.*fallback-needy"):
        create_llm(["fallback-broken", "fallback-needy"])


@pytest.mark.parametrize(
    ("specs", "config", "kind", "message"),
    [
        ([], {}, ConfigurationError, "empty"),
        (["fallback-echo", 7], {}, ConfigurationError, "Backend 1 is a int"),
        (["fallback-echo", "fallback-ecko"], {}, UnsupportedProviderError, "Did you mean 'fallback-echo'"),
        (["fallback-echo", "fallback-echo?heat=1"], {}, InvalidParameterError, r"\[fallback-echo\] Unknown parameter"),
        (["fallback-echo", "fallback-echo?top_k=1"], {}, UnsupportedFeatureError, "top_k"),
        (["fallback-echo"], {"top_k": 3}, UnsupportedFeatureError, "top_k"),
        (["fallback-echo"], {"model": " "}, ConfigurationError, "model is empty"),
    ],
)
def test_a_mistake_in_any_member_shows_at_once(names, specs, config, kind, message):
    with pytest.raises(kind, match=message):
        create_llm(specs, **config)


def test_members_that_were_made_are_closed_where_another_is_wrong(names):
    made = []

    class Noted(EchoProvider):
        def __init__(self, config=None, **settings):
            super().__init__(config, **settings)
            made.append(self)

    register_provider("fallback-noted", Noted, replace=True)
    with pytest.raises(UnsupportedProviderError):
        create_llm(["fallback-noted", "fallback-nobody"])
    with pytest.raises(UnsupportedOperationError, match="closed"):
        made[0].generate("Hi")


def test_configuration_goes_to_all_members(names):
    with create_llm(("fallback-echo:a", "fallback-echo:b?temperature=0.9"), temperature=0.1, timeout=9) as llm:
        assert [member.llm.get_param("temperature") for member in llm.members] == [0.1, 0.1]
        assert [member.llm.get_param("timeout") for member in llm.members] == [Timeout(total=9)] * 2
        assert [member.llm.get_param("model") for member in llm.members] == ["a", "b"]
        assert llm.get_config() == {"temperature": 0.1}
    with pytest.raises(ConfigurationError, match="already made"):
        create_llm([saying("x")], temperature=0.1)


def test_set_config_holds_for_whoever_is_asked():
    seen = []
    second = EchoProvider(replies=lambda request: seen.append(request) or "x", max_tokens=5)
    with create_llm([failing(DOWN), second]) as llm:
        llm.set_config(max_tokens=9, system_prompt="Be.")
        llm.generate("Hi")
        with pytest.raises(InvalidParameterError, match="base_url"):
            llm.set_config(base_url="http://localhost")
    assert (seen[0].max_tokens, seen[0].messages[0].text) == (9, "Be.")


def test_profiles_may_be_members(names, tmp_path):
    (tmp_path / "abstractllm.toml").write_text('[profiles.spare]\nuse = "fallback-echo:spare"\n')
    with create_llm(["fallback-needy", "spare"]) as llm:
        answer = llm.generate("Hi")
    assert (answer.model, answer.provider_data["fallback"]["name"]) == ("spare", "spare")


def test_capabilities_are_what_any_member_can_do():
    class Knows(EchoProvider):
        def __init__(self, known):
            self.known = known
            super().__init__()

        def get_capabilities(self):
            if isinstance(self.known, Exception):
                raise self.known
            return self.known

    def of(*known):
        return create_llm([Knows(one) for one in known]).get_capabilities()

    eyes, window = ModelCapability.VISION, ModelCapability.CONTEXT_WINDOW
    assert of({eyes: False}, {eyes: True})[eyes] is True
    assert of({eyes: None}, {eyes: True})[eyes] is True
    assert of({eyes: False}, {})[eyes] is None
    assert of({eyes: False}, {eyes: False})[eyes] is False
    assert of({window: 10}, {window: 20})[window] == 20
    assert of({window: 10}, {window: None})[window] is None
    assert of(ModelNotFoundError("x"), {eyes: False})[eyes] is False
    with pytest.raises(ModelNotFoundError, match="No backend answered"):
        of(ModelNotFoundError("x"), ModelNotFoundError("y"))
    with pytest.raises(ConfigurationError):
        of(ConfigurationError("x"), {eyes: True})


def test_observers_hear_of_the_whole_and_of_each_member():
    heard = []
    members = [failing(DOWN), saying("second")]
    with create_llm(members) as llm:
        for name, one in (("first", members[0]), ("second", members[1]), ("all", llm)):
            one.observers.append(lambda event, name=name: heard.append((name, event.kind)))
        llm.generate("Hi")
    assert heard == [
        ("all", "started"),
        ("first", "started"),
        ("first", "failed"),
        ("second", "started"),
        ("second", "finished"),
        ("all", "finished"),
    ]


async def test_a_stream_that_is_left_ends_its_member_first():
    class Endless(BaseProvider):
        async def _astream(self, request, call):
            yield GenerateResponse("one")
            await asyncio.Event().wait()

    heard, member = [], Endless()
    with create_llm([member]) as llm:
        for name, one in (("member", member), ("all", llm)):
            one.observers.append(lambda event, name=name: heard.append((name, event.kind)))
        stream = llm.generate_async("Hi", stream=True)
        await anext(stream)
        await stream.aclose()
    assert heard == [("all", "started"), ("member", "started"), ("member", "cancelled"), ("all", "cancelled")]


def test_a_batch_falls_back_item_by_item():
    def script(request):
        return Reply("", error=DOWN) if request.messages[-1].text in "bd" else "first"

    with create_llm([EchoProvider(replies=script), saying("second")]) as llm:
        items = llm.generate_batch("abcde"[at] for at in range(5))
    assert [who(item.unwrap()) for item in items] == [0, 1, 0, 1, 0]


def test_told_leaves_a_single_error_alone():
    llm = create_llm([saying("x")])
    assert told([(llm.members[0], DOWN)]) is DOWN
    assert isinstance(llm, FallbackLLM)
    assert abstractllm.FallbackLLM is FallbackLLM


# Over real sockets, and with a model.


def unused_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def service(url, **settings):
    return CompatibleProvider(model="m", base_url=url, api_key=KEY, max_retries=0, **settings)


def chat(text):
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return HTTPReply(body=json.dumps({"choices": [choice], "model": "m"}).encode())


def piece(text):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    "reply",
    [HTTPReply(429), HTTPReply(503), HTTPReply(401), HTTPReply(404), HTTPReply.hang_up(), HTTPReply(body=b"<html>")],
    ids=["429", "503", "401", "404", "hung up", "no answer"],
)
def test_a_service_in_trouble_is_passed_over(reply):
    with LoopbackServer([reply]) as bad, LoopbackServer([chat("fine")]) as good:
        nobody = f"http://127.0.0.1:{unused_port()}"
        with create_llm([service(nobody), service(bad.url), service(good.url)]) as llm:
            answer = llm.generate("Hi")
        assert (answer.content, answer.model, who(answer)) == ("fine", "m", 2)
        assert (len(bad.requests), len(good.requests)) == (1, 1)


def test_a_refused_request_goes_to_no_other_service():
    with LoopbackServer([HTTPReply(400, body=b'{"error": "bad"}')]) as bad, LoopbackServer([chat("fine")]) as good:
        with create_llm([service(bad.url), service(good.url)]) as llm, pytest.raises(ProviderAPIError, match="bad"):
            llm.generate("Hi")
        assert good.requests == []


def test_a_stream_that_breaks_off_is_not_begun_again_elsewhere():
    cut = HTTPReply(chunks=[piece("Hel")], ends=False)
    with LoopbackServer([cut]) as bad, LoopbackServer([chat("fine")]) as good:
        with create_llm([service(bad.url), service(good.url)]) as llm:
            stream = llm.generate("Hi", stream=True)
            assert next(stream).content == "Hel"
            with pytest.raises((ProviderConnectionError, GenerationError)):
                list(stream)
            assert who(stream.response) == 0
        assert good.requests == []


def test_a_service_that_says_nothing_is_left_in_time():
    gate = Gate()
    with LoopbackServer([HTTPReply(chunks=[gate])]) as mute, LoopbackServer([chat("fine")]) as good:
        with create_llm([service(mute.url, timeout=Timeout(first_event=0.1)), service(good.url)]) as llm:
            assert llm.generate("Hi", timeout=30).content == "fine"
        assert mute.requests[0].left.wait(timeout=30), "its connection is closed"


def test_the_model_that_ships_answers_when_no_service_does():
    pytest.importorskip("mlx.core")
    from abstractllm.providers.mlx import MLXProvider

    nobody = service(f"http://127.0.0.1:{unused_port()}")
    with create_llm([nobody, MLXProvider(max_tokens=4, temperature=0, deterministic=True)]) as llm:
        answer = llm.generate("Say hello.")
        streamed = "".join(delta.content for delta in llm.generate("Say hello.", stream=True))
        assert who(answer) == 1
        assert answer.usage.completion_tokens > 0
        assert streamed == answer.content


class TestFallbackKeepsTheRules(ProviderConformance):
    """The rules for providers hold for several as one, the first of which never answers."""

    def make(self):
        """Return two backends as one."""
        return create_llm([failing(DOWN), EchoProvider()])
