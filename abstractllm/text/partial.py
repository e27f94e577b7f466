"""What is certain of a JSON document of which only the beginning has arrived. Knows no schema."""

from __future__ import annotations

import json
import re
from typing import Any

_BLANK = re.compile(r"[ \t\n\r]*+")
_STRING = re.compile(r'"([^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+)("?)')
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?)(?=[ \t\n\r,\]}])")
_LITERAL = re.compile("true|false|null")
_LITERALS = {"true": True, "false": False, "null": None}


def partial_json(text: str) -> Any:
    """Return the value of a JSON text as far as `text`, its beginning, makes it certain; None before anything is.

    Lists and objects are there from their opening bracket on, an object's entry once its value has begun. A string
    that is not closed yet is there as far as it goes; a number is left out until what follows ends it, a literal
    until it is complete. So for a text t and its beginning b, the value of b is a beginning of that of t: strings
    begin with it, lists and objects have its entries first, the last of which is again a beginning; all else is
    equal. (Where a name stands twice in an object, the last one counts, as it does for `json.loads`.) A whole text
    has the value of `json.loads`, except for a bare number, whose end cannot be seen.

    Never raises: what follows a mistake is left out. Takes one pass, and any depth.
    """
    return _Reader(text).read()


class _Reader:
    """Reads one text. `_open` are the containers that are not closed, `_name` where an object's next value goes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._open: list[list[Any] | dict[str, Any]] = []
        self._name = ""
        self._value: Any = None

    def read(self) -> Any:
        """Return what is certain."""
        more = self._take_value()
        while more and self._open:
            more = self._take_entry()
        return self._value

    def _next(self) -> str:
        """Return the next character that is not blank, or an empty string at the end."""
        blank = _BLANK.match(self._text, self._at)
        self._at = blank.end() if blank else self._at
        return self._text[self._at : self._at + 1]

    def _take(self, character: str) -> bool:
        if self._next() != character:
            return False
        self._at += 1
        return True

    def _take_entry(self) -> bool:
        """Take what may come inside the innermost container after a value: its end, or one more entry."""
        inner = self._open[-1]
        if self._take("]" if isinstance(inner, list) else "}"):
            self._open.pop()
            return True
        if inner and not self._take(","):
            return False
        return (isinstance(inner, list) or self._take_name()) and self._take_value()

    def _take_name(self) -> bool:
        name = self._take_string() if self._next() == '"' else None
        if name is None or not name[1] or not self._take(":"):
            return False
        self._name = name[0]
        return True

    def _take_value(self) -> bool:
        """Take the next value as far as it goes; False when nothing can be taken after it."""
        first = self._next()
        if first and first in "[{":
            self._at += 1
            container: list[Any] | dict[str, Any] = [] if first == "[" else {}
            self._put(container)
            self._open.append(container)
            return True
        if first == '"':
            text, closed = self._take_string()
            self._put(text)
            return closed
        return self._take_plain()

    def _take_string(self) -> tuple[str, bool]:
        """Return a string as far as it goes, and whether it was closed.

        The first half of a surrogate pair waits for the second one, without which it would be another character.
        """
        found = _STRING.match(self._text, self._at)
        assert found is not None, "a quote begins a string"
        self._at = found.end()
        text: str = json.loads(f'"{found[1]}"')
        if not found[2] and "\ud800" <= text[-1:] <= "\udbff":
            text = text[:-1]
        return text, bool(found[2])

    def _take_plain(self) -> bool:
        """Take a number or a literal, if it is complete."""
        found = _LITERAL.match(self._text, self._at) or _NUMBER.match(self._text, self._at)
        if found is None:
            return False
        try:
            value = _LITERALS[found[0]] if found[0] in _LITERALS else json.loads(found[0])
        except ValueError:  # an integer of more digits than Python reads
            return False
        self._at = found.end()
        self._put(value)
        return True

    def _put(self, value: Any) -> None:
        if not self._open:
            self._value = value
            return
        inner = self._open[-1]
        if isinstance(inner, list):
            inner.append(value)
        else:
            inner[self._name] = value
