"""From the tokens of one answer to the deltas that users see: text, reasoning, tool calls, stop strings.

The way is the same for streamed and whole answers, so they agree character for character. Knows no engine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abstractllm.text.detokenize import Detokenizer
from abstractllm.text.sections import Piece, Section, SectionSplitter
from abstractllm.text.stops import StopMatcher
from abstractllm.text.toolcalls import Parser, parse_calls
from abstractllm.types import GenerateResponse, ToolCall


@dataclass(slots=True)
class _Delta:
    """What some tokens have added."""

    content: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)

    def build(self) -> GenerateResponse | None:
        if not (self.content or self.reasoning or self.calls):
            return None
        return GenerateResponse("".join(self.content), "".join(self.reasoning), tuple(self.calls))


class OutputReader:
    """Reads one answer. Feed it each token with `add`, and call `flush` once at the end.

    `sections` are the model's marked stretches, `inside` the one that the prompt has opened. `parser` reads the text
    of a tool call, for `tools` given as JSON Schemas. `hidden` are special tokens that users do not see; those in a
    tool call are for its parser. Stop strings count in the visible text only, neither in reasoning nor in tool calls.
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
        tools: Sequence[Mapping[str, Any]] = (),
        hidden: Collection[int] = (),
        first_call: int = 0,
    ) -> None:
        self._detokenizer = detokenizer
        self._stops = StopMatcher(stops)
        self._splitter = SectionSplitter(sections, inside) if sections else None
        self._parser = parser
        self._tools = tools
        self._hidden = hidden
        self._call_text: list[str] = []
        self._at_border = False
        self._first_call = first_call
        self.calls = 0

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
        return self._read(self._splitter.add(text) if self._splitter else [Piece("content", text)])

    @property
    def _in_call(self) -> bool:
        section = self._splitter.inside if self._splitter else None
        return section is not None and section.kind == "tool_call"

    def flush(self) -> GenerateResponse | None:
        """Return what was held back, or None when that is nothing."""
        text = self._detokenizer.flush()
        pieces = [Piece("content", text)] if text else []
        if self._splitter:
            pieces = [*(self._splitter.add(text) if text else []), *self._splitter.flush()]
        last = self._read(pieces)
        held = self._stops.flush()
        if not held:
            return last
        return GenerateResponse(held) if last is None else _with_content(last, held)

    def _read(self, pieces: Sequence[Piece]) -> GenerateResponse | None:
        delta = _Delta()
        for piece in pieces:
            if self.stop_string is not None:
                break
            self._take(piece, delta)
        return delta.build()

    def _take(self, piece: Piece, delta: _Delta) -> None:
        if piece.kind == "content":
            self._take_content(piece.text, delta)
        elif piece.kind == "reasoning":
            if piece.text:
                delta.reasoning.append(piece.text)
        else:
            self._call_text.append(piece.text)
            if piece.closes:
                delta.calls.extend(self._parse())
        self._at_border = self._at_border or piece.closes

    def _take_content(self, text: str, delta: _Delta) -> None:
        """Models write blank lines around marked sections; they are not part of what is said."""
        if self._at_border:
            text = text.lstrip()
            self._at_border = not text
        visible = self._stops.add(text) if text else ""
        if visible:
            delta.content.append(visible)

    def _parse(self) -> tuple[ToolCall, ...]:
        text, self._call_text = "".join(self._call_text), []
        assert self._parser is not None, "a tool_call section needs a parser"
        calls = parse_calls(text, self._parser, self._tools, first=self._first_call + self.calls)
        self.calls += len(calls)
        return calls


def _with_content(delta: GenerateResponse, more: str) -> GenerateResponse:
    return GenerateResponse(delta.content + more, delta.reasoning, delta.tool_calls)
