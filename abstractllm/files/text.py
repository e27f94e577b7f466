"""The text of a file: its encoding, its language, and the fence that it is shown in. Knows no images and no PDFs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from abstractllm.files.refusals import MAX_TEXT_BYTES, check_size, failure
from abstractllm.files.tables import DELIMITERS, named_table, table_text, unnamed_table

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)

_KNOWN_BINARIES = (
    (b"PK\x03\x04", "a ZIP archive or an Office document", "unpack it, or export it as PDF, CSV or text"),
    (b"\xd0\xcf\x11\xe0", "an old Office document", "export it as PDF, CSV or text"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it"),
    (b"BZh", "compressed with bzip2", "unpack it"),
    (b"SQLite format 3", "an SQLite database", "export the table you mean as CSV"),
    (b"PAR1", "a Parquet table", "export it as CSV"),
)

_LANGUAGES = {
    "bash": "sh bash zsh",
    "c": "c h",
    "cpp": "cc cpp cxx hpp hh",
    "csharp": "cs",
    "css": "css",
    "csv": "csv",
    "diff": "diff patch",
    "go": "go",
    "haskell": "hs",
    "html": "html htm",
    "ini": "ini cfg",
    "java": "java",
    "javascript": "js mjs cjs",
    "json": "json ipynb geojson",
    "jsonl": "jsonl ndjson",
    "jsx": "jsx",
    "julia": "jl",
    "kotlin": "kt kts",
    "latex": "tex",
    "lua": "lua",
    "makefile": "mk",
    "markdown": "md markdown",
    "perl": "pl pm",
    "php": "php",
    "powershell": "ps1",
    "python": "py pyi",
    "r": "r",
    "rst": "rst",
    "ruby": "rb",
    "rust": "rs",
    "scala": "scala",
    "scss": "scss",
    "sql": "sql",
    "swift": "swift",
    "toml": "toml",
    "tsv": "tsv tab",
    "tsx": "tsx",
    "typescript": "ts mts",
    "xml": "xml svg xsd xsl",
    "yaml": "yaml yml",
}
_LANGUAGE_OF_SUFFIX = {f".{end}": language for language, ends in _LANGUAGES.items() for end in ends.split()}
_LANGUAGE_OF_NAME = {"dockerfile": "dockerfile", "makefile": "makefile", "cmakelists.txt": "cmake"}


def decoded(path: Path | str, data: bytes) -> str:
    """Return the text of a file with `\\n` as line end, or refuse it when it is no text."""
    mark, encoding = next((found for found in _BYTE_ORDER_MARKS if data.startswith(found[0])), (b"", "utf-8"))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise failure(path, _undecodable(data, error, encoding)) from error
    if "\0" in text:
        raise failure(path, _undecodable(data, None, encoding))
    check_size(path, len(data), MAX_TEXT_BYTES)
    if not text.strip():
        raise failure(path, "is empty but for white space; leave it out")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_named_as_text(name: str) -> bool:
    """Whether a name ends as those of texts do, such as "notes.csv"."""
    return Path(name).suffix.lower() in _LANGUAGE_OF_SUFFIX


def _undecodable(data: bytes, error: UnicodeDecodeError | None, encoding: str) -> str:
    for start, what, advice in _KNOWN_BINARIES:
        if data.startswith(start):
            return f"is {what}; {advice}"
    if error is None or b"\0" in data:
        return "is binary; if it is text without a byte order mark, save it as UTF-8, or else convert it to text"
    return f"is not {encoding.upper()} text (byte {error.start} is 0x{data[error.start]:02x}); save it as UTF-8"


def shown_text(path: Path, text: str) -> tuple[str, str]:
    """Return the language tag for a fence, and the text as it is shown in it."""
    named = _LANGUAGE_OF_NAME.get(path.name.lower()) or _LANGUAGE_OF_SUFFIX.get(path.suffix.lower(), "")
    if named and named not in DELIMITERS:
        return named, text
    found = _markup(text)
    if found:
        return found, text
    rows = named_table(path, text, DELIMITERS[named]) if named else unnamed_table(text)
    return ("markdown", table_text(rows)) if rows else ("text", text)


def _markup(text: str) -> str | None:
    """Return the language that a text shows at its start, if it does."""
    start = text.lstrip()[:64].lower()
    if start.startswith(("<!doctype html", "<html")):
        return "html"
    if start.startswith(("<?xml", "<svg")):
        return "xml"
    if start.startswith("#!"):
        known = ("python", "bash", "perl", "ruby", "node", "sh")
        return next((name for name in known if name in start.partition("\n")[0]), None)
    return "json" if re.match(r"\{|\[\s*[\[{]", start) and _is_json(text) else None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def fenced(label: str, language: str, text: str) -> str:
    """Return a text in a fence that it cannot close, under a line with its name."""
    body = text.removesuffix("\n")
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"File: {label}\n{fence}{language}\n{body}\n{fence}"
