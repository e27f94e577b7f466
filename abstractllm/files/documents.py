"""PDFs -> text, for models that read no PDFs. Alone knows pypdf. Takes time and blocks; call it in a thread."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abstractllm.errors import FileProcessingError, MissingDependencyError, install_command
from abstractllm.files.refusals import MAX_BYTES, MAX_TEXT_BYTES, check_size, failure
from abstractllm.files.text import decoded, fenced
from abstractllm.types import DocumentPart, TextPart

if TYPE_CHECKING:
    from pypdf import PageObject, PdfReader

PDF = "application/pdf"
_PLAIN = "text/"


@dataclass(frozen=True, slots=True)
class PDFLimits:
    """The largest PDF that is read here: its pages, its bytes, the bytes of its text, and the seconds that it takes.

    `drawing` is the bytes that one page may unpack to. pypdf reads them whole, at about 2 s and 45 MB for a million,
    before there is anything to interrupt; from then on the seconds, by `clock`, are looked at at every step.
    """

    pages: int = 2000
    bytes: int = MAX_BYTES
    drawing: int = 8 * 1024 * 1024
    text: int = MAX_TEXT_BYTES
    seconds: float = 60.0
    clock: Callable[[], float] = time.monotonic


def becomes_text(part: DocumentPart) -> bool:
    """Whether `document_text` knows this kind of document; it must be here, and not at a URL."""
    return bool(part.data) and (part.media_type == PDF or part.media_type.startswith(_PLAIN))


def document_text(part: DocumentPart, limits: PDFLimits = PDFLimits()) -> TextPart:
    """Return a document as a model without eyes for it can read it: its text in a fence, the pages of a PDF marked.

    Raises FileProcessingError for one that is broken, encrypted, beyond the limits, or has no text but only images, and
    MissingDependencyError without pypdf.
    """
    name = part.name or "document"
    if part.media_type != PDF:
        return TextPart(fenced(name, "text", decoded(name, part.data)), part.name)
    check_size(name, len(part.data), limits.bytes)
    pages = _texts(part.data, name, limits)
    if not any(page.strip() for page in pages):
        advice = "read it with a model that sees documents, or run OCR over it first"
        raise failure(name, f"is a PDF without text, such as a scan; {advice}")
    text = "\n\n".join(_page(number, len(pages), page) for number, page in enumerate(pages, 1))
    check_size(name, len(text.encode("utf-8", "replace")), limits.text)
    return TextPart(fenced(name, "text", text), part.name)


def _page(number: int, count: int, text: str) -> str:
    said = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return f"[page {number} of {count}]\n{said or '(no text on this page)'}"


def _texts(data: bytes, name: str, limits: PDFLimits) -> list[str]:
    """Return the text of each page; whatever breaks in a PDF is a FileProcessingError."""
    try:
        import pypdf
    except ImportError as error:
        raise MissingDependencyError(
            f"Reading the PDF {name!r} for a model that takes none needs pypdf: {install_command('pdf')}"
        ) from error
    try:
        return list(_pages(pypdf.PdfReader(io.BytesIO(data)), name, limits))
    except FileProcessingError:
        raise
    except Exception as error:  # a PDF can be broken in any way
        raise failure(name, f"is a PDF that cannot be read ({error}); open it and save it again") from error


def _pages(reader: PdfReader, name: str, limits: PDFLimits) -> Iterator[str]:
    end = limits.clock() + limits.seconds

    def look_at_the_clock(*_: object) -> None:
        if limits.clock() > end:
            raise failure(name, f"took more than {limits.seconds:g} s to read; pass a part of it, or text")

    _unlock(reader, name)
    count = len(reader.pages)
    if count > limits.pages:
        raise failure(name, f"has {count:,} pages, where {limits.pages:,} are allowed; pass a part of it")
    size = 0
    for page in reader.pages:
        look_at_the_clock()
        _check_drawing(page, name, limits.drawing)
        text = page.extract_text(visitor_operand_before=look_at_the_clock)
        text = text.encode("utf-8", "replace").decode()  # halves of surrogate pairs go
        size += len(text)
        check_size(name, size, limits.text)
        yield text


def _check_drawing(page: PageObject, name: str, limit: int) -> None:
    contents = page.get_contents()
    size = 0 if contents is None else len(contents.get_data())
    for form in _forms(page, set()):
        size += len(form.get_data())
        if size > limit:
            break
    if size > limit:
        what = f"has a page that unpacks to {size:,} bytes or more, where {limit:,} are allowed"
        raise failure(name, f"{what}; pass a part of it, or text")


def _forms(holder: Any, seen: set[int]) -> Iterator[Any]:
    """Yield the drawings that a page or a drawing is made of, each once."""
    for found in _entries(_entries(_entries(holder), "/Resources"), "/XObject").values():
        form = found.get_object()
        if id(form) in seen or _entries(form).get("/Subtype") != "/Form":
            continue
        seen.add(id(form))
        yield form
        yield from _forms(form, seen)


def _entries(holder: Any, key: str | None = None) -> Mapping[str, Any]:
    """Return a dictionary of the PDF, or the one at a key of it; an empty one where there is something else."""
    found = holder if key is None else holder.get(key)
    found = None if found is None else found.get_object()
    return found if isinstance(found, Mapping) else {}


def _unlock(reader: PdfReader, name: str) -> None:
    """Open a PDF that only forbids changes, as every viewer does; one that needs a password is refused."""
    if not reader.is_encrypted:
        return
    advice = "save a copy without encryption and pass that"
    try:
        opened = bool(reader.decrypt(""))
    except Exception as error:  # such as a cipher that needs a further library
        raise failure(name, f"is an encrypted PDF ({error}); {advice}") from error
    if not opened:
        raise failure(name, f"is a PDF that needs a password; {advice}")
