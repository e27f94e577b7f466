"""Streams of OpenAI's Responses API: events -> deltas."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from abstractllm.accumulator import call_deltas
from abstractllm.errors import GenerationError, ProviderConnectionError
from abstractllm.types import GenerateResponse, ToolCallDelta
from abstractllm.wire.deferred import DeferredReader
from abstractllm.wire.failures import stream_failure
from abstractllm.wire.lines import Event, EventDecoder
from abstractllm.wire.openai_chat_answer import no_answer
from abstractllm.wire.openai_facts import Logprob, read_logprobs, string
from abstractllm.wire.openai_responses_answer import Ended, read_end, read_output
from abstractllm.wire.openai_responses_items import arguments_text, own_data, returned_item


class _Event(msgspec.Struct, gc=False):
    """One event. What is not the same in every type of event is checked where it is used."""

    type: str = ""
    delta: Any = None
    output_index: int | None = None
    content_index: int | None = None
    summary_index: int | None = None
    item_id: str | None = None
    arguments: Any = None
    logprobs: Any = None
    item: msgspec.Raw = msgspec.Raw()
    response: msgspec.Raw = msgspec.Raw()
    error: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_item = msgspec.json.Decoder(dict[str, Any]).decode
_decode_ended = msgspec.json.Decoder(Ended).decode
_decode_any = msgspec.json.Decoder().decode

_TEXT = "response.output_text.delta"
_DONE = b"[DONE]"  # not of this format, and yet some gateways send it

_Found = list[GenerateResponse]


class _Call:
    """A call that has begun: what of it has been told."""

    __slots__ = ("arguments", "index", "named")

    def __init__(self, index: int) -> None:
        self.index = index
        self.named = False
        self.arguments = False


class ResponsesStreamDecoder:
    """Decodes one streamed answer."""

    def __init__(self, provider: str | None) -> None:
        self._provider = provider
        self._events = EventDecoder()
        self._reader = DeferredReader()
        self._done = False
        self._said = False
        self._refused = False
        self._calls: dict[int | str | None, _Call] = {}
        self._by_item: dict[str | None, _Call] = {}
        self._paragraph: tuple[object, ...] | None = None
        self._items: list[dict[str, Any]] = []
        self._handlers: Mapping[str, Callable[[_Event, _Found], None]] = {
            "response.refusal.delta": self._refusal,
            "response.reasoning_summary_text.delta": self._reasoning,
            "response.reasoning_text.delta": self._reasoning,
            "response.output_item.added": self._item_added,
            "response.output_item.done": self._item_done,
            "response.function_call_arguments.delta": self._arguments,
            "response.function_call_arguments.done": self._arguments_done,
            "response.completed": self._end,
            "response.incomplete": self._end,
            "response.cancelled": self._end,
            "response.failed": self._end,
        }

    def feed(self, data: bytes) -> Sequence[GenerateResponse]:
        """Return the deltas that are complete with these bytes; what comes after the last event is ignored.

        Raises GenerationError for what is no such stream, and the error that the service reports in it; where deltas
        came before it in the same bytes, they are returned, and the next call raises.
        """
        return self._reader.collect(self._events.feed(data), self._take_unless_done)

    def _take_unless_done(self, event: Event, found: _Found) -> None:
        if not self._done and event.data:
            self._take(event, found)

    def end(self) -> Sequence[GenerateResponse]:
        """Return what is left. Raises ProviderConnectionError for a stream without its end, and what `feed` raises."""
        self._reader.check()
        found: _Found = []
        cause: GenerationError | None = None
        try:
            for event in self._events.end():
                if not self._done and event.data:
                    self._take(event, found)
        except GenerationError as error:
            cause = error
        if self._done:
            return found
        raise ProviderConnectionError(
            "The connection ended before the answer did: the answer was cut off. Try again.", provider=self._provider
        ) from cause

    def _take(self, source: Event, found: _Found) -> None:
        try:
            event = _decode_event(source.data)
            if event.type == _TEXT and not event.logprobs and type(event.delta) is str:
                if event.delta:
                    self._said = True
                    found.append(GenerateResponse(event.delta))
                return
            self._handle(event, source, found)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if source.data.strip() != _DONE:
                raise no_answer(source.data, self._provider) from error

    def _handle(self, event: _Event, source: Event, found: _Found) -> None:
        kind = event.type or source.name.decode("utf-8", "replace")
        if kind == "error" or event.error:
            raise stream_failure(_decode_any(source.data), self._provider)
        handler = self._text if kind == _TEXT else self._handlers.get(kind)
        if handler is not None:
            handler(event, found)

    def _say(self, delta: GenerateResponse, found: _Found) -> None:
        self._said = True
        found.append(delta)

    def _text(self, event: _Event, found: _Found) -> None:
        logprobs = read_logprobs(msgspec.convert(event.logprobs or [], list[Logprob]))
        if event.delta or logprobs:
            self._say(GenerateResponse(string(event.delta), logprobs=logprobs), found)

    def _refusal(self, event: _Event, found: _Found) -> None:
        self._refused = True
        if event.delta:
            self._say(GenerateResponse(string(event.delta)), found)

    def _reasoning(self, event: _Event, found: _Found) -> None:
        """Paragraphs, which come one by one, are divided as in a whole answer."""
        text = string(event.delta)
        if not text:
            return
        paragraph = (event.type, event.output_index, event.item_id, event.summary_index, event.content_index)
        divider = "\n\n" if self._paragraph not in (None, paragraph) else ""
        self._paragraph = paragraph
        self._say(GenerateResponse(reasoning=divider + text), found)

    def _call(self, place: int | None, item_id: str | None) -> _Call:
        """Return the call at a place in the output, or in the item of this name where the service tells no place."""
        key = place if place is not None else item_id
        call = self._calls.get(key) or (self._by_item.get(item_id) if place is None else None)
        if call is None:
            call = self._calls[key] = _Call(len(self._calls))
            self._by_item[item_id] = call
        return call

    def _item_added(self, event: _Event, found: _Found) -> None:
        item = _decode_item(event.item)
        if item.get("type") == "function_call":
            self._item_call(event, item, found)

    def _item_done(self, event: _Event, found: _Found) -> None:
        item = _decode_item(event.item)
        self._items.append(item)
        if item.get("type") == "function_call":
            self._item_call(event, item, found)

    def _item_call(self, event: _Event, item: Mapping[str, Any], found: _Found) -> None:
        """Tell what an item says of its call and has not been told yet."""
        call = self._call(event.output_index, event.item_id or string(item.get("id")))
        identity = name = None
        if not call.named:
            given = string(item.get("call_id")) or string(item.get("id"))
            identity, name = given or f"call_{call.index}", string(item.get("name"))
            call.named = True
        self._tell(call, identity, name, arguments_text(item.get("arguments")), found)

    def _arguments(self, event: _Event, found: _Found) -> None:
        call = self._call(event.output_index, event.item_id)
        text = string(event.delta)
        call.arguments = call.arguments or bool(text)
        if text:
            self._say(GenerateResponse(tool_call_deltas=(ToolCallDelta(call.index, arguments=text),)), found)

    def _arguments_done(self, event: _Event, found: _Found) -> None:
        self._tell(self._call(event.output_index, event.item_id), None, None, arguments_text(event.arguments), found)

    def _tell(self, call: _Call, identity: str | None, name: str | None, whole: str, found: _Found) -> None:
        """Tell the whole arguments of a call, unless pieces of them have been told."""
        text = "" if call.arguments else whole
        call.arguments = call.arguments or bool(text)
        if identity or name or text:
            self._say(GenerateResponse(tool_call_deltas=(ToolCallDelta(call.index, identity, name, text),)), found)

    def _end(self, event: _Event, found: _Found) -> None:
        ended = _decode_ended(event.response)
        if event.type == "response.failed":
            ended.status = "failed"
        output = ended.output or self._items
        whole = read_output(output)
        if self._refused:
            whole = replace(whole, finish_reason="content_filter")
        last = read_end(ended, whole, self._provider)
        if not self._said and (whole.content or whole.reasoning or whole.tool_calls):
            calls = call_deltas(whole.tool_calls)
            found.append(GenerateResponse(whole.content, whole.reasoning, (), calls, logprobs=whole.logprobs))
        if self._calls and last["finish_reason"] == "stop":
            last["finish_reason"] = "tool_calls"
        back = [returned_item(item) for item in output]
        found.append(GenerateResponse(**last, provider_data=own_data([item for item in back if item])))
        self._done = True
