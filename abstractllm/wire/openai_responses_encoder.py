"""Streams of OpenAI's Responses API: deltas -> events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from abstractllm.accumulator import ResponseAccumulator, call_deltas
from abstractllm.types import GenerateRequest, GenerateResponse, TokenLogprob, ToolCallDelta
from abstractllm.wire.failures import error_object
from abstractllm.wire.openai_facts import write_logprobs
from abstractllm.wire.openai_responses_answer import envelope, in_own_order, message_item, reasoning_item, several
from abstractllm.wire.openai_responses_items import call_item

_Events = Iterator[dict[str, Any]]


class _Item:
    """An item of the output, as far as it has come. `place` is its number in the output."""

    def __init__(self, kind: str, identity: str, place: int) -> None:
        self.kind = kind
        self.id = identity
        self.place = place
        self.pieces: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.call_id = ""
        self.name = ""

    @property
    def head(self) -> dict[str, Any]:
        """The fields that name the item in its events."""
        return {"item_id": self.id, "output_index": self.place}

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def whole(self) -> dict[str, Any]:
        """Return the item with all that has come."""
        if self.kind == "message":
            return message_item(self.id, self.text, self.logprobs)
        if self.kind == "reasoning":
            return reasoning_item(self.id, self.text)
        return call_item(self.call_id, self.name, self.text) | {"id": self.id, "status": "completed"}

    def begun(self) -> dict[str, Any]:
        """Return the item as it looks when it begins."""
        empty: dict[str, Any] = {"message": {"content": []}, "reasoning": {"summary": []}}.get(self.kind, {})
        return self.whole() | empty | {"status": "in_progress"}


class ResponsesStreamEncoder:
    """Encodes one streamed answer. Text and reasoning are items that follow each other; calls stay open to the end."""

    def __init__(self, request: GenerateRequest, *, identity: str, created: int) -> None:
        self._id = identity
        self._created = created
        self._model = request.model
        self._number = 0
        self._items: list[_Item] = []
        self._open: _Item | None = None
        self._calls: dict[int, _Item] = {}
        self._heard = ResponseAccumulator()

    def encode(self, delta: GenerateResponse) -> bytes:
        """Return the events of a delta. Raises UnsupportedFeatureError for more answers than one."""
        if delta.choices or delta.choice:
            raise several()
        self._heard.add(delta)
        return b"".join(map(self._line, [*self._begin(), *self._events(delta)]))

    def _line(self, event: dict[str, Any]) -> bytes:
        numbered = {**event, "sequence_number": self._number}
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(numbered))

    def _begin(self) -> _Events:
        if self._number == 0:
            response = self._envelope([], "in_progress")
            yield {"type": "response.created", "response": response}
            yield {"type": "response.in_progress", "response": response}

    def _envelope(self, output: list[dict[str, Any]], status: str | None = None) -> dict[str, Any]:
        whole = envelope(self._heard.response, output, identity=self._id, created=self._created, status=status)
        return whole | {"model": whole["model"] or self._model or ""}

    def _events(self, delta: GenerateResponse) -> _Events:
        if delta.reasoning:
            yield from self._switch("reasoning")
            yield from self._piece(delta.reasoning, "response.reasoning_summary_text.delta", {"summary_index": 0})
        if delta.content or delta.logprobs:
            yield from self._switch("message")
            found = {"content_index": 0, "logprobs": write_logprobs(delta.logprobs)}
            yield from self._piece(delta.content, "response.output_text.delta", found)
            self._items[-1].logprobs.extend(delta.logprobs)
        first = max((*self._calls, *(piece.index for piece in delta.tool_call_deltas)), default=-1) + 1
        for piece in (*delta.tool_call_deltas, *call_deltas(delta.tool_calls, first=first)):
            yield from self._call(piece)

    def _piece(self, text: str, kind: str, more: dict[str, Any]) -> _Events:
        item = self._items[-1]
        item.pieces.append(text)
        yield {"type": kind, **item.head, **more, "delta": text}

    def _switch(self, kind: str) -> _Events:
        """Open an item of text or reasoning, unless one of its kind is open, and close the other."""
        if self._open is not None and self._open.kind == kind:
            return
        yield from self._close()
        prefix = {"message": "msg", "reasoning": "rs"}[kind]
        self._open = item = self._new(kind, prefix)
        yield {"type": "response.output_item.added", "output_index": item.place, "item": item.begun()}
        yield {"type": _part_event(kind, "added"), **item.head, **_part(kind, "")}

    def _new(self, kind: str, prefix: str) -> _Item:
        place = len(self._items)
        self._items.append(_Item(kind, f"{prefix}_{self._id}_{place}", place))
        return self._items[-1]

    def _close(self) -> _Events:
        item, self._open = self._open, None
        if item is None:
            return
        number = {"summary_index" if item.kind == "reasoning" else "content_index": 0}
        done = "response.reasoning_summary_text.done" if item.kind == "reasoning" else "response.output_text.done"
        yield {"type": done, **item.head, **number, "text": item.text}
        yield {"type": _part_event(item.kind, "done"), **item.head, **_part(item.kind, item.text)}
        yield _item_done(item)

    def _call(self, piece: ToolCallDelta) -> _Events:
        item = self._calls.get(piece.index)
        if item is None:
            yield from self._close()
            item = self._calls[piece.index] = self._new("function_call", "fc")
            item.call_id, item.name = piece.id or f"call_{piece.index}", piece.name or ""
            yield {"type": "response.output_item.added", "output_index": item.place, "item": item.begun()}
        item.name = piece.name or item.name
        if piece.arguments:
            item.pieces.append(piece.arguments)
            yield {"type": "response.function_call_arguments.delta", **item.head, "delta": piece.arguments}

    def end(self) -> bytes:
        """Return the events that end the stream; there is no other end marker."""
        return b"".join(map(self._line, [*self._begin(), *self._close(), *self._close_calls(), self._ended()]))

    def _close_calls(self) -> _Events:
        for item in self._calls.values():
            yield {"type": "response.function_call_arguments.done", **item.head, "arguments": item.text}
            yield _item_done(item)

    def _ended(self) -> dict[str, Any]:
        data = self._heard.response.provider_data
        response = self._envelope(in_own_order([item.whole() for item in self._items], data))
        kind = "completed" if response["status"] == "completed" else "incomplete"
        return {"type": f"response.{kind}", "response": response}

    def fail(self, error: Exception) -> bytes:
        """Return the event that reports an error; nothing comes after it."""
        told = error_object(error)
        return self._line({**told, "type": "error", "code": told["code"] or told["type"]})


def _item_done(item: _Item) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": item.place, "item": item.whole()}


def _part_event(kind: str, what: str) -> str:
    return f"response.{'reasoning_summary_part' if kind == 'reasoning' else 'content_part'}.{what}"


def _part(kind: str, text: str) -> dict[str, Any]:
    if kind == "reasoning":
        return {"summary_index": 0, "part": {"type": "summary_text", "text": text}}
    return {"content_index": 0, "part": {"type": "output_text", "text": text, "annotations": []}}
