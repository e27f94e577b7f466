"""The chat model on providers that need no model: what reaches them, and what LangChain gets back."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ContextOverflowError, ModelError, ModelRateLimitError
from langchain_core.globals import set_llm_cache
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, trim_messages
from langchain_core.rate_limiters import BaseRateLimiter
from langchain_core.tools import tool

from abstractllm import AuthenticationError, InvalidParameterError, QuotaExceededError, UnsupportedOperationError
from abstractllm.errors import ContextWindowExceededError, SpentQuotaError, UnsupportedFeatureError
from abstractllm.integrations.langchain import ChatAbstractLLM, ChatMaritaca, ChatMLX
from abstractllm.integrations.langchain.backends import _known
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.types import Timeout, ToolCall, Usage

from .recorded import Recorded

KEY = "sk-very-secret-0123456789"


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return word


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def joined(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    first, *rest = chunks
    for chunk in rest:
        first = first + chunk
    return first


# The faces.


async def test_all_faces_give_the_same_answer() -> None:
    model = ChatAbstractLLM("echo")
    said = "Hello there, dear world!"
    whole = [model.invoke(said), await model.ainvoke(said), *model.batch([said]), *(await model.abatch([said]))]
    streams = [joined(list(model.stream(said))), joined([chunk async for chunk in model.astream(said)])]
    generated = [model.generate([[HumanMessage(said)]]), await model.agenerate([[HumanMessage(said)]])]
    assert {message.content for message in (*whole, *streams)} == {said}
    assert [result.generations[0][0].text for result in generated] == [said] * 2
    expected = whole[0].usage_metadata
    assert expected is not None
    assert expected["input_tokens"] == 4
    assert all(message.usage_metadata == expected for message in (*whole, *streams))
    for message in (*whole, *streams):
        assert message.response_metadata["model_name"] == "echo"
        assert message.response_metadata["finish_reason"] == "stop"


async def test_a_stream_has_one_chunk_per_delta_and_says_which_is_last() -> None:
    chunks = list(ChatAbstractLLM("echo").stream("one two three"))
    assert [chunk.content for chunk in chunks] == ["one ", "two ", "three", ""]
    assert [chunk.chunk_position for chunk in chunks] == [None, None, None, "last"]
    assert [chunk.usage_metadata is not None for chunk in chunks] == [False, False, False, True]


async def test_events_are_streamed() -> None:
    events = [event async for event in ChatAbstractLLM("echo").astream_events("one two", version="v2")]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "on_chat_model_start"
    assert kinds[-1] == "on_chat_model_end"
    assert "".join(event["data"]["chunk"].content for event in events if "stream" in event["event"]) == "one two"


def test_streaming_answers_come_through_the_stream() -> None:
    class Tokens(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def on_llm_new_token(self, token: str, **_: Any) -> None:
            self.seen.append(token)

    handler = Tokens()
    ChatAbstractLLM("echo", streaming=True).invoke("one two", {"callbacks": [handler]})
    assert handler.seen == ["one ", "two", ""]
    handler.seen.clear()
    ChatAbstractLLM("echo").invoke("one two", {"callbacks": [handler]})
    assert handler.seen == []


# Parameters.


def test_parameters_reach_the_provider_and_calls_beat_the_model() -> None:
    llm = Recorded()
    model = ChatAbstractLLM(llm, temperature=0.5, max_tokens=7, stop=["x"], timeout=9, seed=3, top_p=0.5)
    model.invoke("Hi")
    model.invoke("Hi", stop=["y"], temperature=0.1, timeout=Timeout(idle=2))
    model.bind(max_tokens=3).invoke("Hi")
    first, second, third = llm.requests
    assert (first.temperature, first.max_tokens, first.stop, first.seed, first.top_p) == (0.5, 7, ("x",), 3, 0.5)
    assert first.timeout == Timeout(total=9)
    assert (second.stop, second.temperature, second.timeout) == (("y",), 0.1, Timeout(idle=2))
    assert (third.max_tokens, third.stop) == (3, ("x",))


def test_options_go_where_the_provider_declares_them() -> None:
    llm = Recorded()
    ChatAbstractLLM(llm, options={"strict_tools": True}).invoke("Hi", parallel_tool_calls=False)
    assert llm.requests[0].options == {"strict_tools": True, "parallel_tool_calls": False}
    with pytest.raises(InvalidParameterError, match="temperature"):
        ChatAbstractLLM(llm).invoke("Hi", temprature=1)


def test_parallel_calls_are_the_provider_s_option_or_refused_by_its_name() -> None:
    llm = Recorded()
    for value in (False, True, None):
        ChatAbstractLLM(llm).bind_tools([add], parallel_tool_calls=value).invoke("Hi")
    assert [request.options.get("parallel_tool_calls") for request in llm.requests] == [False, True, None]
    model = ChatAbstractLLM("echo")
    assert model.bind_tools([add], parallel_tool_calls=None).invoke("Hi").content == "Hi"
    with pytest.raises(UnsupportedFeatureError, match="echo.*leave it out"):
        model.bind_tools([add], parallel_tool_calls=False).invoke("Hi")
    with pytest.raises(UnsupportedFeatureError, match="maritaca.*parallel_tool_calls"):
        list(ChatMaritaca(api_key=KEY).stream("Hi", parallel_tool_calls=False))


async def test_a_call_that_broke_off_is_never_a_valid_one_once_its_chunks_are_joined() -> None:
    whole = '{"a":{"b":["x\\"y",25],"c":"de"},"f":[1,[2,{"g":3}]]}'
    for end in range(1, len(whole)):
        call = ToolCall("1", "add", {}, invalid=whole[:end])
        llm = Recorded(*[Reply(tool_calls=[call], finish_reason="length")] * 3)
        chunk = joined(list(ChatAbstractLLM(llm).stream("Hi")))
        streamed = await ChatAbstractLLM(llm, streaming=True).ainvoke("Hi")
        for message in (chunk, streamed, ChatAbstractLLM(llm).invoke("Hi")):
            assert message.tool_calls == []
            assert [str(one["args"]).startswith(whole[:end]) for one in message.invalid_tool_calls] == [True]


def test_tokens_without_a_vocabulary_from_elsewhere() -> None:
    model = ChatAbstractLLM("echo")
    with pytest.raises(UnsupportedFeatureError, match="echo.*get_num_tokens"):
        model.get_token_ids("Hello")
    assert model.get_num_tokens_from_messages([]) == 0
    talk = [HumanMessage("one two three"), AIMessage("four")]
    assert trim_messages(talk, max_tokens=3, token_counter=model, strategy="first") == talk[:1]
    own = ChatAbstractLLM("echo", custom_get_token_ids=lambda text: [7] * len(text))
    assert (own.get_token_ids("ab"), own.get_num_tokens("abc")) == ([7, 7], 3)


def test_an_unknown_name_is_refused_with_a_hint() -> None:
    with pytest.raises(InvalidParameterError, match="max_tokens"):
        ChatAbstractLLM("echo", max_token=3)
    with pytest.raises(InvalidParameterError, match="llm"):
        ChatAbstractLLM()
    with pytest.raises(InvalidParameterError, match="api_key"):
        ChatAbstractLLM("maritaca", settings={"api_key": KEY})
    with pytest.raises(InvalidParameterError, match="model"):
        ChatAbstractLLM(EchoProvider(), model="other")


def test_several_answers() -> None:
    model = ChatMLX(max_tokens=2, n=2, temperature=0.9, seed=1)
    result = model.generate([[HumanMessage("Hello")]])
    assert len(result.generations[0]) == 2
    with pytest.raises(InvalidParameterError, match="n=1"):
        list(model.stream("Hello"))


def test_another_model_for_one_call() -> None:
    model = ChatAbstractLLM("echo:first")
    assert model.invoke("Hi").response_metadata["model_name"] == "first"
    assert model.invoke("Hi", model="second").response_metadata["model_name"] == "second"
    assert model.invoke("Hi").response_metadata["model_name"] == "first"
    with pytest.raises(InvalidParameterError, match="already made"):
        ChatAbstractLLM(EchoProvider()).invoke("Hi", model="second")


def test_backends_to_fall_back_on() -> None:
    broken = EchoProvider(replies=[Reply(error=QuotaExceededError("slow down"))])
    answer = ChatAbstractLLM([broken, "echo"]).invoke("Hello")
    assert answer.content == "Hello"
    assert answer.additional_kwargs["provider_data"]["fallback"]["member"] == 1


# Tools.


def test_binding_changes_nothing_but_the_copy() -> None:
    llm = Recorded()
    model = ChatAbstractLLM(llm)
    one, other = model.bind_tools([look_up]), model.bind_tools([add], tool_choice="any")
    for runnable in (one, other, model):
        runnable.invoke("Hi")
    assert [[tool.name for tool in request.tools] for request in llm.requests] == [["look_up"], ["add"], []]
    assert [request.tool_choice for request in llm.requests] == [None, "required", None]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        (False, None),
        (True, "required"),
        ("any", "required"),
        ("required", "required"),
        ("auto", "auto"),
        ("none", "none"),
        ("add", "add"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"type": "tool", "name": "look_up"}, "look_up"),
        ({"type": "any"}, "required"),
        ({"type": "auto"}, "auto"),
    ],
)
def test_tool_choice_in_all_forms(choice: Any, expected: str | None) -> None:
    llm = Recorded()
    ChatAbstractLLM(llm).bind_tools([look_up, add], tool_choice=choice).invoke("Hi")
    assert llm.requests[0].tool_choice == expected
    ChatAbstractLLM(llm).invoke("Hi", tools=[look_up, add], tool_choice=choice)
    assert llm.requests[1].tool_choice == expected


@pytest.mark.parametrize("choice", ["subtract", {"type": "tool", "name": "subtract"}, 3, {}])
def test_a_choice_that_is_none_is_refused(choice: Any) -> None:
    with pytest.raises(InvalidParameterError, match="tool_choice"):
        ChatAbstractLLM("echo").bind_tools([add], tool_choice=choice)


def test_tools_that_no_model_can_call_are_refused() -> None:
    named = {"name": "not a name", "description": "", "parameters": {"type": "object", "properties": {}}}
    with pytest.raises(InvalidParameterError, match="not a name"):
        ChatAbstractLLM("echo").bind_tools([named])
    twice = ChatAbstractLLM("echo").bind_tools([look_up, look_up])
    with pytest.raises(InvalidParameterError, match="look_up"):
        twice.invoke("Hi")


def test_strict_tools_where_a_provider_has_them() -> None:
    llm = Recorded()
    ChatAbstractLLM(llm).bind_tools([add], strict=True).invoke("Hi")
    assert llm.requests[0].options == {"strict_tools": True}
    assert llm.requests[0].tools[0].parameters["additionalProperties"] is False


def test_calls_come_whole_and_in_pieces() -> None:
    calls = (ToolCall("a", "add", {"a": 1, "b": 2}), ToolCall("b", "look_up", {"word": "ç"}))
    broken = ToolCall("c", "add", {}, invalid='{"a":')
    replies = [Reply("So: ", tool_calls=(*calls, broken))] * 2
    model = ChatAbstractLLM("echo", settings={"replies": replies})
    whole, chunks = model.invoke("Hi"), list(model.stream("Hi"))
    assert isinstance(whole, AIMessage)
    assert whole.tool_calls == [
        {"name": "add", "args": {"a": 1, "b": 2}, "id": "a", "type": "tool_call"},
        {"name": "look_up", "args": {"word": "ç"}, "id": "b", "type": "tool_call"},
    ]
    assert whole.invalid_tool_calls[0]["args"] == '{"a":'
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
    assert [(piece["index"], piece["name"], piece["id"]) for piece in pieces] == [
        (0, "add", "a"),
        (1, "look_up", "b"),
        (2, "add", "c"),
        (2, None, None),  # what keeps LangChain from completing it
    ]
    assert joined(chunks).tool_calls[:2] == whole.tool_calls
    assert whole.response_metadata["finish_reason"] == "tool_calls"


# What comes back.


def test_reasoning_goes_to_and_fro() -> None:
    llm = Recorded(Reply("Yes.", reasoning="Hmm."), Reply("Yes.", reasoning="Hmm."), "Bye.")
    model = ChatAbstractLLM(llm)
    whole, streamed = model.invoke("Hi"), joined(list(model.stream("Hi")))
    for message in (whole, streamed):
        assert message.additional_kwargs["reasoning_content"] == "Hmm."
        assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]
    model.invoke([HumanMessage("Hi"), whole, HumanMessage("And?")])
    assert llm.requests[-1].messages[1].reasoning == "Hmm."


def test_usage_has_its_details() -> None:
    from abstractllm.integrations.langchain.writing import to_usage

    assert to_usage(Usage(10, 5, cached_tokens=4, reasoning_tokens=3)) == {
        "input_tokens": 10,
        "output_tokens": 5,
        "total_tokens": 15,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 3},
    }


def test_logprobs_are_joined() -> None:
    model = ChatMLX(max_tokens=3, logprobs=True, top_logprobs=1, temperature=0)
    whole, streamed = model.invoke("Hello"), joined(list(model.stream("Hello")))
    content = whole.response_metadata["logprobs"]["content"]
    assert len(content) >= 2
    assert [one["token"] for one in streamed.response_metadata["logprobs"]["content"]] == [
        one["token"] for one in content
    ]
    assert content[0]["top_logprobs"][0]["token"] == content[0]["token"]


# Errors.


def test_errors_are_ours_and_langchains() -> None:
    error = QuotaExceededError("slow down", status_code=429, retry_after=2.0)
    model = ChatAbstractLLM("echo", settings={"replies": lambda _: Reply(error=error)})
    for act in (lambda: model.invoke("Hi"), lambda: list(model.stream("Hi"))):
        with pytest.raises(QuotaExceededError) as caught:
            act()
        assert isinstance(caught.value, ModelRateLimitError)
        assert caught.value.retry_after == 2.0
        assert caught.value.is_retryable
        assert caught.value.__cause__ is error
        assert type(pickle.loads(pickle.dumps(caught.value))) is QuotaExceededError


async def test_errors_of_async_calls_are_too() -> None:
    error = ContextWindowExceededError("too long", context_window=5, prompt_tokens=9)
    model = ChatAbstractLLM("echo", settings={"replies": lambda _: Reply(error=error)})
    with pytest.raises(ContextOverflowError, match="too long"):
        await model.ainvoke("Hi")
    with pytest.raises(ContextWindowExceededError):
        async for _ in model.astream("Hi"):
            pass


def test_what_waiting_does_not_cure_says_so() -> None:
    model = ChatAbstractLLM("echo", settings={"replies": lambda _: Reply(error=SpentQuotaError("nothing left"))})
    with pytest.raises(ModelError) as caught:
        model.invoke("Hi")
    assert not caught.value.is_retryable


def test_with_retry_and_with_fallbacks_act_on_them() -> None:
    slow = QuotaExceededError("slow down")
    model = ChatAbstractLLM("echo", settings={"replies": [Reply(error=slow), "second"]})
    retried = model.with_retry(retry_if_exception_type=(QuotaExceededError,), wait_exponential_jitter=False)
    assert retried.invoke("Hi").content == "second"
    refused = ChatAbstractLLM("echo", settings={"replies": lambda _: Reply(error=AuthenticationError("no key"))})
    spare = refused.with_fallbacks([ChatAbstractLLM("echo")], exceptions_to_handle=(AuthenticationError,))
    assert spare.invoke("Hello").content == "Hello"


def test_a_refusal_comes_before_any_work() -> None:
    with pytest.raises(UnsupportedFeatureError, match="top_k"):
        ChatAbstractLLM("echo", top_k=3).invoke("Hi")


# LangChain's own machinery.


def test_the_global_cache_is_honoured_and_knows_what_differs() -> None:
    llm = Recorded()
    set_llm_cache(InMemoryCache())
    try:
        model = ChatAbstractLLM(llm, temperature=0)
        model.invoke("Hi")
        model.invoke("Hi")
        assert len(llm.requests) == 1
        model.invoke("Hi", temperature=1)
        ChatAbstractLLM(llm, temperature=0.5).invoke("Hi")
        model.bind_tools([add]).invoke("Hi")
        assert len(llm.requests) == 4
        other = Recorded(model="other")
        ChatAbstractLLM(other, temperature=0).invoke("Hi")
        assert len(other.requests) == 1
    finally:
        set_llm_cache(None)


def test_the_rate_limiter_is_asked_for_every_call() -> None:
    class Counting(BaseRateLimiter):
        asked = 0

        def acquire(self, *, blocking: bool = True) -> bool:
            self.asked += 1
            return True

        async def aacquire(self, *, blocking: bool = True) -> bool:
            return self.acquire(blocking=blocking)

    limiter = Counting()
    model = ChatAbstractLLM("echo", rate_limiter=limiter)
    model.invoke("Hi")
    list(model.stream("Hi"))
    assert limiter.asked == 2


def test_callbacks_see_the_call_without_secrets() -> None:
    class Watching(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
            self.seen.append((serialized, messages, kwargs))

        def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
            self.seen.append(error)

    watching = Watching()
    model = ChatMaritaca(model="sabia-4", api_key=KEY, base_url="http://127.0.0.1:9", max_retries=0, temperature=0.3)
    with pytest.raises(ModelError):
        model.invoke("Hi", {"callbacks": [watching]})
    start, error = watching.seen
    assert KEY not in repr(start)
    assert isinstance(error, ModelError)
    params = start[2]["invocation_params"]
    assert (params["model"], params["temperature"], params["_type"]) == ("sabia-4", 0.3, "abstractllm-maritaca")
    assert start[2]["metadata"]["ls_provider"] == "maritaca"
    assert start[2]["metadata"]["ls_model_name"] == "sabia-4"


def test_nothing_that_is_written_has_a_secret() -> None:
    model = ChatMaritaca(model="sabia-4", api_key=KEY, temperature=0.3)
    for written in (
        repr(model),
        dumps(model),
        str(model.asdict()),
        model.model_dump_json(),
        str(model._get_llm_string()),
    ):
        assert KEY not in written
        assert "sabia-4" in written
    assert model.api_key is not None
    assert model.api_key.get_secret_value() == KEY


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARITACA_API_KEY", "theirs")
    assert str(ChatMaritaca().api_key.get_secret_value()) == "theirs"  # type: ignore[union-attr]
    monkeypatch.setenv("ABSTRACTLLM_MARITACA_API_KEY", "ours")
    assert str(ChatMaritaca().api_key.get_secret_value()) == "ours"  # type: ignore[union-attr]
    assert str(ChatMaritaca(api_key="mine").api_key.get_secret_value()) == "mine"  # type: ignore[union-attr]


def test_a_model_can_be_made_again_from_what_is_written() -> None:
    model = ChatMLX(temperature=0.3, max_tokens=5, stop=["x"], settings={"max_queue": 3})
    told = model.asdict()
    assert told.pop("_type") == "abstractllm-mlx"
    assert ChatMLX(**told).asdict() == model.asdict()


def test_langsmith_is_told_what_a_call_uses() -> None:
    model = ChatAbstractLLM("echo:parrot", temperature=0.2, max_tokens=9, stop="x")
    assert model._get_ls_params() == {
        "ls_provider": "echo",
        "ls_model_type": "chat",
        "ls_model_name": "parrot",
        "ls_temperature": 0.2,
        "ls_max_tokens": 9,
        "ls_stop": ["x"],
    }
    changed = model._get_ls_params(stop=["y"], model="cat", temperature=1, max_tokens=2)
    assert (changed["ls_model_name"], changed["ls_temperature"], changed["ls_max_tokens"]) == ("cat", 1, 2)
    assert changed["ls_stop"] == ["y"]


def test_the_profile_says_what_is_known() -> None:
    profile = ChatMLX().profile
    assert profile is not None
    assert profile["structured_output"] is True
    assert profile["tool_calling"] is True
    assert profile["image_inputs"] is False
    assert profile["max_input_tokens"] == 4096
    assert ChatMLX(model="nobody/is-here-xyz").profile is not None
    assert ChatMLX(profile={"max_input_tokens": 5}).profile == {"max_input_tokens": 5}
    assert "max_input_tokens" not in (ChatMaritaca().profile or {})


def test_tokens_are_the_providers() -> None:
    model = ChatMLX()
    short = model.get_num_tokens_from_messages([HumanMessage("Hello")])
    assert model.get_num_tokens_from_messages([HumanMessage("Hello")], tools=[add]) > short > 3
    assert model.get_num_tokens("Hello") == short
    with pytest.raises(UnsupportedFeatureError):
        ChatMaritaca(api_key=KEY, token_counter="provider").get_num_tokens_from_messages([HumanMessage("Hello")])


# The providers behind.


def test_one_provider_per_configuration() -> None:
    one, same, other = ChatMLX(), ChatMLX(temperature=1), ChatMLX(settings={"max_queue": 9})
    provider = one._backend(None).provider()
    assert same._backend(None).provider() is provider
    assert other._backend(None).provider() is not provider
    assert copy.copy(one)._backend(None).provider() is provider
    assert copy.deepcopy(one)._backend(None).provider() is provider
    assert one.model_copy(update={"temperature": 0.5})._backend(None).provider() is provider


def test_nothing_grows_with_calls() -> None:
    one = ChatAbstractLLM("".join(["ec", "ho:many"]))
    other = ChatAbstractLLM("".join(["echo:", "many"]))  # equal, and another object
    for model in (one, other) * 3:
        model.invoke("Hi")
        model.invoke("Hi", model="".join(["an", "other"]))
    assert [len(model._holder._held) for model in (one, other)] == [2, 2]
    assert one._backend("another").provider() is other._backend("another").provider()


def test_scripts_are_not_shared() -> None:
    settings = {"replies": ["one", "two"]}
    first, second = ChatAbstractLLM("echo", settings=settings), ChatAbstractLLM("echo", settings=settings)
    assert (first.invoke("Hi").content, second.invoke("Hi").content) == ("one", "one")


async def test_the_last_who_has_a_provider_closes_it() -> None:
    one, other = ChatAbstractLLM("echo:shared"), ChatAbstractLLM("echo:shared")
    provider = one._backend(None).provider()
    one.invoke("Hi")
    other.invoke("Hi")
    one.close()
    with pytest.raises(UnsupportedOperationError, match="closed"):
        one.invoke("Hi")
    assert other.invoke("Hi").content == "Hi"
    await other.aclose()
    with pytest.raises(UnsupportedOperationError, match="closed"):
        provider.generate("Hi")
    async with ChatAbstractLLM("echo:shared") as third:
        assert (await third.ainvoke("Hi")).content == "Hi"


def test_a_provider_of_the_callers_stays_open() -> None:
    llm = EchoProvider()
    with ChatAbstractLLM(llm) as model:
        model.invoke("Hi")
    assert llm.generate("Hi").content == "Hi"


def test_what_nobody_has_is_given_back() -> None:
    model = ChatAbstractLLM("echo:forgotten")
    model.invoke("Hi")
    provider = weakref.ref(model._backend(None).provider())
    del model
    gc.collect()
    assert provider() is None
    assert not [one for one in _known if one.spec == "echo:forgotten"]


def test_a_pickled_model_answers() -> None:
    model = pickle.loads(pickle.dumps(ChatAbstractLLM("echo", temperature=0.5)))
    assert model.invoke("Hi").content == "Hi"
    assert model.temperature == 0.5
