"""Embeddings of the remote providers: batches, order, counts, tries, ends, and which model is asked."""

from __future__ import annotations

import asyncio
import json
import threading
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AuthenticationError,
    GenerationError,
    InvalidParameterError,
    ModelNotFoundError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    RequestTimeoutError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.providers import compatible
from abstractllm.providers.compatible import SERVICES, CompatibleProvider
from abstractllm.providers.embedding import EmbeddingProvider, EmbeddingService, batched
from abstractllm.providers.http import Backoff, Limits
from abstractllm.providers.ollama import OllamaProvider
from abstractllm.providers.openai import OpenAIProvider
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import Embeddings, Timeout, Usage
from abstractllm.wire.ollama_embeddings import OllamaEmbeddings
from abstractllm.wire.openai_embeddings import OpenAIEmbeddings

from .serving import body_of

KEY = "sk-loopback-0123456789"
WIRE = OpenAIEmbeddings("served")
CLASSES = {
    cls.name: cls for cls in vars(compatible).values() if isinstance(cls, type) and issubclass(cls, CompatibleProvider)
}
WITHOUT = sorted(name for name, row in SERVICES.items() if row.embeddings is None)
WITH = sorted(set(SERVICES) - set(WITHOUT))


class Small(OpenAIProvider):
    """One whose requests have two texts, and that waits for nothing between its tries."""

    embeddings = replace(OpenAIProvider.embeddings, inputs=2, at_once=2)
    backoff = Backoff(draw=lambda: 0.0)


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    """No key, no address and no proxy of this machine reaches a test."""
    variables = {row.key_variable for row in SERVICES.values() if row.key_variable}
    proxies = {"HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}
    for name in {*variables, *proxies, "OPENAI_API_KEY", "OLLAMA_HOST", "OLLAMA_API_KEY"}:
        monkeypatch.delenv(name, raising=False)


def vector(text):
    """Return what the service makes of a text: its length, and the letter that it begins with."""
    return [float(len(text)), float(ord(text[0]))]


def made(asked):
    """Return the answer of a service that is asked in any of the formats."""
    return Embeddings(map(vector, asked.texts), usage=Usage(sum(map(len, asked.texts))), model=f"{asked.model}-1")


def embedding(request):
    asked = WIRE.decode_request(body_of(request))
    short = asked.options.get("encoding_format") == "base64"
    return Reply(body=json.dumps(WIRE.encode_response(made(asked), base64=short)).encode())


def answer(*vectors, **more):
    return Reply(body=json.dumps({**WIRE.encode_response(Embeddings(vectors)), **more}).encode())


@contextmanager
def served(*script, kind=Small, **settings):
    script = script or (embedding,)
    script = script[0] if callable(script[0]) else script
    given = {"api_key": KEY, **settings}
    with LoopbackServer(script) as server, kind(base_url=server.url, **given) as llm:
        yield llm, server


def both(llm, texts, **params):
    """Return the vectors, having seen that both faces give the same."""
    found = llm.embed(texts, **params)

    async def asynchronously():
        return await llm.embed_async(texts, **params)

    again = asyncio.run(asynchronously())
    assert (again, again.usage, again.model) == (found, found.usage, found.model)
    return found


# Vectors.


def test_a_request_on_the_wire():
    with served(kind=OpenAIProvider) as (llm, server):
        found = llm.embed(["one", "three"], dimensions=2, options={"user": "u"})
    assert found == [[3.0, 111.0], [5.0, 116.0]]
    assert found.usage == Usage(8)
    assert found.model == "text-embedding-3-small-1"
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/embeddings")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert body_of(request) == {
        "input": ["one", "three"],
        "model": "text-embedding-3-small",
        "encoding_format": "base64",
        "dimensions": 2,
        "user": "u",
    }


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_many_texts_go_in_batches_and_come_back_in_order(count):
    texts = [chr(97 + number) * (number + 1) for number in range(count)]
    with served() as (llm, server):
        found = both(llm, texts)
    assert found == [vector(text) for text in texts]
    assert found.usage == Usage(sum(map(len, texts)))
    sizes = Counter(len(body_of(request)["input"]) for request in server.requests)
    assert sizes == Counter({2: count // 2 * 2, 1: count % 2 * 2}) + Counter()


def test_a_late_batch_keeps_its_place():
    gate = Gate()

    def script(request):
        reply = embedding(request)
        if "a" in body_of(request)["input"]:
            return Reply(chunks=[gate, reply.body])
        if "e" in body_of(request)["input"]:
            gate.open()
        return reply

    with served(script) as (llm, _):
        assert llm.embed(list("abcdef")) == [vector(text) for text in "abcdef"]


def test_no_more_requests_than_allowed_run_at_once():
    running, most = set(), []
    gates = [Gate() for _ in range(5)]
    waiting = iter(gates)

    def script(request):
        running.add(request.connection)
        most.append(len(running))
        gate = next(waiting)

        def chunks():
            yield gate
            running.discard(request.connection)
            yield embedding(request).body

        return Reply(chunks=chunks())

    def open_all():
        for gate in gates:
            assert gate.reached.wait(10)
            gate.open()

    with served(script) as (llm, server), ThreadPoolExecutor(1) as threads:
        opening = threads.submit(open_all)
        assert len(llm.embed(list("abcdefghij"))) == 10
        opening.result(10)
    assert len(server.requests) == 5
    assert max(most) == 2


@pytest.mark.parametrize("texts", [[], (), iter(())])
def test_no_texts_need_no_request(texts):
    with served() as (llm, server):
        found = llm.embed(texts)
    assert found == []
    assert (found.usage, found.model) == (Usage(), "text-embedding-3-small")
    assert server.requests == []


def test_an_answer_in_floats_is_understood_too():
    with served(answer([0.5, 1], [0.25, 2]), kind=OpenAIProvider) as (llm, _):
        found = llm.embed(["a", "b"])
    assert found == [[0.5, 1.0], [0.25, 2.0]]
    assert all(type(number) is float for one in found for number in one)


def test_tokens_that_one_answer_does_not_tell_are_unknown():
    replies = {2: answer([1], [2], usage={"prompt_tokens": 4}), 1: answer([3])}
    with served(lambda request: replies[len(body_of(request)["input"])]) as (llm, _):
        assert llm.embed(list("ab")).usage == Usage(4)
        assert llm.embed(list("abc")).usage is None


def test_much_is_encoded_and_decoded_off_the_loop():
    threads = []

    class Watched(OpenAIEmbeddings):
        def encode_request(self, request):
            threads.append(threading.current_thread().name)
            return super().encode_request(request)

        def decode_response(self, body):
            threads.append(threading.current_thread().name)
            return super().decode_response(body)

    class Watching(Small):
        limits = Limits(at_once=200)

        def _embedding_codec(self):
            return Watched()

    with served(kind=Watching) as (llm, _):
        assert llm.embed(["x" * 201]) == [[201.0, 120.0]]
        assert len(llm.embed(["x"])) == 1
    assert [name.rpartition("-")[0] for name in threads[:2]] == ["abstractllm-openai", "abstractllm"]
    assert threads[2] == "abstractllm-portal"


# Batches.

LETTERS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@given(st.lists(LETTERS, max_size=30), st.integers(1, 5), st.none() | st.integers(1, 30))
def test_batches_keep_their_bounds_and_lose_nothing(texts, inputs, size):
    batches = list(batched(texts, EmbeddingService("test", inputs=inputs, size=size)))
    assert [text for batch in batches for text in batch] == texts
    for batch in batches:
        assert 1 <= len(batch) <= inputs
        assert size is None or len(batch) == 1 or sum(len(text.encode()) for text in batch) <= size
    for batch, following in pairwise(batches):
        more = sum(len(text.encode()) for text in (*batch, following[0]))
        assert len(batch) == inputs or (size is not None and more > size)


# What cannot be right is told before any work.


@pytest.mark.parametrize(
    ("texts", "params", "parameter"),
    [
        ("one", {}, "texts"),
        (b"one", {}, "texts"),
        (None, {}, "texts"),
        ({"a": 1}, {}, "texts"),
        (["a", ""], {}, "texts"),
        (["a", None], {}, "texts"),
        ([b"a"], {}, "texts"),
        (["a"], {"dimensions": 0}, "dimensions"),
        (["a"], {"dimensions": True}, "dimensions"),
        (["a"], {"dimensions": 1.5}, "dimensions"),
        (["a"], {"model": ""}, "model"),
        (["a"], {"model": 5}, "model"),
        (["a"], {"timeout": -1}, "timeout"),
        (["a"], {"options": 5}, "options"),
    ],
)
def test_what_cannot_be_right(texts, params, parameter):
    with served() as (llm, server):
        for face in (llm.embed, llm.embed_async):
            with pytest.raises(InvalidParameterError) as caught:
                face(texts, **params)
            assert caught.value.parameter == parameter
    assert server.requests == []


def test_the_text_that_is_wrong_is_named():
    with served() as (llm, _):
        with pytest.raises(InvalidParameterError, match=r"texts\[2\] is empty"):
            llm.embed(["a", "b", ""])
        with pytest.raises(InvalidParameterError, match=r"\[text\]"):
            llm.embed("a single one")


def test_half_a_character_is_refused():
    with served() as (llm, server), pytest.raises(InvalidParameterError) as caught:
        llm.embed(["\ud800"])
    assert caught.value.parameter == "texts"
    assert server.requests == []


def test_an_option_that_is_not_known():
    with served() as (llm, _), pytest.raises(UnsupportedFeatureError, match="user"):
        llm.embed(["a"], options={"store": True})


def test_options_of_the_configuration_count_where_embeddings_have_them():
    with served(options={"user": "u", "store": True}) as (llm, server):
        llm.embed(["a"])
        llm.embed(["a"], options={"user": "v"})
    assert [body_of(request)["user"] for request in server.requests] == ["u", "v"]
    assert all("store" not in body_of(request) for request in server.requests)


def test_a_missing_key_is_told_before_any_work():
    with LoopbackServer([embedding]) as server, OpenAIProvider(base_url=server.url) as llm:
        for face in (llm.embed, llm.embed_async):
            with pytest.raises(AuthenticationError, match="OPENAI_API_KEY"):
                face(["a"])
    with OllamaProvider(base_url="https://ollama.com") as llm, pytest.raises(AuthenticationError, match="OLLAMA"):
        llm.embed(["a"], model="m")


def test_a_closed_provider():
    with served() as (llm, _):
        llm.close()
        for face in (llm.embed, llm.embed_async):
            with pytest.raises(UnsupportedOperationError, match="closed"):
                face([])


# Which model.


@pytest.mark.parametrize(
    ("settings", "given_model", "asked"),
    [
        ({}, None, "text-embedding-3-small"),
        ({"model": "gpt-5"}, None, "text-embedding-3-small"),
        ({"model": "text-embedding-3-large"}, None, "text-embedding-3-large"),
        ({"model": "gpt-5", "embedding_model": "mine"}, None, "mine"),
        ({"model": "text-embedding-3-large", "embedding_model": "mine"}, "other", "other"),
    ],
)
def test_which_model_is_asked(settings, given_model, asked):
    with served(**settings) as (llm, server):
        llm.embed(["a"], model=given_model)
    assert body_of(server.requests[0])["model"] == asked


def test_the_environment_may_name_the_model(monkeypatch):
    monkeypatch.setenv("ABSTRACTLLM_OPENAI_EMBEDDING_MODEL", "7")
    with served() as (llm, server):
        llm.embed(["a"])
    assert body_of(server.requests[0])["model"] == "7"


def test_a_model_that_is_no_name():
    with pytest.raises(InvalidParameterError) as caught:
        OpenAIProvider(embedding_model=5)
    assert caught.value.parameter == "embedding_model"


@pytest.mark.parametrize("name", ["together", "openrouter", "azure", "lmstudio"])
def test_without_a_model_the_error_says_how_to_name_one(name):
    with served(kind=CLASSES[name], model="chat") as (llm, server):
        with pytest.raises(InvalidParameterError, match="embedding_model") as caught:
            llm.embed(["a"])
        assert caught.value.parameter == "model"
    assert server.requests == []


@pytest.mark.parametrize("name", ["vllm", "compatible"])
def test_a_server_of_one_model_is_asked_for_it(name):
    with served(kind=CLASSES[name]) as (llm, server):
        llm.embed(["a"])
        llm.set_config(model="BAAI/bge-m3")
        llm.embed(["a"])
    first, second = map(body_of, server.requests)
    assert "model" not in first
    assert second["model"] == "BAAI/bge-m3"


def test_a_change_of_configuration_is_for_later_calls():
    gate = Gate()

    def script(request):
        reply = embedding(request)
        return Reply(chunks=[gate, reply.body]) if "a" in body_of(request)["input"] else reply

    with served(script) as (llm, server), LoopbackServer([Reply(500)]) as other, ThreadPoolExecutor(1) as threads:
        llm.embeddings = replace(Small.embeddings, inputs=1, at_once=1)
        asked = threads.submit(llm.embed, ["a", "b"])
        assert gate.reached.wait(10)
        llm.set_config(base_url=other.url)
        gate.open()
        assert len(asked.result(10)) == 2
        assert len(server.requests) == 2
    assert other.requests == []


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


# Services.


def test_ollama_on_the_wire():
    wire = OllamaEmbeddings()

    def script(request):
        assert request.path == "/api/embed"
        return Reply(body=json.dumps(wire.encode_response(made(wire.decode_request(body_of(request))))).encode())

    with served(script, kind=OllamaProvider, embedding_model="bge-m3") as (llm, server):
        found = both(llm, ["one", "three"], options={"keep_alive": "5m", "num_ctx": 512})
    assert found == [[3.0, 111.0], [5.0, 116.0]]
    assert (found.usage, found.model) == (Usage(8), "bge-m3-1")
    expected = {"input": ["one", "three"], "model": "bge-m3", "truncate": False, "keep_alive": "5m"}
    assert body_of(server.requests[0]) == {**expected, "options": {"num_ctx": 512}}


def test_what_ollama_says_a_model_can_do():
    show = Reply(body=b'{"capabilities": ["embedding"]}')
    with served(show, kind=OllamaProvider, model="bge-m3") as (llm, _):
        assert llm.get_capabilities()[ModelCapability.EMBEDDINGS] is None
        llm.show()
        assert llm.get_capabilities()[ModelCapability.EMBEDDINGS] is True


@pytest.mark.parametrize("name", WITHOUT)
def test_a_service_without_embeddings_says_so(name):
    with CLASSES[name](base_url="http://127.0.0.1:1", api_key=KEY, model="m") as llm:
        assert llm.get_capabilities()[ModelCapability.EMBEDDINGS] is False
        for face in (llm.embed, llm.embed_async):
            with pytest.raises(UnsupportedFeatureError, match="no embeddings") as caught:
                face(["a"], model="m")
            assert (caught.value.feature, caught.value.provider) == ("embed", name)
    with pytest.raises(InvalidParameterError, match="embedding_model"):
        CLASSES[name](base_url="http://x", embedding_model="m")


@pytest.mark.parametrize("name", [*WITH, "compatible"])
def test_each_service_is_sent_what_it_takes(name):
    row = CLASSES[name].embeddings
    assert row.source
    with served(kind=CLASSES[name]) as (llm, server):
        found = llm.embed(["a"] * (row.inputs + 1), model="m")
        assert llm.get_capabilities()[ModelCapability.EMBEDDINGS] is row.known
        if row.dimensions is None:
            with pytest.raises(UnsupportedFeatureError):
                llm.embed(["a"], model="m", dimensions=2)
        else:
            llm.embed(["a"], model="m", dimensions=2)
            assert body_of(server.requests.pop())[row.dimensions] == 2
    assert len(found) == row.inputs + 1
    bodies = [body_of(request) for request in server.requests]
    assert sorted(len(body["input"]) for body in bodies) == [1, row.inputs]
    assert {body.get("encoding_format") for body in bodies} == {"base64" if row.base64 else None}


def test_the_rows_with_embeddings():
    assert WITH == ["azure", "fireworks", "gemini", "groq", "lmstudio", "mistral", "openrouter", "together", "vllm"]


# A provider of somebody else's.


class Own(EmbeddingProvider):
    """One that asks nobody."""

    name = "own"
    embeddings = EmbeddingService("here", inputs=2, needs_model=False)

    def get_capabilities(self):
        return {}

    def _embedder(self, request, call):
        async def embedded(texts):
            if "stop" in texts:
                raise asyncio.CancelledError
            if "break" in texts:
                raise ValueError("broken")
            return Embeddings(map(vector, texts))

        return embedded


def test_a_provider_without_http():
    with Own() as llm:
        assert both(llm, list("abc")) == [vector(text) for text in "abc"]
        with pytest.raises(GenerationError, match="ValueError: broken") as caught:
            llm.embed(["break"])
        assert isinstance(caught.value.__cause__, ValueError)


def test_a_batch_that_was_given_up_is_missed():
    with Own() as llm, pytest.raises(UnsupportedOperationError, match="given up"):
        llm.embed(["a", "b", "stop"])


def test_a_provider_without_embeddings():
    class Bare(EmbeddingProvider):
        def get_capabilities(self):
            return {}

    with Bare() as llm, pytest.raises(UnsupportedFeatureError):
        llm.embed(["a"])
