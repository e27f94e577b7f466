"""Embeddings: batches, order, counts, what cannot be right, and which model is asked."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import (
    AuthenticationError,
    InvalidParameterError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.providers.embedding import EmbeddingService, batched
from abstractllm.providers.http import Limits
from abstractllm.providers.ollama import OllamaProvider
from abstractllm.providers.openai import OpenAIProvider
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import Usage
from abstractllm.wire.openai_embeddings import OpenAIEmbeddings

from .embedding import CLASSES, KEY, Small, answer, both, embedding, served, vector, without_variables
from .serving import body_of


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    without_variables(monkeypatch)


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
