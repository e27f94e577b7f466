"""Turns of a session: one after the other from wherever they come, and what is kept of those that end early."""

import asyncio
import threading

import pytest

from abstractllm import InvalidParameterError, Limits, Session, tool
from abstractllm.agent import TextDelta

from .models import Held, Line, calling, is_paired, scripted, told


@pytest.fixture
def held():
    with Held() as llm:
        yield llm


def in_line(session):
    """Return the semaphore that is released for each turn of the session that comes."""
    session._turnstile._waiting = line = Line()
    return line.came


async def acquired(semaphore):
    assert await asyncio.to_thread(semaphore.acquire, timeout=10)


# In their order.


async def test_tasks_take_turns_in_the_order_in_which_they_began():
    session = Session("echo")
    await asyncio.gather(*(session.send_async(str(number)) for number in range(20)))
    assert told(session) == [str(number // 2) for number in range(40)]


async def test_threads_and_event_loops_take_turns_in_their_order(held):
    session = Session(held)
    came = in_line(session)
    ways = [
        lambda: session.send("1"),
        lambda: asyncio.run(session.send_async("2")),
        lambda: list(session.send("3", stream=True)),
        lambda: asyncio.run(asyncio.wait_for(session.send_async("4"), 20)),
        lambda: session.stream("5").result(),
    ]
    threads = [threading.Thread(target=way) for way in ways]
    first = asyncio.create_task(session.send_async("hold"))
    await acquired(came)
    for thread in threads:
        thread.start()
        await acquired(came)
    held.go.set()
    for thread in threads:
        await asyncio.to_thread(thread.join, 20)
    assert await first == "Well, then."
    assert told(session)[::2] == ["hold", "1", "2", "3", "4", "5"]


def test_many_threads_and_loops_at_once():
    session = Session("echo")

    async def several(name):
        await asyncio.gather(*(session.send_async(f"{name} {number}") for number in range(5)))

    ways = [lambda name=name: asyncio.run(several(name)) for name in range(3)]
    ways += [lambda name=name: [session.send(f"{name} {number}") for number in range(5)] for name in range(3, 6)]
    threads = [threading.Thread(target=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    asked, answered = told(session)[::2], told(session)[1::2]
    assert asked == answered
    assert sorted(asked) == sorted(f"{name} {number}" for name in range(6) for number in range(5))
    for name in range(6):
        assert [one for one in asked if one.startswith(str(name))] == [f"{name} {number}" for number in range(5)]


async def test_a_turn_sees_the_one_before_it():
    llm = scripted("One.", "Two.")
    session = Session(llm)
    replies = [session.send_async("1"), session.send_async("2")]
    await asyncio.gather(*replies)
    assert [turn.text for turn in (await replies[1]).result.messages] == ["1", "One.", "2", "Two."]


async def test_clear_waits_for_the_turn_before_it(held):
    session = Session(held)
    came = in_line(session)
    turn = asyncio.create_task(session.send_async("hold"))
    await acquired(came)
    clearing = asyncio.create_task(asyncio.to_thread(session.clear))
    await acquired(came)
    after = asyncio.create_task(session.send_async("Hi"))
    held.go.set()
    await asyncio.gather(turn, clearing, after)
    assert told(session) == ["Hi", "Well, then."]


# That end early.


async def speaking(session, held):
    """Return a task that reads a reply, and the pieces it has; one has come."""
    pieces = []

    async def read():
        async for piece in session.send_async("hold"):
            pieces.append(piece)

    task = asyncio.create_task(read())
    assert await asyncio.to_thread(held.speaks.wait, 10)
    return task, pieces


async def test_what_a_cancelled_turn_had_said_is_kept(held):
    session = Session(held)
    task, pieces = await speaking(session, held)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert pieces == ["Well, "]
    assert told(session) == ["hold", "Well, "]
    assert await session.send_async("Hi") == "Well, then."


async def test_a_turn_that_had_said_nothing_is_not_kept(held):
    session = Session(held)
    whole = asyncio.create_task(session.send_async("hold"))  # an answer that is wanted whole has no pieces
    assert await asyncio.to_thread(held.speaks.wait, 10)
    whole.cancel()
    await asyncio.wait([whole], timeout=10)
    assert session.messages == ()
    assert await session.send_async("Hi") == "Well, then."


@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_at_any_step_the_turn_is_handed_on(steps, tmp_path):
    """Whatever it was at: waiting for its turn, reading its file, asking, calling, ending."""

    async def f() -> str:
        await asyncio.sleep(0)
        return "done"

    (tmp_path / "a.txt").write_text("inside")
    session = Session(scripted(calling("f"), *["Yes."] * 4), tools=[f])
    tasks = [asyncio.create_task(session.send_async(str(number), files=[tmp_path / "a.txt"])) for number in range(3)]
    for _ in range(steps):
        await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[1].cancel()
    await asyncio.wait(tasks, timeout=10)
    assert tasks[2].done()
    assert is_paired(session.messages)
    assert await session.send_async("last") in ("Yes.", "")


async def test_a_turn_that_waits_is_cancelled_alone(held):
    session = Session(held)
    came = in_line(session)
    first = asyncio.create_task(session.send_async("hold"))
    await acquired(came)
    second, third = (asyncio.create_task(session.send_async(text)) for text in "23")
    await acquired(came)
    await acquired(came)
    second.cancel()
    await asyncio.wait([second], timeout=10)
    held.go.set()
    await asyncio.gather(first, third)
    assert told(session)[::2] == ["hold", "3"]


async def test_calls_of_a_cancelled_turn_have_results():
    begun = asyncio.Event()

    async def quick() -> str:
        return "quick"

    async def slow() -> str:
        begun.set()
        await asyncio.Event().wait()
        return "never"

    session = Session(scripted(calling("quick", "slow", content="Let me see."), "Go on."), tools=[quick, slow])
    run = session.stream("Go")
    task = asyncio.ensure_future(run.wait())
    await begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert [(one.role, one.text) for one in session.messages[:3]] == [
        ("user", "Go"),
        ("assistant", "Let me see."),
        ("tool", "quick"),
    ]
    assert "cancelled" in session.messages[3].text
    assert await session.send_async("And?") == "Go on."
    assert is_paired(session.messages)


def test_leaving_a_blocking_stream_keeps_what_was_said(held):
    session = Session(held)
    for piece in session.send("hold", stream=True):
        assert piece == "Well, "
        break
    assert session.send("Hi") == "Well, then."
    assert told(session) == ["hold", "Well, ", "Hi", "Well, then."]


async def test_leaving_an_async_stream_keeps_what_was_said(held):
    session = Session(held)
    async for piece in session.send_async("hold"):
        assert piece == "Well, "
        break
    assert await session.send_async("Hi") == "Well, then."
    assert told(session) == ["hold", "Well, ", "Hi", "Well, then."]


def test_leaving_the_event_loop_keeps_what_was_said(held):
    session = Session(held)

    async def main():
        async for _ in session.send_async("hold"):
            return

    asyncio.run(main())
    assert told(session) == ["hold", "Well, "]


async def test_a_reply_that_is_cancelled_has_what_was_said(held):
    session = Session(held)
    async with session.stream("hold") as run:
        async for event in run:
            if isinstance(event, TextDelta):
                run.cancel()
    result = await run
    assert (result.text, result.stop) == ("Well, ", "cancelled")
    assert told(session) == ["hold", "Well, "]


async def test_a_turn_that_runs_out_of_time_is_kept_as_far_as_it_came(held):
    session = Session(held, limits=Limits(seconds=0.05))
    answer = "".join([piece async for piece in session.send_async("hold")])
    assert answer == "Well, "
    assert told(session) == ["hold", "Well, "]


async def test_approvals_that_another_turn_has_used_are_no_turn():
    @tool(approval=True)
    def remove() -> str:
        return "removed"

    session = Session(scripted(calling("remove"), "Done.", "More."), tools=[remove])
    await session.send_async("Go")
    assert [call.id for call in session.pending] == ["remove"]
    first, second = (session.send_async(approvals={"remove": True}) for _ in range(2))
    done = await asyncio.gather(first, second, return_exceptions=True)
    assert done[0] == "Done."
    assert isinstance(done[1], InvalidParameterError)
    assert session.pending == ()
    assert await session.send_async("More") == "More."
