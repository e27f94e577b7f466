"""OpenAI's Responses API. What differs among services is in `ResponsesQuirks`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from abstractllm.types import GenerateRequest, GenerateResponse
from abstractllm.wire.openai_responses_answer import read_response, write_response
from abstractllm.wire.openai_responses_decoder import ResponsesStreamDecoder
from abstractllm.wire.openai_responses_encoder import ResponsesStreamEncoder
from abstractllm.wire.openai_responses_request import (
    RESPONSES_STANDARD,
    ResponsesQuirks,
    check_request,
    read_request,
    write_request,
)

__all__ = ["RESPONSES_STANDARD", "OpenAIResponses", "ResponsesQuirks"]


@dataclass(frozen=True, slots=True)
class OpenAIResponses:
    """The codec of the Responses API (see `codec.Codec`).

    `provider` stands in the messages of errors. `clock` gives seconds since 1970 and `new_id` a name for an answer;
    only encoded answers have them.
    """

    quirks: ResponsesQuirks = field(default_factory=ResponsesQuirks)
    provider: str | None = None
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex

    def check_request(self, request: GenerateRequest) -> None:
        """Raise UnsupportedFeatureError for what the service cannot be told; quick enough for a call."""
        check_request(request, self.quirks)

    def encode_request(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return the body of `POST /responses`. Raises UnsupportedFeatureError for what it cannot say.

        `retries` and `timeout` are not the service's business. Earlier reasoning goes back as the service gave it, from
        `provider_data`; other reasoning is left out, as there is no place for it.
        """
        return write_request(request, self.quirks)

    def decode_request(self, body: Mapping[str, Any]) -> GenerateRequest:
        """Return the request that a client sent; fields that requests do not have stand in `options`.

        Raises InvalidRequestError.
        """
        return read_request(body, self.quirks)

    def decode_response(self, body: bytes) -> GenerateResponse:
        """Return a whole answer. Raises GenerationError for what is none, and the error that it holds instead."""
        return read_response(body, self.provider)

    def encode_response(self, response: GenerateResponse) -> Mapping[str, Any]:
        """Return a whole answer as JSON values. Raises UnsupportedFeatureError for several answers."""
        return write_response(response, identity=self.new_id(), created=int(self.clock()))

    def stream_decoder(self) -> ResponsesStreamDecoder:
        """Return the decoder of one answer."""
        return ResponsesStreamDecoder(self.provider)

    def stream_encoder(self, request: GenerateRequest) -> ResponsesStreamEncoder:
        """Return the encoder of one answer to a request."""
        return ResponsesStreamEncoder(request, identity=self.new_id(), created=int(self.clock()))
