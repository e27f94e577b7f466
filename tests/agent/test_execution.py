"""The calls of a turn: side by side, each with its own end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import logging
import sys
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from abstractllm import ToolError
from abstractllm.agent import Agent, Limits, ToolFinished, ToolStarted, execution
from abstractllm.providers.echo import EchoProvider
from abstractllm.tools import StopRun, ToolContext, ToolRetry, tool

from .scripting import call, calls, check_paired, contents, other_tasks, scripted, settled

here: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="nowhere")


async def test_calls_of_a_turn_run_side_by_side_and_their_results_go_back_in_call_order() -> None:
    second_has_ended = asyncio.Event()

    async def first() -> str:
        await second_has_ended.wait()
        return "1"

    async def second() -> str:
        second_has_ended.set()
        return "2"

    agent, _ = scripted(calls(call("first"), call("second")), "done", tools=[first, second])
    result = await agent.arun("go")
    assert contents(result) == ["1", "2"]
    check_paired(result)


async def test_sync_tools_run_side_by_side_in_threads_that_know_the_context_variables() -> None:
    barrier = threading.Barrier(3, timeout=30)

    def where(number: int) -> str:
        barrier.wait()
        assert threading.current_thread() is not threading.main_thread()
        return f"{here.get()} {number}"

    here.set("there")
    made = [call("where", f"c{number}", number=number) for number in range(3)]
    agent, _ = scripted(calls(*made), "done", tools=[where])
    assert contents(await agent.arun("go")) == ["there 0", "there 1", "there 2"]


@pytest.mark.parametrize("parallel", [1, 3])
async def test_no_more_calls_than_the_limit_run_at_the_same_time(parallel: int) -> None:
    running, most = 0, 0

    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await settled(5)
        running -= 1

    made = [call("busy", f"c{number}") for number in range(10)]
    agent, _ = scripted(calls(*made), "done", tools=[busy], limits=Limits(parallel=parallel))
    await agent.arun("go")
    assert most == parallel


async def test_a_sequential_tool_is_a_barrier() -> None:
    told: list[str] = []

    @tool
    async def free(number: int) -> None:
        told.append(f"+{number}")
        await settled(3)
        told.append(f"-{number}")

    @tool(sequential=True)
    async def alone() -> None:
        told.append("+alone")
        await settled(3)
        told.append("-alone")

    made = [call("free", "a", number=1), call("free", "b", number=2), call("alone"), call("free", "c", number=3)]
    agent, _ = scripted(calls(*made), "done", tools=[free, alone])
    await agent.arun("go")
    assert told == ["+1", "+2", "-1", "-2", "+alone", "-alone", "+3", "-3"]


async def test_one_failing_tool_leaves_the_others_alone() -> None:
    failed = asyncio.Event()

    async def broken() -> None:
        failed.set()
        raise ValueError("no")

    async def good() -> str:
        await failed.wait()
        await settled()
        return "good"

    agent, script = scripted(calls(call("broken"), call("good")), "done", tools=[broken, good])
    result = await agent.arun("go")
    assert contents(result) == ["Error: ValueError: no", "good"]
    assert [one.content for one in script.requests[1].messages if one.role == "tool"] == contents(result)


async def test_a_timed_out_async_tool_is_cancelled_and_has_its_one_result() -> None:
    ended: list[str] = []

    @tool(timeout=0.01)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("slow")

    agent, _ = scripted(calls(call("slow")), "done", tools=[slow])
    result = await agent.arun("go")
    assert ended == ["slow"]
    assert contents(result) == ["Error: The tool had no result within 0.01 s and was given up."]
    assert not other_tasks()


async def test_a_sync_tool_sees_after_its_timeout_that_nobody_waits_for_it() -> None:
    begun, go_on, seen = threading.Event(), threading.Event(), threading.Event()

    @tool(timeout=0.01)
    def slow(context: ToolContext) -> str:
        begun.set()
        go_on.wait(30)
        if context.cancelled:
            seen.set()
        return "too late"

    while not begun.is_set():  # the time may be over before there is a thread for it
        agent, _ = scripted(calls(call("slow")), "done", tools=[slow])
        assert "given up" in contents(await agent.arun("go"))[0]
    go_on.set()
    assert await asyncio.to_thread(seen.wait, 30)


async def test_a_sync_tool_sees_that_its_run_was_cancelled() -> None:
    begun, go_on, seen = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def slow(context: ToolContext) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(30)
        if context.cancelled:
            seen.set()

    agent, _ = scripted(calls(call("slow")), "done", tools=[slow])
    async with agent.stream("go"):
        await begun.wait()
    go_on.set()
    assert await asyncio.to_thread(seen.wait, 30)


async def test_a_tool_that_fails_is_called_again_as_often_as_it_allows() -> None:
    attempts: list[int] = []

    @tool(retries=2)
    def flaky(context: ToolContext) -> str:
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise ConnectionError("not now")
        return "now"

    agent, _ = scripted(calls(call("flaky")), "done", tools=[flaky])
    assert contents(await agent.arun("go")) == ["now"]
    assert attempts == [1, 2, 3]


async def test_what_a_tool_wants_done_otherwise_is_told_the_model_and_not_tried_again() -> None:
    attempts: list[str] = []

    @tool(retries=5)
    def picky(word: str) -> str:
        attempts.append(word)
        if word != "please":
            raise ToolRetry("Say please.")
        return "yes"

    replies = calls(call("picky", "a", word="now")), calls(call("picky", "b", word="please")), "done"
    agent, script = scripted(*replies, tools=[picky], on_tool_error="raise")
    assert contents(await agent.arun("go")) == ["Error: Say please.", "yes"]
    assert attempts == ["now", "please"]
    assert script.requests[1].messages[-1].content == "Error: Say please."


async def test_a_tool_may_end_the_run_with_a_value() -> None:
    def finish(number: int) -> None:
        raise StopRun({"number": number})

    agent, script = scripted(calls(call("finish", number=3), text="So:"), tools=[finish])
    result = await agent.arun("go")
    assert (result.stop, result.output, result.text) == ("stopped", {"number": 3}, "So:")
    assert contents(result) == ['{"number":3}']
    assert len(script.requests) == 1


async def test_no_call_is_begun_after_a_tool_has_ended_the_run() -> None:
    made: list[str] = []

    @tool(sequential=True)
    def finish(value: str) -> None:
        raise StopRun(value)

    def delete() -> None:
        made.append("deleted")

    agent, _ = scripted(calls(call("finish", value="x"), call("delete")), tools=[finish, delete])
    result = await agent.arun("go")
    assert (made, result.output) == ([], "x")
    assert contents(result) == ["x", execution.CANCELLED]


async def test_of_two_tools_that_end_the_run_the_first_call_counts() -> None:
    second_has_ended = asyncio.Event()

    async def finish(value: int) -> None:
        if value == 1:
            await second_has_ended.wait()
        second_has_ended.set()
        raise StopRun(value)

    agent, _ = scripted(calls(call("finish", "a", value=1), call("finish", "b", value=2)), tools=[finish])
    assert (await agent.arun("go")).output == 1


@pytest.mark.parametrize("made", [call("broken"), call("unknown"), call("broken", wrong=1)])
async def test_tool_errors_end_the_run_where_that_is_asked_for(made: Any) -> None:
    def broken() -> None:
        raise KeyError("x")

    agent, _ = scripted(calls(made), "done", tools=[broken], on_tool_error="raise")
    run = agent.stream("go")
    with pytest.raises(ToolError) as caught:
        await run
    assert caught.value.tool == made.name
    assert [one.role for one in run.messages] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("made", "said", "cause"),
    [
        (call("broken"), "The tool 'broken' failed: KeyError: 'x'", KeyError),
        (
            call("hangs"),
            "The tool 'hangs' failed: The tool had no result within 0.001 s and was given up.",
            TimeoutError,
        ),
        (call("gives_up"), "The tool 'gives_up' failed: TimeoutError: far away", TimeoutError),
        (call("unknown"), "The tool 'unknown' failed: There is no tool named 'unknown'", None),
    ],
)
async def test_the_error_of_a_tool_says_once_what_it_was(made: Any, said: str, cause: type[Exception] | None) -> None:
    def broken() -> None:
        raise KeyError("x")

    @tool(timeout=0.001)
    async def hangs() -> None:
        await asyncio.Event().wait()

    async def gives_up() -> None:
        raise TimeoutError("far away")

    agent, _ = scripted(calls(made), tools=[broken, hangs, gives_up], on_tool_error="raise")
    with pytest.raises(ToolError) as caught:
        await agent.arun("go")
    assert str(caught.value).startswith(said)
    assert type(caught.value.__cause__) is (cause or type(None))


async def test_the_error_that_ends_a_run_cancels_the_other_calls_even_those_that_resist(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(execution, "GRACE", 0.01)
    let_go, resisting = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                resisting.set()
                await let_go.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("much later")

    async def broken() -> None:
        await resisting.wait()
        raise KeyError("x")

    agent, _ = scripted(calls(call("stubborn"), call("broken")), tools=[stubborn, broken], on_tool_error="raise")
    run = agent.stream("go")
    with pytest.raises(ToolError, match="broken"):
        await run
    events = [event async for event in _ignoring(run)]
    let_go.set()
    await settled()
    assert [event async for event in _ignoring(run)] == events
    assert not other_tasks()
    assert not caplog.records


async def _ignoring(run: Any) -> Any:
    """Yield the events of a run that failed."""
    try:
        async for event in run:
            yield event
    except ToolError:
        return


async def test_what_a_given_up_tool_raises_in_its_last_moments_is_nobodys_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    @tool(timeout=0.01)
    async def clumsy() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("while leaving")

    agent, _ = scripted(calls(call("clumsy")), "done", tools=[clumsy])
    with caplog.at_level(logging.DEBUG, "asyncio"):
        await agent.arun("go")
        await settled()
    assert "never retrieved" not in caplog.text


async def test_calls_that_wait_for_a_place_when_the_run_is_cancelled_leave_no_trace(
    recwarn: pytest.WarningsRecorder,
) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    made = [call("hang", f"c{number}") for number in range(4)]
    agent, _ = scripted(calls(*made), "done", tools=[hang], limits=Limits(parallel=1))
    run = agent.stream("go")
    async with run:
        await begun.wait()
    result = await run
    assert contents(result) == [execution.CANCELLED] * 4
    assert not other_tasks()
    assert not recwarn.list


@dataclass
class Picky:
    """A type of the application's own, which is made of what a model wrote."""

    word: str

    def __post_init__(self) -> None:
        raise RuntimeError("never")


async def test_a_type_that_cannot_be_made_is_an_error_for_the_model() -> None:
    def take(picky: Picky) -> str:
        return picky.word

    agent, _ = scripted(calls(call("take", picky={"word": "x"})), "done", tools=[take])
    result = await agent.arun("go")
    assert result.output == "done"
    assert "RuntimeError: never" in contents(result)[0]


def exits() -> None:
    """Leave."""
    sys.exit(3)


async def async_exits() -> None:
    """Leave."""
    sys.exit(3)


def stops_iteration() -> None:
    """Raise what no future can hold."""
    raise StopIteration


async def cancels_itself() -> None:
    """Give up."""
    raise asyncio.CancelledError


def interrupts() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


async def async_interrupts() -> None:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


def waits_for_what_was_cancelled() -> None:
    """Raise what a future of threads raises, which asyncio takes for its own."""
    raise concurrent.futures.CancelledError


def is_cancelled_itself() -> None:
    """Raise what ends a task, where there is none."""
    raise asyncio.CancelledError


ODD = [
    *(exits, async_exits, stops_iteration, cancels_itself, interrupts, async_interrupts),
    *(waits_for_what_was_cancelled, is_cancelled_itself),
]


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("function", ODD)
def test_a_tool_ends_neither_the_process_nor_the_event_loop(function: Any, beside: bool) -> None:
    def other() -> str:
        return "fine"

    made = calls(call(function.__name__), *([call("other")] if beside else []))
    result = scripted(made, "done", tools=[function, other])[0].run("go")
    assert result.output == "done"
    assert contents(result)[0].startswith("Error: RuntimeError: The tool ")
    assert contents(result)[1:] == ["fine"] * beside
    assert Agent(EchoProvider()).run("still there").output == "still there"


def test_ctrl_c_that_arrives_in_an_async_tool_ends_the_run() -> None:
    agent, _ = scripted(calls(call("async_interrupts")), "done", tools=[async_interrupts])
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(agent.arun("go"))
    finally:
        loop.close()


def test_the_answer_of_another_agent_is_the_value_of_a_tool_as_it_is() -> None:
    other = Agent(EchoProvider())

    async def ask(question: str) -> str:
        return await other.chat(question)

    made = calls(call("ask", question="one"), call("chat", prompt="two"))
    result = scripted(made, "done", tools=[ask, other.chat])[0].run("go")
    assert contents(result) == ["one", "two"]
    assert {type(one) for one in contents(result)} == {str}


async def test_starts_and_ends_of_calls_are_told_once_each() -> None:
    async def add(a: int, b: int) -> int:
        return a + b

    agent, _ = scripted(calls(call("add", a=1, b=2), call("unknown")), "done", tools=[add])
    told = [one async for one in agent.stream("go") if isinstance(one, (ToolStarted, ToolFinished))]
    assert [(type(one), one.call.name) for one in told] == [
        (ToolFinished, "unknown"),
        (ToolStarted, "add"),
        (ToolFinished, "add"),
    ]


async def test_a_tool_knows_what_it_belongs_to() -> None:
    seen: list[ToolContext[str]] = []

    def look(context: ToolContext[str], word: str) -> None:
        seen.append(context)

    agent, script = scripted(calls(call("look", word="x")), "done", tools=[look])
    result = await agent.arun("go", deps="mine")
    assert (seen[0].deps, seen[0].call.arguments, seen[0].attempt) == ("mine", {"word": "x"}, 1)
    assert tuple(seen[0].messages) == result.messages[:2]
    assert seen[0].usage.completion_tokens == 0
    assert seen[0].usage.prompt_tokens == 1
    assert not seen[0].cancelled
    assert "context" not in script.requests[0].tools[0].parameters["properties"]
