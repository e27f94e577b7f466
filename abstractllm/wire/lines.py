"""Bytes as they arrive -> lines, and lines -> server-sent events. Knows neither HTTP nor what is in them.

Bytes may be cut anywhere, inside a character or between the two of a line's end. Server-sent events are decoded as the
WHATWG HTML standard says (section 9.2.6), but for the event at the end of a stream that lacks its blank line: it is
returned, and whoever reads it finds out whether it is whole.
"""

from __future__ import annotations

from typing import NamedTuple

from abstractllm.errors import GenerationError

MAX_LINE = 64 * 2**20
"""Bytes of the longest line, and of the longest event. More are no answer of a model, and must not fill the memory."""

_BESIDE = 64
"""Bytes of memory that a line of an event takes beside its own, or a little more."""

BOM = b"\xef\xbb\xbf"


class LineDecoder:
    """Splits a stream into lines, which end with \\n, \\r\\n or \\r."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._after_return = False  # the last byte was \r, so a \n that comes next belongs to it

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that end in these bytes, without their ends. Raises GenerationError for one too long."""
        if self._after_return and data:
            self._after_return = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._after_return = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = data.split(b"\n")
        self._hold(first)
        if not others:
            return []
        lines = [self._take(), *others[:-1]]
        self._hold(others[-1])
        return lines

    def end(self) -> bytes:
        """Return the bytes after the last end of a line."""
        return self._take()

    def _hold(self, piece: bytes) -> None:
        if not piece:
            return
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > MAX_LINE:
            raise GenerationError(f"The service sent a line of more than {MAX_LINE:,} bytes, which is no answer.")

    def _take(self) -> bytes:
        line = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return line


class Event(NamedTuple):
    """A server-sent event: its `name`, empty where it has none, and its data."""

    name: bytes
    data: bytes


class EventDecoder:
    """Splits a stream into server-sent events. Comments are none: some servers send them to keep a connection open."""

    def __init__(self) -> None:
        self._lines = LineDecoder()
        self._name = b""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that end in these bytes. Raises GenerationError for one that is too long."""
        events: list[Event] = []
        for line in self._lines.feed(data):
            if line.startswith(b"data: "):
                self._begun = True
                self._add(line[6:])
            elif line:
                self._take(line)
            elif self._data:
                events.append(self._event())
            else:
                self._name = b""
        return events

    def end(self) -> list[Event]:
        """Return the event that the stream ends in, whole or not, if there is one."""
        line = self._lines.end()
        if line:
            self._take(line)
        return [self._event()] if self._data else []

    def _take(self, line: bytes) -> None:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(BOM)
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._add(value)
        elif field == b"event":
            self._name = value

    def _add(self, value: bytes) -> None:
        self._data.append(value)
        self._size += len(value) + _BESIDE
        if self._size > MAX_LINE + _BESIDE:
            raise GenerationError(f"The service sent an event of more than {MAX_LINE:,} bytes, which is no answer.")

    def _event(self) -> Event:
        data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        event = Event(self._name, data)
        self._name, self._data, self._size = b"", [], 0
        return event
