"""Limits of time and size, for all that a service may do."""

from __future__ import annotations

import asyncio
import socket

import pytest

from abstractllm.errors import GenerationError, RequestTimeoutError
from abstractllm.providers.http import Backoff, Limits
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import Reply
from abstractllm.types import Timeout

from .toy import HELLO, Toy, failure, served


@pytest.mark.parametrize(
    ("reply", "timeout", "limit"),
    [
        (Reply(chunks=HELLO[:1], stalls=True), Timeout(idle=0.05), "idle"),
        (Reply(chunks=(), stalls=True), Timeout(first_event=0.05), "first_event"),
        (Reply(chunks=HELLO[:1], stalls=True), Timeout(total=0.05), "total"),
    ],
)
@pytest.mark.parametrize("face", [Face.STREAM, Face.ASYNC_STREAM])
def test_limits_end_a_stalled_stream(face, reply, timeout, limit):
    with served(reply) as (llm, server):
        with pytest.raises(RequestTimeoutError) as caught:
            ask(llm, face, "Hi", timeout=timeout)
        assert caught.value.limit == limit
        assert all(request.left.wait(10) for request in server.requests)  # none, where the limit was even faster


def test_the_limit_of_a_connection():
    with socket.socket() as full:  # takes no connection, once its queue is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        with Toy(f"http://127.0.0.1:{port}") as llm:
            error = failure(llm, RequestTimeoutError, timeout=Timeout(connect=0.05))
            assert llm.pauses == [0.5, 1.0]
        for one in waiting:
            one.close()
    assert error.limit == "connect"
    assert error.provider == "toy"


def test_a_deadline_holds_for_all_tries():
    class Waiting(Toy):
        async def _pause(self, seconds):
            self.pauses.append(seconds)
            await asyncio.sleep(60)

    with served(Reply(500), toy=Waiting) as (llm, _):
        llm.backoff = Backoff(draw=lambda: 0.0)
        assert failure(llm, RequestTimeoutError, timeout=0.1).limit == "total"
        assert len(llm.pauses) == 1


def test_a_line_without_end_fills_no_memory():
    sent = []

    def pieces():
        for number in range(1600):
            sent.append(number)
            yield b"x" * 2**16

    with served(Reply(chunks=pieces())) as (llm, _):
        assert "line" in failure(llm, GenerationError).message
    assert 2**26 <= len(sent) * 2**16 < 2**26 + 2**24


def test_a_whole_answer_that_is_too_long():
    with served(Reply.long_line(2**22)) as (llm, _):
        llm.limits = Limits(body=2**20)
        assert "1,048,576 bytes" in failure(llm, GenerationError, stream=False).message
