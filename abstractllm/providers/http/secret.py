"""Text that must not be seen: keys, and the headers that carry them."""

from __future__ import annotations

from typing import NoReturn

_HIDDEN = "Secret(hidden)"

_SHORTEST = 8
"""Characters of the shortest text that is taken for a key, and of the shortest beginning of one that is hidden.

Services that want no key are given words such as "x" or "none", which must not be cut out of what they say.
"""


class Secret:
    """A key. Only `reveal` gives it out: it is not in a repr, a format, a log or a pickle."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the key."""
        return self._text

    def hide(self, text: str) -> str:
        """Return a text without the key, and without its beginning where the text was cut off inside it."""
        if len(self._text) < _SHORTEST:
            return text
        beginning, rest = self._text[:_SHORTEST], self._text[_SHORTEST:]
        before, *others = text.split(beginning)
        return "(hidden)".join([before, *(other[_shared(other, rest) :] for other in others)])

    def __repr__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key is not pickled; hand it over in an environment variable.")


def _shared(one: str, other: str) -> int:
    """Return the length of the beginning that two texts share."""
    differ = (place for place, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1])
    return next(differ, min(len(one), len(other)))


class Hidden(str):
    """A header's value that is sent as it is and has no readable repr.

    Libraries keep headers in their exceptions, and tools that print tracebacks with variables print their reprs.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(hidden)'"
