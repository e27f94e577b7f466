"""Embeddings over HTTP: one request per batch, sent and tried again as answers are. Knows no service and no format."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from abstractllm.providers.call import Call
from abstractllm.providers.embedding import Embedder, EmbeddingProvider
from abstractllm.providers.http.endpoint import Endpoint
from abstractllm.providers.http.interrupt import Interrupt
from abstractllm.providers.http.pacing import estimated_tokens_of
from abstractllm.providers.http.provider import HTTPProvider
from abstractllm.providers.http.sending import json_body, sending_to
from abstractllm.types import EmbeddingRequest, Embeddings, GenerateRequest

if TYPE_CHECKING:
    from abstractllm.providers.http.connections import Answer
    from abstractllm.wire.codec import EmbeddingCodec

_NOTHING = GenerateRequest(())


class HTTPEmbeddings(EmbeddingProvider, HTTPProvider):
    """An `HTTPProvider` with embeddings. Subclasses set `embeddings` and write `_embedding_codec`."""

    settings: ClassVar[frozenset[str]] = HTTPProvider.settings | {"embedding_model"}
    embedding_path: ClassVar[str] = "/embeddings"

    def _embedding_codec(self) -> EmbeddingCodec:
        """Return the wire format of embeddings."""
        raise NotImplementedError

    def _check_embedding(self, request: EmbeddingRequest) -> None:
        self._check_key()

    def _embedder(self, request: EmbeddingRequest, call: Call) -> Embedder:
        """Return what sends a batch to the service as it is configured now, whatever is set meanwhile."""
        endpoint, codec = self._endpoint, self._embedding_codec()

        async def embedded(texts: tuple[str, ...]) -> Embeddings:
            return await self._batch(replace(request, texts=texts), endpoint, codec, call)

        return embedded

    async def _batch(
        self, request: EmbeddingRequest, endpoint: Endpoint, codec: EmbeddingCodec, call: Call
    ) -> Embeddings:
        await self._ready(endpoint)
        body = await self._worked(sum(map(len, request.texts)), _encoded, codec, request)
        url = endpoint.base_url + self.embedding_path
        sending = sending_to(endpoint, url, self._headers(_NOTHING, endpoint.key), body)
        turn = self._pacer.turn(lambda: estimated_tokens_of(request.texts), call)
        with self._telling(), Interrupt(call) as interrupt, turn:
            found = await self._tried(sending, call, interrupt, turn, lambda answer: self._vectors(codec, answer, call))
            if found.usage is not None:
                turn.used(found.usage)
            return found

    async def _vectors(self, codec: EmbeddingCodec, answer: Answer, call: Call) -> Embeddings:
        body = await answer.whole(self.limits.vectors, begun=call.first_event)
        answer.close()
        return await self._worked(len(body), codec.decode_response, body)


def _encoded(codec: EmbeddingCodec, request: EmbeddingRequest) -> bytes:
    return json_body(codec.encode_request(request), text="texts")
