"""The bridges: any items, any end, from threads to loops and back."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import aclosing, closing

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm import aio
from abstractllm.aio import iterate_in_thread, to_the_end
from abstractllm.errors import UnsupportedOperationError
from abstractllm.portal import Portal, portal
from abstractllm.threads import DaemonThreads

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


class Lost(Exception):
    """What the sources below raise."""


class Source:
    """Yields numbers, fails where it is told to, and remembers where it ran and how it ended."""

    def __init__(self, length=1000, fail_at=None):
        self.length = length
        self.fail_at = fail_at
        self.made = 0
        self.taken = 0
        self.lead = 0
        self.ran_in = set()
        self.closed_in = []

    def _step(self, number):
        self.ran_in.add(threading.get_ident())
        if number == self.fail_at:
            raise Lost(number)
        self.made += 1
        self.lead = max(self.lead, self.made - self.taken)

    def blocking(self):
        try:
            for number in range(self.length):
                self._step(number)
                yield number
        finally:
            self.closed_in.append(threading.get_ident())

    async def native(self):
        try:
            for number in range(self.length):
                self._step(number)
                await asyncio.sleep(0)
                yield number
        finally:
            self.closed_in.append(threading.get_ident())

    def check_closed_once_where_it_ran(self):
        assert len(self.closed_in) == 1
        assert self.ran_in <= set(self.closed_in)
        assert threading.get_ident() not in self.closed_in


@pytest.fixture
def threads():
    executor = DaemonThreads(4, "test")
    yield executor
    executor.shutdown(cancel_futures=True)


def expected_items(length, fail_at, leave_after):
    """What a reader gets who leaves after so many items, and whether it meets the error."""
    end = length if fail_at is None else min(length, fail_at)
    if leave_after is not None and leave_after <= end:
        return list(range(leave_after)), False
    return list(range(end)), fail_at is not None and fail_at < length


scripts = st.tuples(
    st.integers(0, 40), st.none() | st.integers(0, 40), st.none() | st.integers(1, 40), st.integers(1, 20)
)


@given(scripts)
@settings(max_examples=60, deadline=None)
def test_a_loop_reads_any_generator_to_any_end(script):
    length, fail_at, leave_after, buffer = script
    source, left, threads = Source(length, fail_at), [], DaemonThreads(1, "test")

    async def read():
        items = []
        stream = iterate_in_thread(source.blocking, threads, on_leave=lambda: left.append(1), buffer=buffer)
        async with aclosing(stream):
            try:
                async for item in stream:
                    items.append(item)
                    source.taken += 1
                    if len(items) == leave_after:
                        break
            except Lost:
                return items, True
        return items, False

    assert asyncio.run(read()) == expected_items(length, fail_at, leave_after)
    threads.shutdown()
    source.check_closed_once_where_it_ran()
    assert left == [1]
    assert source.lead <= buffer + 2  # the buffer, one in hand, and one that was taken and is not yet counted above


@given(scripts)
@settings(max_examples=60, deadline=None)
def test_a_thread_reads_any_async_generator_to_any_end(script):
    length, fail_at, leave_after, buffer = script
    source = Source(length, fail_at)

    def read():
        items = []
        with closing(portal().iterate(source.native, buffer=buffer)) as stream:
            try:
                for item in stream:
                    items.append(item)
                    source.taken += 1
                    if len(items) == leave_after:
                        break
            except Lost:
                return items, True
        return items, False

    assert read() == expected_items(length, fail_at, leave_after)
    source.check_closed_once_where_it_ran()
    assert source.lead <= buffer + 2  # the buffer, one in hand, and one that was taken and is not yet counted above


async def test_a_slow_loop_holds_the_generator_back(threads):
    held = threading.Event()

    def numbers():
        for number in range(100):
            if number == 5:  # one taken, three in the buffer, one in hand: this one must wait for the reader
                held.set()
            yield number

    async with aclosing(iterate_in_thread(numbers, threads, on_leave=lambda: None, buffer=3)) as stream:
        assert await anext(stream) == 0
        assert not held.is_set()
        assert await anext(stream) == 1
        await asyncio.to_thread(held.wait)


async def test_the_loop_goes_on_while_the_generator_blocks(threads):
    gate = threading.Event()

    def waits():
        gate.wait()
        yield "open"

    async with aclosing(iterate_in_thread(waits, threads, on_leave=lambda: None)) as stream:
        task = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        gate.set()
        assert await task == "open"


@given(st.integers(0, 60), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_cancelling_at_any_await_closes_the_generator_in_its_thread(steps, buffer):
    source, left, threads = Source(10_000), [], DaemonThreads(1, "test")

    async def read():
        stream = iterate_in_thread(source.blocking, threads, on_leave=lambda: left.append(1), buffer=buffer)
        async with aclosing(stream):
            async for _ in stream:
                pass

    async def main():
        task = asyncio.create_task(read())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    threads.shutdown()
    if source.ran_in:
        source.check_closed_once_where_it_ran()


async def test_a_reader_that_vanishes_lets_the_generator_go(threads):
    source = Source(10_000)
    stream = iterate_in_thread(source.blocking, threads, on_leave=lambda: None)
    await anext(stream)
    del stream
    gc.collect()
    await asyncio.to_thread(threads.shutdown)
    source.check_closed_once_where_it_ran()


def test_a_loop_that_is_closed_without_care_lets_the_generator_go(threads):
    source = Source(10_000)
    loop = asyncio.new_event_loop()

    async def begin():
        stream = iterate_in_thread(source.blocking, threads, on_leave=lambda: None)
        await anext(stream)
        return stream

    stream = loop.run_until_complete(begin())
    loop.close()
    threads.shutdown()
    source.check_closed_once_where_it_ran()
    del stream
    assert not aio.at_exit


async def test_a_stream_whose_turn_never_came_ends_with_an_error():
    threads, gate = DaemonThreads(1, "test"), threading.Event()
    running = threads.submit(gate.wait)
    stream = iterate_in_thread(Source().blocking, threads, on_leave=lambda: None)
    task = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    threads.shutdown(wait=False, cancel_futures=True)
    gate.set()
    with pytest.raises(UnsupportedOperationError, match="closed before"):
        await task
    assert running.result()


def test_many_loops_share_one_executor(threads):
    async def read():
        stream = iterate_in_thread(Source(50).blocking, threads, on_leave=lambda: None, buffer=2)
        return [item async for item in stream]

    async def several():
        return await asyncio.gather(*(read() for _ in range(5)))

    results = []
    loops = [threading.Thread(target=lambda: results.append(asyncio.run(several()))) for _ in range(6)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert results == [[list(range(50))] * 5] * 6


async def test_context_variables_reach_the_generator(threads):
    VARIABLE.set("seen")

    def reads():
        yield VARIABLE.get()

    assert [item async for item in iterate_in_thread(reads, threads, on_leave=lambda: None)] == ["seen"]


def test_context_variables_reach_the_portal():
    async def reads():
        yield VARIABLE.get()

    async def read():
        return VARIABLE.get()

    def check():
        VARIABLE.set("seen")
        assert list(portal().iterate(reads)) == ["seen"]
        assert portal().run(read) == "seen"

    contextvars.copy_context().run(check)


def test_the_portal_returns_results_and_raises_errors():
    async def answer():
        return 42

    async def fail():
        raise Lost

    assert portal().run(answer) == 42
    with pytest.raises(Lost):
        portal().run(fail)


def test_an_exit_in_async_code_does_not_end_the_portal():
    async def leave():
        raise SystemExit(3)

    async def answer():
        return 42

    with pytest.raises(SystemExit):
        portal().run(leave)
    assert portal().run(answer) == 42


def test_a_sync_call_on_the_portals_own_loop_is_refused():
    async def inside():
        portal().check()

    with pytest.raises(UnsupportedOperationError, match="async form"):
        portal().run(inside)


def test_a_sync_stream_that_vanishes_is_closed():
    source = Source(10_000)
    stream = portal().iterate(source.native)
    next(stream)
    del stream
    gc.collect()
    source.check_closed_once_where_it_ran()


async def test_a_sync_stream_works_inside_a_running_loop():
    assert list(portal().iterate(Source(5).native)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("streaming", [False, True])
def test_an_interrupt_cancels_the_work_and_waits_for_its_end(streaming):
    ended = []

    async def wait():
        try:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    async def stream():
        await wait()
        yield

    with pytest.raises(KeyboardInterrupt):
        next(portal().iterate(stream)) if streaming else portal().run(wait)
    assert ended == [1]


def test_closing_a_portal_ends_what_runs_and_refuses_what_comes():
    own, begun, outcome = Portal(), threading.Event(), []

    async def endless():
        yield "first"
        await asyncio.Event().wait()

    def read():
        try:
            for _ in own.iterate(endless):
                begun.set()
        except UnsupportedOperationError as error:
            outcome.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait()
    own.close()
    reader.join()
    assert "cancelled" in str(outcome[0])
    with pytest.raises(UnsupportedOperationError, match="exiting"):
        own.run(asyncio.Event().wait)
    own.close()
    assert not own._thread.is_alive()


def run_script(code, timeout=60):
    """Run a program that must end by itself, without a word on standard error; return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


ENDLESS = """
    import asyncio, os
    from abstractllm.errors import UnsupportedOperationError
    from abstractllm.providers.base import BaseProvider
    from abstractllm.types import GenerateResponse

    class Sync(BaseProvider):
        def _stream(self, request, call):
            while True:
                yield GenerateResponse(content="x")

    class Async(BaseProvider):
        async def _astream(self, request, call):
            while True:
                await asyncio.sleep(0)
                yield GenerateResponse(content="x")
"""

UNFINISHED = {
    "sync stream": "next(held := Sync().generate('Hi', stream=True))",
    "sync stream with a limit": "next(held := Sync().generate('Hi', stream=True, timeout=100))",
    "sync stream of an async provider": "next(held := Async().generate('Hi', stream=True))",
    "loop left open": """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    held = Sync().generate_async('Hi', stream=True)
    loop.run_until_complete(held)
    loop._selector.close(), loop._ssock.close(), loop._csock.close()  # else the interpreter says so
    loop.__class__.__del__ = lambda self: None""",
    "loop closed": "held = asyncio.run(Sync().generate_async('Hi', stream=True))",
}


@pytest.mark.parametrize("case", sorted(UNFINISHED))
def test_an_interpreter_with_an_unfinished_stream_exits(case):
    assert run_script(f"{ENDLESS}\n    {UNFINISHED[case]}\n    print('done')") == "done\n"


FORK = """
    def in_child(work):
        child = os.fork()
        if not child:
            try:
                work()
            except UnsupportedOperationError as error:
                print("refused" if "forked" in str(error) else error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
"""


BEGUN = "asyncio.run((llm := Sync()).generate_async('Hi', stream=True))"


@pytest.mark.parametrize(
    ("case", "printed"),
    [
        ("next(held := (llm := Async()).generate('Hi', stream=True)); in_child(lambda: llm.generate('Hi'))", "refused"),
        ("next(held := Async().generate('Hi', stream=True)); in_child(held.close)", ""),
        (f"{BEGUN}; in_child(lambda: asyncio.run(llm.generate_async('Hi')))", "refused"),
        (f"{BEGUN}; in_child(llm.close)", ""),
    ],
    ids=["sync call", "open stream", "async call", "close"],
)
def test_a_forked_child_is_refused_and_never_hangs(case, printed):
    assert run_script(f"{ENDLESS}{FORK}\n    {case}").strip() == printed


async def test_a_function_that_runs_to_the_end_is_never_left():
    begun, go, ended = threading.Event(), threading.Event(), []

    def work():
        begun.set()
        assert go.wait(10)
        ended.append(VARIABLE.get())

    VARIABLE.set("here")
    task = asyncio.create_task(to_the_end(work))
    assert await asyncio.to_thread(begun.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["here"]


async def test_a_function_that_runs_to_the_end_returns_or_raises():
    def lose():
        raise Lost

    assert await to_the_end(lambda: 5) == 5
    with pytest.raises(Lost):
        await to_the_end(lose)
