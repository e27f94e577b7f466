"""Embeddings that go wrong, are tried again, are too late, or are given up."""

from __future__ import annotations

import asyncio
import json
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from abstractllm.errors import (
    AuthenticationError,
    GenerationError,
    ModelNotFoundError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    RequestTimeoutError,
    UnsupportedOperationError,
)
from abstractllm.providers.http import Limits
from abstractllm.testing.loopback import Gate, Reply
from abstractllm.types import Timeout

from .embedding import KEY, Small, answer, embedding, served, vector, without_variables
from .serving import body_of


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    without_variables(monkeypatch)


# Answers that are wrong.


@pytest.mark.parametrize(
    ("reply", "params", "what"),
    [
        (answer([1.0]), {}, "1 vectors for 2 texts"),
        (answer([1.0], [1.0], [1.0]), {}, "3 vectors for 2 texts"),
        (answer([1.0], [1.0, 2.0]), {}, "numbers"),
        (answer([], []), {}, "numbers"),
        (answer([1.0, 2.0], [1.0, 2.0]), {"dimensions": 1}, "dimensions=1 was asked for"),
        (Reply(body=b"<html>"), {}, "cannot read"),
    ],
)
def test_an_answer_that_is_wrong(reply, params, what):
    with served(reply) as (llm, server), pytest.raises(GenerationError, match=what) as caught:
        llm.embed(["a", "b"], **params)
    assert caught.value.provider == "openai"
    assert len(server.requests) == 1


def test_an_answer_that_is_too_long():
    with served(Reply.long_line(2**22)) as (llm, _):
        llm.limits = Limits(vectors=2**20)
        with pytest.raises(GenerationError, match="1,048,576 bytes"):
            llm.embed(["a"])


def test_batches_of_different_lengths_are_an_error():
    replies = {2: answer([1.0], [2.0]), 1: answer([1.0, 2.0])}
    with (
        served(lambda request: replies[len(body_of(request)["input"])]) as (llm, _),
        pytest.raises(GenerationError, match=r"\[1, 2\]"),
    ):
        llm.embed(list("abc"))


# Tries, limits, ends.


@pytest.mark.parametrize("broken", [Reply(429), Reply(503), Reply.hang_up(), Reply(body=b'{"data"', cut_after=3)])
def test_what_may_pass_is_tried_again(broken):
    first = iter([broken])
    with served(lambda request: next(first, None) or embedding(request)) as (llm, server):
        assert llm.embed(list("abcd")) == [vector(text) for text in "abcd"]
        assert llm.retried == 1
    assert len(server.requests) == 3


def test_retry_after_is_kept():
    pauses = []

    class Waiting(Small):
        async def _pause(self, seconds):
            pauses.append(seconds)

    first = iter([Reply(429, {"Retry-After": "3"})])
    with served(lambda request: next(first, None) or embedding(request), kind=Waiting) as (llm, _):
        llm.embed(["a"])
    assert pauses == [3.0]


def test_the_limit_of_the_first_event_is_kept_once_one_batch_has_begun():
    class Waiting(Small):
        embeddings = replace(Small.embeddings, at_once=1)

        async def _pause(self, seconds):
            assert seconds == 60.0

    refusals = iter([Reply(429, {"Retry-After": "60"})])

    def script(request):
        late = "c" in body_of(request)["input"]
        return (next(refusals, None) if late else None) or embedding(request)

    with served(script, kind=Waiting) as (llm, _):
        assert len(llm.embed(list("abc"), timeout=Timeout(first_event=30))) == 3
        assert llm.retried == 1


@pytest.mark.parametrize(
    ("reply", "kind", "tries"),
    [
        (Reply(400), ProviderAPIError, 1),
        (Reply(401), AuthenticationError, 1),
        (Reply(404, body=b'{"error": {"message": "no such model", "code": "model_not_found"}}'), ModelNotFoundError, 1),
        (Reply(429), QuotaExceededError, 3),
        (Reply.hang_up(), ProviderConnectionError, 3),
    ],
)
def test_errors_are_those_of_answers(reply, kind, tries):
    with served(reply) as (llm, server), pytest.raises(kind) as caught:
        llm.embed(["a"])
    assert caught.value.provider == "openai"
    assert len(server.requests) == tries
    assert not isinstance(caught.value, BaseExceptionGroup)


def test_an_error_shows_no_key():
    with served(Reply.hang_up(), max_retries=0) as (llm, _), pytest.raises(ProviderConnectionError) as caught:
        llm.embed(["a"])
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "Secret(hidden)" in shown
    assert KEY not in shown


ODD = "loopback-key-0123456789"
"""A key without the beginning by which keys are known."""


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=json.dumps({"error": {"message": f"Incorrect key: {ODD}", "code": "invalid_api_key"}}).encode()),
        Reply.redirect(f"/{ODD}/embeddings"),
    ],
)
def test_an_error_does_not_repeat_the_key_that_a_service_sends_back(reply):
    with served(reply, api_key=ODD) as (llm, _), pytest.raises(ProviderAPIError, match="hidden") as caught:
        llm.embed(["a"])
    assert ODD not in f"{caught.value}{caught.value.args}"


def test_the_first_error_ends_the_other_requests():
    gate = Gate()

    refusing = Gate()

    def script(request):
        held = "a" in body_of(request)["input"]
        return Reply(chunks=[gate]) if held else Reply(400, chunks=[refusing])

    with served(script) as (llm, server), ThreadPoolExecutor(1) as threads:
        llm.embeddings = replace(Small.embeddings, inputs=1, at_once=2)
        asked = threads.submit(llm.embed, list("abcdef"))
        assert gate.reached.wait(10)
        refusing.open()
        with pytest.raises(ProviderAPIError, match="status 400"):
            asked.result(10)
        held = next(request for request in server.requests if "a" in body_of(request)["input"])
        assert held.left.wait(10)
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("timeout", "limit"), [(0.1, "total"), (Timeout(total=0.1), "total"), (Timeout(first_event=0.1), "first_event")]
)
def test_limits(timeout, limit):
    with served(Reply(chunks=(), stalls=True)) as (llm, server):
        with pytest.raises(RequestTimeoutError) as caught:
            llm.embed(list("abc"), timeout=timeout)
        assert (caught.value.limit, caught.value.provider) == (limit, "openai")
        assert all(request.left.wait(10) for request in server.requests)


def test_a_deadline_holds_for_all_batches_and_tries():
    class Waiting(Small):
        async def _pause(self, seconds):
            await asyncio.Event().wait()

    with served(Reply(500), kind=Waiting, timeout=0.1) as (llm, server), pytest.raises(RequestTimeoutError):
        llm.embed(list("abcd"))
    assert len(server.requests) <= 2


def test_the_server_sees_a_cancelled_task():
    gate = Gate()

    async def scenario(llm):
        task = asyncio.create_task(llm.embed_async(["a"]))
        await asyncio.to_thread(gate.reached.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with served(Reply(chunks=[gate])) as (llm, server):
        asyncio.run(scenario(llm))
        assert server.requests[0].left.wait(10)


def test_closing_ends_what_runs():
    gate = Gate()
    with served(Reply(chunks=[gate])) as (llm, server), ThreadPoolExecutor(1) as threads:
        asked = threads.submit(llm.embed, list("abcdef"))
        assert gate.reached.wait(10)
        llm.close()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            asked.result(10)
        assert all(request.left.wait(10) for request in server.requests)
