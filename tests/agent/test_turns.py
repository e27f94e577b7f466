"""The loop of a run: answers with a form, approval, what the model is shown, and limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest

from abstractllm import GenerateResponse, InvalidParameterError, Message, OutputValidationError, RunLimitError, ToolCall
from abstractllm.agent import Agent, Limits, Result, ToolFinished, execution
from abstractllm.history import NOT_EXECUTED, paired
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.tools import StopRun, tool

from .scripting import call, calls, check_paired, contents, scripted


@dataclass
class Point:
    """A place."""

    x: int
    y: int


GOOD, BAD = '{"x": 1, "y": 2}', "somewhere"


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# Answers with a form.


@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_has_the_type_that_was_asked_for(streams: bool) -> None:
    run = scripted(GOOD, output=Point)[0].stream("where?")
    if streams:
        assert "".join([piece async for piece in run.text()]) == GOOD
    assert (await run).output == Point(1, 2)


@pytest.mark.parametrize("streams", [False, True])
async def test_an_answer_without_its_form_is_asked_for_again(streams: bool) -> None:
    agent, script = scripted(BAD, GOOD, output=Point)
    run = agent.stream("where?")
    pieces = [piece async for piece in run.text()] if streams else []
    result = await run
    assert (result.output, result.turns, result.text) == (Point(1, 2), 2, f"{BAD}\n\n{GOOD}")
    assert not streams or "".join(pieces) == result.text
    assert [one.role for one in script.requests[1].messages] == ["user", "assistant", "user"]


@pytest.mark.parametrize("tools", [[], [add]])
@pytest.mark.parametrize("retries", [0, 2])
async def test_an_answer_that_never_has_its_form_is_an_error(tools: list[Any], retries: int) -> None:
    agent, script = scripted(*[BAD] * 5, output=Point, tools=tools, retries=retries)
    with pytest.raises(OutputValidationError) as caught:
        await agent.arun("where?")
    assert caught.value.response is not None
    assert caught.value.response.content == BAD
    assert len(script.requests) == retries + 1 + bool(tools)


async def test_with_tools_the_form_is_asked_for_alone_when_the_answer_has_none() -> None:
    agent, script = scripted(calls(call("add", a=1, b=2)), BAD, GOOD, output=Point, tools=[add], retries=0)
    result = await agent.arun("where?")
    assert (result.output, contents(result)) == (Point(1, 2), ["3"])
    assert [bool(one.tools) for one in script.requests] == [True, True, False]
    assert [one.response_format is not None for one in script.requests] == [False, False, True]


async def test_what_asks_for_the_form_has_no_parsers_words_but_says_what_does_not_fit() -> None:
    agent, script = scripted("here", BAD, '{"x": 1}', GOOD, output=Point, tools=[add], retries=2)
    assert (await agent.arun("where?")).output == Point(1, 2)
    asked = [one.messages[-1].text for one in script.requests[1:]]
    plain = "Please give the whole answer once more, in the right form."
    assert asked[:2] == [plain, f"The answer is no JSON.\n{plain}"]
    assert asked[2].splitlines()[1:] == ["- y: Field required", plain]


async def test_at_a_limit_an_answer_without_its_form_is_none() -> None:
    agent, script = scripted(calls(call("add", a=1, b=2)), BAD, output=Point, tools=[add], limits=Limits(turns=1))
    result = await agent.arun("where?")
    assert (result.stop, result.output, len(script.requests)) == ("limit", None, 2)
    assert result.messages[-1].text == BAD


# Approval.


def guarding(**settings: Any) -> tuple[Any, list[str]]:
    """Tools that need approval in several ways, and what notes which of them ran."""
    ran: list[str] = []

    @tool(approval=True)
    def guarded(word: str) -> str:
        ran.append(word)
        return word.upper()

    @tool(approval=lambda call: call.arguments["number"] > 9)
    def partly(number: int) -> int:
        ran.append(str(number))
        return number

    def free() -> str:
        ran.append("free")
        return "free"

    return [guarded, partly, free], ran


MADE = (
    call("guarded", "g", word="x"),
    call("free", "f"),
    call("partly", "p", number=10),
    call("partly", "q", number=1),
)


async def test_a_run_stops_at_calls_that_wait_for_approval_and_makes_the_others() -> None:
    tools, ran = guarding()
    agent, _ = scripted(calls(*MADE), "done", tools=tools)
    result = await agent.arun("go")
    assert (result.stop, [one.id for one in result.pending]) == ("approval", ["g", "p"])
    assert sorted(ran) == ["1", "free"]
    check_paired(result)


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (True, "X"),
        (False, "Error: A person did not allow this call."),
        ("too late", "Error: A person did not allow this call: too late"),
    ],
)
async def test_a_pause_is_kept_as_json_and_gone_on_with(decision: bool | str, said: str) -> None:
    tools, ran = guarding()
    agent, script = scripted(calls(*MADE), "done", tools=tools)
    paused = Result.from_json((await agent.arun("go")).to_json())
    result = await agent.arun(messages=paused.messages, approvals={"g": decision, "p": True})
    assert (result.stop, result.output) == ("end", "done")
    assert contents(result) == [said, "free", "10", "1"]
    assert paired(result.messages) == result.messages
    assert script.requests[1].messages == result.messages[:-1]
    assert ran.count("free") == 1
    assert [one.tool_call_id for one in result.new_messages] == ["g", "p", None]


async def test_what_is_still_undecided_is_still_pending() -> None:
    tools, _ = guarding()
    agent, script = scripted(calls(*MADE), "done", tools=tools)
    first = await agent.arun("go")
    second = await agent.arun(messages=first.messages, approvals={"p": True})
    assert (second.stop, [one.id for one in second.pending], len(script.requests)) == ("approval", ["g"], 1)
    same = Result.from_json(second.to_json())
    assert same == second
    third = await agent.arun(messages=same.messages, approvals={"g": True})
    assert contents(third) == ["X", "free", "10", "1"]


async def test_a_new_prompt_leaves_pending_calls_undone() -> None:
    tools, ran = guarding()
    agent, _ = scripted(calls(*MADE), "fine", tools=tools)
    first = await agent.arun("go")
    second = await agent.arun("never mind", messages=first.messages)
    assert contents(second)[0] == contents(second)[2] == NOT_EXECUTED
    assert "x" not in ran
    check_paired(second)


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_agent_can_be_asked_for_approval(is_async: bool) -> None:
    asked: list[str] = []

    def decide(call: ToolCall) -> bool | str:
        asked.append(call.id)
        return call.id == "p" or "not x"

    async def decide_later(call: ToolCall) -> bool | str:
        await asyncio.sleep(0)
        return decide(call)

    tools, _ = guarding()
    agent, _ = scripted(calls(*MADE), "done", tools=tools, approve=decide_later if is_async else decide)
    result = await agent.arun("go")
    assert asked == ["g", "p"]
    assert contents(result) == ["Error: A person did not allow this call: not x", "free", "10", "1"]


async def test_a_decision_that_fails_ends_the_run_with_a_whole_history() -> None:
    def decide(call: ToolCall) -> bool:
        raise OSError("nobody there")

    tools, _ = guarding()
    run = scripted(calls(*MADE), tools=tools, approve=decide)[0].stream("go")
    with pytest.raises(OSError, match="nobody"):
        await run
    assert paired(run.messages) == run.messages


async def test_a_run_that_a_tool_ends_waits_for_nobody() -> None:
    def finish() -> None:
        raise StopRun("now")

    tools, _ = guarding()
    agent, _ = scripted(calls(MADE[0], call("finish")), tools=[*tools, finish])
    result = await agent.arun("go")
    assert (result.stop, result.output, result.pending) == ("stopped", "now", ())
    assert contents(result) == [execution.CANCELLED, "now"]


# What the model is asked.


async def test_instructions_may_be_a_function_of_the_deps() -> None:
    async def later(deps: Any) -> str:
        await asyncio.sleep(0)
        return f"You serve {deps}."

    for instructions in ("You serve Ann.", lambda deps: f"You serve {deps}.", later):
        agent, script = scripted(calls(call("add", a=1, b=2)), "3", tools=[add], instructions=instructions)
        result = await agent.arun("go", deps="Ann")
        assert [one.messages[0].text for one in script.requests] == ["You serve Ann."] * 2
        assert result.messages[0].role == "user"


async def test_instructions_that_fail_are_an_error_of_the_run() -> None:
    def broken(deps: Any) -> str:
        raise KeyError("name")

    with pytest.raises(KeyError):
        await scripted("never said", instructions=broken)[0].arun("go")


async def test_the_choice_of_a_tool_holds_for_the_first_answer_only() -> None:
    agent, script = scripted(calls(call("add", a=1, b=2)), "3", "yes", tools=[add])
    await agent.arun("go", tool_choice="required")
    await agent.arun(messages=[Message("user", "go")], tool_choice="required")
    assert [one.tool_choice for one in script.requests] == ["required", None, "required"]


async def test_a_choice_that_cannot_be_made_is_an_error() -> None:
    with pytest.raises(InvalidParameterError, match="tool"):
        await scripted("yes")[0].arun("go", tool_choice="required")


async def test_files_go_with_the_prompt(tmp_path: Any) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("some notes")
    agent, script = scripted("yes")
    result = await agent.arun("read", files=[path])
    assert "some notes" in script.requests[0].messages[0].text
    assert result.messages[0].text.endswith("read")
    with pytest.raises(InvalidParameterError):
        await agent.arun(messages=result.messages, files=[path])
    with pytest.raises(Exception, match=r"missing\.txt"):
        await agent.arun("read", files=[tmp_path / "missing.txt"])


def past(turns: int) -> list[Message]:
    """A conversation of turns of four words each."""
    return [Message(role, f"{number} {role}") for number in range(turns) for role in ("user", "assistant")]  # type: ignore[arg-type]


async def test_the_model_is_shown_so_many_tokens_and_the_history_stays_whole() -> None:
    agent, script = scripted("yes", trim=9)
    result = await agent.arun("and now?", messages=past(5))
    assert [one.text for one in script.requests[0].messages] == [*(one.text for one in past(5)[-2:]), "and now?"]
    assert [one.text for one in result.messages][:10] == [one.text for one in past(5)]


async def test_instructions_count_as_tokens_of_the_prompt() -> None:
    agent, script = scripted("yes", trim=9, instructions="one two three four")
    await agent.arun("and now?", messages=past(5))
    assert [one.text for one in script.requests[0].messages][1:] == ["and now?"]


async def test_a_function_says_what_the_model_is_shown() -> None:
    agent, script = scripted("yes", trim=lambda messages: messages[-1:])
    result = await agent.arun("and now?", messages=past(3))
    assert [one.text for one in script.requests[0].messages] == ["and now?"]
    assert len(result.messages) == 8


# Limits.


def adding(request: Any) -> Reply | str:
    """Call a tool as long as there is one."""
    return calls(call("add", "", a=1, b=2), text="a b") if request.tools else "the end"


@pytest.mark.parametrize(
    ("limits", "turns", "made", "output"),
    [
        (Limits(turns=1), 2, 1, "the end"),
        (Limits(turns=3), 4, 3, "the end"),
        (Limits(turns=None, tool_calls=2), 4, 2, "the end"),
        (Limits(tool_calls=0), 2, 0, "the end"),
        (Limits(turns=None, tokens=1), 1, 1, "a b"),
        (Limits(turns=None, tokens=10**3, tool_calls=4), 6, 4, "the end"),
    ],
)
async def test_limits_end_the_run_with_what_there_is(limits: Limits, turns: int, made: int, output: str) -> None:
    agent = Agent(EchoProvider(replies=adding), tools=[add], limits=limits)
    result = await agent.arun("go")
    assert (result.stop, result.turns, contents(result).count("3"), result.output) == ("limit", turns, made, output)
    check_paired(result)


@pytest.mark.parametrize("limits", [{"turns": 2}, {"tool_calls": 1}, {"tokens": 1}])
async def test_limits_may_be_errors_that_hold_the_result(limits: Any) -> None:
    agent = Agent(EchoProvider(replies=adding), tools=[add], limits=Limits(on_limit="raise", **limits))
    with pytest.raises(RunLimitError) as caught:
        await agent.arun("go")
    assert caught.value.result is not None
    assert caught.value.result.stop == "limit"
    check_paired(caught.value.result)


@pytest.mark.parametrize("on_limit", ["answer", "raise"])
async def test_a_run_has_so_many_seconds(on_limit: Any) -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    limits = Limits(seconds=0.02, on_limit=on_limit)
    run = scripted(calls(call("hang")), "never said", tools=[hang], limits=limits)[0].stream("go")
    if on_limit == "raise":
        with pytest.raises(RunLimitError, match="0.02 seconds"):
            await run
    else:
        result = await run
        assert (result.stop, contents(result)) == ("limit", [execution.CANCELLED])
    assert paired(run.messages) == run.messages


class Stalls(BaseProvider):
    """A model that never comes to the end of its answer."""

    async def _astream(self, request: Any, call: Any) -> AsyncGenerator[GenerateResponse, None]:
        yield GenerateResponse("one ")
        yield GenerateResponse("two ")
        await asyncio.Event().wait()


async def test_an_awaited_run_keeps_what_had_arrived_when_its_seconds_are_over() -> None:
    result = await Agent(Stalls(), limits=Limits(seconds=0.1)).arun("go")
    assert (result.stop, result.output, result.text) == ("limit", "one two ", "one two ")
    assert [one.text for one in result.messages] == ["go", "one two "]
    formed = await Agent(Stalls(), limits=Limits(seconds=0.1), tools=[add], output=Point).arun("go")
    assert (formed.stop, formed.output, formed.text) == ("limit", None, "one two ")


async def test_calls_over_the_limit_are_refused_in_the_same_turn() -> None:
    made = [call("add", f"c{number}", a=number, b=0) for number in range(5)]
    agent, _ = scripted(calls(*made), "done", tools=[add], limits=Limits(tool_calls=2))
    run = agent.stream("go")
    kinds = [one.outcome.kind async for one in run if isinstance(one, ToolFinished)]
    assert sorted(kinds) == ["denied"] * 3 + ["ok"] * 2
    assert contents(await run)[:2] == ["0", "1"]


async def test_calls_of_the_last_answer_have_results_too() -> None:
    agent, _ = scripted(*[calls(call("add", a=1, b=2), text="x")] * 3, tools=[add], limits=Limits(turns=1))
    result = await agent.arun("go")
    assert (result.stop, result.output, contents(result)) == ("limit", "x", ["3", execution.CANCELLED])
    check_paired(result)


async def test_ids_of_calls_are_their_own_in_the_whole_history() -> None:
    same = calls(call("add", "id", a=1, b=2), call("add", "id", a=3, b=4), call("add", "", a=5, b=6))
    agent, _ = scripted(same, same, "done", tools=[add])
    result = await agent.arun("go")
    ids = [one.id for message in result.messages for one in message.tool_calls]
    assert len(set(ids)) == 6
    assert "" not in ids
    assert contents(result) == ["3", "7", "11"] * 2
    assert json.loads(result.to_json())["turns"] == 3
