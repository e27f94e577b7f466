"""However a run ends, and wherever it is cancelled: the history is whole, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from abstractllm import AbstractLLMError, Message, ToolCall
from abstractllm.agent import Agent, Limits, Result, RunFinished, ToolFinished, ToolStarted, execution
from abstractllm.history import paired, unanswered
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.tools import StopRun, ToolRetry, tool

from .scripting import call, calls, check_paired, other_tasks, scripted, settled

CANCEL = "cancel here"


async def returns() -> str:
    """Return at once."""
    return "ok"


async def dawdles(steps: int) -> str:
    """Return after some turns of the loop."""
    await settled(steps)
    return "ok"


async def raises() -> None:
    """Fail."""
    raise ValueError("no")


@tool(retries=2)
async def flaky() -> None:
    """Fail again and again."""
    raise ConnectionError("no")


async def asks() -> None:
    """Ask for another call."""
    raise ToolRetry("otherwise, please")


async def stops() -> None:
    """End the run."""
    raise StopRun("enough")


async def hangs() -> None:
    """Never return, and take a moment to leave."""
    try:
        await asyncio.Event().wait()
    finally:
        await settled(3)


@tool(sequential=True)
async def alone() -> str:
    """Run alone."""
    await settled(2)
    return "alone"


@tool(approval=True)
async def guarded() -> str:
    """Run when a person agrees."""
    return "guarded"


TOOLS = [returns, dawdles, raises, flaky, asks, stops, hangs, alone, guarded]


@dataclass
class Canceller:
    """Cancels a run when so many events have been told."""

    after: int
    run: Any = None
    seen: list[Any] = field(default_factory=list)

    def __call__(self, info: Any, event: Any) -> None:
        self.seen.append(event)
        if self.run is not None and len(self.seen) == self.after:
            self.run.cancel()


ids = st.sampled_from(["", "a", "b", "same"])
names = st.sampled_from(["returns", "raises", "flaky", "asks", "stops", "hangs", "alone", "guarded", "unknown", ""])
made_calls = st.one_of(
    st.builds(ToolCall, ids, names),
    st.builds(ToolCall, ids, st.just("dawdles"), st.fixed_dictionaries({"steps": st.integers(0, 9)})),
    st.builds(ToolCall, ids, st.sampled_from(["returns", "dawdles"]), st.just({"wrong": 1})),
    st.builds(ToolCall, ids, st.just("returns"), st.just({}), st.just('{"a": ')),
)
turns = st.builds(Reply, st.sampled_from(["", " ", "text before"]), st.lists(made_calls, min_size=1, max_size=5))


def answering(plan: list[Reply], fails_at: int | None = None) -> EchoProvider:
    """A model that gives the planned answers and then an end; one of them may fail after its first word."""
    script = [*plan, Reply("the end")]
    if fails_at is not None and fails_at < len(script):
        script[fails_at] = Reply("half an answer", error=ConnectionError("gone"), error_after=1)
    left = iter(script)
    return EchoProvider(replies=lambda request: next(left, Reply("the end")))


async def goes_on(messages: tuple[Message, ...]) -> None:
    """Check that another run can take a history up."""
    asked: list[tuple[Message, ...]] = []

    def answer(request: Any) -> str:
        asked.append(request.messages)
        return "fine"

    result = await Agent(EchoProvider(replies=answer), tools=TOOLS).arun("and now?", messages=messages)
    assert result.output == "fine"
    assert paired(asked[0]) == asked[0]


def check_events(events: list[Any]) -> None:
    """Check that each call that was started has ended, once, and that nothing comes after the end."""
    started = [one.call.id for one in events if isinstance(one, ToolStarted)]
    finished = [one.call.id for one in events if isinstance(one, ToolFinished)]
    assert len(set(finished)) == len(finished)
    assert set(started) <= set(finished)
    assert all(not isinstance(one, RunFinished) for one in events[:-1])


@settings(max_examples=150)
@given(
    plan=st.lists(turns, max_size=4),
    after=st.integers(1, 40),
    fails_at=st.none() | st.integers(0, 4),
    on_error=st.sampled_from(["feed", "raise"]),
    approves=st.sampled_from([None, True, False, "because", ValueError("nobody there")]),
    parallel=st.integers(1, 3),
    streams=st.booleans(),
)
@example([calls(call("guarded"), call("hangs"))], 6, None, "feed", None, 8, True)
@example([calls(call("guarded"), call("stops"))], 99, None, "feed", None, 8, True)
@example([calls(call("hangs", ""), call("hangs", ""))], 99, None, "feed", None, 1, False)
def test_whatever_fails_each_call_has_one_result_and_nothing_is_left(
    plan: list[Reply], after: int, fails_at: int | None, on_error: Any, approves: Any, parallel: int, streams: bool
) -> None:
    def decide(call: ToolCall) -> bool | str:
        if isinstance(approves, Exception):
            raise approves
        decision: bool | str = approves
        return decision

    async def scenario() -> None:
        canceller = Canceller(after)
        agent = Agent(
            answering(plan, fails_at),
            tools=TOOLS,
            on_tool_error=on_error,
            approve=None if approves is None else decide,
            limits=Limits(turns=4, tool_calls=8, parallel=parallel),
            observers=[canceller],
            tool_timeout=None if after < 40 else 0.01,
        )
        run = canceller.run = agent.stream("begin")
        events, messages = await ended(run, streams)
        assert not other_tasks()
        check_events(events)
        assert paired(messages) == messages or unanswered(messages)
        await goes_on(messages)

    async def ended(run: Any, streams: bool) -> tuple[list[Any], tuple[Message, ...]]:
        events: list[Any] = []
        watchdog = asyncio.get_running_loop().call_later(0.05, run.cancel)  # for plans that hang before that event
        try:
            if streams:
                async for event in run:
                    events.append(event)
            result: Result[Any] = await run
        except (AbstractLLMError, ConnectionError, ValueError):
            assert paired(run.messages) == run.messages
            return events, run.messages
        finally:
            watchdog.cancel()
        check_paired(result)
        assert (result.stop == "approval") == bool(result.pending)
        return events, result.messages

    asyncio.run(scenario())


class Driver:
    """Runs a coroutine and throws a cancellation into it at its n-th step."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], step: int) -> None:
        self._coroutine = coroutine
        self._step = step
        self.steps = 0

    def __await__(self) -> Any:
        inner, sent, error = self._coroutine.__await__(), None, None
        while True:
            try:
                waited = inner.throw(error) if error else inner.send(sent)
            except StopIteration as end:
                return end.value
            self.steps += 1
            error = None
            try:
                sent = yield waited
            except BaseException as thrown:
                error = thrown
            if self.steps == self._step and error is None:
                error = asyncio.CancelledError(CANCEL)


def plain_agent(approve: Any = None) -> Agent:
    """An agent with two turns of calls, then an answer."""
    replies = calls(call("dawdles", steps=3), call("alone"), call("raises"), text="a b"), calls(call("flaky")), "c d"
    return Agent(EchoProvider(replies=list(replies)), tools=TOOLS, instructions=prompt, approve=approve)


async def prompt(deps: Any) -> str:
    """Make instructions, after a while."""
    await settled(1)
    return "Be good."


def test_a_run_can_be_cancelled_at_any_of_its_steps() -> None:
    """The task's own steps, one after the other, until there is none left at which it is not cancelled."""

    async def cancelled_at(step: int, stream: bool) -> bool:
        run = plain_agent().stream("go")
        driver = Driver(run.here(), step)
        run._stream = stream
        try:
            await driver
        except asyncio.CancelledError:
            pass
        await settled(50)
        assert not other_tasks()
        result = await run
        assert result.stop == ("cancelled" if driver.steps >= step else "end")
        check_paired(result)
        await goes_on(result.messages)
        return driver.steps >= step

    for stream in (True, False):
        step = 1
        while asyncio.run(cancelled_at(step, stream)):
            step += 1
        assert step > 5


def test_a_run_can_be_cancelled_by_its_handle_at_any_turn_of_the_loop() -> None:
    async def cancelled_after(turns: int) -> bool:
        run = plain_agent().stream("go")
        reading = asyncio.ensure_future(run.wait())
        await settled(turns)
        was_over = reading.done()
        run.cancel()
        run.cancel()
        result = await reading
        assert not other_tasks()
        assert was_over or result.stop in ("cancelled", "end")
        check_paired(result)
        assert result.messages[0].content == "go"
        return not was_over

    turns = 0
    while asyncio.run(cancelled_after(turns)):
        turns += 1
    assert turns > 5


def test_the_task_that_awaits_a_run_can_be_cancelled_at_any_turn_of_the_loop() -> None:
    async def cancelled_after(turns: int) -> bool:
        run = plain_agent().stream("go")
        reading = asyncio.ensure_future(run.wait())
        await settled(turns)
        if reading.done():
            return False
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await settled()
        assert not other_tasks()
        if turns:
            check_paired(await run)
        return True

    turns = 0
    while asyncio.run(cancelled_after(turns)):
        turns += 1
    assert turns > 5


async def test_leaving_waits_for_what_tools_do_at_their_end_even_when_cancelled_twice() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def careful() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await settled(10)
            ended.set()

    agent, _ = scripted(calls(call("careful")), tools=[careful])
    async with agent.stream("go") as run:
        await begun.wait()
        run.cancel()
        await settled(3)
    assert ended.is_set()
    assert not other_tasks()


async def test_a_tool_that_will_not_end_does_not_hold_the_run_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "GRACE", 0.01)
    let_go, begun = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                begun.set()
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    agent, _ = scripted(calls(call("stubborn", "a"), call("stubborn", "b")), tools=[stubborn])
    async with agent.stream("go") as run:
        await begun.wait()
    result = await run
    check_paired(result)
    let_go.set()
    await settled()
    assert isinstance(run._feed.items[-1], RunFinished)
    assert not other_tasks()
