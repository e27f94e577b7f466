"""PDFs -> text: pages, limits, what cannot be read, and that every provider without eyes for documents gets text."""

import io
import itertools
import sys
import zlib

import pypdf
import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import DISTRIBUTION, FileProcessingError, MissingDependencyError, UnsupportedFeatureError
from abstractllm.files.documents import PDFLimits, document_text
from abstractllm.providers.echo import EchoProvider
from abstractllm.testing.faces import Face, ask
from abstractllm.types import DocumentPart, Message, TextPart

from .pdfs import packed, pdf


def document(*pages, name="paper.pdf"):
    return DocumentPart(pdf(*pages), "application/pdf", name)


def locked(*pages, user, owner="owner"):
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf(*pages)))
    writer.encrypt(user, owner, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return DocumentPart(buffer.getvalue(), "application/pdf", "locked.pdf")


def refused(part, message, **limits):
    with pytest.raises(FileProcessingError, match=message) as caught:
        document_text(part, PDFLimits(**limits))
    assert caught.value.path == part.name
    assert repr(part.name) in str(caught.value)


def test_pages_are_marked():
    part = document_text(document("Hello", None, "and bye"))
    body = "[page 1 of 3]\nHello\n\n[page 2 of 3]\n(no text on this page)\n\n[page 3 of 3]\nand bye"
    assert part == TextPart(f"File: paper.pdf\n```text\n{body}\n```", "paper.pdf")


@given(st.lists(st.text("abc XYZ019.,`#", min_size=1, max_size=40).filter(str.strip), min_size=1, max_size=4))
def test_the_text_of_every_page_is_there_in_order(pages):
    text = document_text(document(*pages)).text
    place = 0
    for number, page in enumerate(pages, 1):
        place = text.index(f"[page {number} of {len(pages)}]\n", place)
        place = text.index(page.strip(), place)


def test_a_text_document_is_fenced():
    assert document_text(DocumentPart("Grüße".encode(), "text/plain", "a")).text == "File: a\n```text\nGrüße\n```"


def test_a_scan_is_refused():
    refused(document(None, None), "without text, such as a scan; .*OCR")


def test_a_password_is_asked_for_and_mere_restrictions_are_not():
    refused(locked("Secret", user="open sesame"), "needs a password; save a copy without encryption")
    assert "Free" in document_text(locked("Free", user="")).text


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"pages": 2}, "has 3 pages, where 2 are allowed"),
        ({"bytes": 100}, "where 100 are allowed"),
        ({"text": 6}, "where 6 are allowed"),
        ({"seconds": -1.0}, "took more than -1 s"),
    ],
)
def test_limits(limits, message):
    refused(document("one", "two", "three"), message, **limits)


@given(st.data())
def test_no_damage_raises_another_error(data):
    damaged = bytearray(pdf("Hello", "again"))
    for place in data.draw(st.lists(st.integers(5, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    part = DocumentPart(bytes(damaged[: data.draw(st.integers(6, len(damaged)))]), "application/pdf", "a.pdf")
    try:
        assert document_text(part).text.startswith("File: a.pdf\n")
    except FileProcessingError as error:
        assert error.path == "a.pdf"


def spaces(count):
    """Return so many million spaces, compressed."""
    squeezed = zlib.compressobj()
    return b"".join(squeezed.compress(b" " * 10**6) for _ in range(count)) + squeezed.flush()


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        (packed(spaces(96)), "cannot be read .*[Ll]imit"),
        (packed(spaces(9)), "unpacks to 9,000,000 bytes"),
        (packed(zlib.compress(b"/Fm Do"), form=spaces(9)), "unpacks to 9,000,006 bytes"),
    ],
)
def test_a_bomb_is_refused(pages, message):
    assert len(pages) < 200_000
    refused(DocumentPart(pages, "application/pdf", "bomb.pdf"), message)


def test_a_drawing_within_a_page_is_read_and_may_hold_itself():
    pages = packed(zlib.compress(b"/Fm Do"), form=zlib.compress(b"BT /F1 9 Tf 9 9 Td (Inner) Tj ET /Fm Do"))
    assert "Inner" in document_text(DocumentPart(pages, "application/pdf")).text


def test_the_clock_is_looked_at_within_a_page():
    ticks = itertools.count()
    refused(document("one"), "took more than 3 s", seconds=3, clock=lambda: next(ticks))


def test_without_pypdf_the_install_command_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(MissingDependencyError, match="pypdf") as caught:
        document_text(document("Hello"))
    assert f'pip install "{DISTRIBUTION}[pdf]"' in str(caught.value)


# In a provider that reads no documents.


@pytest.mark.parametrize("face", Face)
def test_a_provider_without_documents_gets_text(face):
    with EchoProvider() as llm:
        turn = Message("user", (document("Hello"), TextPart("What?")))
        answer = ask(llm, face, None, messages=[turn]).whole
    assert answer.content == "File: paper.pdf\n```text\n[page 1 of 1]\nHello\n```\n\nWhat?"


@pytest.mark.parametrize("face", Face)
def test_so_it_does_with_files(face, tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf("Hello"))
    seen = []
    with EchoProvider() as llm:
        llm.observers.append(lambda event: seen.append((event.kind, event.request.messages[-1].content[0].text)))
        answer = ask(llm, face, "What?", files=[tmp_path / "a.pdf"]).whole
    assert "Hello\n```\n\nWhat?" in answer.content
    assert [kind for kind, _ in seen] == ["started", "finished"]
    assert all("Hello" in text for _, text in seen)


@pytest.mark.parametrize("face", Face)
def test_a_scan_fails_before_the_request_counts_as_started(face):
    events = []
    with EchoProvider() as llm:
        llm.observers.append(events.append)
        with pytest.raises(FileProcessingError, match="such as a scan"):
            ask(llm, face, None, messages=[Message("user", (document(None),))])
    assert events == []


@pytest.mark.parametrize("face", Face)
def test_other_documents_and_addresses_are_refused_at_the_call(face):
    parts = [
        DocumentPart(b"PK", "application/zip", "a.zip"),
        DocumentPart(b"", "application/pdf", url="https://a.org/b"),
    ]
    with EchoProvider() as llm:
        for part in parts:
            with pytest.raises(UnsupportedFeatureError):
                ask(llm, face, None, messages=[Message("user", (part,))])
