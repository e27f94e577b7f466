"""What every wire format offers: a client encodes requests and decodes answers, a server does the reverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from abstractllm.types import EmbeddingRequest, Embeddings, GenerateRequest, GenerateResponse


class StreamDecoder(Protocol):
    """Decodes one streamed answer."""

    def feed(self, data: bytes) -> Sequence[GenerateResponse]:
        """Return the deltas that are complete with these bytes.

        Raises GenerationError for what is no such stream, and the error that the service reports in the middle of it.
        """

    def end(self) -> Sequence[GenerateResponse]:
        """Return what is left once the connection has ended; raises ProviderConnectionError if that was too early."""


class StreamEncoder(Protocol):
    """Encodes one streamed answer."""

    def encode(self, delta: GenerateResponse) -> bytes:
        """Return the bytes of a delta; they may be empty."""

    def end(self) -> bytes:
        """Return the bytes that end the stream."""

    def fail(self, error: Exception) -> bytes:
        """Return the bytes that report an error in the middle of a stream."""


class Codec(Protocol):
    """One wire format, with the quirks of one service. Holds no state of a request."""

    def encode_request(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return the body of a request as JSON values. Raises UnsupportedFeatureError for what it cannot say."""

    def decode_request(self, body: Mapping[str, Any]) -> GenerateRequest:
        """Return the request that a client sent. Raises InvalidRequestError for one that is none."""

    def decode_response(self, body: bytes) -> GenerateResponse:
        """Return a whole answer. Raises GenerationError for what is none."""

    def encode_response(self, response: GenerateResponse) -> Mapping[str, Any]:
        """Return a whole answer as JSON values."""

    def stream_decoder(self) -> StreamDecoder:
        """Return the decoder of one answer."""

    def stream_encoder(self, request: GenerateRequest) -> StreamEncoder:
        """Return the encoder of one answer to a request."""


class EmbeddingCodec(Protocol):
    """One wire format for embeddings, with the quirks of one service. Holds no state of a request."""

    def encode_request(self, request: EmbeddingRequest) -> Mapping[str, Any]:
        """Return the body of a request as JSON values. Raises UnsupportedFeatureError for what it cannot say."""

    def decode_request(self, body: Mapping[str, Any]) -> EmbeddingRequest:
        """Return the request that a client sent. Raises InvalidRequestError for one that is none."""

    def decode_response(self, body: bytes) -> Embeddings:
        """Return the vectors in the order of the texts. Raises GenerationError for what is no such answer."""
