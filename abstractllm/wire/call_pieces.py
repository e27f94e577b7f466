"""Which tool call a piece in a stream belongs to. Knows what servers leave out, no format's field names."""

from __future__ import annotations

import json
from typing import Any

from abstractllm.accumulator import decode_arguments
from abstractllm.types import ToolCallDelta


class _Open:
    """A call that has begun. `given` says whether its id came from the service."""

    __slots__ = ("given", "id", "index", "name", "pieces")

    def __init__(self, index: int, identity: str) -> None:
        self.index = index
        self.id = identity or f"call_{index}"
        self.given = bool(identity)
        self.name = ""
        self.pieces: list[str] = []

    def whole(self) -> bool:
        """Whether the arguments that have come are all that there can be."""
        text = "".join(self.pieces)
        return bool(text.strip()) and decode_arguments(text) is not None


class CallPieces:
    """The calls of one streamed answer, numbered in the order in which they begin.

    Services differ in what they leave out. A piece belongs to
    - the call with its id, if there is one and its number does not say otherwise;
    - else a new call, if it has an id: some services number every call 0;
    - without an id, the call with its number, or the last one where it has no number either; unless it has a name and
      that call has another one, or is whole already: then it begins a new call.
    A call without an id gets `call_N`, the same as everywhere in this package.
    """

    def __init__(self) -> None:
        self._calls: list[_Open] = []
        self._by_number: dict[int, _Open] = {}
        self._by_id: dict[str, _Open] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, number: int | None, identity: str, name: str, arguments: Any) -> ToolCallDelta | None:
        """Return what is new in a piece, or None for nothing. `arguments` is text, or a value where a service errs."""
        text = arguments if isinstance(arguments, str) else _text(arguments)
        call = self._find(number, identity, name)
        fresh = call is None
        if call is None:
            call = self._begin(number, identity)
        new_name = name if name and not call.name else ""
        if not (fresh or new_name or text):
            return None
        call.name = call.name or name
        call.pieces.append(text)
        return ToolCallDelta(call.index, call.id if fresh else None, new_name or None, text)

    def index(self, number: int | None, identity: str) -> int:
        """Return the index of the call that a piece which has been added belongs to."""
        call = self._by_id.get(identity) or (self._last() if number is None else self._by_number.get(number))
        return call.index if call else 0

    def _find(self, number: int | None, identity: str, name: str) -> _Open | None:
        call = self._last() if number is None else self._by_number.get(number)
        if identity:
            return self._named(call, number, identity, name)
        if call is None or not name or not call.name:
            return call
        return None if name != call.name or call.whole() else call

    def _named(self, call: _Open | None, number: int | None, identity: str, name: str) -> _Open | None:
        """Return the call of a piece that has an id."""
        known = self._by_id.get(identity)
        if known is not None and (number is None or call is not None):
            return known
        late = call is not None and not call.given and not name  # its id comes only now; another has been told
        return call if late else None

    def _last(self) -> _Open | None:
        return self._calls[-1] if self._calls else None

    def _begin(self, number: int | None, identity: str) -> _Open:
        call = _Open(len(self._calls), identity)
        self._calls.append(call)
        self._by_id.setdefault(call.id, call)
        if number is not None:
            self._by_number[number] = call
        return call


def _text(arguments: Any) -> str:
    """Return arguments that came as a value as the text that they should have been."""
    return "" if arguments is None else json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
