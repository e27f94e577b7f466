"""The codec of Ollama's native chat format, and whole answers in it.

Wire facts: https://docs.ollama.com/api and the types in that project's `api/types.go`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abstractllm.errors import UnsupportedFeatureError
from abstractllm.types import GenerateRequest, GenerateResponse
from abstractllm.wire import ollama_request
from abstractllm.wire.bodies import malformed, read_answer
from abstractllm.wire.codec import StreamDecoder, StreamEncoder
from abstractllm.wire.ollama_answer import Line, answer_line, calls_of, ending, failed, last_facts, logprobs_of
from abstractllm.wire.ollama_request import OllamaQuirks
from abstractllm.wire.ollama_stream import OllamaStreamDecoder, OllamaStreamEncoder


class OllamaChat:
    """The codec of Ollama's native chat format.

    Requests: the option `keep_alive` stands beside the body's `options`, others such as `num_ctx` in them. Not to
    call a tool is said by leaving the tools out. A tool's result goes by its name, which is looked up in the calls
    before it. A service that numbers no calls gives them no ids either: they are "call_0" and so on.
    """

    def __init__(self, quirks: OllamaQuirks | None = None) -> None:
        self.quirks = quirks or OllamaQuirks()

    def encode_request(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return the body of a request. Raises UnsupportedFeatureError for what it cannot say."""
        return ollama_request.encode_request(request, self.quirks)

    def decode_request(self, body: Mapping[str, Any]) -> GenerateRequest:
        """Return the request that a client sent; what is not the format's own is in its `options`.

        Raises InvalidRequestError for one that is none.
        """
        return ollama_request.decode_request(body)

    def decode_response(self, body: bytes) -> GenerateResponse:
        """Return a whole answer. Raises GenerationError for what is none, or the error that it reports."""
        raw, line = read_answer(body, Line, self.quirks.provider)
        if line.error is not None:
            raise failed(line.error, self.quirks.provider)
        if not line.done:
            raise malformed(body, "no end of the answer", self.quirks.provider)
        calls = calls_of(line)
        said = line.message
        return GenerateResponse(
            content="" if said is None else said.content or "",
            reasoning="" if said is None else said.thinking or "",
            tool_calls=calls,
            logprobs=logprobs_of(line),
            raw_response=raw,
            **last_facts(line, bool(calls)),
        )

    def encode_response(self, response: GenerateResponse) -> Mapping[str, Any]:
        """Return a whole answer as JSON values. Raises UnsupportedFeatureError for several answers in one."""
        if len(response.choices) > 1:
            raise UnsupportedFeatureError("n", "This wire format has one answer to a request.")
        return answer_line(response, response.tool_calls, None) | ending(response)

    def stream_decoder(self) -> StreamDecoder:
        """Return the decoder of one answer."""
        return OllamaStreamDecoder(self.quirks.provider)

    def stream_encoder(self, request: GenerateRequest) -> StreamEncoder:
        """Return the encoder of one answer to a request."""
        return OllamaStreamEncoder(request.model)
