"""Ways in which agents go wrong, one test each: none of them can happen here.

The first twenty are faults of a published agent library, in the order of a list of them; those after are what users of
several such libraries complain about most. What other files of this folder show at length has a short case here.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any

import pytest

import abstractllm.agent
from abstractllm import GenerateRequest, Message, ProviderConnectionError, ToolCall, Usage
from abstractllm.agent import Agent, Answer, Limits, Result, TextDelta, ToolFinished
from abstractllm.history import paired
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.tools import tool
from abstractllm.types import GenerateResponse

from .scripting import call, calls, check_paired, contents, other_tasks, scripted, settled


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_trap_1_what_a_reply_is_depends_on_no_setting() -> None:
    for settings in ({}, {"tools": [add]}, {"temperature": 0.5}):
        reply = scripted("Hello there.", **settings)[0].chat("hi")
        whole = await reply
        assert type(whole) is Answer
        assert str(await whole) == "Hello there." == "".join([piece async for piece in reply])


async def test_trap_2_a_second_reading_gives_the_same_as_the_first() -> None:
    reply = scripted("one two three")[0].chat("hi")
    first = [piece async for piece in reply]
    assert first == ["one ", "two ", "three"] == [piece async for piece in reply]
    assert await reply == await reply == "one two three"


async def test_trap_3_an_answer_that_broke_off_is_never_taken_for_a_whole_one() -> None:
    agent, _ = scripted(Reply("one two three", error=ProviderConnectionError("gone"), error_after=2))
    reply = agent.chat("hi")
    pieces: list[str] = []

    async def read() -> None:
        async for piece in reply:
            pieces.append(piece)

    with pytest.raises(ProviderConnectionError):
        await read()
    assert pieces == ["one ", "two "]
    for _ in range(3):
        with pytest.raises(ProviderConnectionError, match="gone"):
            await reply


async def test_trap_4_many_tasks_may_await_one_reply() -> None:
    agent, script = scripted("one two")
    reply = agent.chat("hi")

    async def read() -> str:
        return "".join([piece async for piece in reply])

    async def wait() -> str:
        return await reply

    assert await asyncio.gather(read(), wait(), read(), wait(), reply) == ["one two"] * 5
    assert len(script.requests) == 1


async def test_trap_5_gathered_replies_run_at_the_same_time_and_give_texts() -> None:
    together = threading.Barrier(3, timeout=30)

    def answer(request: GenerateRequest) -> str:
        together.wait()
        return request.messages[-1].text

    agent = Agent(EchoProvider(replies=answer))
    answers = await asyncio.gather(*(agent.chat(f"question {number}") for number in range(3)))
    assert [f"{one}" for one in answers] == ["question 0", "question 1", "question 2"]


async def test_trap_6_leaving_a_stream_early_closes_it_and_keeps_what_was_said() -> None:
    run = scripted(Reply("one " * 1000, delay=0.001))[0].stream("hi")
    async for event in run:
        if isinstance(event, TextDelta):
            break
    await settled()  # one who awaits the run at once takes it over instead
    result = await run
    assert result.stop == "cancelled"
    assert [one.role for one in result.messages] == ["user", "assistant"]
    assert result.messages[1].text.startswith("one ")
    await settled()
    assert not other_tasks()


async def test_trap_7_what_a_retry_calls_again_is_awaited() -> None:
    tries: list[int] = []

    @tool(retries=3)
    async def flaky() -> str:
        tries.append(1)
        await asyncio.sleep(0)
        if len(tries) < 3:
            raise ConnectionError("not now")
        return "here"

    agent, _ = scripted(calls(call("flaky")), "done", tools=[flaky])
    assert contents(await agent.arun("go")) == ["here"]
    assert len(tries) == 3


async def test_trap_8_a_run_leaves_the_model_loaded() -> None:
    llm = EchoProvider()
    unloaded: list[str] = []
    llm.unload = lambda: unloaded.append("unload")  # type: ignore[method-assign]
    llm.close = lambda: unloaded.append("close")  # type: ignore[method-assign]
    async with Agent(llm) as agent:
        await agent.arun("one")
        await agent.arun("two")
    assert not unloaded


async def test_trap_9_all_calls_of_a_stream_are_made_and_its_text_and_usage_stay() -> None:
    made = calls(call("add", "x", a=1, b=2), call("add", "y", a=3, b=4), text="Let me add. ")
    agent, script = scripted(made, "done", tools=[add])
    run = agent.stream("go")
    finished = [one.outcome.value async for one in run if isinstance(one, ToolFinished)]
    result = await run
    assert sorted(finished) == [3, 7]
    assert contents(result) == ["3", "7"]
    turn = script.requests[1].messages[1]
    assert (turn.text, [one.id for one in turn.tool_calls]) == ("Let me add. ", ["x", "y"])
    assert result.usage.completion_tokens == 3 + 1


async def test_trap_10_a_call_with_broken_arguments_has_a_result_that_the_model_sees() -> None:
    broken = ToolCall("x", "add", {}, invalid='{"a": 1, ')
    agent, script = scripted(calls(broken), calls(call("add", "y", a=1, b=2)), "3", tools=[add])
    result = await agent.arun("go")
    seen = script.requests[1].messages
    assert paired(seen) == seen
    assert seen[-1].tool_call_id == "x"
    assert '{"a": 1, ' in seen[-1].text
    assert result.output == "3"


async def test_trap_11_usage_is_that_of_all_turns() -> None:
    agent, script = scripted(calls(call("add", a=1, b=2), text="a b c"), "d e", tools=[add])
    result = await agent.arun("one two")
    prompts = [sum(len(one.text.split()) for one in request.messages) for request in script.requests]
    assert result.usage == Usage(sum(prompts), 3 + 2)


async def test_trap_12_agents_of_one_model_share_nothing_that_is_said_of_them() -> None:
    llm = EchoProvider()
    heard: dict[str, list[str]] = {"a": [], "b": []}
    agents = [
        Agent(llm, name=name, observers=[lambda info, event: heard[info.agent].append(info.run_id)]) for name in heard
    ]
    results = await asyncio.gather(*(agent.arun("hi") for agent in agents))
    assert [set(heard[name]) for name in heard] == [{result.run_id} for result in results]
    assert [result.usage.prompt_tokens for result in results] == [1, 1]


@pytest.mark.parametrize("streams", [False, True])
async def test_trap_13_at_its_limit_a_run_says_so_and_has_an_answer(streams: bool) -> None:
    def answer(request: GenerateRequest) -> Reply | str:
        return calls(call("add", a=1, b=2)) if request.tools else "what I know"

    agent = Agent(EchoProvider(replies=answer), tools=[add], limits=Limits(turns=2))
    run = agent.stream("go")
    if streams:
        assert [piece async for piece in run.text()]
    result = await run
    assert (result.stop, result.output, result.turns) == ("limit", "what I know", 3)
    check_paired(result)


async def test_trap_14_arguments_may_have_any_name() -> None:
    def odd(
        tool_name: str, name: str, call: str, function: str, func: str, context: str, arguments: str, id: str
    ) -> str:
        return tool_name + name + call + function + func + context + arguments + id

    given = dict(zip(inspect.signature(odd).parameters, "abcdefgh", strict=True))
    agent, _ = scripted(calls(ToolCall("x", "odd", given)), "done", tools=[odd])
    assert contents(await agent.arun("go")) == ["abcdefgh"]


async def test_trap_15_calls_and_results_are_remembered_and_runs_at_once_do_not_mix() -> None:
    agent, _ = scripted(calls(call("add", a=1, b=2)), "three", tools=[add])
    result = await agent.arun("go")
    assert [one.role for one in result.messages] == ["user", "assistant", "tool", "assistant"]

    echo = Agent(EchoProvider())
    first, second = await asyncio.gather(echo.arun("a", messages=result.messages), echo.arun("b"))
    assert [one.text for one in first.messages[4:]] == ["a", "a"]
    assert [one.text for one in second.messages] == ["b", "b"]

    empty, _ = scripted("")
    assert (await empty.arun("go")).output == ""


async def test_trap_16_a_parameter_goes_to_the_model_as_its_own_checks_say() -> None:
    agent, script = scripted("yes", temperature=0.25)
    await agent.arun("go")
    assert script.requests[0].temperature == 0.25
    with pytest.raises(Exception, match="tempratur"):
        scripted("yes", tempratur=0.25)


async def test_trap_17_what_sync_tools_return_is_json_and_they_have_a_timeout() -> None:
    def table() -> dict[str, Any]:
        return {"rows": [1, None, True]}

    agent, _ = scripted(calls(call("table")), "done", tools=[table])
    assert contents(await agent.arun("go")) == ['{"rows":[1,null,true]}']

    hold = threading.Event()

    @tool(timeout=0.01)
    def slow() -> None:
        hold.wait(30)

    agent, _ = scripted(calls(call("slow")), "done", tools=[slow])
    result = await agent.arun("go")
    hold.set()
    assert (result.output, "given up" in contents(result)[0]) == ("done", True)


async def test_trap_18_what_a_run_is_told_is_written_to_no_log(caplog: pytest.LogCaptureFixture) -> None:
    def broken(key: str) -> None:
        raise ValueError(key)

    agent, _ = scripted(calls(call("broken", key="sk-secret-key")), "done", tools=[broken])
    with caplog.at_level(1):
        await agent.arun("passed by a passenger with sk-secret-key, 123456789")
    assert "sk-secret-key" not in caplog.text


async def test_trap_19_an_agent_has_the_tools_that_it_was_given_and_no_others() -> None:
    agent, script = scripted(calls(call("readlocalfile", path="/etc/passwd")), "done")
    result = await agent.arun("go")
    assert agent.tools == ()
    assert not script.requests[0].tools
    assert contents(result) == ["Error: There is no tool named 'readlocalfile'; the tools are: none."]


async def test_trap_20_every_field_that_the_docstring_of_a_result_names_is_there() -> None:
    result = await scripted("yes")[0].arun("go")
    documented = set((Result.__doc__ or "").split("`")[1::2]) - {"Limits"}
    assert documented >= {"output", "text", "messages", "new_messages", "usage", "turns", "stop", "pending"}
    assert all(hasattr(result, name) for name in documented)
    assert all(hasattr(abstractllm.agent, name) for name in ("Agent", "Run", "Reply", "Answer", "Limits", "Result"))


@pytest.mark.parametrize("text", ["", " ", "\n", "I will look that up."])
@pytest.mark.parametrize("streams", [False, True])
async def test_text_before_a_call_never_ends_the_run(text: str, streams: bool) -> None:
    agent, _ = scripted(calls(call("add", a=1, b=2), text=text), "three", tools=[add])
    run = agent.stream("go")
    pieces = [piece async for piece in run.text()] if streams else []
    result = await run
    assert (result.output, contents(result), result.stop) == ("three", ["3"], "end")
    assert result.text == (f"{text}\n\nthree" if text else "three")
    assert not streams or "".join(pieces) == result.text


async def test_one_failure_neither_loses_nor_orphans_the_calls_beside_it() -> None:
    go_on = asyncio.Event()

    async def broken() -> None:
        go_on.set()
        raise ValueError("no")

    async def slow() -> str:
        await go_on.wait()
        await settled()
        return "slow"

    agent, _ = scripted(calls(call("slow"), call("broken"), call("unknown")), "done", tools=[broken, slow])
    result = await agent.arun("go")
    assert [one.split(":")[0] for one in contents(result)] == ["slow", "Error", "Error"]
    assert not other_tasks()


async def test_a_sync_tool_does_not_hold_the_event_loop_up() -> None:
    loop, go_on = asyncio.get_running_loop(), threading.Event()

    def blocks() -> str:
        loop.call_soon_threadsafe(go_on.set)  # which only a loop that goes on does
        return "free" if go_on.wait(30) else "blocked"

    agent, _ = scripted(calls(call("blocks")), "done", tools=[blocks])
    assert contents(await agent.arun("go")) == ["free"]


async def test_sync_calls_work_again_and_again_also_inside_a_running_loop() -> None:
    agent, _ = scripted("one", "two", "three")
    assert [agent.run("go").output for _ in range(3)] == ["one", "two", "three"]


def test_one_agent_serves_one_event_loop_after_another_and_threads() -> None:
    agent = Agent(EchoProvider())
    assert [asyncio.run(agent.arun(word)).output for word in "abc"] == ["a", "b", "c"]
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(agent.run("x").output)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["x"] * 8


async def test_a_trim_function_that_tears_calls_from_their_results_breaks_nothing() -> None:
    agent, script = scripted(
        calls(call("add", "x", a=1, b=2)),
        calls(call("add", "y", a=3, b=4)),
        "done",
        tools=[add],
        trim=lambda messages: [messages[0], *messages[-1:]] if len(messages) > 1 else messages,
    )
    result = await agent.arun("go")
    assert [[one.role for one in request.messages] for request in script.requests] == [["user"]] * 3
    assert [one.role for one in result.messages] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


async def test_an_interrupted_conversation_can_be_given_to_any_model() -> None:
    torn = [
        Message("user", "go"),
        Message("assistant", tool_calls=(call("add", "x", a=1, b=2), call("add", "y", a=1, b=2))),
        Message("tool", "3", tool_call_id="y"),
        Message("user", "well?"),
    ]
    agent, script = scripted("yes")
    await agent.arun(messages=torn)
    assert paired(script.requests[0].messages) == script.requests[0].messages
    assert len(script.requests[0].messages) == 5


async def test_a_plugin_may_write_a_plain_async_method() -> None:
    class Plugin(EchoProvider):
        async def generate_async(self, prompt: Any = None, **arguments: Any) -> Any:  # type: ignore[override]
            if not arguments.get("stream"):
                return GenerateResponse(content="whole")
            return pieces()

    async def pieces() -> Any:
        for piece in ("in ", "pieces"):
            yield GenerateResponse(content=piece)

    agent = Agent(Plugin())
    assert (await agent.arun("go")).output == "whole"
    assert [piece async for piece in agent.chat("go")] == ["in ", "pieces"]
