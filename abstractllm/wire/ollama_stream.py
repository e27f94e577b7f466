"""Streamed answers in Ollama's native chat format, in both directions: one JSON object a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msgspec import json

from abstractllm.accumulator import ResponseAccumulator, call_deltas
from abstractllm.errors import AbstractLLMError
from abstractllm.types import GenerateResponse
from abstractllm.wire.bodies import MALFORMED, cut_off, malformed
from abstractllm.wire.deferred import DeferredReader
from abstractllm.wire.lines import LineDecoder
from abstractllm.wire.ollama_answer import Line, Said, answer_line, calls_of, ending, failed, last_facts, logprobs_of

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
        if said is None or line.done or said.tool_calls or line.logprobs or line.error is not None:
            return self._mixed(line)
        content, thinking = said.content or "", said.thinking or ""
        return GenerateResponse(content=content, reasoning=thinking) if content or thinking else None

    def _mixed(self, line: Line) -> GenerateResponse | None:
        """Return the delta of a line that has more than text, or nothing."""
        if line.error is not None:
            raise failed(line.error, self._provider)
        said = line.message or Said()
        calls = call_deltas(calls_of(line, self._calls), first=self._calls)
        self._calls += len(calls)
        self._done = line.done
        if not (line.done or said.content or said.thinking or calls or line.logprobs):
            return None
        return GenerateResponse(
            content=said.content or "",
            reasoning=said.thinking or "",
            tool_call_deltas=calls,
            logprobs=logprobs_of(line),
            **(last_facts(line, self._calls > 0) if line.done else {}),
        )


def _line(value: object) -> bytes:
    return json.encode(value) + b"\n"


def _is_text(delta: GenerateResponse) -> bool:
    """Whether a delta says nothing of calls and of the whole answer."""
    facts = (delta.finish_reason, delta.usage, delta.timings, delta.model)
    return facts == (None, None, None, None) and not (delta.tool_call_deltas or delta.tool_calls)


class OllamaStreamEncoder:
    """Encodes one streamed answer.

    Calls are held back until the end, because this format has none in pieces.
    """

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._answer = ResponseAccumulator()

    def encode(self, delta: GenerateResponse) -> bytes:
        """Return the line of a delta; none for one that says nothing."""
        if not _is_text(delta):
            self._answer.add(replace(delta, content="", reasoning="", logprobs=()))
        if not (delta.content or delta.reasoning or delta.logprobs):
            return b""
        return _line(answer_line(delta, (), self._model))

    def end(self) -> bytes:
        """Return the lines that end the stream: the calls, and why it ended."""
        answer = self._answer.response
        called = _line(answer_line(answer, answer.tool_calls, self._model)) if answer.tool_calls else b""
        return called + _line(answer_line(answer, (), self._model) | ending(answer))

    def fail(self, error: Exception) -> bytes:
        """Return the line that reports an error in the middle of a stream. Texts that are not ours stay inside."""
        message = error.message if isinstance(error, AbstractLLMError) else "The server failed at this request."
        return _line({"error": message})
