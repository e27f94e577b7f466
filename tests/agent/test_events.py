"""Observers: told of everything in its order, where it happens, and harmless."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import pytest

from abstractllm import ProviderConnectionError
from abstractllm.agent import RunFailed, RunFinished, RunInfo, RunStarted, ToolFinished, ToolStarted
from abstractllm.providers.echo import Reply

from .scripting import call, calls, scripted

span: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="")


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_observers_are_told_what_readers_see() -> None:
    told: list[tuple[RunInfo, Any]] = []
    agent, _ = scripted(
        calls(call("add", a=1, b=2)), "three", tools=[add], name="adder", observers=[lambda *one: told.append(one)]
    )
    run = agent.stream("go")
    assert [event async for event in run] == [event for _, event in told]
    assert {info for info, _ in told} == {run.info}
    assert (run.info.agent, run.info.provider, run.info.model) == ("adder", "echo", "echo")
    assert run.info.run_id == (await run).run_id


async def test_observers_are_told_of_a_failure_and_readers_get_the_error() -> None:
    told: list[Any] = []
    error = ProviderConnectionError("gone")
    agent, _ = scripted(Reply("x", error=error), observers=[lambda info, event: told.append(event)])
    with pytest.raises(ProviderConnectionError) as caught:
        await agent.arun("go")
    assert isinstance(told[-1], RunFailed)
    assert told[-1].error is caught.value
    assert not any(isinstance(one, RunFinished) for one in told)


async def test_an_observer_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    def broken(info: RunInfo, event: Any) -> None:
        raise KeyError("observer")

    agent, _ = scripted("yes", observers=[broken, lambda info, event: told.append(event)])
    assert (await agent.arun("go")).output == "yes"
    assert isinstance(told[-1], RunFinished)
    assert "observer" in caplog.text


async def test_a_run_is_told_in_its_own_context_and_a_call_in_its_own() -> None:
    ended: dict[str, str] = {}

    def trace(info: RunInfo, event: Any) -> None:
        if isinstance(event, RunStarted):
            span.set("run")
        elif isinstance(event, ToolStarted):
            span.set(f"{span.get()} > {event.call.id}")
        elif isinstance(event, ToolFinished):
            ended[event.call.id] = span.get()
        elif isinstance(event, RunFinished):
            ended["run"] = span.get()

    seen: list[str] = []

    async def look() -> None:
        await asyncio.sleep(0)
        seen.append(span.get())

    agent, _ = scripted(calls(call("look", "a"), call("look", "b")), "done", tools=[look], observers=[trace])
    await agent.stream("go")
    assert sorted(seen) == ["run > a", "run > b"]
    assert ended == {"a": "run > a", "b": "run > b", "run": "run"}
    assert span.get() == ""
