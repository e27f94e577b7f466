"""Streams of OpenAI's Chat Completions, both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from abstractllm.accumulator import call_deltas
from abstractllm.errors import AbstractLLMError, GenerationError, ProviderConnectionError
from abstractllm.types import GenerateRequest, GenerateResponse, ToolCallDelta, Usage
from abstractllm.wire.deferred import DeferredReader
from abstractllm.wire.failures import error_object, stream_failure
from abstractllm.wire.lines import Event, EventDecoder
from abstractllm.wire.openai_chat_answer import (
    Counts,
    Ending,
    Logprobs,
    Said,
    choice_logprobs,
    no_answer,
    own_fields,
    read_usage,
    said_texts,
    write_finish,
    write_usage,
)
from abstractllm.wire.openai_chat_request import ChatQuirks
from abstractllm.wire.openai_facts import write_logprobs

DONE = b"[DONE]"


class _Choice(msgspec.Struct, gc=False):
    """A piece of one of the answers."""

    index: int | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: Logprobs | None = None


class _Chunk(msgspec.Struct, gc=False):
    """One event."""

    choices: list[_Choice] | None = None
    usage: Counts | None = None
    model: str | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_decode_any = msgspec.json.Decoder().decode


def _is_plain(said: Said) -> bool:
    """Whether a piece says nothing but content, as nearly all do."""
    return (
        said.tool_calls is None
        and said.reasoning is None
        and said.reasoning_content is None
        and said.refusal is None
        and said.reasoning_details is None
    )


class ChatStreamDecoder:
    """Decodes one streamed answer; with several choices, their deltas come as the service interleaves them.

    The delta with the usage has the whole event that told of it as its `raw_response`.
    """

    def __init__(self, quirks: ChatQuirks, provider: str | None) -> None:
        self._quirks = quirks
        self._provider = provider
        self._events = EventDecoder()
        self._endings: dict[int, Ending] = {}
        self._usage: Counts | None = None
        self._told_usage = b""  # the event with it
        self._model: str | None = None
        self._done = False
        self._reader = DeferredReader()

    def feed(self, data: bytes) -> Sequence[GenerateResponse]:
        """Return the deltas that are complete with these bytes; what comes after the end marker is ignored.

        Raises GenerationError for what is no such stream, and the error that the service reports in it; where deltas
        came before it in the same bytes, they are returned, and the next call raises.
        """
        return self._reader.collect(self._events.feed(data), self._take_unless_done)

    def _take_unless_done(self, event: Event, found: list[GenerateResponse]) -> None:
        if not self._done and event.data:
            self._take(event.data, found)

    def end(self) -> Sequence[GenerateResponse]:
        """Return what is left. Raises ProviderConnectionError for a stream without its end, and what `feed` raises."""
        self._reader.check()
        found: list[GenerateResponse] = []
        for event in self._events.end():
            if not self._done and event.data:
                self._take_last(event.data, found)
        if self._done:
            return found
        if self._quirks.done_marker or not self._finished():
            raise self._cut()
        self._finish(found)
        return found

    def _finished(self) -> bool:
        return bool(self._endings) and all(one.finish is not None for one in self._endings.values())

    def _cut(self) -> ProviderConnectionError:
        return ProviderConnectionError(
            "The connection ended before the answer did: the answer was cut off. Try again.", provider=self._provider
        )

    def _take_last(self, data: bytes, found: list[GenerateResponse]) -> None:
        """Take an event without its end, which is perhaps not whole."""
        try:
            self._take(data, found)
        except GenerationError as error:
            raise self._cut() from error

    def _take(self, data: bytes, found: list[GenerateResponse]) -> None:
        try:
            chunk = _decode_chunk(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if data.strip() != DONE:
                raise self._failed(data) from error
            self._finish(found)
            return
        if chunk.error is not None or (chunk.choices is None and chunk.usage is None):
            self._look_for_error(data)
        if chunk.model:
            self._model = chunk.model
        if chunk.usage is not None:
            self._usage, self._told_usage = chunk.usage, data
        for choice in chunk.choices or ():
            delta = self._delta(choice)
            if delta is not None:
                found.append(delta)

    def _failed(self, data: bytes) -> AbstractLLMError:
        """Return the error for an event that is no piece of an answer: it may still say what went wrong."""
        try:
            value = _decode_any(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return no_answer(data, self._provider)
        is_error = isinstance(value, dict) and bool(value.get("error"))
        return stream_failure(value, self._provider) if is_error else no_answer(data, self._provider)

    def _look_for_error(self, data: bytes) -> None:
        """Raise what an event without choices and usage reports, if it does; some servers do without `error`."""
        value = _decode_any(data)
        said = isinstance(value.get("message"), str) or "detail" in value
        if said or value.get("error") or "error" in (value.get("object"), value.get("type")):
            raise stream_failure(value, self._provider)

    def _delta(self, choice: _Choice) -> GenerateResponse | None:
        number = choice.index or 0
        ending = self._endings.get(number)
        if ending is None:
            ending = self._endings[number] = Ending(number)
        if choice.finish_reason is not None:
            ending.finish = choice.finish_reason
            if isinstance(choice.stop_reason, str):
                ending.stop = choice.stop_reason
        said = choice.delta
        if said is None:
            return None
        content = said.content
        if type(content) is str and choice.logprobs is None and _is_plain(said):
            return GenerateResponse(content, choice=number) if content else None
        return self._rich_delta(ending, said, choice)

    def _rich_delta(self, ending: Ending, said: Said, choice: _Choice) -> GenerateResponse | None:
        content, reasoning = said_texts(said)
        if said.refusal:
            ending.refused = True
            content += said.refusal
        if said.reasoning_details:
            ending.details.extend(said.reasoning_details)
        calls = ending.add_calls(said.tool_calls) if said.tool_calls else ()
        logprobs = choice_logprobs(choice.logprobs)
        if not (content or reasoning or calls or logprobs):
            return None
        return GenerateResponse(content, reasoning, tool_call_deltas=calls, logprobs=logprobs, choice=ending.choice)

    def _finish(self, found: list[GenerateResponse]) -> None:
        """Add the last delta of every answer; usage, which is of all of them, stands in the first one's."""
        if not self._endings:
            raise GenerationError("The service ended its stream without an answer; try again.", provider=self._provider)
        self._done = True
        usage = read_usage(self._usage) if self._usage else None
        for number in sorted(self._endings):
            ending = self._endings[number]
            found.append(
                GenerateResponse(
                    finish_reason=ending.finish_reason(self._provider),
                    usage=usage,
                    stop_string=ending.stop,
                    model=self._model,
                    choice=number,
                    provider_data=ending.provider_data(),
                    raw_response=_decode_any(self._told_usage) if usage else None,
                )
            )
            usage = None


class ChatStreamEncoder:
    """Encodes one streamed answer. Usage comes in a chunk of its own at the end, unless the request declines it."""

    def __init__(self, request: GenerateRequest, quirks: ChatQuirks, *, identity: str, created: int) -> None:
        options = request.options.get("stream_options")
        self._wants_usage = not isinstance(options, Mapping) or bool(options.get("include_usage"))
        self._reasoning = quirks.reasoning_field
        self._head = {"id": identity, "object": "chat.completion.chunk", "created": created}
        self._model = request.model or ""
        self._calls: dict[int, int] = {}  # choice -> how many calls it has
        self._usage: Usage | None = None

    def encode(self, delta: GenerateResponse) -> bytes:
        """Return the events of a delta; one with several `choices` stands for all of them."""
        if delta.choices:
            return b"".join(map(self.encode, delta.choices))
        self._model = delta.model or self._model
        self._usage = delta.usage or self._usage
        first = delta.choice not in self._calls
        said = self._said(delta)
        if not (said or first or delta.finish_reason or delta.logprobs):
            return b""
        choice: dict[str, Any] = {
            "index": delta.choice,
            "delta": {"role": "assistant", **said} if first else said,
            "logprobs": {"content": write_logprobs(delta.logprobs)} if delta.logprobs else None,
            **write_finish(delta),
        }
        return self._event([choice])

    def _said(self, delta: GenerateResponse) -> dict[str, Any]:
        said: dict[str, Any] = {}
        if delta.content:
            said["content"] = delta.content
        if delta.reasoning:
            said[self._reasoning] = delta.reasoning
        calls = self._pieces(delta)
        own = own_fields(delta.provider_data)
        if own.get("reasoning_details"):
            said["reasoning_details"] = own["reasoning_details"]
        extras = enumerate(own.get("extra_content") or ())
        pieces = [_write_piece(piece) for piece in calls]
        pieces += [{"index": index, "extra_content": extra} for index, extra in extras if extra is not None]
        if pieces:
            said["tool_calls"] = pieces
        return said

    def _pieces(self, delta: GenerateResponse) -> tuple[ToolCallDelta, ...]:
        """Return the pieces of calls in a delta, whole calls among them, and remember how many calls there are."""
        begun = self._calls.get(delta.choice, 0)
        begun = max(begun, *(piece.index + 1 for piece in delta.tool_call_deltas), 0)
        self._calls[delta.choice] = begun + len(delta.tool_calls)
        return (*delta.tool_call_deltas, *call_deltas(delta.tool_calls, first=begun))

    def _event(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        chunk = {**self._head, "model": self._model, "choices": choices, **more}
        return b"data: %b\n\n" % msgspec.json.encode(chunk)

    def end(self) -> bytes:
        """Return the usage, if it is wanted and known, and the end marker."""
        usage = self._event([], usage=write_usage(self._usage)) if self._usage and self._wants_usage else b""
        return usage + b"data: [DONE]\n\n"

    def fail(self, error: Exception) -> bytes:
        """Return the event that reports an error; nothing comes after it."""
        return b"data: %b\n\n" % msgspec.json.encode({"error": error_object(error)})


def _write_piece(piece: ToolCallDelta) -> dict[str, Any]:
    function = {"name": piece.name} if piece.name is not None else {}
    head: dict[str, Any] = {"index": piece.index}
    if piece.id is not None:
        head |= {"id": piece.id, "type": "function"}
    return {**head, "function": {**function, "arguments": piece.arguments}}
