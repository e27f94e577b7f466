"""Splits generated text into what is said, what is thought, and what is a tool call, by the model's markers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from abstractllm.text.stops import held_back

Kind = Literal["content", "reasoning", "tool_call"]


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch of text between two markers. An empty `end` means "until the text ends"."""

    kind: Kind
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Some text of one kind. `closes` says that its section ends with it."""

    kind: Kind
    text: str
    closes: bool = False


class SectionSplitter:
    """Splits a text that comes in pieces. Markers themselves are not part of any section.

    `inside` is the section that the prompt has already opened, if any.
    """

    def __init__(self, sections: Sequence[Section], inside: Section | None = None) -> None:
        self._sections = tuple(sections)
        self._inside = inside
        self._held = ""

    @property
    def inside(self) -> Section | None:
        """The section that the text has reached."""
        return self._inside

    def add(self, text: str) -> list[Piece]:
        """Take more text and return the pieces that are certain by now."""
        self._held += text
        pieces: list[Piece] = []
        while self._next(pieces):
            pass
        return pieces

    def flush(self) -> list[Piece]:
        """Return what was held back, at the text's end; an open section is closed by it."""
        held, self._held = self._held, ""
        if self._inside is None:
            return [Piece("content", held)] if held else []
        kind, self._inside = self._inside.kind, None
        return [Piece(kind, held, closes=True)]

    def _next(self, pieces: list[Piece]) -> bool:
        """Move text up to the next marker into `pieces`; False when no whole marker is left."""
        markers = self._markers()
        found = [(self._end_of(marker), -len(marker), marker) for marker in markers if marker in self._held]
        if not found:
            self._release(pieces, len(self._held) - held_back(self._held, tuple(markers)))
            return False
        end, _, marker = min(found)
        self._release(pieces, end - len(marker), closes=self._inside is not None)
        self._held = self._held[len(marker) :]
        self._inside = markers[marker]
        return True

    def _end_of(self, marker: str) -> int:
        """What ends first is found first, however the text is cut into pieces; of two that end together, the longer."""
        return self._held.index(marker) + len(marker)

    def _markers(self) -> dict[str, Section | None]:
        """The markers to look for, and the section that each leads into."""
        if self._inside is None:
            return {section.start: section for section in reversed(self._sections)}
        return {self._inside.end: None} if self._inside.end else {}

    def _release(self, pieces: list[Piece], size: int, *, closes: bool = False) -> None:
        text, self._held = self._held[:size], self._held[size:]
        kind: Kind = "content" if self._inside is None else self._inside.kind
        if text or closes:
            pieces.append(Piece(kind, text, closes))
