"""Files and URLs -> message parts, told apart by content and not only by name.

Reads local files whole, fetches nothing, and knows no provider: whether a model can see an image is the business of
`capabilities`, and who fetches a URL that of the provider.
"""

from __future__ import annotations

import itertools
import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from abstractllm.errors import FileProcessingError, ImageProcessingError, InvalidParameterError, did_you_mean
from abstractllm.files.images import image_type, verify_image
from abstractllm.files.labels import labels_of, url_path
from abstractllm.files.refusals import MAX_BYTES, check_size, failure
from abstractllm.files.text import decoded, fenced, is_named_as_text, shown_text
from abstractllm.types import DocumentPart, ImagePart, Part, TextPart

PDF = "application/pdf"

_IMAGE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".ico")
)


def read_files(files: Iterable[str | Path]) -> tuple[Part, ...]:
    """Return one part per file or URL, in order.

    - PNG, JPEG, GIF and WebP images become `ImagePart`s with the file's own bytes, PDFs `DocumentPart`s.
    - Text (UTF-8, or UTF-16 and UTF-32 with a byte order mark) becomes a `TextPart`: a line with the file's name,
      then the text in a fence that the text cannot close. Line ends become `\\n`; one at the very end is not shown.
    - Comma-, semicolon- or tab-separated values become a Markdown table in that fence; see `table_text`.
    - An http or https address becomes a part with that `url` and without data: a `DocumentPart` where its path ends in
      `.pdf`, else an `ImagePart`.

    The content decides: a PNG named `.txt` is an image. A file whose name promises an image or a PDF and whose
    content is neither is refused, because something else than meant would reach the model. Files of one name are
    told apart by their folders, the same file given twice by a number.

    Raises InvalidParameterError when `files` is not a list of paths, ImageProcessingError for a broken image, and
    FileProcessingError for a file that is missing, empty, too large, binary, undecodable or not readable.
    """
    paths = file_paths(files)
    return tuple(
        _linked(path, label) if isinstance(path, str) else _read(path, label)
        for path, label in zip(paths, labels_of(paths), strict=True)
    )


def file_paths(files: object) -> list[Path | str]:
    """Return the paths in `files`, and addresses as str, without a look at the disk; raises as `read_files` does."""
    if isinstance(files, (str, bytes, os.PathLike, Mapping)) or not isinstance(files, Iterable):
        what = f"the single path {os.fspath(files)!r}" if isinstance(files, (str, os.PathLike)) else _kind(files)
        raise InvalidParameterError("files", f"files is {what}; pass a list of paths, such as files=['notes.md'].")
    return [_path(file) for file in files]


def _path(file: object) -> Path | str:
    if isinstance(file, (str, os.PathLike)):
        name = os.fsdecode(file)
        if not name:
            raise InvalidParameterError("files", "files holds an empty path; leave it out.")
        if isinstance(file, str) and re.match(r"https?://", name, re.IGNORECASE):
            return _checked_url(name)
        if re.match(r"(https?|ftp|file|data):", name, re.IGNORECASE):
            message = f"The file {name!r} looks like a URL of a kind that is not taken; download it first."
            raise FileProcessingError(message, path=name)
        return Path(name)
    raise InvalidParameterError("files", f"files holds {_kind(file)}; each must be a path, as a str or a Path.")


def _checked_url(url: str) -> str:
    """Return the address of what may be an image or a PDF."""
    if is_named_as_text(url_path(url)):
        message = f"The file {url!r} is named as text, and only images and PDFs are taken by URL; download it first."
        raise FileProcessingError(message, path=url)
    return url


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"


def _linked(url: str, label: str) -> Part:
    if url_path(url).lower().endswith(".pdf"):
        return DocumentPart(b"", PDF, label, url=url)
    return ImagePart(b"", "", label, url=url)


def _read(path: Path, label: str) -> Part:
    data = _bytes(path)
    part = image_or_pdf(data, str(path), label)
    if part is not None:
        return part
    _refuse_false_name(path)
    return TextPart(fenced(label, *shown_text(path, decoded(path, data))), label)


def image_or_pdf(data: bytes, source: str, label: str | None) -> ImagePart | DocumentPart | None:
    """Return the part that content makes, None where it is neither image nor PDF.

    `source` is the path or address for messages. Raises ImageProcessingError for an image that cannot be decoded.
    """
    media_type = image_type(data)
    if media_type:
        verify_image(source, data)
        return ImagePart(data, media_type, label)
    return DocumentPart(data, PDF, label) if data.startswith(b"%PDF-") else None


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
        raise failure(path, "may not be read by this user; change its permissions") from error
    except (OSError, ValueError) as error:
        raise failure(path, f"cannot be read ({error}); check the path") from error
    if not data:
        raise failure(path, "is empty; leave it out")
    check_size(path, len(data), MAX_BYTES)
    return data


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise failure(path, "is a folder; pass the files in it")
    if not stat.S_ISREG(status.st_mode):
        raise failure(path, "is a device, pipe or socket; copy what it holds to a regular file and pass that")
    check_size(path, status.st_size, MAX_BYTES)


def _missing(path: Path) -> FileProcessingError:
    return failure(path, f"does not exist, seen from {os.getcwd()!r}; check the path", _nearest(path))


def _nearest(path: Path) -> str:
    """Return a question about the nearest name in the folder of a missing file, if there is one."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, 1000)]
    except OSError:
        return ""
    return did_you_mean(path.name, names)


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
        raise failure(path, "is named like a PDF, but its content is none; rename it if it is text")
