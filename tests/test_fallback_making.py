"""Several backends as one: limits of time, making, closing, and services over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import threading

import pytest

import abstractllm
from abstractllm import FallbackLLM, create_llm
from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AbstractLLMError,
    ConfigurationError,
    GenerationError,
    InvalidParameterError,
    MissingDependencyError,
    ModelNotFoundError,
    ProviderAPIError,
    ProviderConnectionError,
    RequestTimeoutError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
    UnsupportedProviderError,
)
from abstractllm.fallback import told
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.compatible import CompatibleProvider
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.registry import register_provider
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply as HTTPReply
from abstractllm.types import GenerateResponse, Timeout

from .backends import DOWN, failing, saying, who

KEY = "sk-fallback-0123456789"


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
