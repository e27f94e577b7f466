"""Replies and answers: texts that can be awaited and read in any order, and driven by tasks."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle

import pytest

from abstractllm import ProviderConnectionError
from abstractllm.agent import Agent, Answer
from abstractllm.providers.echo import EchoProvider, Reply as Scripted
from abstractllm.tools import BaseTool

from .scripting import call, calls, scripted


async def test_the_reply_is_awaited_for_the_text() -> None:
    assert await scripted("Hello there.")[0].chat("hi") == "Hello there."


async def test_the_awaited_reply_is_read_token_by_token() -> None:
    response = await scripted("Hello there.")[0].chat("hi")
    assert "".join([token async for token in response]) == "Hello there."
    assert await response == await response == response


async def test_replies_are_gathered() -> None:
    first, second = scripted("one")[0], scripted("two")[0]
    assert await asyncio.gather(first.chat("1"), second.chat("2")) == ["one", "two"]


async def test_a_tool_as_a_class_is_awaited() -> None:
    class Fetch(BaseTool):
        name = "fetch"
        description = "Fetch a page."
        parameters = {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}

        async def execute(self, url: str) -> str:
            await asyncio.sleep(0)
            return f"<{url}>"

    agent, script = scripted(calls(call("fetch", url="x")), "It says x.", tools=[Fetch()])
    response = await agent.chat("What does it say?")
    assert await response == "It says x."
    assert script.requests[1].messages[-1].text == "<x>"


async def test_a_reply_is_awaited_and_iterated_in_any_order() -> None:
    agent, script = scripted("one two")
    reply = agent.chat("hi")
    assert "".join([token async for token in reply]) == await reply == "one two"
    assert "".join([token async for token in reply]) == await reply
    assert (await reply).result is (await reply).result
    assert len(script.requests) == 1


async def test_a_reply_becomes_tasks() -> None:
    agent, script = scripted("one two")
    reply = agent.chat("hi")
    tasks = [asyncio.create_task(reply) for _ in range(3)]
    assert [await task for task in tasks] == ["one two"] * 3
    assert await asyncio.wait_for(reply, 30) == "one two"
    async with asyncio.TaskGroup() as group:
        last = group.create_task(reply)
    assert last.result() == await reply
    assert len(script.requests) == 1


def test_a_reply_is_run_as_a_program() -> None:
    assert asyncio.run(scripted("yes")[0].chat("hi")) == "yes"


async def test_a_task_of_a_reply_can_be_cancelled_and_others_go_on() -> None:
    reply = Agent(EchoProvider(replies=[Scripted("one two", delay=0.001)])).chat("hi")
    leaving, staying = asyncio.create_task(reply), asyncio.create_task(reply)
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == "one two"
    assert leaving.cancelled()


async def test_an_error_is_raised_each_time() -> None:
    reply = scripted(Scripted("x", error=ProviderConnectionError("gone")))[0].chat("hi")
    for _ in range(2):
        with pytest.raises(ProviderConnectionError):
            await reply
        with pytest.raises(ProviderConnectionError):
            [token async for token in reply]


async def test_a_reply_that_was_cancelled_says_so() -> None:
    reply = scripted("never said")[0].chat("hi")
    reply.cancel()
    answer = await reply
    assert (answer, answer.result.stop) == ("", "cancelled")


async def test_a_reply_that_nobody_awaits_warns() -> None:
    replies = [scripted("never said")[0].chat("hi")]
    with pytest.warns(RuntimeWarning, match="never awaited"):
        replies.clear()


async def test_a_reply_that_is_given_up_does_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    for give_up in ("close", "cancel"):
        getattr(scripted("never said")[0].chat("hi"), give_up)()
    gc.collect()
    assert not recwarn.list


async def test_a_reply_whose_run_is_read_does_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    assert (await scripted("hello")[0].chat("hi").run).text == "hello"
    run = scripted("hello")[0].chat("hi").run
    gc.collect()
    assert not recwarn.list
    assert (await run).text == "hello"


async def test_an_answer_is_a_string_that_can_be_copied() -> None:
    answer = await scripted("one two")[0].chat("hi")
    for same in (copy.copy(answer), copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert type(same) is Answer
        assert (same, same.result) == (answer, answer.result)
        assert [piece async for piece in same] == [piece async for piece in answer]
