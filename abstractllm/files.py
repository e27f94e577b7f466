"""Files -> message parts, told apart by content and not only by name.

Reads local files whole and knows no provider: whether a model can see an image is the business of `capabilities`.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from abstractllm.errors import FileProcessingError, ImageProcessingError, InvalidParameterError, did_you_mean
from abstractllm.types import DocumentPart, ImagePart, Part, TextPart

MAX_BYTES = 20 * 1024 * 1024
"""Size of the largest file that is taken, in bytes."""

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Size of the largest text file that is taken: about a million tokens, more than models read."""

MAX_PIXELS = 80_000_000
"""Width times height of the largest image that is taken; decoding it takes up to four bytes a pixel."""

_BYTE_ORDER_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)

_IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".ico")
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
_DELIMITERS = {"csv": ",", "tsv": "\t"}


def read_files(files: Iterable[str | Path]) -> tuple[Part, ...]:
    """Return one part per file, in order.

    - PNG, JPEG, GIF and WebP images become `ImagePart`s with the file's own bytes, PDFs `DocumentPart`s.
    - Text (UTF-8, or UTF-16 and UTF-32 with a byte order mark) becomes a `TextPart`: a line with the file's name,
      then the text in a fence that the text cannot close. Line ends become `\\n`; one at the very end is not shown.
    - Comma-, semicolon- or tab-separated values become a Markdown table in that fence; see `_table_text`.

    The content decides: a PNG named `.txt` is an image. A file whose name promises an image or a PDF and whose
    content is neither is refused, because something else than meant would reach the model. Files of one name are
    told apart by their folders, the same file given twice by a number.

    Raises InvalidParameterError when `files` is not a list of paths, ImageProcessingError for a broken image, and
    FileProcessingError for a file that is missing, empty, too large, binary, undecodable or not readable.
    """
    paths = file_paths(files)
    return tuple(_read(path, label) for path, label in zip(paths, _labels(paths), strict=True))


def file_paths(files: object) -> list[Path]:
    """Return the paths in `files`, without a look at the disk; raises InvalidParameterError as `read_files` does."""
    if isinstance(files, (str, bytes, os.PathLike, Mapping)) or not isinstance(files, Iterable):
        what = f"the single path {os.fspath(files)!r}" if isinstance(files, (str, os.PathLike)) else _kind(files)
        raise InvalidParameterError("files", f"files is {what}; pass a list of paths, such as files=['notes.md'].")
    return [_path(file) for file in files]


def _path(file: object) -> Path:
    if isinstance(file, (str, os.PathLike)):
        name = os.fsdecode(file)
        if not name:
            raise InvalidParameterError("files", "files holds an empty path; leave it out.")
        if re.match(r"(https?|ftp|file|data):", name, re.IGNORECASE):
            message = f"The file {name!r} looks like a URL, and files are read from disk; download it first."
            raise FileProcessingError(message, path=name)
        return Path(name)
    raise InvalidParameterError("files", f"files holds {_kind(file)}; each must be a path, as a str or a Path.")


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _read(path: Path, label: str) -> Part:
    data = _bytes(path)
    media_type = _image_type(data)
    if media_type:
        _verify_image(path, data)
        return ImagePart(data, media_type, label)
    if data.startswith(b"%PDF-"):
        return DocumentPart(data, "application/pdf", label)
    _refuse_false_name(path)
    return TextPart(_fenced(label, *_shown(path, _decoded(path, data))), label)


def _failure(path: Path, message: str, hint: str = "") -> FileProcessingError:
    return FileProcessingError(f"The file {str(path)!r} {message}.{hint}", path=str(path))


# Reading.


def _bytes(path: Path) -> bytes:
    """Return the content; no more than the limit is ever read, even of a file that grows."""
    try:
        _check_kind(path, path.stat())
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileProcessingError:
        raise
    except FileNotFoundError as error:
        raise _missing(path) from error
    except PermissionError as error:
        raise _failure(path, "may not be read by this user; change its permissions") from error
    except (OSError, ValueError) as error:
        raise _failure(path, f"cannot be read ({error}); check the path") from error
    if not data:
        raise _failure(path, "is empty; leave it out")
    _check_size(path, len(data), MAX_BYTES)
    return data


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise _failure(path, "is a folder; pass the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise _failure(path, "is a device, pipe or socket; copy what it holds to a regular file and pass that")
    _check_size(path, status.st_size, MAX_BYTES)


def _check_size(path: Path, size: int, limit: int) -> None:
    if size > limit:
        raise _failure(path, f"is too large: {size:,} bytes, where {limit:,} are allowed; pass a part of it")


def _missing(path: Path) -> FileProcessingError:
    return _failure(path, f"does not exist, seen from {os.getcwd()!r}; check the path", _nearest(path))


def _nearest(path: Path) -> str:
    """Return a question about the nearest name in the folder of a missing file, if there is one."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, 1000)]
    except OSError:
        return ""
    return did_you_mean(path.name, names)


# Images.


def _image_type(data: bytes) -> str | None:
    """Return the media type that the first bytes stand for; see the PNG, JFIF, GIF and RIFF specifications."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _verify_image(path: Path, data: bytes) -> None:
    """Decode the image once, so that a broken one is refused here and not by a model in the middle of its work."""
    from PIL import Image

    formats = ("PNG", "JPEG", "GIF", "WEBP", "MPO")
    try:
        with Image.open(io.BytesIO(data), formats=formats) as image:
            pixels = image.width * image.height
            image.verify()
        if pixels <= MAX_PIXELS:
            with Image.open(io.BytesIO(data), formats=formats) as image:
                image.load()
    except Exception as error:  # decoders raise all kinds of errors for broken input
        message = f"The image {str(path)!r} cannot be decoded ({error}); open it and save it again."
        raise ImageProcessingError(message, path=str(path)) from error
    if pixels > MAX_PIXELS:
        message = f"The image {str(path)!r} has {pixels:,} pixels, more than {MAX_PIXELS:,}; make it smaller."
        raise ImageProcessingError(message, path=str(path))


def _refuse_false_name(path: Path) -> None:
    """Refuse a file that is named like an image or a PDF; called when its content is neither."""
    suffix = path.suffix.lower()
    if suffix in _IMAGE_SUFFIXES:
        message = (
            f"The file {str(path)!r} is named like an image, but its content is not PNG, JPEG, GIF or WebP; "
            "convert it to one of them, or rename it if it is text."
        )
        raise ImageProcessingError(message, path=str(path))
    if suffix == ".pdf":
        raise _failure(path, "is named like a PDF, but its content is none; rename it if it is text")


# Text.


def _decoded(path: Path, data: bytes) -> str:
    """Return the text of a file with `\\n` as line end, or refuse it when it is no text."""
    mark, encoding = next((found for found in _BYTE_ORDER_MARKS if data.startswith(found[0])), (b"", "utf-8"))
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        raise _failure(path, _undecodable(data, error, encoding)) from error
    if "\0" in text:
        raise _failure(path, _undecodable(data, None, encoding))
    _check_size(path, len(data), MAX_TEXT_BYTES)
    if not text.strip():
        raise _failure(path, "is empty but for white space; leave it out")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _undecodable(data: bytes, error: UnicodeDecodeError | None, encoding: str) -> str:
    for start, what, advice in _KNOWN_BINARIES:
        if data.startswith(start):
            return f"is {what}; {advice}"
    if error is None or b"\0" in data:
        return "is binary; if it is text without a byte order mark, save it as UTF-8, or else convert it to text"
    return f"is not {encoding.upper()} text (byte {error.start} is 0x{data[error.start]:02x}); save it as UTF-8"


def _shown(path: Path, text: str) -> tuple[str, str]:
    """Return the language tag for a fence, and the text as it is shown in it."""
    named = _LANGUAGE_OF_NAME.get(path.name.lower()) or _LANGUAGE_OF_SUFFIX.get(path.suffix.lower(), "")
    if named and named not in _DELIMITERS:
        return named, text
    found = _markup(text)
    if found:
        return found, text
    rows = _named_table(path, text, _DELIMITERS[named]) if named else _unnamed_table(text)
    return ("markdown", _table_text(rows)) if rows else ("text", text)


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


def _fenced(label: str, language: str, text: str) -> str:
    body = text.removesuffix("\n")
    longest = max((len(run) for run in re.findall(r"`+", body)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"File: {label}\n{fence}{language}\n{body}\n{fence}"


# Tables.


def _named_table(path: Path, text: str, delimiter: str) -> list[list[str]]:
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
        raise _failure(path, f"is not a well-formed table ({error}); correct it, or rename it to .txt") from error


def _unnamed_table(text: str) -> list[list[str]]:
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


def _table_text(rows: Sequence[Sequence[str]]) -> str:
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


# Names.


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return a name to show for each path: its last part, with as many folders as tell it from the others."""
    places = [Path(os.path.abspath(path)) for path in paths]
    labels: list[str] = []
    for place in places:
        rivals = {other for other in places if other.name == place.name and other != place}
        labels.append(_free(_short(place, rivals), labels))
    return labels


def _free(label: str, taken: Sequence[str]) -> str:
    numbered = (f"{label} ({number})" for number in itertools.count(2))
    return next(one for one in itertools.chain([label], numbered) if one not in taken)


def _short(place: Path, rivals: Iterable[Path]) -> str:
    depth = 1
    while depth < len(place.parts) and any(other.parts[-depth:] == place.parts[-depth:] for other in rivals):
        depth += 1
    label = "/".join(place.parts[-depth:])
    return label if label.isprintable() else ascii(label)[1:-1]
