"""One run as its readers hold it: any number of them, anywhere, each sees all of it."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import pytest

from abstractllm import ProviderConnectionError, UnsupportedOperationError
from abstractllm.agent import Agent, Run, RunFinished, RunStarted, TextDelta, TurnFinished
from abstractllm.agent.plan import Task
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.types import Message

from .scripting import call, calls, check_paired, other_tasks, scripted, settled

TEXT = "one two three four"


async def read(run: Run[Any]) -> list[Any]:
    """Everything that an async reader sees."""
    return [event async for event in run]


async def test_a_run_is_told_from_its_beginning_to_its_end() -> None:
    run = scripted("one two")[0].stream("go")
    events = await read(run)
    assert [type(one) for one in events] == [RunStarted, TextDelta, TextDelta, TurnFinished, RunFinished]
    assert events[0].messages == (Message("user", "go"),)
    assert events[-1].result is await run


async def test_readers_that_come_together_late_and_from_elsewhere_all_see_everything() -> None:
    run = scripted(TEXT)[0].stream("go")
    found: list[list[Any]] = []

    def other_loop() -> None:
        found.append(asyncio.run(read(run)))

    def other_thread() -> None:
        found.append(list(run))

    first = await asyncio.gather(
        read(run), read(run), asyncio.to_thread(other_loop), asyncio.to_thread(other_thread), run.wait()
    )
    late = await read(run)
    assert first[0] == first[1] == late == found[0] == found[1]
    assert list(run) == late
    assert "".join(run.text()) == TEXT == run.result().text
    assert run.result() is first[4] is await run


def test_a_sync_run_can_be_read_by_others_while_it_goes_on() -> None:
    run = scripted(TEXT)[0].stream("go")
    events = iter(run)
    first = next(events)
    assert asyncio.run(read(run)) == [first, *events] == list(run)


def test_a_sync_reader_gets_the_pieces_as_they_are_written() -> None:
    agent = Agent(EchoProvider())
    for _ in range(50):
        assert list(agent.stream(TEXT).text()) == ["one ", "two ", "three ", "four"]


def test_threads_that_begin_to_read_at_the_same_time_start_one_run() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            agent, script = scripted("yes", "yes")
            run, barrier, found = agent.stream("go"), threading.Barrier(6), []

            def reader(run: Any = run, barrier: Any = barrier, found: list[Any] = found) -> None:
                barrier.wait()
                found.append([type(event) for event in run])

            threads = [threading.Thread(target=reader) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(script.requests) == 1
            assert found == [[RunStarted, TextDelta, TurnFinished, RunFinished]] * 6
    finally:
        sys.setswitchinterval(interval)


async def test_an_error_is_raised_on_every_later_reading() -> None:
    run = scripted(Reply(TEXT, error=ProviderConnectionError("gone"), error_after=2))[0].stream("go")
    for _ in range(2):
        seen: list[Any] = []
        with pytest.raises(ProviderConnectionError):
            await collect(run, seen)
        assert [one.text for one in seen if isinstance(one, TextDelta)] == ["one ", "two "]
        with pytest.raises(ProviderConnectionError):
            await run
        with pytest.raises(ProviderConnectionError):
            run.result()
        with pytest.raises(ProviderConnectionError):
            list(run.text())
    assert run.messages == (Message("user", "go"),)


async def collect(run: Run[Any], seen: list[Any]) -> None:
    """Put events into a list as they come."""
    async for event in run:
        seen.append(event)


async def test_a_reader_that_leaves_while_another_stays_ends_nothing() -> None:
    run = scripted(TEXT)[0].stream("go")
    staying = asyncio.ensure_future(read(run))
    async for event in run:
        if isinstance(event, TextDelta):
            break
    await settled()
    assert [type(one) for one in await staying][-1] is RunFinished
    assert (await run).stop == "end"


def endless() -> Agent:
    """An agent whose tool waits until it is cancelled."""

    async def hang() -> None:
        await asyncio.Event().wait()

    return scripted(calls(call("hang"), text="Let me see."), tools=[hang])[0]


async def until_hanging(run: Run[Any]) -> None:
    """Read until the tool is called."""
    async for event in run:
        if type(event).__name__ == "ToolStarted":
            break


async def test_leaving_early_in_any_async_way_ends_the_run() -> None:
    runs: list[Run[Any]] = []
    runs.append(endless().stream("go"))
    async with runs[-1] as run:
        await until_hanging(run)

    runs.append(endless().stream("go"))
    reading = asyncio.ensure_future(read(runs[-1]))
    await until_hanging(runs[-1])
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    runs.append(endless().stream("go"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(runs[-1], 0.01)

    runs.append(endless().stream("go"))
    await until_hanging(runs[-1])
    await settled()
    assert not other_tasks()
    for run in runs:
        result = await run
        assert result.stop == "cancelled"
        check_paired(result)


def test_leaving_early_in_any_sync_way_ends_the_run() -> None:
    runs = [endless().stream("go") for _ in range(3)]
    with runs[0] as run:
        for event in run:
            if isinstance(event, TextDelta):
                break
    for event in runs[1]:
        if isinstance(event, TextDelta):
            break
    reading = iter(runs[2])
    next(reading)
    runs[2].cancel()
    list(reading)
    for run in runs:
        result = run.result()
        assert result.stop == "cancelled"
        check_paired(result)


async def test_a_task_group_that_fails_ends_the_runs_in_it() -> None:
    run = endless().stream("go")

    async def fail() -> None:
        await until_hanging(run)
        raise KeyError("x")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.wait())
            group.create_task(fail())

    with pytest.raises(ExceptionGroup):
        await both()
    assert (await run).stop == "cancelled"
    assert not other_tasks()


async def test_cancelled_after_the_turn_all_its_calls_have_their_results() -> None:
    async def note() -> str:
        run.cancel(after_turn=True)
        await settled()
        return "noted"

    agent, script = scripted(calls(call("note")), "never said", tools=[note])
    run = agent.stream("go")
    result = await run
    assert result.stop == "cancelled"
    assert [one.text for one in result.messages] == ["go", "", "noted"]
    assert len(script.requests) == 1


async def test_cancelled_after_the_turn_before_it_has_begun_there_is_one_turn() -> None:
    agent, script = scripted(calls(call("settled", turns=1)), "never said", tools=[settled])
    run = agent.stream("go")
    run.cancel(after_turn=True)
    assert (await run).stop == "cancelled"
    assert len(script.requests) == 1


async def test_a_resumed_turn_is_the_turn_after_which_it_is_cancelled() -> None:
    async def note() -> str:
        run.cancel(after_turn=True)
        return "noted"

    agent, script = scripted("never said", tools=[note])
    run = agent.stream(messages=[Message("user", "go"), Message("assistant", tool_calls=(call("note"),))])
    result = await run
    assert (result.stop, result.messages[-1].text, script.requests) == ("cancelled", "noted", [])


@pytest.mark.parametrize("is_sync", [False, True])
async def test_cancelled_before_it_starts_a_run_asks_nothing_and_keeps_the_conversation(is_sync: bool) -> None:
    agent, script = scripted("never said")
    run = agent.stream("and?", messages=[Message("user", "a"), Message("assistant", "b")])
    run.cancel()
    result = await asyncio.to_thread(run.result) if is_sync else await run
    assert (result.stop, result.output, len(script.requests)) == ("cancelled", "", 0)
    assert [one.text for one in result.messages] == ["a", "b", "and?"]
    assert [one.text for one in result.new_messages] == ["and?"]


async def test_cancelling_a_run_that_has_ended_changes_nothing() -> None:
    run = scripted("yes")[0].stream("go")
    result = await run
    run.cancel()
    await settled()
    assert await run is result
    assert result.stop == "end"


async def test_a_sync_reader_is_refused_where_it_would_wait_for_itself() -> None:
    run = endless().stream("go")
    events = aiter(run)
    await anext(events)
    with pytest.raises(UnsupportedOperationError, match="async for"):
        list(run)
    await events.aclose()  # type: ignore[attr-defined]


def test_a_start_that_was_refused_can_be_made_elsewhere() -> None:
    inner = scripted("yes")[0].stream("go")

    async def careless() -> str:
        try:
            return inner.result().output
        except UnsupportedOperationError:
            return (await inner).output

    agent, _ = scripted(calls(call("careless")), "done", tools=[careless])
    result = agent.run("go")  # on the package's own loop, which cannot wait for itself
    assert result.messages[2].text == "yes"


class Kept:
    """A conversation that takes its time to keep a result."""

    def __init__(self) -> None:
        self.keeping, self.go_on = asyncio.Event(), asyncio.Event()
        self.kept: list[Any] = []
        self.error: Exception | None = None

    async def begin(self) -> Task:
        """Begin at once."""
        return Task((Message("user", "go"),), 1)

    async def end(self, result: Any) -> None:
        """Keep the result when it may."""
        self.keeping.set()
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        self.kept.append(result)


async def test_a_result_that_is_being_kept_cannot_be_cancelled_any_more() -> None:
    occasion = Kept()
    run = scripted("yes")[0].run_on(occasion)
    reading = asyncio.ensure_future(run.wait())
    await occasion.keeping.wait()
    run.cancel()
    await settled()
    occasion.go_on.set()
    result = await reading
    assert (result.stop, occasion.kept) == ("end", [result])


async def test_a_result_that_cannot_be_kept_is_an_error_of_the_run() -> None:
    occasion = Kept()
    occasion.error = OSError("disk full")
    occasion.go_on.set()
    run = scripted("yes")[0].run_on(occasion)
    for _ in range(2):
        with pytest.raises(OSError, match="disk full"):
            await run


def test_a_run_on_a_loop_that_ends_first_is_over() -> None:
    async def start() -> Run[Any]:
        run = endless().stream("go")
        reading = asyncio.ensure_future(read(run))
        reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        await settled()
        return run

    result = asyncio.run(start()).result()
    assert result.stop == "cancelled"
    check_paired(result)


async def test_a_run_that_is_never_read_asks_nothing() -> None:
    asked: list[Any] = []
    Agent(EchoProvider(replies=lambda request: asked.append(request) or "yes")).stream("go")
    await settled()
    assert not asked


def test_a_run_whose_loop_was_closed_has_failed_for_who_comes_later() -> None:
    run = Agent(EchoProvider(replies=lambda request: Reply("one two three", delay=30))).stream("go")
    loop = asyncio.new_event_loop()
    reading = run.__aiter__()
    loop.run_until_complete(anext(reading))
    loop.close()
    for _ in range(2):
        with pytest.raises(UnsupportedOperationError, match="event loop of this run was closed"):
            run.result()
    with run, pytest.raises(UnsupportedOperationError):
        list(run)
