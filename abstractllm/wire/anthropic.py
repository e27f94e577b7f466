"""The codec of Anthropic's Messages format.

Wire facts: https://platform.claude.com/docs/en/api/messages, and the pages on streaming, tool use, extended thinking
and structured outputs there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abstractllm.types import GenerateRequest, GenerateResponse
from abstractllm.wire import anthropic_answer, anthropic_body, anthropic_request
from abstractllm.wire.anthropic_encoder import AnthropicStreamEncoder
from abstractllm.wire.anthropic_request import AnthropicQuirks
from abstractllm.wire.anthropic_stream import AnthropicStreamDecoder
from abstractllm.wire.codec import StreamDecoder, StreamEncoder


class AnthropicMessages:
    """The codec of Anthropic's Messages format.

    Requests: system turns stand at the beginning, and become one; turns of one speaker in a row become one, with the
    results of tools before the rest; turns that are empty, or white space alone, are left out. A tool's
    result says that the tool failed with `provider_data={"anthropic": {"is_error": True}}`. A model's earlier
    `reasoning` goes back only as the signed blocks in its turn's `provider_data`.

    The answers that a server encodes get new ids.
    """

    def __init__(self, quirks: AnthropicQuirks | None = None) -> None:
        self.quirks = quirks or AnthropicQuirks()

    def encode_request(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return the body of a request. Raises UnsupportedFeatureError for what it cannot say."""
        return anthropic_request.encode_request(request, self.quirks)

    def decode_request(self, body: Mapping[str, Any]) -> GenerateRequest:
        """Return the request that a client sent; fields that are not the format's own are in its `options`.

        Raises InvalidRequestError for one that is none, UnsupportedFeatureError for what no request of ours can say.
        """
        return anthropic_body.decode_request(body, self.quirks)

    def decode_response(self, body: bytes) -> GenerateResponse:
        """Return a whole answer. Raises GenerationError for what is none, or the error that it reports."""
        return anthropic_answer.decode_response(body, self.quirks.provider)

    def encode_response(self, response: GenerateResponse) -> Mapping[str, Any]:
        """Return a whole answer as JSON values. Raises UnsupportedFeatureError for several answers in one."""
        return anthropic_answer.encode_response(response)

    def stream_decoder(self) -> StreamDecoder:
        """Return the decoder of one answer."""
        return AnthropicStreamDecoder(self.quirks.provider)

    def stream_encoder(self, request: GenerateRequest) -> StreamEncoder:
        """Return the encoder of one answer to a request."""
        return AnthropicStreamEncoder(request.model)
