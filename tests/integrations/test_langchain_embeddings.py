"""LangChain's embeddings on a provider that has them, against its service on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.vectorstores import InMemoryVectorStore

from abstractllm import UnsupportedFeatureError
from abstractllm.integrations.langchain import AbstractLLMEmbeddings
from abstractllm.testing.loopback import LoopbackServer, Reply, Request
from abstractllm.types import Embeddings, Usage
from abstractllm.wire.openai_embeddings import OpenAIEmbeddings

WIRE = OpenAIEmbeddings("served")


def reply(request: Request) -> Reply:
    """A vector of a text is how often it has an "a", and how long it is."""
    asked = WIRE.decode_request(json.loads(request.body))
    vectors = [[float(text.count("a")), float(len(text))] for text in asked.texts]
    return Reply(body=json.dumps(WIRE.encode_response(Embeddings(vectors, usage=Usage(3), model="m"))).encode())


@pytest.fixture
def embeddings() -> Iterator[AbstractLLMEmbeddings]:
    with LoopbackServer(reply) as server:
        made = AbstractLLMEmbeddings("compatible", model="m", base_url=server.url)
        yield made
        made.close()


async def test_texts_become_vectors(embeddings: AbstractLLMEmbeddings) -> None:
    assert embeddings.embed_documents(["banana", "fig"]) == [[3.0, 6.0], [0.0, 3.0]]
    assert embeddings.embed_query("banana") == [3.0, 6.0]
    assert await embeddings.aembed_documents(["banana"]) == [[3.0, 6.0]]
    assert await embeddings.aembed_query("fig") == [0.0, 3.0]


def test_a_vector_store_finds_by_them(embeddings: AbstractLLMEmbeddings) -> None:
    store = InMemoryVectorStore(embeddings)
    store.add_texts(["banana", "fig"])
    assert store.similarity_search("papaya", k=1)[0].page_content == "banana"


async def test_errors_are_ours_and_langchains(embeddings: AbstractLLMEmbeddings) -> None:
    with pytest.raises(UnsupportedFeatureError) as caught:
        AbstractLLMEmbeddings("echo").embed_query("Hi")
    assert isinstance(caught.value, ModelError)
    await embeddings.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        embeddings.embed_query("Hi")
