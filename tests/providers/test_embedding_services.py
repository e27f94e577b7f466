"""Embeddings of each service, and of a provider that speaks no HTTP."""

from __future__ import annotations

import asyncio
import json

import pytest

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    GenerationError,
    InvalidParameterError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.providers.embedding import EmbeddingProvider, EmbeddingService
from abstractllm.providers.ollama import OllamaProvider
from abstractllm.testing.loopback import Reply
from abstractllm.types import Embeddings, Usage
from abstractllm.wire.ollama_embeddings import OllamaEmbeddings

from .embedding import CLASSES, KEY, WITH, WITHOUT, both, made, served, vector, without_variables
from .serving import body_of


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    without_variables(monkeypatch)


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
