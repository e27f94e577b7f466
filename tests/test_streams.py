"""The streams that users hold: starting, reading, leaving, in every way that Python offers."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import aclosing, closing

import pytest

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.errors import GenerationError, UnsupportedOperationError
from abstractllm.streams import AsyncResponseStream, ResponseStream
from abstractllm.types import GenerateResponse


class Deltas:
    """Makes both kinds of stream over the same texts and remembers what happened to them."""

    def __init__(self, *texts, error=None):
        self.texts = texts
        self.error = error
        self.begun = 0
        self.closed = 0

    def sync(self):
        accumulator = ResponseAccumulator()
        return ResponseStream(self._sync(accumulator), accumulator)

    def asynchronous(self):
        accumulator = ResponseAccumulator()
        return AsyncResponseStream(self._async(accumulator), accumulator)

    def _next(self, accumulator):
        self.begun += 1
        try:
            for text in self.texts:
                delta = GenerateResponse(content=text)
                accumulator.add(delta)
                yield delta
            if self.error:
                raise self.error
        finally:
            self.closed += 1

    def _sync(self, accumulator):
        yield from self._next(accumulator)

    async def _async(self, accumulator):
        with closing(self._next(accumulator)) as deltas:
            for delta in deltas:
                await asyncio.sleep(0)
                yield delta


def test_a_sync_stream_is_an_iterator_that_starts_when_it_is_read():
    deltas = Deltas("a", "b")
    stream = deltas.sync()
    assert isinstance(stream, Iterator)
    assert (deltas.begun, stream.response.content) == (0, "")
    assert next(stream).content == "a"
    assert stream.response.content == "a"
    assert [delta.content for delta in stream] == ["b"]
    assert stream.response.content == "ab"
    assert next(stream, None) is None


def test_entering_waits_for_the_first_delta_and_loses_none():
    deltas = Deltas("a", "b")
    with deltas.sync() as stream:
        assert deltas.begun == 1
        with stream:
            assert [delta.content for delta in stream] == ["a", "b"]
    assert deltas.closed == 1


def test_entering_raises_an_error_that_comes_before_the_first_delta():
    stream = Deltas(error=GenerationError("no")).sync()
    with pytest.raises(GenerationError):
        stream.__enter__()


def test_an_empty_stream_can_be_entered():
    with Deltas().sync() as stream:
        assert list(stream) == []


@pytest.mark.parametrize("read", [0, 1, 2])
def test_leaving_a_sync_stream_closes_it_once_and_it_yields_nothing_more(read):
    deltas = Deltas("a", "b", "c")
    with deltas.sync() as stream:
        for _ in range(read):
            next(stream)
    stream.close()
    assert list(stream) == []
    assert deltas.closed == 1


def test_closing_a_stream_that_another_thread_reads_is_refused():
    reading, gate = threading.Event(), threading.Event()

    def waits():
        reading.set()
        gate.wait()
        yield GenerateResponse(content="a")

    stream = ResponseStream(waits(), ResponseAccumulator())
    reader = threading.Thread(target=list, args=[stream])
    reader.start()
    reading.wait()
    with pytest.raises(UnsupportedOperationError, match="Another thread"):
        stream.close()
    gate.set()
    reader.join()
    stream.close()


async def contents(stream):
    return [delta.content async for delta in stream]


async def test_an_async_stream_may_be_read_with_and_without_await():
    assert isinstance(Deltas().asynchronous(), Coroutine)
    assert isinstance(Deltas().asynchronous(), AsyncIterator)
    assert await contents(Deltas("a", "b").asynchronous()) == ["a", "b"]
    assert await contents(await Deltas("a", "b").asynchronous()) == ["a", "b"]
    twice = await Deltas("a", "b").asynchronous()
    assert await contents(await twice) == ["a", "b"]


async def test_every_way_to_run_a_coroutine_starts_an_async_stream():
    assert await contents(await asyncio.create_task(Deltas("a").asynchronous())) == ["a"]
    assert await contents((await asyncio.gather(Deltas("a").asynchronous()))[0]) == ["a"]
    assert await contents(await asyncio.wait_for(Deltas("a").asynchronous(), 60)) == ["a"]
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Deltas("a").asynchronous())
    assert await contents(task.result()) == ["a"]
    assert "AsyncResponseStream" in repr(task)


def test_asyncio_run_takes_an_async_stream_and_closes_it_with_the_loop():
    deltas = Deltas("a", "b")
    stream = asyncio.run(deltas.asynchronous())
    assert stream.response.content == "a"
    assert deltas.closed == 1


async def test_entering_an_async_stream_waits_for_the_first_delta():
    deltas = Deltas("a", "b")
    async with deltas.asynchronous() as stream:
        assert stream.response.content == "a"
        assert await contents(stream) == ["a", "b"]
    assert deltas.closed == 1


@pytest.mark.parametrize("start", [lambda stream: stream, asyncio.create_task, lambda stream: stream.__aenter__()])
async def test_an_error_before_the_first_delta_is_raised_at_the_start(start):
    with pytest.raises(GenerationError):
        await start(Deltas(error=GenerationError("no")).asynchronous())


async def test_an_empty_async_stream_can_be_awaited():
    assert await contents(await Deltas().asynchronous()) == []


@pytest.mark.parametrize("read", [0, 1, 2])
async def test_leaving_an_async_stream_closes_it_once_and_it_yields_nothing_more(read):
    deltas = Deltas("a", "b", "c")
    async with deltas.asynchronous() as stream:
        for _ in range(read):
            await anext(stream)
    await stream.aclose()
    assert await contents(stream) == []
    assert deltas.closed == 1


@pytest.mark.parametrize("steps", range(8))
async def test_cancelling_the_reader_at_any_await_closes_the_stream(steps):
    deltas = Deltas(*"abcdefgh")

    async def read():
        async with aclosing(deltas.asynchronous()) as stream:
            await contents(await stream)

    task = asyncio.create_task(read())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert deltas.closed == deltas.begun


async def test_closing_a_stream_that_another_task_reads_is_refused():
    gate = asyncio.Event()

    async def waits():
        await gate.wait()
        yield GenerateResponse(content="a")

    stream = AsyncResponseStream(waits(), ResponseAccumulator())
    reader = asyncio.create_task(contents(stream))
    await asyncio.sleep(0)
    with pytest.raises(UnsupportedOperationError, match="Another task"):
        await stream.aclose()
    gate.set()
    assert await reader == ["a"]
    await stream.aclose()


def test_a_stream_that_is_never_read_makes_no_noise(recwarn):
    deltas = Deltas("a")
    deltas.sync()
    deltas.asynchronous()
    deltas.asynchronous().close()
    gc.collect()
    assert (len(recwarn), deltas.begun) == (0, 0)


def test_an_exception_can_be_thrown_into_the_coroutine():
    stream = Deltas("a").asynchronous()
    stream.send(None)
    with pytest.raises(KeyError):
        stream.throw(KeyError("thrown"))
