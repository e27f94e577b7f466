"""The pacer: never more than its limits in any minute, first come first served, whatever the loops do."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.errors import RequestTimeoutError, UnsupportedOperationError
from abstractllm.providers.call import Call
from abstractllm.providers.http.pacing import Pace, Pacer, SystemClock, estimated_tokens
from abstractllm.providers.http.window import SPAN
from abstractllm.testing.clock import ManualClock
from abstractllm.types import GenerateRequest, GenerateResponse, Message, Timeout, Usage

from .waiting import turns_of_the_loop


def asked(text="Hi", **params):
    return GenerateRequest((Message("user", text),), **params)


# The pacer, in one loop.


class Crowd:
    """Requests that go through a pacer in tasks, and what became of them."""

    def __init__(self, **pace):
        self.clock = ManualClock()
        self.pacer = Pacer(self.clock, Pace(**pace))
        self.begun = []
        self.tasks = {}
        self.leave = {}

    def start(self, number, tokens=1, call=None, real=None):
        self.leave[number] = asyncio.Event()
        request = asked("x" * 4 * tokens)
        self.tasks[number] = asyncio.create_task(self._one(number, request, call or Call(), real))

    async def _one(self, number, request, call, real):
        with self.pacer.turn(lambda: estimated_tokens(request), call) as turn:
            await turn.begin()
            self.begun.append((number, self.clock.now()))
            if real is not None:
                turn.noted(GenerateResponse(usage=Usage(real, 0)))
            await self.leave[number].wait()

    @property
    def order(self):
        return [number for number, _ in self.begun]

    async def end(self):
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


async def test_requests_begin_in_order_and_no_sooner_than_they_may():
    crowd = Crowd(requests_per_minute=2)
    for number in range(5):
        crowd.start(number)
    await turns_of_the_loop()
    assert crowd.order == [0, 1]
    crowd.clock.advance(59.9)
    await turns_of_the_loop()
    assert crowd.order == [0, 1]
    crowd.clock.advance(0.1)
    await turns_of_the_loop()
    assert crowd.order == [0, 1, 2, 3]
    crowd.clock.advance(60)
    await turns_of_the_loop()
    assert [moment for _, moment in crowd.begun] == [0, 0, 60, 60, 120]
    await crowd.end()


async def test_at_most_so_many_at_once_and_the_next_when_one_ends():
    crowd = Crowd(max_concurrency=2)
    for number in range(4):
        crowd.start(number)
    await turns_of_the_loop()
    assert crowd.order == [0, 1]
    crowd.leave[1].set()
    await turns_of_the_loop()
    assert crowd.order == [0, 1, 2]
    crowd.tasks[0].cancel()
    await turns_of_the_loop()
    assert crowd.order == [0, 1, 2, 3], "one that is cancelled gives its place back as well"
    assert crowd.clock.waits == []
    await crowd.end()


async def test_a_large_request_is_not_overtaken_for_ever():
    crowd = Crowd(tokens_per_minute=10)
    for number, tokens in enumerate([8, 9, 1, 1]):
        crowd.start(number, tokens)
    await turns_of_the_loop()
    assert crowd.order == [0]
    crowd.clock.advance(60)
    await turns_of_the_loop()
    assert crowd.order == [0, 1, 2]
    await crowd.end()


async def test_what_was_used_counts_instead_of_the_estimate():
    crowd = Crowd(tokens_per_minute=10)
    crowd.start(0, 8, real=2)
    crowd.start(1, 8)
    await turns_of_the_loop()
    assert crowd.order == [0, 1], "2 of 10 were used, so there was room for 8"
    crowd.start(2, 1)
    await turns_of_the_loop()
    assert crowd.order == [0, 1]
    await crowd.end()
    more = Crowd(tokens_per_minute=10)
    more.start(0, 1, real=30)
    more.start(1, 1)
    await turns_of_the_loop()
    more.clock.advance(59)
    await turns_of_the_loop()
    assert more.order == [0]
    await more.end()


async def test_a_request_larger_than_the_limit_goes_alone():
    crowd = Crowd(tokens_per_minute=10)
    crowd.start(0, 5)
    crowd.start(1, 500)
    crowd.start(2, 1)
    await turns_of_the_loop()
    assert crowd.order == [0]
    crowd.clock.advance(60)
    await turns_of_the_loop()
    assert crowd.order == [0, 1]
    crowd.clock.advance(60)
    await turns_of_the_loop()
    assert crowd.order == [0, 1, 2]
    await crowd.end()


async def test_one_who_gives_up_lets_those_behind_move_up():
    crowd = Crowd(requests_per_minute=1)
    for number in range(3):
        crowd.start(number)
    await turns_of_the_loop()
    crowd.tasks[1].cancel()
    crowd.clock.advance(60)  # gives it the place before it can say that it is gone
    await turns_of_the_loop()
    assert crowd.begun == [(0, 0), (2, 60)]
    await crowd.end()


async def test_a_wait_beyond_the_deadline_fails_at_once():
    crowd = Crowd(requests_per_minute=1)
    for number in range(2):
        crowd.start(number)
    await turns_of_the_loop()
    cases = [(Timeout(total=119), "total"), (Timeout(first_event=50, total=1000), "first_event")]
    for number, (timeout, limit) in enumerate(cases, 2):
        crowd.start(number, call=Call(timeout))
        with pytest.raises(RequestTimeoutError, match="in 120.0 s") as caught:
            await crowd.tasks[number]
        assert caught.value.limit == limit
    crowd.start(9, call=Call(Timeout(total=200)))
    await turns_of_the_loop()
    for _ in range(2):
        crowd.clock.advance(60)
        await turns_of_the_loop()
    assert crowd.begun == [(0, 0), (1, 60), (9, 120)], "those that failed have left the line"
    await crowd.end()


async def test_a_call_can_say_how_many_wait_before_it():
    crowd = Crowd(requests_per_minute=1)
    calls = [Call() for _ in range(3)]
    for number, call in enumerate(calls):
        crowd.start(number, call=call)
    await turns_of_the_loop()
    assert [call.queue_position for call in calls] == [None, 0, 1]
    crowd.clock.advance(60)
    assert [call.queue_position for call in calls] == [None, None, 0]
    await crowd.end()


async def test_new_limits_hold_for_those_who_wait_and_forget_nothing():
    crowd = Crowd(requests_per_minute=2)
    for number in range(6):
        crowd.start(number)
    await turns_of_the_loop()
    crowd.pacer.set(Pace(requests_per_minute=3))
    await turns_of_the_loop()
    assert crowd.order == [0, 1, 2]
    crowd.pacer.set(Pace())
    await turns_of_the_loop()
    assert crowd.order == [0, 1, 2, 3, 4, 5]
    await crowd.end()


ACTIONS = st.one_of(
    st.tuples(st.just("start"), st.integers(1, 12), st.integers(0, 20)),
    st.tuples(st.just("advance"), st.floats(0.01, 45), st.none()),
    st.tuples(st.just("leave"), st.integers(0, 30), st.none()),
    st.tuples(st.just("cancel"), st.integers(0, 30), st.none()),
)


@settings(max_examples=80)
@given(
    actions=st.lists(ACTIONS, max_size=30),
    requests=st.none() | st.integers(1, 5),
    tokens=st.none() | st.integers(5, 30),
    most=st.none() | st.integers(1, 4),
)
def test_whatever_happens_the_limits_hold_and_nobody_starves(actions, requests, tokens, most):
    asyncio.run(_whatever_happens(actions, requests, tokens, most))


async def _whatever_happens(actions, requests, tokens, most):
    crowd = Crowd(requests_per_minute=requests, tokens_per_minute=tokens, max_concurrency=most)
    sizes, cancelled = {}, set()
    for kind, value, real in actions:
        if kind == "start":
            number = len(sizes)
            sizes[number] = (value, max(1, real))
            crowd.start(number, value, real=max(1, real))
        elif kind == "advance":
            crowd.clock.advance(value)
        elif value in crowd.tasks:
            if kind == "cancel":
                crowd.tasks[value].cancel()
                cancelled.add(value)
            else:
                crowd.leave[value].set()
        await turns_of_the_loop(4 * len(sizes) + 4)  # one who leaves lets the next in, who may leave at once
        assert most is None or running(crowd) <= most
    for _ in range(2 * len(sizes) + 1):
        for event in crowd.leave.values():
            event.set()
        await turns_of_the_loop(4 * len(sizes) + 4)
        crowd.clock.advance(SPAN)
    await turns_of_the_loop()
    assert crowd.order == sorted(crowd.order), "first come, first served"
    assert set(crowd.order) | cancelled == set(sizes), "everybody's turn came"
    for _, moment in crowd.begun:
        inside = [number for number, other in crowd.begun if moment <= other < moment + SPAN - 1e-6]
        assert requests is None or len(inside) <= requests
        *before, last = inside  # each of them counted as it was estimated or as it really was
        used = sum(min(sizes[number]) for number in before) + min(sizes[last][0], tokens or 0)
        assert tokens is None or not before or used <= tokens
    await crowd.end()


def running(crowd):
    begun = set(crowd.order)
    return sum(number in begun and not task.done() for number, task in crowd.tasks.items())


# Several loops.


def test_a_loop_that_is_gone_or_stands_still_holds_up_nobody():
    clock = ManualClock()
    pacer = Pacer(clock, Pace(requests_per_minute=1, max_concurrency=5))
    still, gone = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def first_and_waiting():
        with pacer.turn(lambda: estimated_tokens(asked()), Call()) as turn:
            await turn.begin()
        for loop in (gone, still):
            waiting.append(await _waiting_in(loop, pacer))

    async def _waiting_in(loop, pacer):
        with ThreadPoolExecutor(1) as thread:
            return await asyncio.wrap_future(thread.submit(_enter_in, loop, pacer))

    waiting = []
    asyncio.run(first_and_waiting())
    gone.close()

    async def last():
        with pacer.turn(lambda: estimated_tokens(asked()), Call()) as turn:
            begun = asyncio.ensure_future(turn.begin())
            await turns_of_the_loop()
            clock.advance(60)
            await turns_of_the_loop()
            assert not begun.done(), "the place goes to the loop that stands still, which came first"
            clock.advance(60)
            await begun

    asyncio.run(last())
    assert pacer.has(waiting[1])
    assert not pacer.has(waiting[0])
    still.close()


def _enter_in(loop, pacer):
    async def enter():
        return pacer.enter(1)

    return loop.run_until_complete(enter())


def test_a_place_of_a_closed_loop_is_free_again():
    pacer = Pacer(ManualClock(), Pace(max_concurrency=1))
    loop = asyncio.new_event_loop()
    lost = _enter_in(loop, pacer)
    assert pacer.has(lost)
    loop.close()
    other = asyncio.new_event_loop()
    assert pacer.has(_enter_in(other, pacer))
    other.close()


class Stopped(ManualClock):
    """A clock that calls nobody at first, as the machine's does in a process that was forked."""

    def later(self, seconds, callback):
        if self.now() == 0:
            raise UnsupportedOperationError("This process was forked.")
        super().later(seconds, callback)


async def test_one_whom_no_clock_can_wake_holds_up_nobody():
    crowd = Crowd(requests_per_minute=1)
    crowd.clock = crowd.pacer._clock = Stopped()
    for number in range(3):
        crowd.start(number)
    await turns_of_the_loop()
    assert crowd.order == [0]
    for number in (1, 2):
        with pytest.raises(UnsupportedOperationError, match="forked"):
            await asyncio.wait_for(crowd.tasks[number], 10)
    crowd.clock.advance(60)
    crowd.start(3)
    await turns_of_the_loop()
    assert crowd.order == [0, 3]
    await crowd.end()


def test_the_machines_clock_wakes_who_waits():
    """A window that is full until a tenth of a second from now; nothing is measured, only that the wait ends."""

    class Early(SystemClock):
        def now(self):
            return time.monotonic() + (SPAN - 0.1 if self.shifted else 0)

    clock = Early()
    clock.shifted = False
    pacer = Pacer(clock, Pace(requests_per_minute=1))

    async def two():
        for _ in range(2):
            with pacer.turn(lambda: estimated_tokens(asked()), Call()) as turn:
                await turn.begin()
            clock.shifted = True
        return "both"

    assert asyncio.run(two()) == "both"
