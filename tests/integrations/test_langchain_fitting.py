"""Prompts that get too long: counted, warned of, and cut where they may be."""

from __future__ import annotations

import json
import warnings

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError
from abstractllm.integrations.langchain import ChatAbstractLLM, ChatMaritaca, ContextUsageWarning
from abstractllm.integrations.langchain.counting import estimated
from abstractllm.testing.loopback import LoopbackServer

from ..providers.maritaca_service import KEY, OK, STREAM, TOOL, reply

TALK = [
    SystemMessage("one two"),
    HumanMessage("three four"),
    AIMessage("", tool_calls=[{"name": "x", "args": {}, "id": "c1", "type": "tool_call"}]),
    ToolMessage("five six", tool_call_id="c1"),
    AIMessage("seven"),
    HumanMessage("eight"),
    AIMessage("nine"),
    HumanMessage("ten"),
]
"""Of nine or ten words, in which echo counts."""


def heard(**fields):
    """Return a chat model on echo, and the texts of the messages that it hears."""
    told = []

    def reply(request):
        told.append([message.text for message in request.messages])
        return "Yes."

    return ChatAbstractLLM("echo", settings={"replies": reply}, **fields), told


async def ask_all(model, messages):
    model.invoke(messages)
    await model.ainvoke(messages)
    list(model.stream(messages))
    [_ async for _ in model.astream(messages)]


async def test_whole_turns_go_in_every_face():
    model, told = heard(max_context_tokens=5, auto_truncate=True)
    with pytest.warns(ContextUsageWarning, match="4 messages were left out"):
        await ask_all(model, TALK)
    assert told == [["one two", "eight", "nine", "ten"]] * 4


async def test_nothing_goes_where_all_fits_or_nothing_was_said():
    for fields in ({"max_context_tokens": 20, "auto_truncate": True}, {}):
        model, told = heard(**fields)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            await ask_all(model, TALK)
        assert [len(texts) for texts in told] == [8] * 4


async def test_a_limit_alone_warns_and_cuts_nothing():
    model, told = heard(max_context_tokens=5)
    with pytest.warns(ContextUsageWarning, match=r"10 tokens of 5"):
        await ask_all(model, TALK)
    assert [len(texts) for texts in told] == [8] * 4


@pytest.mark.parametrize(("threshold", "warned"), [(0.9, 1), (1.0, 0)])
def test_the_warning_comes_at_its_threshold(threshold, warned):
    model, _ = heard(max_context_tokens=10, context_warning_threshold=threshold)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.invoke(TALK)
    assert len([one for one in found if one.category is ContextUsageWarning]) == warned


def test_what_must_stay_stays_and_is_told():
    model, told = heard(max_context_tokens=2, auto_truncate=True)
    with pytest.warns(ContextUsageWarning, match="still too long"):
        model.invoke(TALK)
    assert told == [["one two", "ten"]]


def test_usage_is_told():
    model, _ = heard(max_context_tokens=8)
    with pytest.warns(ContextUsageWarning):
        found = model.check_context_usage(TALK)
    assert found == {
        "tokens": 10,
        "limit": 8,
        "usage_percent": 125.0,
        "exceeds_limit": True,
        "exceeds_threshold": True,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unknown = ChatAbstractLLM("echo").check_context_usage(TALK)
        model.check_context_usage(TALK, warn=False)
    assert (unknown["limit"], unknown["usage_percent"], unknown["exceeds_limit"]) == (None, None, False)


def test_truncated_messages_are_the_same_objects_and_no_result_is_alone():
    model, _ = heard()
    assert model.truncate_messages(TALK, 20) == TALK
    kept = model.truncate_messages(TALK, 5)
    assert [id(one) for one in kept] == [id(one) for one in (TALK[0], *TALK[5:])]
    with pytest.raises(InvalidParameterError, match="max_context_tokens"):
        model.truncate_messages(TALK)
    orphan = model.truncate_messages([HumanMessage("a"), ToolMessage("b", tool_call_id="c9"), HumanMessage("c")], 9)
    assert [one.content for one in orphan] == ["a", "c"]


def test_a_limit_that_is_not_known_must_be_given():
    model, _ = heard(auto_truncate=True)
    with pytest.raises(InvalidParameterError, match="max_context_tokens"):
        model.invoke("a")


def test_caches_tell_cut_prompts_apart():
    plain, cut = ChatAbstractLLM("echo"), ChatAbstractLLM("echo", auto_truncate=True, max_context_tokens=5)
    longer = ChatAbstractLLM("echo", auto_truncate=True, max_context_tokens=6)
    assert len({model._get_llm_string() for model in (plain, cut, longer)}) == 3


# Counting.


def test_the_counter_is_who_was_asked_for():
    assert ChatAbstractLLM("echo").get_num_tokens("a b") == 2
    assert ChatAbstractLLM("echo", token_counter="estimate").get_num_tokens("a b") == estimated([HumanMessage("a b")])
    seen = []

    def counter(messages, tools):
        seen.append((messages, tools))
        return 77

    own = ChatAbstractLLM("echo", token_counter=counter, max_context_tokens=100)
    assert own.get_num_tokens_from_messages([HumanMessage("a")], [TOOL]) == 77
    own.invoke("hello")
    assert [messages[0].content for messages, _ in seen] == ["a", "hello"]
    assert seen[0][1][0]["function"]["name"] == "look_up"


def test_tools_are_counted():
    model = ChatMaritaca(api_key=KEY)
    talk = [HumanMessage("Olá, como vai você?")]
    assert model.get_num_tokens_from_messages(talk, tools=[TOOL]) > model.get_num_tokens_from_messages(talk) + 20
    with pytest.raises(UnsupportedFeatureError, match="count"):
        ChatMaritaca(api_key=KEY, token_counter="provider").get_num_tokens("a")


# With the service.


async def test_a_prompt_for_maritaca_is_cut_to_the_limit_that_the_service_tells():
    """It is asked for that once; with a limit of one's own, never."""
    listed = {"object": "list", "data": [{"id": "sabia-4", "object": "model", "context_length": 60}]}
    talk = [SystemMessage("Responda."), *[HumanMessage("palavra " * 20 + str(number)) for number in range(6)]]
    with LoopbackServer([reply(listed), OK, OK, STREAM, STREAM]) as server:
        async with ChatMaritaca(model="sabia-4", api_key=KEY, base_url=server.url, auto_truncate=True) as model:
            with pytest.warns(ContextUsageWarning):
                await ask_all(model, talk)
            assert model.get_context_limit() == 60
    paths = [request.path for request in server.requests]
    assert [path.endswith("/models") for path in paths] == [True, False, False, False, False]
    for request in server.requests[1:]:
        kept = json.loads(request.body)["messages"]
        assert [message["role"] for message in kept] == ["system", "user"]
        assert kept[-1]["content"].endswith("5")
