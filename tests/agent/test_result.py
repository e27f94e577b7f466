"""Results as JSON: all of it, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from abstractllm import InvalidParameterError, Message
from abstractllm.agent import Agent, Limits, Result
from abstractllm.tools import StopRun

from .scripting import call, calls, scripted


@dataclass
class Point:
    """A place."""

    x: int


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def finish() -> None:
    """End the run."""
    raise StopRun("enough")


def again(result: Result[Any], output: Any = str) -> Result[Any]:
    """The result that JSON holds of one."""
    return Result.from_json(result.to_json(), output)


MADE = calls(call("add", a=1, b=2), text="a b")


@pytest.mark.parametrize(
    "agent",
    [
        scripted("yes")[0],
        scripted("")[0],
        scripted(MADE, "three", tools=[add])[0],
        scripted(MADE, "three", tools=[add], limits=Limits(turns=1))[0],
        scripted(MADE, tools=[add], limits=Limits(tokens=1))[0],
        scripted(calls(call("finish")), tools=[finish])[0],
    ],
)
async def test_a_result_comes_back_from_json(agent: Agent) -> None:
    result = await agent.arun("and?", messages=[Message("user", "a"), Message("assistant", "b")])
    assert again(result) == result
    assert again(result).run_id == result.run_id


async def test_a_run_that_never_began_comes_back_too() -> None:
    run = scripted("never said")[0].stream("go")
    run.cancel()
    assert again(await run) == await run


@pytest.mark.parametrize(("output", "text"), [(str, "Let me see."), (Point, None)])
async def test_where_a_run_is_cut_off_its_text_is_the_output_and_a_form_is_none(output: Any, text: str | None) -> None:
    async def hang() -> None:
        run.cancel()

    agent, _ = scripted(calls(call("hang"), text="Let me see."), "never", tools=[hang], output=output)
    run = agent.stream("go")
    result = await run
    assert (result.stop, result.output, result.text) == ("cancelled", text, "Let me see.")
    assert again(result, output) == result


@pytest.mark.parametrize(
    ("output", "text", "value"), [(Point, '{"x": 3}', Point(3)), (Literal["a", "b"], '"b"', "b"), (int, "7", 7)]
)
async def test_an_output_with_a_form_comes_back_in_its_type(output: Any, text: str, value: Any) -> None:
    result = await scripted(text, output=output)[0].arun("go")
    assert result.output == value
    assert again(result, output) == result


async def test_the_formed_answer_at_a_limit_comes_back() -> None:
    agent, _ = scripted(MADE, '{"x": 3}', output=Point, tools=[add], limits=Limits(turns=1))
    result = await agent.arun("go")
    assert (result.stop, result.output) == ("limit", Point(3))
    assert again(result, Point) == result


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "null", "not JSON"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError):
        Result.from_json(text)


async def test_a_result_reads_as_its_text() -> None:
    assert f"{await scripted('yes')[0].arun('go')}" == "yes"
