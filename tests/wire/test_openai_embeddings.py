"""OpenAI's format for embeddings: both directions agree, any order of answers, and what is no answer."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import (
    GenerationError,
    InvalidParameterError,
    InvalidRequestError,
    ProviderAPIError,
    QuotaExceededError,
    UnsupportedFeatureError,
)
from abstractllm.types import EmbeddingRequest, Embeddings, Usage
from abstractllm.wire.openai_embeddings import OpenAIEmbeddings
from abstractllm.wire.vectors import packed, unpacked

from .strategies import names, objects, texts

CODEC = OpenAIEmbeddings("service")
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
vectors = st.integers(1, 4).flatmap(lambda size: st.lists(st.lists(floats, min_size=size, max_size=size), max_size=5))
options = objects.map(lambda found: {f"own_{name}": value for name, value in found.items()})


def item(number: int | None, *vector: float) -> dict[str, Any]:
    return {"object": "embedding", "embedding": list(vector)} | ({} if number is None else {"index": number})


def decode(**answer: Any) -> Embeddings:
    return CODEC.decode_response(json.dumps(answer).encode())


# Requests.


def test_a_request() -> None:
    request = EmbeddingRequest(("a", "é"), "m", 8, options={"user": "u"})
    assert CODEC.encode_request(request) == {"input": ["a", "é"], "model": "m", "dimensions": 8, "user": "u"}
    assert CODEC.encode_request(EmbeddingRequest(("a",))) == {"input": ["a"]}
    other = OpenAIEmbeddings("mistral", "output_dimension", base64=True)
    expected = {"input": ["a"], "encoding_format": "base64", "output_dimension": 8}
    assert other.encode_request(EmbeddingRequest(("a",), dimensions=8)) == expected


def test_what_a_request_cannot_say() -> None:
    fixed = OpenAIEmbeddings("together", dimensions=None)
    with pytest.raises(UnsupportedFeatureError) as caught:
        fixed.encode_request(EmbeddingRequest(("a",), dimensions=8))
    assert (caught.value.feature, caught.value.provider) == ("dimensions", "together")
    with pytest.raises(InvalidParameterError):
        CODEC.encode_request(EmbeddingRequest(("a",), options={"input": ["b"]}))


@given(st.lists(texts), st.none() | names, st.none() | st.integers(1, 10**6), options)
def test_requests_come_back(said: list[str], model: str | None, dimensions: int | None, own: dict[str, Any]) -> None:
    request = EmbeddingRequest(tuple(said), model, dimensions, options=own)
    body = json.loads(json.dumps(CODEC.encode_request(request)))
    assert CODEC.decode_request(body) == request


def test_a_client_may_send_one_text_and_ask_for_a_format() -> None:
    found = CODEC.decode_request({"input": "a", "model": "m", "encoding_format": "base64"})
    assert found == EmbeddingRequest(("a",), "m", options={"encoding_format": "base64"})


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"input": None}, {"input": 1}, {"input": [1, 2]}, {"input": [[1]]}, {"input": {"a": 1}}, []),
        *({"input": "a", "dimensions": 0}, {"input": "a", "dimensions": True}, {"input": "a", "model": 1}),
    ],
)
def test_what_is_no_request(body: Any) -> None:
    with pytest.raises(InvalidRequestError):
        CODEC.decode_request(body)


# Answers.


@given(vectors, st.none() | st.integers(0, 10**9), st.none() | names, st.booleans())
def test_answers_come_back(found: list[list[float]], tokens: int | None, model: str | None, short: bool) -> None:
    usage = None if tokens is None else Usage(tokens)
    body = CODEC.encode_response(Embeddings(found, usage=usage, model=model), base64=short)
    again = CODEC.decode_response(json.dumps(body).encode())
    assert again == found
    assert (again.usage, again.model) == (usage, model)


def test_base64_is_little_endian_floats() -> None:
    text = base64.b64encode(struct.pack("<3f", 1.5, -2.0, 0.25)).decode()
    assert unpacked(text) == [1.5, -2.0, 0.25]
    assert packed([1.5, -2.0, 0.25]) == text
    assert decode(data=[{"embedding": text, "index": 0}]) == [[1.5, -2.0, 0.25]]


@given(st.permutations(range(6)))
def test_the_order_is_that_of_the_indexes(order: list[int]) -> None:
    assert decode(data=[item(place, place) for place in order]) == [[float(place)] for place in range(6)]


def test_indexes_may_be_left_out() -> None:
    assert decode(data=[item(None, 1), item(None, 2)]) == [[1.0], [2.0]]
    assert decode(data=[item(None, 1), item(1, 2)]) == [[1.0], [2.0]]  # a protocol buffer's 0 is not written


@pytest.mark.parametrize("places", [[0, 0], [1, 2], [0, 2], [-1, 0], [1, None]])
def test_indexes_that_say_nothing_are_an_error(places: list[int | None]) -> None:
    with pytest.raises(GenerationError, match="which belongs to which"):
        decode(data=[item(place, 1) for place in places])


def test_tokens_that_are_not_counted() -> None:
    assert decode(data=[]).usage is None
    assert decode(data=[], usage=None).usage is None
    assert decode(data=[], usage={}).usage is None
    assert decode(data=[], usage={"prompt_tokens": 3, "total_tokens": 4}).usage == Usage(3)
    assert decode(data=[], usage={"total_tokens": 4}).usage == Usage(4)


BAD = [
    *(b"", b"{", b"null", b"[]", b"{}", b'{"data": 1}', b'{"data": [1]}', b'{"data": [{}]}', b"<html>", b'"\xff"'),
    *(b'{"data": [{"embedding": ["a"]}]}', b'{"data": [{"embedding": [[1.0]]}]}', b'{"data": [{"embedding": null}]}'),
    *(
        b'{"data": [{"embedding": "AAAA"}]}',
        b'{"data": [{"embedding": "AAA!AAA="}]}',
        b'{"data": [{"embedding": "AAA"}]}',
    ),
    b'{"data": [{"embedding": "\xc3\xa9"}]}',
]


@pytest.mark.parametrize("body", BAD)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(GenerationError) as caught:
        CODEC.decode_response(body)
    assert caught.value.provider == "service"
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_an_error(number: float) -> None:
    with pytest.raises(GenerationError, match="not finite"):
        decode(data=[{"embedding": packed([1.0, number])}])


def test_an_error_instead_of_an_answer() -> None:
    with pytest.raises(QuotaExceededError) as caught:
        decode(error={"message": "Slow down.", "type": "rate_limit_error"})
    assert caught.value.provider == "service"
    with pytest.raises(ProviderAPIError, match="It failed"):
        decode(error="It failed.")


@given(st.binary(max_size=60))
def test_nonsense_is_an_error_of_ours(body: bytes) -> None:
    try:
        CODEC.decode_response(body)
    except (GenerationError, ProviderAPIError):
        pass


# The result.


def test_the_result_is_a_list() -> None:
    found = Embeddings([[1.0], [2.0]], usage=Usage(3), model="m")
    assert found == [[1.0], [2.0]]
    assert json.dumps(found) == "[[1.0], [2.0]]"
    assert type(found[:1]) is list
