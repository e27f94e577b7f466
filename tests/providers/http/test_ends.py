"""Leaving, cancelling and closing end what runs, and leave nothing behind, in any loop or thread."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest

from abstractllm.errors import UnsupportedOperationError
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply

from .toy import HELLO, Toy, descriptors, friendly, served, settled, text


def test_a_server_that_does_not_read():
    async def scenario(llm, server):
        task = asyncio.create_task(llm.generate_async("x" * 2**25))
        while not server.requests:
            await asyncio.sleep(0.002)
        before = descriptors()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert descriptors() == before - 1  # the server's end is still there

    with served(reads=False) as (llm, server):
        asyncio.run(scenario(llm, server))


@pytest.mark.parametrize("reply", [Reply(chunks=[Gate()]), Reply(chunks=[HELLO[0], Gate()])])
def test_the_server_sees_a_cancelled_task(reply):
    gate = reply.chunks[-1]

    async def scenario(llm):
        task = asyncio.create_task(ask_whole(llm))
        await asyncio.to_thread(gate.reached.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def ask_whole(llm):
        return [delta async for delta in llm.generate_async("Hi", stream=True)]

    with served(reply) as (llm, server):
        asyncio.run(scenario(llm))
        assert server.requests[0].left.wait(10)


def test_the_server_sees_that_a_stream_was_left():
    with served(Reply(chunks=HELLO[:1], stalls=True)) as (llm, server):
        with llm.generate("Hi", stream=True) as stream:
            assert next(stream).content == "Hel"
        assert server.requests[0].left.wait(10)
    gate = Gate()
    with served(Reply(chunks=[HELLO[0], gate])) as (llm, server):

        async def leave():
            async with aclosing(llm.generate_async("Hi", stream=True)) as stream:
                async for _ in stream:
                    return

        asyncio.run(leave())
        assert server.requests[0].left.wait(10)


@pytest.mark.parametrize("chunks", [(), HELLO[:1]])
def test_closing_ends_what_runs(chunks):
    gate = Gate()
    with served(Reply(chunks=[*chunks, gate])) as (llm, server), ThreadPoolExecutor(1) as threads:
        asked = threads.submit(text, llm)
        gate.reached.wait()
        llm.close()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            asked.result(10)
        assert server.requests[0].left.wait(10)
        with pytest.raises(UnsupportedOperationError):
            llm.generate("Hi")


def test_closing_ends_a_wait_between_tries():
    pausing = threading.Event()

    class Waiting(Toy):
        async def _pause(self, seconds):
            pausing.set()
            await asyncio.Event().wait()

    with served(Reply(500), toy=Waiting) as (llm, _), ThreadPoolExecutor(1) as threads:
        asked = threads.submit(text, llm)
        pausing.wait()
        llm.close()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            asked.result(10)


def test_loops_and_threads_share_a_provider():
    async def many(llm, prefix):
        answers = await asyncio.gather(*(llm.generate_async(f"{prefix}{number}") for number in range(8)))
        return [answer.content for answer in answers]

    with served(friendly) as (llm, server), ThreadPoolExecutor(6) as threads:
        loops = [threads.submit(lambda prefix=prefix: asyncio.run(many(llm, prefix))) for prefix in "ab"]
        syncs = [threads.submit(lambda number=number: llm.generate(f"s{number}").content) for number in range(8)]
        assert [job.result() for job in loops] == [[f"{prefix}{number}" for number in range(8)] for prefix in "ab"]
        assert [job.result() for job in syncs] == [f"s{number}" for number in range(8)]
        assert settled(lambda: len(llm._pools) == 1)  # the portal's; the others ended with their loops
    assert len(llm._pools) == 0
    assert len(server.requests) == 24


def test_many_at_once_on_one_loop():
    async def scenario(llm):
        streams = [llm.generate_async(f"{number:03}", stream=True) for number in range(100)]
        return await asyncio.gather(*(collected(stream) for stream in streams))

    async def collected(stream):
        return "".join([delta.content async for delta in stream])

    with served(friendly) as (llm, _):
        assert asyncio.run(scenario(llm)) == [f"{number:03}" for number in range(100)]


def test_a_loop_that_only_stands_still_is_closed_too():
    loop = asyncio.new_event_loop()
    with served(friendly) as (llm, _):
        assert loop.run_until_complete(llm.generate_async("Hi")).content == "Hi"
        assert len(llm._pools) == 1
        llm.close()
        assert len(llm._pools) == 0
    loop.close()


def test_closing_in_the_loop_itself():
    async def scenario(llm):
        await llm.generate_async("Hi")
        llm.close()
        await asyncio.sleep(0.01)

    with served(friendly) as (llm, _):
        asyncio.run(scenario(llm))
    with served(friendly) as (llm, _):

        async def politely():
            async with llm:
                await llm.generate_async("Hi")

        asyncio.run(politely())


def test_a_loop_that_was_closed_without_a_word_is_forgotten():
    loop = asyncio.new_event_loop()
    with served(friendly) as (llm, _):
        loop.run_until_complete(llm.generate_async("Hi"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own, about its sockets
            loop.close()
            assert llm.generate("Hi").content == "Hi"
            gc.collect()
        assert len(llm._pools) == 1


def test_a_forgotten_provider_closes_its_connections():
    with LoopbackServer(friendly) as server:
        before = descriptors()
        llm = Toy(server.url)
        assert llm.generate("Hi").content == "Hi"
        assert descriptors() > before
        del llm
        gc.collect()
        assert settled(lambda: descriptors() <= before)
