"""Streamed answers in Anthropic's Messages format, decoded. Knows nothing of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct, json

from abstractllm.types import GenerateResponse, ToolCallDelta
from abstractllm.wire.anthropic_answer import Counts, finish_of, usage_of
from abstractllm.wire.anthropic_blocks import cited, is_special, kept_data
from abstractllm.wire.bodies import MALFORMED, cut_off, malformed
from abstractllm.wire.deferred import DeferredReader
from abstractllm.wire.failures import stream_failure
from abstractllm.wire.lines import Event, EventDecoder
from abstractllm.wire.toolcalls import arguments_object, arguments_text, call_of


class _Piece(Struct, gc=False):
    """The `delta` of an event: a piece of a block, or how the answer ends."""

    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: Any = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Message(Struct, gc=False):
    model: str | None = None
    usage: Counts | None = None


class _Event(Struct, gc=False):
    type: str = ""
    index: int = -1
    delta: _Piece | None = None
    content_block: dict[str, Any] | None = None
    message: _Message | None = None
    usage: Counts | None = None
    error: Any = None


class _Kind(Struct, gc=False):
    type: str = ""


_decode = json.Decoder(_Event).decode
_decode_kind = json.Decoder(_Kind).decode

_KNOWN = {
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "error",
}
"""Events that mean something. Others, such as `ping`, may have any form."""

_JOINED = {"text": "text", "thinking": "thinking"}
"""Kinds of blocks, and the field that their pieces join to; the pieces of others join to the JSON of `input`."""


class _Block:
    """What has arrived of one block: the fields that it began with, and the pieces after that."""

    __slots__ = ("call", "citations", "fields", "kind", "pieces", "signature")

    def __init__(self, fields: dict[str, Any], call: int | None) -> None:
        self.fields = fields
        self.kind = str(fields.get("type"))
        self.call = call
        self.pieces: list[str] = []
        self.signature = ""
        self.citations: list[Any] = []

    def built(self) -> dict[str, Any]:
        """Return the block as it would be in a whole answer."""
        block, text = dict(self.fields), "".join(self.pieces)
        name = _JOINED.get(self.kind)
        if name is not None:
            block[name] = str(block.get(name) or "") + text
        elif text:
            block["input"] = arguments_object(call_of("", "", text))
        if self.signature:
            block["signature"] = str(block.get("signature") or "") + self.signature
        if self.citations:
            block["citations"] = [*cited(block), *self.citations]
        return block


class AnthropicStreamDecoder:
    """Decodes one streamed answer.

    Its last delta, with the reason for the end and the counts, comes with `message_stop`. A delta that ends a signed
    or otherwise special block carries all blocks until then in `provider_data`.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._events = EventDecoder()
        self._reader = DeferredReader()
        self._blocks: list[_Block] = []
        self._by_index: dict[int, _Block] = {}
        self._calls = 0
        self._model: str | None = None
        self._counts: Counts | None = None
        self._stop_reason: str | None = None
        self._stop_sequence: str | None = None
        self._done = False

    def feed(self, data: bytes) -> Sequence[GenerateResponse]:
        """Return the deltas that are complete with these bytes.

        Raises GenerationError for what is no such stream, and the error that the service reports in the middle of it.
        """
        return self._reader.read(self._events.feed(data), self._take)

    def end(self) -> Sequence[GenerateResponse]:
        """Return what is left at the end of the connection; raises ProviderConnectionError if that was too early."""
        deltas = self._reader.read(self._events.end(), self._take_last)
        if not self._done:
            raise cut_off(self._provider)
        return deltas

    def _take_last(self, event: Event) -> GenerateResponse | None:
        """Take the event that the connection ended in, which may be cut."""
        try:
            _decode_kind(event.data)
        except MALFORMED:
            return None
        return self._take(event)

    def _take(self, event: Event) -> GenerateResponse | None:
        if self._done:
            return None
        try:
            read = _decode(event.data)
        except MALFORMED as error:
            return self._unread(event.data, error)
        kind = read.type
        if kind == "content_block_delta":
            return self._piece(read)
        if read.error is not None:
            raise stream_failure(_as_mapping(read.error), self._provider)
        if kind == "content_block_start":
            return self._start(read)
        if kind == "content_block_stop":
            return self._stop(read)
        if kind == "message_stop":
            return self._last()
        if kind in ("message_start", "message_delta"):
            self._note(read)
        return None

    def _unread(self, data: bytes, error: Exception) -> GenerateResponse | None:
        """Return nothing for data of a kind that need not be understood; raise the error for other malformed data."""
        try:
            kind = _decode_kind(data).type
        except MALFORMED:
            raise malformed(data, error, self._provider) from error
        if kind in _KNOWN:
            raise malformed(data, error, self._provider) from error
        return None

    def _piece(self, event: _Event) -> GenerateResponse | None:
        piece = event.delta
        if piece is None:
            return None
        block = self._by_index.get(event.index) or self._implied(event.index, piece)
        if piece.text is not None:
            block.pieces.append(piece.text)
            return GenerateResponse(content=piece.text) if piece.text else None
        if piece.partial_json is not None:
            return self._arguments(block, piece.partial_json)
        if piece.thinking is not None:
            block.pieces.append(piece.thinking)
            return GenerateResponse(reasoning=piece.thinking) if piece.thinking else None
        block.signature += piece.signature or ""
        if piece.citation is not None:
            block.citations.append(piece.citation)
        return None

    def _arguments(self, block: _Block, text: str) -> GenerateResponse | None:
        block.pieces.append(text)
        if not text or block.call is None:
            return None
        return GenerateResponse(tool_call_deltas=(ToolCallDelta(block.call, arguments=text),))

    def _implied(self, index: int, piece: _Piece) -> _Block:
        """Return the block of a piece without a known index: the last one, if it fits, or one that never began."""
        kind = "thinking" if piece.thinking is not None or piece.signature is not None else "text"
        kind = "tool_use" if piece.partial_json is not None else kind
        last = self._blocks[-1] if self._blocks else None
        if last is not None and (last.kind == kind or (kind == "tool_use" and last.kind not in _JOINED)):
            return last
        return self._begin({"type": kind}, index)

    def _begin(self, fields: dict[str, Any], index: int) -> _Block:
        called = fields.get("type") == "tool_use"
        block = _Block(fields, self._calls if called else None)
        self._calls += called
        self._blocks.append(block)
        self._by_index[len(self._blocks) - 1 if index < 0 else index] = block
        return block

    def _start(self, event: _Event) -> GenerateResponse | None:
        fields = event.content_block or {}
        block = self._begin(fields, event.index)
        if block.call is not None:
            identity = str(fields.get("id") or f"call_{block.call}")
            block.fields = {**fields, "id": identity}
            return _called(ToolCallDelta(block.call, identity, str(fields.get("name") or "")))
        if block.kind == "text" and fields.get("text"):
            return GenerateResponse(content=str(fields["text"]))
        if block.kind == "thinking" and fields.get("thinking"):
            return GenerateResponse(reasoning=str(fields["thinking"]))
        return None

    def _stop(self, event: _Event) -> GenerateResponse | None:
        block = self._by_index.get(event.index)
        if block is None:
            return None
        if block.call is not None and not any(block.pieces):
            text = arguments_text(block.fields.get("input") or None)  # some services send them whole, at the beginning
            return _called(ToolCallDelta(block.call, arguments=text)) if text else None
        if is_special(block.built()):
            return GenerateResponse(provider_data=self._kept())
        return None

    def _note(self, event: _Event) -> None:
        """Take what is said of the whole answer, at its beginning or end."""
        if event.message is not None:
            self._model = event.message.model or self._model
        counts = event.usage if event.message is None else event.message.usage
        if counts is not None:
            self._counts = counts.after(self._counts)
        if event.delta is not None:
            self._stop_reason = event.delta.stop_reason or self._stop_reason
            self._stop_sequence = event.delta.stop_sequence or self._stop_sequence

    def _last(self) -> GenerateResponse:
        self._done = True
        return GenerateResponse(
            finish_reason=finish_of(self._stop_reason, self._calls > 0),
            usage=usage_of(self._counts),
            stop_string=self._stop_sequence,
            model=self._model,
            provider_data=self._kept(),
        )

    def _kept(self) -> dict[str, Any] | None:
        return kept_data([block.built() for block in self._blocks])


def _called(delta: ToolCallDelta) -> GenerateResponse:
    return GenerateResponse(tool_call_deltas=(delta,))


def _as_mapping(error: object) -> dict[str, Any]:
    return error if isinstance(error, dict) else {"message": str(error)}
