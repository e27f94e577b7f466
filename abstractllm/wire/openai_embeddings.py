"""OpenAI's format for embeddings, which most services and servers speak, in both directions.

Wire facts: https://platform.openai.com/docs/api-reference/embeddings. `encoding_format` "base64" is the numbers as
float32, the lowest byte first: a quarter of the bytes, and no numbers to parse. An answer is read by what stands in it,
so a service that sends lists of numbers all the same is understood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from abstractllm.errors import GenerationError, UnsupportedFeatureError
from abstractllm.types import EmbeddingRequest, Embeddings, Usage
from abstractllm.wire.bodies import MALFORMED, malformed, read_request
from abstractllm.wire.failures import stream_failure
from abstractllm.wire.openai_facts import with_options
from abstractllm.wire.vectors import packed, read_dimensions, read_model, read_texts, unpacked

_SHOWN = 200
"""Bytes of an answer that cannot be read, which may be long, that its error looks at."""


class _Item(msgspec.Struct, gc=False):
    embedding: list[float] | str
    index: int | None = None


class _Counts(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    total_tokens: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Item] | None = None
    usage: _Counts | None = None
    model: str | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True, slots=True)
class OpenAIEmbeddings:
    """The codec of `/embeddings` (see `codec.EmbeddingCodec`).

    `dimensions` is the field for the length of vectors, None where a service has none; `base64` says that a service is
    known to send vectors in it. `provider` stands in the messages of errors.
    """

    provider: str = "openai"
    dimensions: str | None = "dimensions"
    base64: bool = False

    def encode_request(self, request: EmbeddingRequest) -> Mapping[str, Any]:
        """Return the body of `POST /embeddings`. Raises UnsupportedFeatureError, InvalidParameterError for options."""
        body: dict[str, Any] = {"input": list(request.texts)}
        if request.model is not None:
            body["model"] = request.model
        if self.base64:
            body["encoding_format"] = "base64"
        if request.dimensions is not None:
            body[self._field()] = request.dimensions
        return with_options(body, request.options)

    def _field(self) -> str:
        if self.dimensions is None:
            what = "This service does not choose the length of vectors; leave dimensions out."
            raise UnsupportedFeatureError("dimensions", what, provider=self.provider)
        return self.dimensions

    def decode_request(self, body: Mapping[str, Any]) -> EmbeddingRequest:
        """Return the request that a client sent; other fields, `encoding_format` among them, stand in `options`."""
        read = read_request(body, dict[str, Any])
        known = {"input", "model", self.dimensions}
        return EmbeddingRequest(
            read_texts(read.get("input")),
            model=read_model(read.get("model")),
            dimensions=read_dimensions(read.get(self.dimensions or "")),
            options={name: value for name, value in read.items() if name not in known},
        )

    def decode_response(self, body: bytes) -> Embeddings:
        """Return the vectors in the order of their indexes; some services leave them, or the first one, out.

        Raises GenerationError for what is no such answer, and the error that it holds instead.
        """
        try:
            answer = _decode(body)
        except MALFORMED as error:
            raise malformed(body[:_SHOWN], error, self.provider) from error
        if answer.data is None:
            raise self._nothing(answer, body)
        items = self._in_order(answer.data)
        vectors = [self._vector(item.embedding) for item in items]
        return Embeddings(vectors, usage=_read_usage(answer.usage), model=answer.model or None)

    def _nothing(self, answer: _Answer, body: bytes) -> Exception:
        if answer.error is None:
            return malformed(body[:_SHOWN], ValueError("there is no data in it"), self.provider)
        return stream_failure(answer.error, self.provider)

    def _in_order(self, items: Sequence[_Item]) -> Sequence[_Item]:
        places = [number if item.index is None else item.index for number, item in enumerate(items)]
        if places == list(range(len(items))):
            return items
        found = dict(zip(places, items, strict=True))
        if found.keys() != set(range(len(items))):
            what = "The service numbered its vectors so that nobody can tell which belongs to which text."
            raise GenerationError(what, provider=self.provider)
        return [found[place] for place in range(len(items))]

    def _vector(self, embedding: list[float] | str) -> list[float]:
        if not isinstance(embedding, str):
            return embedding
        try:
            return unpacked(embedding)
        except ValueError as error:
            raise malformed(embedding[:_SHOWN].encode(), error, self.provider) from error

    def encode_response(self, embeddings: Embeddings, *, base64: bool = False) -> Mapping[str, Any]:
        """Return an answer as JSON values; `base64` where the client's `encoding_format` asks for it."""
        data = [
            {"object": "embedding", "index": number, "embedding": packed(vector) if base64 else vector}
            for number, vector in enumerate(embeddings)
        ]
        answer: dict[str, Any] = {"object": "list", "data": data, "model": embeddings.model or ""}
        if embeddings.usage is not None:
            count = embeddings.usage.prompt_tokens
            answer["usage"] = {"prompt_tokens": count, "total_tokens": count}
        return answer


def _read_usage(counts: _Counts | None) -> Usage | None:
    """Return the tokens of the texts, or None where the service says nothing of them."""
    if counts is None:
        return None
    count = counts.total_tokens if counts.prompt_tokens is None else counts.prompt_tokens
    return None if count is None else Usage(count)
