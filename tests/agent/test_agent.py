"""Agents: put together, refused, shared and closed."""

from __future__ import annotations

import threading
from typing import Any, assert_type

import pytest

from abstractllm import InvalidParameterError, Message, Session
from abstractllm.agent import Agent, Limits
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.echo import EchoProvider
from abstractllm.tools import tool

from .scripting import call, calls, scripted


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def observe(info: Any, event: Any) -> None:
    """Would never be awaited."""


@pytest.mark.parametrize(
    "given",
    [
        {"tools": add},
        {"tools": None},
        {"name": 3},
        {"limits": {"turns": 3}},
        {"approve": True},
        {"observers": [3]},
        {"observers": 3},
        {"observers": [observe]},
        {"tools": [add, add]},
        {"tools": [{"name": "add", "parameters": {"type": "object"}}]},
        {"instructions": 3},
        {"retries": -1},
        {"tool_timeout": 0},
        {"tool_timeout": "1"},
        {"on_tool_error": "ignore"},
        {"trim": 0},
        {"trim": True},
        {"system_prompt": "x"},
        {"tool_choice": "auto"},
        {"n": 2},
        {"stream": True},
        {"temperature": "hot"},
    ],
)
def test_what_cannot_be_right_is_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        Agent(EchoProvider(), **given)
    assert caught.value.parameter == next(iter(given))


@pytest.mark.parametrize("llm", [None, 3, EchoProvider])
def test_what_is_no_model_is_refused_at_once(llm: Any) -> None:
    for make in (Agent, Agent(EchoProvider()).with_llm):
        with pytest.raises(InvalidParameterError, match="must be a model of create_llm"):
            make(llm)


@pytest.mark.parametrize(
    "given",
    [
        {"files": "notes.md"},
        {"files": 3},
        {"files": [3]},
        {"approvals": 3},
        {"approvals": ["a"]},
        {"approvals": {"a": 1}},
    ],
)
def test_what_a_run_cannot_take_is_refused_at_the_call(given: dict[str, Any]) -> None:
    agent = Agent(EchoProvider())
    for ask in (agent.run, agent.stream, Session(agent).send_async):
        with pytest.raises(InvalidParameterError) as caught:
            ask("Hi", **given)
        assert caught.value.parameter == next(iter(given))


def test_observers_may_come_from_anything_that_can_be_iterated_over() -> None:
    told: list[Any] = []
    Agent(EchoProvider(), observers=(one for one in [lambda info, event: told.append(event)])).run("Hi")
    assert told


def test_a_run_without_files_takes_none() -> None:
    assert Agent(EchoProvider()).run("Hi", files=None).text == "Hi"  # type: ignore[arg-type]


def test_the_type_of_the_output_is_that_of_the_argument() -> None:
    llm = EchoProvider()
    assert_type(Agent(llm).run("Hi").output, str)
    assert_type(Agent(llm, output=Limits), "Agent[Any, Limits]")
    assert_type(Agent(llm, output=list[int]), "Agent[Any, list[int]]")
    assert_type(Agent(llm, output={"type": "object"}), "Agent[Any, Any]")


@pytest.mark.parametrize("prompt", [None, "", "  ", 3])
def test_a_run_needs_something_to_answer(prompt: Any) -> None:
    agent = Agent(EchoProvider())
    for ask in (agent.run, agent.stream):
        with pytest.raises(InvalidParameterError):
            ask(prompt)


class NoCount(BaseProvider):
    """A provider that cannot count tokens."""


def test_a_number_of_tokens_is_refused_for_a_model_that_cannot_count_them() -> None:
    with pytest.raises(InvalidParameterError, match="NoCount cannot count tokens") as caught:
        Agent(NoCount(), trim=100)
    assert caught.value.parameter == "trim"
    with pytest.raises(InvalidParameterError, match="function"):
        Agent(EchoProvider(), trim=100).with_llm(NoCount())
    Agent(NoCount(), trim=lambda messages: messages[-1:])


@pytest.mark.parametrize("prompt", [None, "go on"])
@pytest.mark.parametrize("id", ["a", "other"])
def test_approvals_of_calls_that_wait_for_none_are_refused_at_the_call(prompt: str | None, id: str) -> None:
    agent, script = scripted("yes", tools=[add])
    waiting = [Message("user", "go"), Message("assistant", tool_calls=(call("add", "a", a=1, b=2),))]
    if (prompt, id) == (None, "a"):
        assert agent.run(messages=waiting, approvals={id: True}).output == "yes"
        return
    for ask in (agent.run, agent.stream):
        with pytest.raises(InvalidParameterError) as caught:
            ask(prompt, messages=waiting, approvals={id: True})
        assert caught.value.parameter == "approvals"
    assert not script.requests


def test_threads_share_an_agent() -> None:
    agent = Agent(EchoProvider())
    barrier, found = threading.Barrier(10), {}

    def ask(number: int) -> None:
        barrier.wait()
        found[number] = [agent.run(f"{number}").output, "".join(agent.stream(f"{number}").text())]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [str(number)] * 2 for number in range(10)}


async def test_sync_runs_work_inside_a_running_loop() -> None:
    agent = Agent(EchoProvider())
    assert agent.run("a").output == "a"
    assert "".join(agent.stream("b").text()) == "b"
    with agent.stream("c") as run:
        assert run.result().output == "c"


def test_a_model_that_was_made_here_is_closed_with_the_agent() -> None:
    with Agent("echo") as agent:
        assert agent.run("a").output == "a"
    with pytest.raises(Exception, match="closed"):
        agent.run("a")

    llm = EchoProvider()
    with Agent(llm) as agent:
        agent.run("a")
    assert llm.generate("still").content == "still"


async def test_the_same_agent_has_another_model() -> None:
    agent, _ = scripted("one", name="first", tools=[add])
    other = agent.with_llm(EchoProvider(replies=["two"]))
    assert [(await one.arun("go")).output for one in (agent, other)] == ["one", "two"]
    assert (other.name, other.tools) == (agent.name, agent.tools)


@pytest.mark.parametrize("decision", [None, 1, 0])
def test_what_approve_returns_must_be_a_decision(decision: Any) -> None:
    careful = tool(add, approval=True)
    agent, _ = scripted(calls(call("add", a=1, b=2)), "done", tools=[careful], approve=lambda call: decision)
    with pytest.raises(InvalidParameterError, match=f"approve returned {decision} for a call of 'add'"):
        agent.run("go")


@pytest.mark.parametrize("left", [None, [], 3, "x", [3]])
def test_what_trim_returns_must_be_messages(left: Any) -> None:
    with pytest.raises(InvalidParameterError, match="The function trim returned"):
        Agent(EchoProvider(), trim=lambda messages: left).run("Hi")
