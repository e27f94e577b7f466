"""The lock of a session: one at a time, in order, whoever is cancelled, closed or gone."""

import asyncio
import os
import threading

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.errors import UnsupportedOperationError
from abstractllm.session.turnstile import Turnstile


@pytest.fixture
def turnstile():
    return Turnstile()


async def waiting(turnstile):
    """Return a task that has come to the turnstile."""
    task = asyncio.create_task(turnstile.enter())
    await asyncio.sleep(0)
    return task


async def is_free(turnstile):
    turnstile.leave(await asyncio.wait_for(turnstile.enter(), 10))


def test_several_loops_get_through_in_their_order(turnstile):
    order = []

    def one(number, come):
        async def main():
            task = await waiting(turnstile)
            come.set()
            ticket = await task
            order.append(number)
            turnstile.leave(ticket)

        asyncio.run(main())

    async def hold():
        ticket = await turnstile.enter()
        threads = []
        for number in range(5):
            come = threading.Event()
            threads.append(threading.Thread(target=one, args=(number, come)))
            threads[-1].start()
            assert await asyncio.to_thread(come.wait, 10)
        turnstile.leave(ticket)
        return threads

    for thread in asyncio.run(hold()):
        thread.join(10)
    assert order == [0, 1, 2, 3, 4]


def test_never_two_at_a_time(turnstile):
    inside, seen = [], []

    async def walk():
        for _ in range(50):
            ticket = await turnstile.enter()
            inside.append(ticket)
            seen.append(len(inside))
            await asyncio.sleep(0)
            inside.remove(ticket)
            turnstile.leave(ticket)

    async def several():
        await asyncio.gather(walk(), walk(), walk())

    threads = [threading.Thread(target=lambda: asyncio.run(several())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == [1] * 450


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["come", "cancel", "leave", "rest"]), st.integers(0, 9)), max_size=30))
def test_any_order_of_events(events):
    """However they come, go and are cancelled: one is inside, the order holds, and in the end it is free."""

    async def main():
        turnstile, tasks, inside = Turnstile(), [], []

        async def come(number):
            ticket = await turnstile.enter()
            inside.append(number)
            try:
                await asyncio.Event().wait()
            finally:
                inside.remove(number)
                turnstile.leave(ticket)

        for what, number in events:
            if what == "come":
                tasks.append(asyncio.create_task(come(len(tasks))))
            elif what == "cancel" and tasks:
                tasks[number % len(tasks)].cancel()
            elif what == "leave" and inside:
                tasks[inside[0]].cancel()
            else:
                await rest()
                alive = [number for number, task in enumerate(tasks) if not task.done()]
                assert inside == alive[:1]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await is_free(turnstile)

    async def rest():
        for _ in range(6):
            await asyncio.sleep(0)

    asyncio.run(main())


async def test_one_who_is_cancelled_as_the_turn_comes_hands_it_on(turnstile):
    ticket = await turnstile.enter()
    first, second = await waiting(turnstile), await waiting(turnstile)
    turnstile.leave(ticket)
    await asyncio.sleep(0)  # the turn has come, and `first` has not noticed yet
    first.cancel()
    turnstile.leave(await asyncio.wait_for(second, 10))
    assert first.cancelled()


async def test_a_coroutine_that_is_closed_waits_no_more(turnstile):
    ticket = await turnstile.enter()
    gone = turnstile.enter()
    gone.send(None)
    gone.close()
    turnstile.leave(ticket)
    await is_free(turnstile)


async def test_leaving_twice_lets_in_one(turnstile):
    ticket = await turnstile.enter()
    first, second = await waiting(turnstile), await waiting(turnstile)
    turnstile.leave(ticket)
    turnstile.leave(ticket)
    await asyncio.wait([first], timeout=10)
    turnstile.leave(ticket)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not second.done()
    turnstile.leave(first.result())
    turnstile.leave(await second)


def close_with(make):
    """Run a loop until one who comes is inside or waits, and close it; return the task, to be let go of."""
    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(make())
    loop.close()
    return task


def test_who_is_inside_on_a_closed_loop_is_gone(turnstile):
    async def come():
        return await turnstile.enter()

    gone = close_with(come)
    asyncio.run(is_free(turnstile))

    async def late():
        ticket = await turnstile.enter()
        turnstile.leave(gone)  # says nothing about who is inside now
        other = await waiting(turnstile)
        assert not other.done()
        turnstile.leave(ticket)
        turnstile.leave(await other)

    asyncio.run(late())


def test_who_waits_on_a_closed_loop_is_passed_over(turnstile):
    async def main():
        ticket = await turnstile.enter()
        gone = await asyncio.to_thread(close_with, come)
        after = await waiting(turnstile)
        turnstile.leave(ticket)
        turnstile.leave(await asyncio.wait_for(after, 10))
        return gone

    async def come():
        coroutine = turnstile.enter()
        coroutine.send(None)
        return coroutine

    asyncio.run(main()).close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_who_is_inside_in_the_parent_is_not_in_the_child(turnstile):
    async def come():
        await turnstile.enter()
        return await waiting(turnstile)

    async def main():
        task = await come()
        child = os.fork()
        if not child:
            os._exit(_status(turnstile))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert not task.done()  # and who is inside here stays there
        task.cancel()

    asyncio.run(main())


def _status(turnstile):
    """Return 0 from a child that gets in."""
    try:
        asyncio.run(is_free(turnstile))
    except BaseException:
        return 1
    return 0


async def test_a_thread_may_not_block_the_loop_that_it_waits_for(turnstile):
    turnstile.check_may_block()
    ticket = await turnstile.enter()
    with pytest.raises(UnsupportedOperationError, match="send_async"):
        turnstile.check_may_block()
    await asyncio.to_thread(turnstile.check_may_block)
    turnstile.leave(ticket)
    turnstile.check_may_block()
