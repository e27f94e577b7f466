"""Tool calls that are JSON between markers, `{"name": ..., "arguments": {...}}` -> deltas while the text still comes.

The text of the arguments is the model's own, in streams and in whole answers. Knows neither markers nor tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from abstractllm.accumulator import call_deltas, decode_arguments
from abstractllm.text.toolcalls import ARGUMENT_KEYS, Parser, parse_calls
from abstractllm.types import ToolCallDelta


class MemberScanner:
    """Splits the top level of a JSON object, which comes character by character, into its members' texts.

    Follows nesting, strings and escapes in constant time a character, and judges nothing: of a text that is a JSON
    object all that it says is right, of any other it may say anything.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.quoted = False
        self.values: dict[str, list[str]] = {}
        """Characters of each key's first value, as far as they have come."""
        self.key: str | None = None
        """The key in `values` whose value the text has reached."""
        self._escaped = False
        self._into: list[str] = []

    def take(self, character: str) -> None:
        """Take the next character."""
        if self.quoted:
            self._into.append(character)
            self.quoted = self._escaped or character != '"'
            self._escaped = character == "\\" and not self._escaped
        elif character in "{[]}":
            self._nest(character)
        elif character == "," and self.depth == 1:
            self._leave()
        elif character == ":" and self.depth == 1:
            self._enter()
        else:
            self.quoted = character == '"'
            self._into.append(character)

    def _nest(self, bracket: str) -> None:
        outer = self.depth
        self.depth += 1 if bracket in "{[" else -1
        if min(outer, self.depth) < 1:
            self._leave()
        else:
            self._into.append(bracket)

    def _leave(self) -> None:
        self.key, self._into = None, []

    def _enter(self) -> None:
        key = _decoded("".join(self._into))
        self._leave()
        if isinstance(key, str) and key not in self.values:
            self.key = key
            self.values[key] = self._into


class JsonCalls:
    """Reads the text between one pair of markers: a JSON object that is one call, or whatever else `parser` can read.

    The name comes as soon as it is certain, then the arguments' object in pieces, the last of them its closing brace
    once the whole text is known to be JSON. Of a key that stands twice the first counts, and `parameters` stand for
    `arguments`. A call whose arguments come before its name, or as a string, is handed over whole. One that turns out
    to be broken is made invalid: its text is that of the arguments and all that follows them if some of it had been
    handed over, otherwise the whole.
    """

    def __init__(self, parser: Parser, tools: Sequence[Mapping[str, Any]], *, index: int, number: int) -> None:
        """`index` is the call's place in the answer, `number` the one in its id."""
        self._parser = parser
        self._tools = tools
        self._index = index
        self._number = number
        self._scanner = MemberScanner()
        self._text: list[str] = []
        self._size = 0
        self._name: str | None = None
        self._named = False
        self._is_late = False
        self._start: int | None = None
        self._sending = False
        self._sent = 0
        self.count = 1

    def add(self, text: str) -> list[ToolCallDelta]:
        """Take more text and return what is certain by now."""
        self._text.append(text)
        piece = "".join([character for character in text if self._take(character)])
        deltas = []
        if self._name and not self._named and not self._is_late:
            deltas.append(self._delta())
        if piece:
            deltas.append(self._delta(piece))
        return deltas

    def close(self, *, cut_off: bool) -> list[ToolCallDelta]:
        """Take note of the text's end, and return the rest. Where it was `cut_off` its JSON tells if it is whole."""
        text = "".join(self._text)
        value = _decoded(text.strip())
        if isinstance(value, dict) and self._name:
            return [self._delta("}" if self._sent else self._arguments())]
        if self._named:
            return [self._delta(self._broken(text))]
        calls = parse_calls(text, self._parser, self._tools, first=self._number)
        self.count = len(calls)
        return list(call_deltas(calls, first=self._index))

    def _take(self, character: str) -> bool:
        """Take the next character; whether it is one of the arguments' object that can go out at once."""
        self._scanner.take(character)
        self._size += 1
        if character == '"' and not self._scanner.quoted and self._name is None:
            self._look_for_name()
        elif character == "{" and not self._scanner.quoted and self._start is None:
            self._look_for_arguments()
        self._sending = self._sending and self._scanner.depth > 1
        if self._sending:
            self._sent = self._size
        return self._sending

    def _look_for_name(self) -> None:
        """A string has ended: that may have been the name. What is no name leaves an empty one, which is none."""
        if self._scanner.key == "name" and self._scanner.depth == 1:
            name = _decoded("".join(self._scanner.values["name"]))
            self._name = name if isinstance(name, str) else ""
            self._is_late = self._arguments_key() is not None

    def _look_for_arguments(self) -> None:
        """An object has begun: those may be the arguments. They can be sent if the name is known already."""
        key = self._arguments_key()
        if key is None or key != self._scanner.key:
            return
        self._start = self._size - 1
        self._sending = bool(self._name) and "".join(self._scanner.values[key]).strip() == "{"

    def _arguments_key(self) -> str | None:
        return next((key for key in self._scanner.values if key in ARGUMENT_KEYS), None)

    def _arguments(self) -> str:
        """Return the text of arguments of which nothing has been sent; those in a string are its content."""
        key = self._arguments_key()
        text = "" if key is None else "".join(self._scanner.values[key]).strip()
        if text == "null":
            return ""
        return str(json.loads(text)) if text.startswith('"') else text

    def _broken(self, text: str) -> str:
        """Return what makes the call invalid. A whole object that no more text follows loses its closing brace."""
        if not self._sent:
            return text.strip()
        is_whole = decode_arguments(text[self._start :]) is not None
        return "" if is_whole else text[self._sent :].rstrip()

    def _delta(self, arguments: str = "") -> ToolCallDelta:
        if self._named:
            return ToolCallDelta(self._index, arguments=arguments)
        self._named = True
        return ToolCallDelta(self._index, f"call_{self._number}", self._name, arguments)


def _decoded(text: str) -> object:
    """Return the value of a JSON text, or None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
