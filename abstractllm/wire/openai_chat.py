"""OpenAI's Chat Completions, which most services and servers speak. What differs among them is in `ChatQuirks`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from abstractllm.types import GenerateRequest, GenerateResponse
from abstractllm.wire.openai_chat_answer import read_response, write_response
from abstractllm.wire.openai_chat_request import (
    EXTENDED,
    STANDARD,
    ChatQuirks,
    check_request,
    read_request,
    write_request,
)
from abstractllm.wire.openai_chat_stream import ChatStreamDecoder, ChatStreamEncoder

__all__ = ["EXTENDED", "STANDARD", "ChatQuirks", "OpenAIChat"]


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """The codec of Chat Completions (see `codec.Codec`).

    `provider` stands in the messages of errors. `clock` gives seconds since 1970 and `new_id` a name for an answer;
    only encoded answers have them.
    """

    quirks: ChatQuirks = field(default_factory=ChatQuirks)
    provider: str | None = None
    clock: Callable[[], float] = time.time
    new_id: Callable[[], str] = lambda: uuid.uuid4().hex

    def check_request(self, request: GenerateRequest) -> None:
        """Raise UnsupportedFeatureError for what the service cannot be told; quick enough for a call."""
        check_request(request, self.quirks)

    def encode_request(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return the body of `POST /chat/completions`. Raises UnsupportedFeatureError for what it cannot say.

        `retries` and `timeout` are not the service's business. Reasoning of earlier turns is left out unless the quirks
        say where it goes.
        """
        return write_request(request, self.quirks)

    def decode_request(self, body: Mapping[str, Any]) -> GenerateRequest:
        """Return the request that a client sent; fields that requests do not have stand in `options`.

        `stream_options` is among them where it does not ask for usage. Raises InvalidRequestError.
        """
        return read_request(body, self.quirks)

    def decode_response(self, body: bytes) -> GenerateResponse:
        """Return a whole answer. Raises GenerationError for what is none, and the error that it holds instead."""
        return read_response(body, self.provider)

    def encode_response(self, response: GenerateResponse) -> Mapping[str, Any]:
        """Return a whole answer as JSON values."""
        identity, created = self._head()
        return write_response(response, identity=identity, created=created, reasoning=self.quirks.reasoning_field)

    def stream_decoder(self) -> ChatStreamDecoder:
        """Return the decoder of one answer."""
        return ChatStreamDecoder(self.quirks, self.provider)

    def stream_encoder(self, request: GenerateRequest) -> ChatStreamEncoder:
        """Return the encoder of one answer to a request."""
        identity, created = self._head()
        return ChatStreamEncoder(request, self.quirks, identity=identity, created=created)

    def _head(self) -> tuple[str, int]:
        return f"chatcmpl-{self.new_id()}", int(self.clock())
