"""Streamed answers in Ollama's native chat format, in both directions: one JSON object a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msgspec import json

from abstractllm.accumulator import ResponseAccumulator, call_deltas
from abstractllm.errors import AbstractLLMError
from abstractllm.types import GenerateResponse
from abstractllm.wire.bodies import MALFORMED, cut_off, json_text, malformed
from abstractllm.wire.deferred import DeferredReader
from abstractllm.wire.lines import LineDecoder
from abstractllm.wire.ollama_answer import Line, answer_line, calls_of, ending, failed, last_facts, logprobs_of

_decode = json.Decoder(Line).decode


def whole(rest: bytes) -> bytes:
    """Return the line that a connection ended in, or nothing where it was cut."""
    try:
        json.decode(rest)
    except MALFORMED:
        return b""
    return rest


class OllamaStreamDecoder:
    """Decodes one streamed answer, which ends with the line that says `"done": true`."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._lines = LineDecoder()
        self._reader = DeferredReader()
        self._calls = 0
        self._done = False

    def feed(self, data: bytes) -> Sequence[GenerateResponse]:
        """Return the deltas that are complete with these bytes.

        Raises GenerationError for what is no such stream, and the error that the service reports in the middle of it.
        """
        return self._reader.read(self._lines.feed(data), self._take)

    def end(self) -> Sequence[GenerateResponse]:
        """Return what is left at the end of the connection; raises ProviderConnectionError if that was too early."""
        deltas = self._reader.read([whole(self._lines.end())], self._take)
        if not self._done:
            raise cut_off(self._provider)
        return deltas

    def _take(self, data: bytes) -> GenerateResponse | None:
        if self._done or not data or data.isspace():
            return None
        try:
            line = _decode(data)
        except MALFORMED as error:
            raise malformed(data, error, self._provider) from error
        said = line.message
        if said is not None and said.content and not (line.done or said.thinking or said.tool_calls or line.logprobs):
            return GenerateResponse(content=said.content)
        if line.error is not None:
            raise failed(line.error, self._provider)
        return self._mixed(line)

    def _mixed(self, line: Line) -> GenerateResponse | None:
        """Return the delta of a line that has more than text, or less."""
        said = line.message
        calls = call_deltas(calls_of(line, self._calls), first=self._calls)
        self._calls += len(calls)
        self._done = line.done
        delta = GenerateResponse(
            content="" if said is None else said.content or "",
            reasoning="" if said is None else said.thinking or "",
            tool_call_deltas=calls,
            logprobs=logprobs_of(line),
            **(last_facts(line, self._calls > 0) if line.done else {}),
        )
        return delta if delta != GenerateResponse() else None


class OllamaStreamEncoder:
    """Encodes one streamed answer.

    Calls are held back until the end, because this format has none in pieces.
    """

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._answer = ResponseAccumulator()

    def encode(self, delta: GenerateResponse) -> bytes:
        """Return the line of a delta; none for one that says nothing."""
        self._answer.add(replace(delta, content="", reasoning="", logprobs=()))
        if not (delta.content or delta.reasoning or delta.logprobs):
            return b""
        return self._line(answer_line(self._named(delta), ()))

    def end(self) -> bytes:
        """Return the lines that end the stream: the calls, and why it ended."""
        answer = self._named(self._answer.response)
        called = self._line(answer_line(answer, answer.tool_calls)) if answer.tool_calls else b""
        return called + self._line(answer_line(answer, ()) | ending(answer))

    def fail(self, error: Exception) -> bytes:
        """Return the line that reports an error in the middle of a stream. Texts that are not ours stay inside."""
        message = error.message if isinstance(error, AbstractLLMError) else "The server failed at this request."
        return self._line({"error": message})

    def _named(self, response: GenerateResponse) -> GenerateResponse:
        return replace(response, model=response.model or self._model)

    def _line(self, value: object) -> bytes:
        return json_text(value).encode() + b"\n"
