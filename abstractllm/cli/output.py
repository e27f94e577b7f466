"""What is written to the user: answers, JSON and tables. A model's text never moves the cursor of a terminal."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any, TextIO

import click

_CSI = r"\x1b\[[0-?]{0,64}[ -/]{0,8}"
_STRING = r"\x1b[\]PX^_][^\x07\x1b\n]{0,256}"
_SEQUENCE = rf"{_CSI}[@-~]|{_STRING}(?:\x07|\x1b\\)"
_CONTROL = re.compile(rf"{_SEQUENCE}|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNFINISHED = re.compile(rf"(?:{_CSI}|{_STRING}\x1b?|\x1b)\Z")


def printable(text: str) -> str:
    """Return `text` without ANSI escape sequences and control characters other than newline and tab."""
    return _CONTROL.sub("", text)


def one_line(text: str) -> str:
    """Return `text` on one line, fit for a terminal."""
    return printable(" ".join(text.split()))


class TerminalFilter:
    """Does what `printable` does for a text that comes in pieces, wherever the pieces are cut."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what may be shown now; the start of an escape sequence waits for its end."""
        text = self._held + piece
        unfinished = _UNFINISHED.search(text)
        self._held = unfinished.group() if unfinished else ""
        return printable(text[: len(text) - len(self._held)])

    def flush(self) -> str:
        """Return what was held back, at the end of the text."""
        held, self._held = self._held, ""
        return printable(held)


class AnswerWriter:
    """Writes an answer as it arrives: as it is to a file or pipe, only what is printable to a terminal."""

    def __init__(self, target: TextIO | None = None) -> None:
        self._target = sys.stdout if target is None else target
        self._filter = TerminalFilter() if self._target.isatty() else None
        self._last = ""

    def write(self, piece: str) -> None:
        """Write the next piece, at once."""
        self._put(self._filter.feed(piece) if self._filter else piece)

    def end(self) -> None:
        """Finish the answer's last line, if there is one."""
        self._put(self._filter.flush() if self._filter else "")
        if self._last and self._last != "\n":
            self._put("\n")
        self._last = ""

    def _put(self, text: str) -> None:
        if text:
            self._last = text[-1]  # first, because Ctrl-C may come at any point
            self._target.write(text)
            self._target.flush()


def print_line(text: str = "") -> None:
    """Write text that may hold what others wrote, such as names of plugins."""
    click.echo(printable(text) if sys.stdout.isatty() else text)


def print_json(value: Any) -> None:
    """Write `value` as indented JSON."""
    print_line(json.dumps(value, ensure_ascii=False, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a table, cut to fit on a terminal only."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 3, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000)
    with console.capture() as drawn:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def readable_size(size: int | None) -> str:
    """Return a number of bytes as people read it, such as `1.2 GB`, or `?` when it is not known."""
    if size is None:
        return "?"
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.95:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
