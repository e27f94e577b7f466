"""The text of a tool call -> `ToolCall`, with whichever parser the model's family has. Never raises, never drops."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from abstractllm.accumulator import call_deltas, decode_arguments
from abstractllm.types import ToolCall, ToolCallDelta

Parser = Callable[[str, Sequence[Mapping[str, Any]]], Any]
"""Takes the text between the markers and the tools as JSON Schemas; returns one call or a list of them."""

ARGUMENT_KEYS = ("arguments", "parameters")
"""What models call the arguments of a call; of two, the first one here counts where a parser has read the text."""


class CallReader(Protocol):
    """Reads the text of one section of calls, piece by piece. The deltas join to the same calls however it is cut."""

    @property
    def count(self) -> int:
        """How many calls the section had; known once it is closed, and at least 1."""

    def add(self, text: str) -> list[ToolCallDelta]:
        """Take more text and return what is certain by now."""

    def close(self, *, cut_off: bool) -> list[ToolCallDelta]:
        """Return the rest, at the section's end. `cut_off` says that the answer ended in it for want of tokens."""


class WholeCalls:
    """Hands calls over at their section's end, read by a family's parser.

    Such parsers make calls of cut-off text too, with arguments left out. So where it was cut off, there is one invalid
    call instead; only for a family `without_end` marker, whose last call may be whole, a closing bracket decides.
    """

    def __init__(
        self,
        parser: Parser,
        tools: Sequence[Mapping[str, Any]],
        *,
        index: int,
        number: int,
        without_end: bool = False,
    ) -> None:
        """`index` is the first call's place in the answer, `number` the one in its id."""
        self._parser = parser
        self._tools = tools
        self._index = index
        self._number = number
        self._without_end = without_end
        self._text: list[str] = []
        self.count = 1

    def add(self, text: str) -> list[ToolCallDelta]:
        """Keep the text."""
        self._text.append(text)
        return []

    def close(self, *, cut_off: bool) -> list[ToolCallDelta]:
        """Return all calls."""
        calls = self._calls("".join(self._text), cut_off)
        self.count = len(calls)
        return list(call_deltas(calls, first=self._index))

    def _calls(self, text: str, cut_off: bool) -> tuple[ToolCall, ...]:
        if cut_off and not (self._without_end and text.rstrip().endswith(("}", "]"))):
            return (_invalid(text, self._number),)
        return parse_calls(text, self._parser, self._tools, first=self._number)


def parse_calls(text: str, parser: Parser, tools: Sequence[Mapping[str, Any]], *, first: int) -> tuple[ToolCall, ...]:
    """Return the calls in `text`, numbered from `first`.

    What the parser cannot read becomes one call that is marked invalid and holds the text.
    """
    try:
        parsed = parser(text, tools)
    except Exception:  # a family's parser may raise anything on what a model writes
        return (_invalid(text, first),)
    found = parsed if isinstance(parsed, list) else [parsed]
    return tuple(_call(one, text, number) for number, one in enumerate(found, first)) or (_invalid(text, first),)


def _call(parsed: object, text: str, number: int) -> ToolCall:
    if not isinstance(parsed, Mapping) or not isinstance(parsed.get("name"), str) or not parsed["name"]:
        return _invalid(text, number)
    arguments: object = next((parsed[key] for key in ARGUMENT_KEYS if parsed.get(key) is not None), {})
    decoded = decode_arguments(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(decoded, Mapping):
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
        return ToolCall(f"call_{number}", parsed["name"], {}, invalid=written)
    return ToolCall(f"call_{number}", parsed["name"], dict(decoded))


def _invalid(text: str, number: int) -> ToolCall:
    return ToolCall(f"call_{number}", "", {}, invalid=text.strip())
