"""One line on a terminal that says how far something is. Knows nothing of what it counts."""

from __future__ import annotations

import sys
import time

_WIDTH = 30
_PAUSE = 0.1
"""Seconds between two drawings."""


class ProgressLine:
    """A line on standard error, drawn again and again; where that is no terminal, nothing is written.

    `total` is how many there are to be done, None where that is not known.
    """

    def __init__(self, total: int | None) -> None:
        self._stream = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
        self._total = total
        self._text = ""
        self._drawn = -_PAUSE

    def show(self, done: int, failed: int) -> None:
        """Say how many are done, and how many of those have failed."""
        self._text = line(done, failed, self._total)
        now = time.monotonic()
        if now - self._drawn >= _PAUSE:
            self._drawn = now
            self._draw("")

    def end(self) -> None:
        """Draw the last state, and begin a new line where anything was drawn."""
        if self._text:
            self._draw("\n")

    def _draw(self, end: str) -> None:
        if self._stream is not None:
            self._stream.write(f"\r{self._text}{end}")
            self._stream.flush()


def line(done: int, failed: int, total: int | None) -> str:
    """Return the text of the line, which never gets shorter as the counts grow."""
    failures = f", {failed} failed" if failed else ""
    if total is None:
        return f"{done} done{failures}"
    filled = _WIDTH * done // total if total else _WIDTH
    return f"[{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total}{failures}"
