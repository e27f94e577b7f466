"""From the tokens of one answer to the deltas that users see: text, reasoning, tool calls, stop strings.

The way is the same for streamed and whole answers, so they agree character for character. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abstractllm.text.detokenize import Detokenizer
from abstractllm.text.jsoncalls import JsonCalls
from abstractllm.text.sections import Piece, Section, SectionSplitter
from abstractllm.text.stops import StopMatcher
from abstractllm.text.toolcalls import CallReader, Parser, WholeCalls
from abstractllm.types import GenerateResponse, ToolCallDelta


@dataclass(slots=True)
class _Delta:
    """What some tokens have added."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCallDelta] = field(default_factory=list)

    def build(self) -> GenerateResponse | None:
        if not (self.content or self.reasoning or self.calls):
            return None
        return GenerateResponse("".join(self.content), "".join(self.reasoning), tool_call_deltas=tuple(self.calls))


class OutputReader:
    """Reads one answer. Feed it each token with `add`, and call `flush` once at the end.

    `sections` are the model's marked stretches, `inside` the one that the prompt has opened. `parser` reads the text
    of a tool call, for `tools` given as JSON Schemas. Calls come whole at their end marker, but in pieces where they
    are `json_calls`, which `jsoncalls` describes. `hidden` are special tokens that users do not see; those in a tool
    call are for its parser. Stop strings count in the visible text only, neither in reasoning nor in tool calls.
    Calls get ids that count on from `first_call`, so that they stay unique in a conversation.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        *,
        stops: Sequence[str] = (),
        sections: Sequence[Section] = (),
        inside: Section | None = None,
        parser: Parser | None = None,
        json_calls: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        hidden: Collection[int] = (),
        first_call: int = 0,
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = StopMatcher(stops)
        self._splitter = SectionSplitter(sections, inside) if sections else None
        self._parser = parser
        self._json_calls = json_calls
        self._tools = tools
        self._hidden = hidden
        self._call: CallReader | None = None
        self._without_end = any(section.kind == "tool_call" and not section.end for section in sections)
        self._cut_off = False
        self._at_border = False
        self._first_call = first_call
        self.calls = 0
        """How many calls have come to their end."""

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended the answer, if one did; no more tokens are wanted then."""
        return self._stops.matched

    def add(self, token: int) -> GenerateResponse | None:
        """Take the next token and return what is certain by now, or None when that is nothing."""
        if token in self._hidden and not self._in_call:
            return None
        text = self._detokenizer.add(token)
        if not text:
            return None
        delta = _Delta()
        self._read(self._splitter.add(text) if self._splitter else [Piece("content", text)], delta)
        return delta.build()

    @property
    def _in_call(self) -> bool:
        section = self._splitter.inside if self._splitter else None
        return section is not None and section.kind == "tool_call"

    def flush(self, *, cut_off: bool = False) -> GenerateResponse | None:
        """Return what was held back, or None when that is nothing.

        `cut_off` says that the answer ended for want of tokens. A tool call that lacks its end marker is read
        nevertheless, but where it was cut off it is invalid unless its text is certainly whole.
        """
        delta = _Delta()
        text = self._detokenizer.flush()
        if self._splitter is None:
            self._read([Piece("content", text)], delta)
        else:
            self._read(self._splitter.add(text), delta)
            self._cut_off = cut_off
            self._read(self._splitter.flush(), delta)
        held = self._stops.flush()
        if held:
            delta.content.append(held)
        return delta.build()

    def _read(self, pieces: Sequence[Piece], delta: _Delta) -> None:
        for piece in pieces:
            if self.stop_string is not None:
                return
            self._take(piece, delta)

    def _take(self, piece: Piece, delta: _Delta) -> None:
        if piece.kind == "content":
            self._take_content(piece.text, delta)
        elif piece.kind == "reasoning":
            if piece.text:
                delta.reasoning.append(piece.text)
        else:
            delta.calls.extend(self._take_call(piece))
        self._at_border = self._at_border or piece.closes

    def _take_content(self, text: str, delta: _Delta) -> None:
        """Models write blank lines around marked sections; they are not part of what is said."""
        if self._at_border:
            text = text.lstrip()
            self._at_border = not text
        visible = self._stops.add(text) if text else ""
        if visible:
            delta.content.append(visible)

    def _take_call(self, piece: Piece) -> Iterator[ToolCallDelta]:
        call = self._call = self._call or self._open_call()
        yield from call.add(piece.text)
        if piece.closes:
            yield from call.close(cut_off=self._cut_off)
            self._call = None
            self.calls += call.count

    def _open_call(self) -> CallReader:
        assert self._parser is not None, "a tool_call section needs a parser"
        number = self._first_call + self.calls
        if self._json_calls:
            return JsonCalls(self._parser, self._tools, index=self.calls, number=number)
        return WholeCalls(self._parser, self._tools, index=self.calls, number=number, without_end=self._without_end)
