"""What counts as hung, and what becomes of those who wait for the MLX thread when it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from abstractllm.errors import UnsupportedOperationError
from abstractllm.providers.mlx.delivery import LoopSink, SharedSink, ThreadSink
from abstractllm.providers.mlx.watchdog import LOOKS, Watchdog
from abstractllm.providers.mlx.worker import MLXThread
from abstractllm.types import GenerateResponse

NEVER = 3600.0
"""Seconds after which a watchdog would look; tests look themselves."""


def watchdog() -> Watchdog:
    return Watchdog(NEVER, lambda: None)


def test_work_that_is_seen_again_and_again_hangs() -> None:
    dog = watchdog()
    with dog.watching():
        assert [dog.look() for _ in range(LOOKS + 1)] == [False] * LOOKS + [True]


def test_neither_rest_nor_one_piece_of_work_after_the_other_hangs() -> None:
    dog = watchdog()
    assert not any(dog.look() for _ in range(3 * LOOKS))
    for _ in range(3 * LOOKS):
        with dog.watching():
            assert not dog.look()
    with dog.watching():
        assert not any(dog.look() for _ in range(LOOKS))


def test_work_that_fails_has_ended() -> None:
    dog = watchdog()
    with contextlib.suppress(KeyError), dog.watching():
        dog.look()
        raise KeyError
    assert not any(dog.look() for _ in range(3 * LOOKS))


def test_a_hang_is_told_once() -> None:
    told: list[str] = []
    hung = threading.Event()
    dog = Watchdog(0.001, lambda: (told.append(threading.current_thread().name), hung.set())[0])
    with dog.watching():
        dog.start()
        assert hung.wait(60)
    assert told == ["abstractllm-mlx-watchdog"]


class Stuck:
    """An engine whose step does not come back before `gate` is open."""

    patience = 0.0

    def __init__(self) -> None:
        self.busy = True
        self.begun, self.gate = threading.Event(), threading.Event()
        self.steps = 0
        self.ends: list[Exception] = []
        self.after: Any = lambda: None

    def step(self) -> None:
        self.steps += 1
        self.begun.set()
        self.gate.wait()
        self.after()

    def fail_all(self, cause: Exception) -> None:
        self.ends.append(cause)

    def close(self, error: Exception) -> None:
        self.ends.append(error)


class Waiting:
    """Somebody who waits."""

    def __init__(self) -> None:
        self.told: Future[Exception] = Future()

    def abandon(self, error: Exception) -> None:
        self.told.set_result(error)


def hang(engine: Stuck, reader: Waiting) -> MLXThread:
    """Return a thread that has been given up, since it hung in the engine's step while somebody was waiting."""
    thread = MLXThread(step_timeout=0.01)
    with thread.waiting(reader):
        thread.run(lambda: thread.add_engine(engine))
        assert thread._ended.wait(60)
    return thread


async def test_when_a_step_hangs_everybody_is_told_once_and_nothing_is_done_any_more() -> None:
    engine, other, reader = Stuck(), Stuck(), Waiting()
    thread = MLXThread(step_timeout=NEVER)
    assert thread._watchdog is not None
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    engine.after = lambda: thread.outbox.put(loop, ended.set)
    thread.run(lambda: [thread.add_engine(one) for one in (engine, other)]).result(60)
    assert await asyncio.to_thread(engine.begun.wait, 60)
    with thread.waiting(reader):
        late = thread.run(lambda: 1)
        threading.Thread(target=thread._break, daemon=True).start()
        error = await asyncio.wrap_future(reader.told)
        with pytest.raises(UnsupportedOperationError, match="restart the process"):
            await asyncio.wrap_future(late)
    engine.gate.set()
    await asyncio.wait_for(ended.wait(), 60)

    assert isinstance(error, UnsupportedOperationError)
    assert (engine.steps, other.steps) == (1, 0)
    assert not engine.ends
    assert not thread.alive
    thread.stop()
    for call in (thread.check, lambda: thread.post(print), lambda: thread.waiting(reader).__enter__()):
        with pytest.raises(UnsupportedOperationError, match="ABSTRACTLLM_MLX_STEP_TIMEOUT"):
            call()
    assert not thread._readers


def test_a_hung_step_is_noticed_without_help() -> None:
    engine, reader = Stuck(), Waiting()
    hang(engine, reader)
    assert "hung" in str(reader.told.result(0))
    engine.gate.set()


def test_the_log_says_where_it_hangs(caplog: pytest.LogCaptureFixture) -> None:
    engine, reader = Stuck(), Waiting()
    hang(engine, reader)
    assert "self.gate.wait()" in caplog.text
    engine.gate.set()


@pytest.mark.parametrize("hangs", [True, False])
def test_a_posted_call_may_hang_but_one_that_is_waited_for_may_take_its_time(hangs: bool) -> None:
    thread, begun, gate = MLXThread(step_timeout=NEVER), threading.Event(), threading.Event()
    assert thread._watchdog is not None
    (thread.post if hangs else thread.run)(lambda: (begun.set(), gate.wait()))  # type: ignore[operator]
    assert begun.wait(60)
    assert [thread._watchdog.look() for _ in range(LOOKS + 1)][-1] == hangs
    gate.set()


def test_the_end_of_a_process_waits_no_longer_than_that_for_a_step() -> None:
    engine = Stuck()
    thread = MLXThread(step_timeout=0.01)
    thread.run(lambda: thread.add_engine(engine))
    assert engine.begun.wait(60)
    thread.stop()
    assert not thread.alive
    assert not engine.gate.is_set()
    engine.gate.set()
    assert thread._idle.wait(60)


def test_without_a_limit_nobody_watches() -> None:
    assert MLXThread()._watchdog is None


async def test_what_comes_after_the_end_of_a_hung_step_reaches_no_reader() -> None:
    thread = MLXThread()
    sinks = [ThreadSink(), LoopSink(thread.outbox)]
    for sink in sinks:
        shared = SharedSink(sink, 2)
        sink.put(GenerateResponse("before"))
        thread.outbox.flush()
        sink.abandon(UnsupportedOperationError("hung"))
        shared.put(GenerateResponse("after"))
        thread.outbox.flush()
    await asyncio.sleep(0)
    assert isinstance(sinks[0], ThreadSink)
    assert isinstance(sinks[1], LoopSink)
    blocking, asynchronous = iter(sinks[0]), aiter(sinks[1])
    assert [next(blocking).content, (await anext(asynchronous)).content] == ["before", "before"]
    with pytest.raises(UnsupportedOperationError, match="hung"):
        next(blocking)
    with pytest.raises(UnsupportedOperationError, match="hung"):
        await anext(asynchronous)
    assert not sinks[1]._items
    assert sinks[0]._items.empty()


async def test_a_reader_whose_loop_has_closed_is_left_alone() -> None:
    sink: list[LoopSink] = []

    async def make() -> None:
        sink.append(LoopSink(MLXThread().outbox))

    await asyncio.to_thread(lambda: asyncio.run(make()))
    sink[0].abandon(UnsupportedOperationError("hung"))


HUNG = """
import asyncio, threading
from abstractllm import UnsupportedOperationError
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.worker import mlx_thread

llm, events = MLXProvider(max_tokens=500), []
llm.generate("Hello", max_tokens=1)
endless = {"logit_bias": {token: -100 for token in llm._loading(None).result().tokenizer.stop_tokens}}
engine, gate, steps = llm._loading(None).result()._engine, threading.Event(), [0]
decode = engine._runner.decode
def stuck():
    steps[0] += 1
    if steps[0] == 4:
        gate.wait()
    return decode()
engine._runner.decode = stuck
llm.observers.append(lambda event: events.append(event.kind))

def ask(call):
    try:
        call()
    except UnsupportedOperationError as error:
        assert "restart the process" in str(error), error
        assert error.provider == "mlx"
        return
    raise AssertionError("it answered")

async def many():
    asked = [llm.generate_async(f"Say {i}.", n=1 + i % 2, **endless) for i in range(40)]
    for error in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(error, UnsupportedOperationError), error

threads = [threading.Thread(target=ask, args=(call,)) for call in (
    lambda: llm.generate("Hi", **endless), lambda: list(llm.generate("Hi", stream=True, **endless)))]
for thread in threads:
    thread.start()
asyncio.run(many())
for thread in threads:
    thread.join()
assert sorted(events) == ["failed"] * 42 + ["started"] * 42, events
ask(lambda: llm.generate("Hi"))
ask(lambda: asyncio.run(llm.generate_async("Hi")))
ask(lambda: MLXProvider(model="somewhere/else").load())
llm.close()
if RELEASED:
    gate.set()
assert not mlx_thread().alive
print("leaving")
"""


@pytest.mark.parametrize("released", [True, False])
def test_all_requests_of_a_process_fail_when_a_step_hangs_and_it_ends_well(released: bool) -> None:
    code = HUNG.replace("RELEASED", repr(released))
    environment = os.environ | {"ABSTRACTLLM_MLX_STEP_TIMEOUT": "2"}
    result = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True, env=environment)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "leaving"
    assert "Traceback" not in result.stderr
