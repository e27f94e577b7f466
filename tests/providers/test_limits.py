"""Limits of a provider that speaks HTTP, over real sockets: what is sent when, and what is not."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from abstractllm.errors import InvalidParameterError, ProviderAPIError, RequestTimeoutError, UnsupportedOperationError
from abstractllm.providers.http import Backoff, HTTPProvider
from abstractllm.providers.http.pacing import estimated_tokens
from abstractllm.testing.clock import ManualClock
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import GenerateRequest, ImagePart, Message, TextPart
from abstractllm.wire.openai_chat import OpenAIChat

from .waiting import turns_of_the_loop, until


class Paced(HTTPProvider):
    """Asks a loopback server in OpenAI's format, by a clock of its own; tries again at once."""

    name = "paced"
    path = "/chat"
    needs_key = False
    parameters = frozenset({"max_tokens"})
    backoff = Backoff(draw=lambda: 0.0)

    def __init__(self, url, **settings):
        self.clock = ManualClock()
        self.chat = OpenAIChat(provider="paced")
        super().__init__(base_url=url, model="m", **settings)

    def _codec(self):
        return self.chat


def answer(tokens=2):
    usage = {"prompt_tokens": tokens - 1, "completion_tokens": 1, "total_tokens": tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    return Reply(body=json.dumps({"choices": [choice], "usage": usage, "model": "m"}).encode())


def text_of(request):
    return json.loads(request.body)["messages"][-1]["content"]


def asked(text="Hi", **params):
    return GenerateRequest((Message("user", text),), **params)


# Settings.


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "max_concurrency"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "60", float("inf")])
def test_a_limit_is_a_whole_number(name, value):
    with pytest.raises(InvalidParameterError, match="whole number from 1 on") as caught:
        Paced("http://127.0.0.1:1", **{name: value})
    assert caught.value.parameter == name


def test_limits_stand_in_the_configuration_and_none_is_no_limit():
    llm = Paced("http://127.0.0.1:1", requests_per_minute=60, max_concurrency=None)
    assert llm.get_param("requests_per_minute") == 60
    assert llm.get_param("max_concurrency") is None
    with pytest.raises(InvalidParameterError):
        llm.set_config(max_concurrency=0)
    assert llm.get_param("max_concurrency") is None


def test_the_estimate_counts_text_files_and_the_answers():
    assert estimated_tokens(asked("four")) == 1
    assert estimated_tokens(asked("fours")) == 2
    assert estimated_tokens(asked("éé")) == 1
    assert estimated_tokens(asked("four", max_tokens=10, n=3)) == 31
    image = ImagePart(b"x" * 10**6, "image/png")
    assert estimated_tokens(GenerateRequest((Message("user", (TextPart("four"), image)),))) == 1001


# Over real sockets.


def test_requests_wait_for_their_minute():
    with LoopbackServer([answer()]) as server, Paced(server.url, requests_per_minute=2) as llm:
        llm.generate("0")
        llm.generate("1")
        with ThreadPoolExecutor(1) as thread:
            third = thread.submit(llm.generate, "2")
            asyncio.run(until(lambda: llm.clock.waits))
            assert [text_of(request) for request in server.requests] == ["0", "1"]
            llm.clock.advance(60)
            assert third.result().content == "Hi"
        assert [text_of(request) for request in server.requests] == ["0", "1", "2"]


def test_every_try_counts():
    replies = [Reply(status=503), answer(), answer()]
    with LoopbackServer(replies) as server, Paced(server.url, requests_per_minute=2, timeout=30) as llm:
        assert llm.generate("tried twice").content == "Hi"
        with pytest.raises(RequestTimeoutError, match="60.0 s"):
            llm.generate("no room")
        assert len(server.requests) == 2


def test_a_deadline_that_cannot_be_kept_fails_before_anything_is_sent():
    with LoopbackServer([answer()]) as server, Paced(server.url, requests_per_minute=1) as llm:
        llm.generate("0")
        with pytest.raises(RequestTimeoutError, match="requests_per_minute") as caught:
            llm.generate("1", timeout=20)
        assert caught.value.provider == "paced"
        assert len(server.requests) == 1
        assert llm.clock.now() == 0


def test_the_tokens_of_an_answer_count_once_they_are_known():
    with LoopbackServer([answer(tokens=90), answer()]) as server:
        with Paced(server.url, tokens_per_minute=100, timeout=20) as llm:
            llm.generate("x" * 40)
            with pytest.raises(RequestTimeoutError):
                llm.generate("x" * 40, max_tokens=1)
            llm.generate("x" * 36, max_tokens=1)
        assert len(server.requests) == 2


def test_at_most_so_many_are_sent_at_once_from_any_loop_and_thread():
    """The server holds every answer back until as many are there as may be; more would be seen."""
    inside, most, lock, both = 0, 0, threading.Lock(), threading.Barrier(2)

    class Counted(Gate):
        async def wait(self):
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            await asyncio.to_thread(both.wait)
            await asyncio.sleep(0.01)  # time for a third one to come, if one could
            with lock:
                inside -= 1

    whole = answer().body
    with (
        LoopbackServer(lambda request: Reply(chunks=[Counted(), whole])) as server,
        Paced(server.url, max_concurrency=2) as llm,
        ThreadPoolExecutor(8) as threads,
    ):
        sync = [threads.submit(llm.generate, "sync") for _ in range(4)]
        loops = [threads.submit(asyncio.run, llm.generate_async("async")) for _ in range(4)]
        assert all(one.result().content == "Hi" for one in (*sync, *loops))
    assert most == 2


async def test_a_stream_keeps_its_place_until_it_is_closed():
    gate = Gate()
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'

    def script(request):
        return Reply(chunks=[piece, gate]) if b'"stream":true' in request.body else answer()

    with LoopbackServer(script) as server:
        async with Paced(server.url, max_concurrency=1) as llm:
            stream = await llm.generate_async("held", stream=True)
            waiting = asyncio.create_task(llm.generate_async("waiting"))
            await turns_of_the_loop(50)
            assert len(server.requests) == 1
            await stream.aclose()
            assert (await waiting).content == "Hi"


async def test_failures_and_cancelled_requests_give_their_places_back():
    gate = Gate()
    replies = [Reply(status=400, body=b"{}"), Reply(chunks=[gate]), answer()]
    with LoopbackServer(replies) as server:
        async with Paced(server.url, max_concurrency=1) as llm:
            with pytest.raises(ProviderAPIError):
                await llm.generate_async("refused")
            held = asyncio.create_task(llm.generate_async("held"))
            await until(gate.reached.is_set)
            held.cancel()
            with pytest.raises(asyncio.CancelledError):
                await held
            assert (await llm.generate_async("last")).content == "Hi"


async def test_one_that_waits_for_another_try_holds_up_nobody():
    with LoopbackServer([Reply(status=503), answer(), answer()]) as server:

        class Patient(Paced):
            async def _pause(self, seconds):
                assert (await self.generate_async("second")).content == "Hi"

        async with Patient(server.url, max_concurrency=1) as llm:
            assert (await llm.generate_async("first")).content == "Hi"
        assert [text_of(request) for request in server.requests] == ["first", "second", "first"]


async def test_closing_the_provider_ends_those_who_wait():
    with LoopbackServer([answer()]) as server:
        llm = Paced(server.url, requests_per_minute=1)
        await llm.generate_async("0")
        waiting = asyncio.create_task(llm.generate_async("1"))
        await until(lambda: llm.clock.waits)
        await llm.aclose()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            await waiting
        assert len(server.requests) == 1
