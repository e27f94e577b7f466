"""Stop strings, matched on text and across the borders of pieces. Knows no tokens."""

from __future__ import annotations

from collections.abc import Sequence


def held_back(text: str, markers: Sequence[str]) -> int:
    """Return the length of the longest end of `text` that is a true beginning of a marker."""
    longest = max((len(marker) for marker in markers), default=0) - 1
    for size in range(min(longest, len(text)), 0, -1):
        end = text[-size:]
        if any(marker.startswith(end) for marker in markers):
            return size
    return 0


class StopMatcher:
    """Cuts a text before the first stop string, however the text is cut into pieces.

    Of several matches the one that ends first counts, and of those that end together the longest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None

    def add(self, text: str) -> str:
        """Take more text and return what is certainly before any stop string; nothing once one has matched."""
        if self.matched is not None or not self._stops:
            return "" if self.matched is not None else text
        text = self._held + text
        found = [(text.index(stop) + len(stop), text.index(stop), stop) for stop in self._stops if stop in text]
        if found:
            _, start, self.matched = min(found)
            self._held = ""
            return text[:start]
        keep = len(text) - held_back(text, self._stops)
        self._held = text[keep:]
        return text[:keep]

    def flush(self) -> str:
        """Return the text that was held back, at the answer's end."""
        held, self._held = self._held, ""
        return held
