"""Ollama's format for embeddings: both directions agree, and what is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import GenerationError, InvalidRequestError, ModelNotFoundError, ProviderAPIError
from abstractllm.types import EmbeddingRequest, Embeddings, Usage
from abstractllm.wire.ollama_embeddings import OllamaEmbeddings

from .strategies import names, objects, texts

CODEC = OllamaEmbeddings()
floats = st.floats(allow_nan=False, allow_infinity=False)
vectors = st.lists(st.lists(floats, max_size=4), max_size=4)
options = st.fixed_dictionaries(
    {"truncate": st.booleans()}, optional={"keep_alive": st.just("5m"), "num_ctx": st.integers(1, 10**6)}
)


def test_a_request() -> None:
    given_options = {"keep_alive": "5m", "num_ctx": 512}
    body = CODEC.encode_request(EmbeddingRequest(("a", "é"), "m", 8, options=given_options))
    expected = {"input": ["a", "é"], "model": "m", "dimensions": 8, "truncate": False, "keep_alive": "5m"}
    assert body == {**expected, "options": {"num_ctx": 512}}
    assert CODEC.encode_request(EmbeddingRequest(("a",))) == {"input": ["a"], "truncate": False}


def test_a_text_is_cut_only_where_that_is_asked_for() -> None:
    assert CODEC.encode_request(EmbeddingRequest(("a",), options={"truncate": True}))["truncate"] is True
    assert CODEC.decode_request({"input": "a"}).options == {"truncate": True}  # the format's own default


@given(st.lists(texts), st.none() | names, st.none() | st.integers(1, 10**6), options)
def test_requests_come_back(said: list[str], model: str | None, dimensions: int | None, own: dict[str, Any]) -> None:
    request = EmbeddingRequest(tuple(said), model, dimensions, options=own)
    body = json.loads(json.dumps(CODEC.encode_request(request)))
    assert CODEC.decode_request(body) == request


@pytest.mark.parametrize(
    "body", [{}, {"input": 1}, {"input": [1]}, {"input": "a", "options": 1}, {"input": "a", "dimensions": -1}, None]
)
def test_what_is_no_request(body: Any) -> None:
    with pytest.raises(InvalidRequestError):
        CODEC.decode_request(body)


@given(vectors, st.none() | st.integers(0, 10**9), st.none() | names)
def test_answers_come_back(found: list[list[float]], tokens: int | None, model: str | None) -> None:
    usage = None if tokens is None else Usage(tokens)
    body = CODEC.encode_response(Embeddings(found, usage=usage, model=model))
    again = CODEC.decode_response(json.dumps(body).encode())
    assert again == found
    assert (again.usage, again.model) == (usage, model)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"embeddings": 1}', b'{"embeddings": [["a"]]}', b'"\xff"'])
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(GenerationError) as caught:
        CODEC.decode_response(body)
    assert caught.value.provider == "ollama"


def test_an_error_instead_of_an_answer() -> None:
    with pytest.raises(ProviderAPIError, match="It failed"):
        CODEC.decode_response(b'{"error": "It failed."}')


@given(objects)
def test_any_object_is_an_answer_or_an_error_of_ours(answer: dict[str, Any]) -> None:
    try:
        CODEC.decode_response(json.dumps(answer).encode())
    except (GenerationError, ProviderAPIError, ModelNotFoundError):
        pass
