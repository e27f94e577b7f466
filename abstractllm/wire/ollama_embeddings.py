"""Ollama's native format for embeddings, in both directions.

Wire facts: `EmbedRequest` and `EmbedResponse` in that project's api/types.go, and `EmbedHandler` in server/routes.go:
vectors come in the order of the texts and have the length 1. The service cuts a text that is too long for the model,
without a word, unless `truncate` is false.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from abstractllm.errors import InvalidRequestError
from abstractllm.types import EmbeddingRequest, Embeddings, Usage
from abstractllm.wire.bodies import MALFORMED, malformed, read_request
from abstractllm.wire.ollama_answer import failed
from abstractllm.wire.vectors import read_dimensions, read_model, read_texts

BESIDE = frozenset({"keep_alive", "truncate"})
"""Options that stand beside `options` in a body; all others stand in them."""

_OURS = frozenset({"input", "model", "dimensions", "options"})
_SHOWN = 200


class _Answer(msgspec.Struct):
    embeddings: list[list[float]] | None = None
    model: str | None = None
    prompt_eval_count: int | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Answer).decode


@dataclass(frozen=True, slots=True)
class OllamaEmbeddings:
    """The codec of `/api/embed` (see `codec.EmbeddingCodec`).

    A text that is too long is an error, as it is with other services; the option `truncate` has it cut instead.
    """

    provider: str = "ollama"

    def encode_request(self, request: EmbeddingRequest) -> Mapping[str, Any]:
        """Return the body of `POST /api/embed`."""
        body: dict[str, Any] = {"input": list(request.texts), "truncate": False}
        if request.model is not None:
            body["model"] = request.model
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        body |= {name: value for name, value in request.options.items() if name in BESIDE}
        inside = {name: value for name, value in request.options.items() if name not in BESIDE}
        return body | ({"options": inside} if inside else {})

    def decode_request(self, body: Mapping[str, Any]) -> EmbeddingRequest:
        """Return the request that a client sent; `options` has `truncate` as well. Raises InvalidRequestError."""
        read = read_request(body, dict[str, Any])
        inside = read.get("options") or {}
        if not isinstance(inside, Mapping):
            raise InvalidRequestError("The options are not valid: they must be a JSON object.")
        beside = {name: value for name, value in read.items() if name not in _OURS and value is not None}
        return EmbeddingRequest(
            read_texts(read.get("input")),
            model=read_model(read.get("model")),
            dimensions=read_dimensions(read.get("dimensions") or None),  # 0 is the same as nothing
            options={"truncate": True, **beside, **inside},
        )

    def decode_response(self, body: bytes) -> Embeddings:
        """Return the vectors. Raises GenerationError for what is no such answer, and the error that it holds."""
        try:
            answer = _decode(body)
        except MALFORMED as error:
            raise malformed(body[:_SHOWN], error, self.provider) from error
        if answer.error is not None:
            raise failed(answer.error, self.provider)
        if answer.embeddings is None:
            raise malformed(body[:_SHOWN], ValueError("there are no embeddings in it"), self.provider)
        counted = answer.prompt_eval_count
        usage = None if counted is None else Usage(counted)
        return Embeddings(answer.embeddings, usage=usage, model=answer.model or None)

    def encode_response(self, embeddings: Embeddings) -> Mapping[str, Any]:
        """Return an answer as JSON values."""
        counts = {} if embeddings.usage is None else {"prompt_eval_count": embeddings.usage.prompt_tokens}
        return {"model": embeddings.model or "", "embeddings": list(embeddings), **counts}
