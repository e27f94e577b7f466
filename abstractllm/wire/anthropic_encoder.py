"""Streamed answers in Anthropic's Messages format, encoded by a server. Knows nothing of requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from msgspec import json

from abstractllm.accumulator import call_deltas
from abstractllm.types import GenerateResponse, ToolCallDelta
from abstractllm.wire.anthropic_answer import error_body, message_body, stop_reason_of, usage_body
from abstractllm.wire.anthropic_blocks import calls_in, cited, is_special, kept_blocks, says

_EMPTY: Mapping[str, Mapping[str, Any]] = {
    "text": {"type": "text", "text": ""},
    "thinking": {"type": "thinking", "thinking": "", "signature": ""},
}


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode("ascii"), json.encode({"type": kind, **fields}))


class AnthropicStreamEncoder:
    """Encodes one streamed answer.

    A call's block begins when its name is known, and stays open until the end, because pieces of several calls may
    come in turn. Signatures and other special blocks are sent when a delta's `provider_data` has them.
    """

    def __init__(self, model: str | None) -> None:
        self._model = model
        self._begun = False
        self._blocks = 0
        self._open: tuple[str, int] | None = None  # kind and index of the text or thinking that goes on
        self._calls: dict[int, int] = {}  # the block of each call
        self._held: dict[int, ToolCallDelta] = {}  # what has come of calls without a name
        self._special = 0
        self._last = GenerateResponse()

    def encode(self, delta: GenerateResponse) -> bytes:
        """Return the events of a delta; they may be none."""
        kept = kept_blocks(delta.provider_data)
        if kept and not self._begun and delta.finish_reason is not None and says(kept, delta.to_message()):
            return self._whole(kept, delta)
        pieces = [self._begin()]
        if delta.reasoning:
            pieces.append(self._say("thinking", delta.reasoning))
        pieces += [self._keep(block) for block in self._new(kept)]
        if delta.content:
            pieces.append(self._say("text", delta.content))
        first = max((*self._calls, *self._held, *(call.index for call in delta.tool_call_deltas)), default=-1) + 1
        for call in (*delta.tool_call_deltas, *call_deltas(delta.tool_calls, first=first)):
            pieces.append(self._call(call))
        if delta.finish_reason is not None or delta.usage is not None:
            self._note(delta)
        return b"".join(pieces)

    def end(self) -> bytes:
        """Return the events that end the stream: why it ended, and the counts."""
        pieces = [self._begin(), self._close()]
        pieces += [self._name(replace(held, name="")) for held in self._held.values()]
        pieces += [_event("content_block_stop", index=block) for block in self._calls.values()]
        ending = {"stop_reason": stop_reason_of(self._last), "stop_sequence": self._last.stop_string}
        pieces.append(_event("message_delta", delta=ending, usage=usage_body(self._last.usage)))
        return b"".join([*pieces, _event("message_stop")])

    def fail(self, error: Exception) -> bytes:
        """Return the event that reports an error in the middle of a stream."""
        return _event("error", error=error_body(error)["error"])

    def _note(self, delta: GenerateResponse) -> None:
        """Take what a delta says of the whole answer; later facts replace earlier ones."""
        self._last = GenerateResponse(
            finish_reason=delta.finish_reason or self._last.finish_reason,
            usage=delta.usage or self._last.usage,
            stop_string=self._last.stop_string if delta.stop_string is None else delta.stop_string,
        )

    def _begin(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        return _event("message_start", message=message_body(self._model))

    def _say(self, kind: str, text: str) -> bytes:
        before = b""
        if self._open is None or self._open[0] != kind:
            before = self._close() + self._start(_EMPTY[kind])
            self._open = (kind, self._blocks - 1)
        return before + self._delta(self._open[1], {"type": f"{kind}_delta", kind: text})

    def _start(self, block: Mapping[str, Any]) -> bytes:
        self._blocks += 1
        return _event("content_block_start", index=self._blocks - 1, content_block=block)

    def _delta(self, block: int, delta: Mapping[str, Any]) -> bytes:
        return _event("content_block_delta", index=block, delta=delta)

    def _close(self) -> bytes:
        if self._open is None:
            return b""
        index, self._open = self._open[1], None
        return _event("content_block_stop", index=index)

    def _whole(self, blocks: list[dict[str, Any]], answer: GenerateResponse) -> bytes:
        """Return the events of a whole answer in one delta, in the order of its blocks."""
        self._special, self._last = len(self._new(blocks)), answer
        calls = iter(call_deltas(calls_in(blocks)))
        return self._begin() + b"".join(self._block(block, calls) for block in blocks)

    def _block(self, block: Mapping[str, Any], calls: Iterator[ToolCallDelta]) -> bytes:
        kind = str(block.get("type"))
        if kind == "tool_use":
            return self._call(next(calls))
        if kind not in _EMPTY:
            return self._keep(block)
        return self._say(kind, str(block.get(kind) or "")) + self._keep(block)

    def _new(self, blocks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        special = [block for block in blocks if is_special(block)]
        new = special[self._special :]
        self._special += len(new)
        return new

    def _keep(self, block: Mapping[str, Any]) -> bytes:
        """Return the events of a special block; for one that has been said already, what makes it special."""
        if self._open is None or self._open[0] != block["type"]:
            return self._close() + self._start(block) + _event("content_block_stop", index=self._blocks - 1)
        pieces = [{"type": "citations_delta", "citation": one} for one in cited(block)]
        if block.get("signature"):
            pieces.append({"type": "signature_delta", "signature": block["signature"]})
        index = self._open[1]
        return b"".join([*(self._delta(index, piece) for piece in pieces), self._close()])

    def _call(self, delta: ToolCallDelta) -> bytes:
        block = self._calls.get(delta.index)
        if block is not None:
            return self._arguments(block, delta.arguments)
        held = self._held.pop(delta.index, ToolCallDelta(delta.index))
        call = ToolCallDelta(delta.index, delta.id or held.id, delta.name, held.arguments + delta.arguments)
        if call.name is not None:
            return self._name(call)
        self._held[delta.index] = call
        return b""

    def _name(self, call: ToolCallDelta) -> bytes:
        """Return the beginning of a call's block, with what has come of it."""
        self._calls[call.index] = self._blocks
        named: dict[str, Any] = {"id": call.id or f"call_{call.index}", "name": call.name, "input": {}}
        begun = self._close() + self._start({"type": "tool_use", **named})
        return begun + self._arguments(self._blocks - 1, call.arguments)

    def _arguments(self, block: int, text: str) -> bytes:
        return self._delta(block, {"type": "input_json_delta", "partial_json": text}) if text else b""
