"""Text that must not be seen: keys, and the headers that carry them."""

from __future__ import annotations

from typing import NoReturn

_HIDDEN = "Secret(hidden)"


class Secret:
    """A key. Only `reveal` gives it out: it is not in a repr, a format, a log or a pickle."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the key."""
        return self._text

    def __repr__(self) -> str:
        return _HIDDEN

    def __format__(self, spec: str) -> str:
        return format(_HIDDEN, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A key is not pickled; hand it over in an environment variable.")


class Hidden(str):
    """A header's value that is sent as it is and has no readable repr.

    Libraries keep headers in their exceptions, and tools that print tracebacks with variables print their reprs.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'(hidden)'"
