"""Comma-, semicolon- or tab-separated values -> rows -> a Markdown table. Reads no files."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from abstractllm.files.refusals import failure

DELIMITERS = {"csv": ",", "tsv": "\t"}
"""What stands between two cells, by the language of a file."""


def named_table(path: Path, text: str, delimiter: str) -> list[list[str]]:
    """Return the rows of a file that is named as a table.

    Where the first line has but one column, another delimiter that splits it is taken, as spreadsheets in many
    countries write `;` into `.csv` files.
    """
    head = text.lstrip("\n").partition("\n")[0]
    if delimiter not in head:
        delimiter = next((other for other in "\t;,|" if other in head), delimiter)
    try:
        return [row for row in _rows(text, delimiter) if row]
    except csv.Error as error:
        raise failure(path, f"is not a well-formed table ({error}); correct it, or rename it to .txt") from error


def unnamed_table(text: str) -> list[list[str]]:
    """Return the rows of a text that is plainly a table, though its name does not say so; no rows otherwise."""
    head = text.partition("\n")[0]
    candidates = (_regular_rows(text, delimiter) for delimiter in "\t,;" if delimiter in head)
    return next((rows for rows in candidates if rows), [])


def _regular_rows(text: str, delimiter: str) -> list[list[str]]:
    """Return two or more rows of equal length and tidy cells, as programs write them and prose has them not."""
    rows: list[list[str]] = []
    try:
        for row in _rows(text, delimiter):
            if not _is_regular(row, rows[0] if rows else row):
                return []
            rows.append(row)
    except csv.Error:
        return []
    return rows if len(rows) > 1 and all(rows[0]) else []


def _is_regular(row: Sequence[str], head: Sequence[str]) -> bool:
    return len(row) == len(head) > 1 and all(cell == cell.strip() for cell in row)


def _rows(text: str, delimiter: str) -> Iterable[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def table_text(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table with the first row as its head; short rows are filled up with empty cells.

    In a cell, a backslash goes before `|`, before a backslash and before a literal `<br>`; a line end is `<br>`.
    """
    width = max(len(row) for row in rows)
    lines = [_line(_cell(cell) for cell in (*row, *[""] * (width - len(row)))) for row in rows]
    return "\n".join((lines[0], _line(["---"] * width), *lines[1:]))


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(text: str) -> str:
    return re.sub(r"\\|\||<br>", r"\\\g<0>", text).replace("\n", "<br>")
