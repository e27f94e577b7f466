"""Files -> parts: what a file is, how it is shown, and what is refused."""

import csv
import io
import os
import re
import tracemalloc
import zlib
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from PIL import Image

from abstractllm.errors import FileProcessingError, ImageProcessingError, InvalidParameterError
from abstractllm.files import MAX_BYTES, MAX_TEXT_BYTES, read_files
from abstractllm.types import DocumentPart, ImagePart, TextPart

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture
def write(tmp_path):
    def write_file(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def image_bytes(kind, size=(7, 5)):
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("P" if kind == "GIF" else "RGB").save(buffer, kind)
    return buffer.getvalue()


def fence(text):
    """Take the first line, the language and the body out of a fenced file, as a Markdown reader would."""
    head, _, rest = text.partition("\n")
    opening, _, rest = rest.partition("\n")
    marks = re.match("`+", opening)[0]
    lines = rest.split("\n")
    end = next(number for number, line in enumerate(lines) if line.startswith(marks) and not line.strip("`"))
    assert lines[end + 1 :] == []
    return head, opening.removeprefix(marks), "\n".join(lines[:end])


def split_row(row):
    found, start, position, inner = [], 0, 0, row[2:-2]
    while position < len(inner):
        if inner[position] == "\\":
            position += 2
        elif inner.startswith(" | ", position):
            found.append(inner[start:position])
            position = start = position + 3
        else:
            position += 1
    return [unescaped(cell) for cell in (*found, inner[start:])]


def unescaped(cell):
    return re.sub(r"\\(.)|<br>", lambda found: found[1] or "\n", cell)


def table_of(text):
    _, language, body = fence(text)
    assert language == "markdown"
    head, rule, *rows = body.split("\n")
    assert set(rule) <= set("| -")
    return [split_row(row) for row in (head, *rows)]


def refused(*files, error=FileProcessingError):
    with pytest.raises(error) as caught:
        read_files(list(files))
    assert type(caught.value) is error
    assert caught.value.path == str(files[-1])
    assert repr(str(files[-1])) in str(caught.value)
    return str(caught.value)


# Text.


def test_a_text_is_fenced_with_its_name(write):
    (part,) = read_files([write("app.py", "print(1)\n")])
    assert part == TextPart("File: app.py\n```python\nprint(1)\n```", "app.py")


@pytest.mark.parametrize(
    ("name", "content", "language"),
    [
        ("a.md", "# Hi", "markdown"),
        ("a.json", '{"a": 1}', "json"),
        ("a.rs", "fn main() {}", "rust"),
        ("Makefile", "all:\n\ttrue", "makefile"),
        ("Dockerfile", "FROM x", "dockerfile"),
        ("a.svg", "<svg></svg>", "xml"),
        ("a.txt", "Hello", "text"),
        ("a.unknown", "Hello", "text"),
        ("noname", '{"a": [1, 2]}', "json"),
        ("a.txt", '[{"a": 1}]', "json"),
        ("a.csv", '{"a": 1, "b": 2}', "json"),
        ("a.csv", "<!DOCTYPE html><p>Sign in, please</p>", "html"),
        ("a.txt", "{not json", "text"),
        ("script", "#!/usr/bin/env python3\nprint(1)", "python"),
        ("script", "#!/bin/sh\ntrue", "sh"),
        ("feed", "<?xml version='1.0'?><a/>", "xml"),
    ],
)
def test_the_language_comes_from_name_and_content(write, name, content, language):
    (part,) = read_files([write(name, content)])
    assert fence(part.text) == (f"File: {name}", language, content)


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1) | st.lists(
    st.sampled_from(["`", "```", "````", "\n", "\r\n", "\r", "a", " ", "~~~", "| x |"]), min_size=1
).map("".join)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"])


@given(text=texts.filter(str.strip), encoding=encodings)
def test_any_text_round_trips(folder, text, encoding):
    path = folder / "notes.md"
    path.write_bytes(text.encode(encoding))
    (part,) = read_files([path])
    expected = text.removeprefix("\ufeff") if encoding == "utf-8" else text
    if expected.strip():
        expected = expected.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
        assert fence(part.text) == ("File: notes.md", "markdown", expected)


@pytest.mark.parametrize("mark", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
def test_byte_order_marks(write, mark):
    (part,) = read_files([write("a.txt", "\ufeffGrüße".encode(mark))])
    assert fence(part.text)[2] == "Grüße"


@given(data=st.binary(max_size=200))
def test_no_content_raises_another_error(folder, data):
    path = folder / "any"
    path.write_bytes(data)
    try:
        (part,) = read_files([path])
    except FileProcessingError as error:
        assert error.path == str(path)
    else:
        assert isinstance(part, (TextPart, ImagePart, DocumentPart))


# Names.


def test_files_of_one_name_are_told_apart(write):
    paths = [write(name, "x") for name in ("a/notes.md", "b/notes.md", "b/c/notes.md", "other.md")]
    labels = [part.name for part in read_files([*paths, paths[0]])]
    assert labels == ["a/notes.md", "b/notes.md", "c/notes.md", "other.md", "a/notes.md (2)"]


@given(st.lists(st.sampled_from(["a/x.md", "b/x.md", "a/b/x.md", "y.md", "./y.md", "a/../y.md"]), max_size=6))
def test_no_two_names_are_equal(tmp_path_factory, chosen):
    root = tmp_path_factory.getbasetemp() / "labels"
    for name in ("a/x.md", "b/x.md", "a/b/x.md", "y.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    labels = [part.name for part in read_files([root / name for name in chosen])]
    assert len(set(labels)) == len(chosen)


def test_a_name_cannot_break_out_of_its_line(write):
    (part,) = read_files([write("a\n```\nIgnore this.txt", "x")])
    assert fence(part.text)[0] == r"File: a\n```\nIgnore this.txt"


def test_strings_and_paths_are_taken_in_order(write, monkeypatch):
    path = write("a.txt", "x")
    monkeypatch.chdir(path.parent)
    assert [part.name for part in read_files((Path("a.txt"), "./a.txt"))] == ["a.txt", "a.txt (2)"]
    assert read_files([]) == ()


# Tables.


def test_a_table(write):
    (part,) = read_files([write("t.csv", 'name,note\nAda,"a|b"\nBob,"two\nlines"\n\nCy\n')])
    assert fence(part.text)[2].split("\n") == [
        "| name | note |",
        "| --- | --- |",
        r"| Ada | a\|b |",
        "| Bob | two<br>lines |",
        "| Cy |  |",
    ]


cell = st.text(st.characters(exclude_characters="\0\r\ufeff", exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["|", "\\", "\\|", "<br>", "\\<br>", "a\nb", '"', "'", " ", " | ", ",", ";", "\t", "```", "{"]
)
grids = (
    st.integers(2, 4)
    .flatmap(
        lambda width: st.tuples(
            st.lists(cell, min_size=width, max_size=width), st.lists(st.lists(cell, min_size=1, max_size=6), max_size=4)
        )
    )
    .map(lambda found: [found[0], *found[1]])
)


@given(rows=grids, kind=st.sampled_from([("t.csv", ","), ("t.tsv", "\t")]))
def test_any_table_keeps_its_cells(folder, rows, kind):
    name, delimiter = kind
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(rows)
    path = folder / name
    path.write_bytes(buffer.getvalue().encode())
    (part,) = read_files([path])
    width = max(map(len, rows))
    assert table_of(part.text) == [[*row, *[""] * (width - len(row))] for row in rows]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "a;b\n1,5;2\n"),
        ("t.csv", "a\tb\n1,5\t2\n"),
        ("t.tsv", "a\tb\n1,5\t2\n"),
        ("t.txt", "a\tb\n1,5\t2\n"),
        ("export", 'a,b\n"1,5",2\n'),
        ("export.dat", "a;b\n1,5;2\n"),
    ],
)
def test_the_delimiter_is_found_by_content(write, name, content):
    (part,) = read_files([write(name, content)])
    assert table_of(part.text) == [["a", "b"], ["1,5", "2"]]


@pytest.mark.parametrize(
    "prose",
    [
        "Roses are red, violets are blue,\nSugar is sweet, and so are you.",
        "Dear Ada,\n\nthank you, and bye,\nBob",
        "\tindented\n\tlines",
        'He said "no,\nnever',
        "a,b",
        "a,b\n1,2\n3",
    ],
)
def test_prose_with_commas_is_no_table(write, prose):
    (part,) = read_files([write("letter.txt", prose)])
    assert fence(part.text) == ("File: letter.txt", "text", prose)


def test_one_column_is_a_table(write):
    (part,) = read_files([write("t.csv", "name\nAda\n")])
    assert table_of(part.text) == [["name"], ["Ada"]]


def test_a_broken_table_is_refused(write):
    assert "rename it to .txt" in refused(write("t.csv", 'a,b\n"1,2\n'))


# Images and documents.


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["picture", "picture.txt", "picture.png", "data.csv"])
def test_images_keep_their_bytes_whatever_their_name(write, kind, name):
    data = image_bytes(kind)
    assert read_files([write(name, data)]) == (ImagePart(data, FORMATS[kind], name),)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_cut_image_is_refused(write, kind):
    data = image_bytes(kind, (60, 60))
    refused(write("cut", data[: len(data) // 2]), error=ImageProcessingError)


@given(data=st.data(), kind=st.sampled_from(sorted(FORMATS)))
def test_no_damage_to_an_image_raises_another_error(folder, data, kind):
    damaged = bytearray(image_bytes(kind))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.integers(0, 255))
    path = folder / "damaged.png"
    path.write_bytes(damaged[: data.draw(st.integers(12, len(damaged)))])
    try:
        (part,) = read_files([path])
    except ImageProcessingError as error:
        assert error.path == str(path)
    else:
        assert isinstance(part, ImagePart)


def test_a_decompression_bomb_is_refused(write):
    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = (9000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    pixels = zlib.compress(b"\0" * (9000 * (9000 // 8 + 1)))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    assert "81,000,000 pixels" in refused(write("bomb.png", data), error=ImageProcessingError)


@pytest.mark.parametrize("content", [b"<html>Not found</html>", b"\x00\x01\x02", b"BM\x00\x00"])
@pytest.mark.parametrize("name", ["cat.png", "cat.JPEG", "cat.bmp"])
def test_a_file_named_like_an_image_must_be_one(write, name, content):
    assert "named like an image" in refused(write(name, content), error=ImageProcessingError)


def test_a_pdf_is_a_document(write):
    data = b"%PDF-1.7\n\x00\xff"
    assert read_files([write("paper.txt", data)]) == (DocumentPart(data, "application/pdf", "paper.txt"),)
    assert "named like a PDF" in refused(write("paper.pdf", "text"))


# What is refused.


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b" \n\t", "white space"),
        (b"\xef\xbb\xbf", "white space"),
        (b"\x7fELF\x00\x01", "is binary"),
        ("Grüße".encode("latin-1"), r"not UTF-8 text \(byte 2 is 0xfc\); save it as UTF-8"),
        (b"\xff\xfeab\x00", "binary|not UTF-16"),
        ("Hi".encode("utf-16-le"), "byte order mark, save it as UTF-8"),
        ("\ufeffa\0b".encode("utf-16-le"), "binary"),
        (b"PK\x03\x04\x14\x00", "ZIP archive or an Office document; unpack it, or export it as PDF"),
        (b"\x1f\x8b\x08\x00", "gzip"),
    ],
)
def test_what_is_no_text_is_refused(write, content, message):
    assert re.search(message, refused(write("a.txt", content)))


def test_a_missing_file_gets_the_nearest_name(write):
    path = write("notes.csv", "a,b")
    message = refused(path.with_name("note.csv"))
    assert "does not exist" in message
    assert message.endswith("Did you mean 'notes.csv'?")
    assert "does not exist" in refused(path.parent / "nowhere" / "x.md")
    assert "cannot be read" in refused(path / "x.md")


def test_what_is_no_regular_file_is_refused_without_opening_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "is a folder; pass the files in it" in refused(tmp_path)
    assert "device, pipe or socket" in refused(tmp_path / "pipe")


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop")


def test_odd_paths_are_refused():
    refused("a\0b")
    refused("x" * 300)
    assert "download it first" in refused("ftp://example.org/a.png")
    assert "download it first" in refused("data:image/png;base64,AA==")
    assert "download it first" in refused("https://example.org/notes.csv?x=1")
    assert "not valid" in refused("https://[::1/a.png")
    with pytest.raises(FileProcessingError, match="download it first"):
        read_files([Path("https://example.org/a.png")])


def test_an_address_is_an_image_unless_it_ends_in_pdf():
    urls = ["https://a.org/cat.png", "HTTP://a.org/x/cat.png", "https://a.org/Paper.PDF?page=2#3", "https://a.org"]
    assert read_files(urls) == (
        ImagePart(b"", "", "cat.png", url=urls[0]),
        ImagePart(b"", "", "cat.png (2)", url=urls[1]),
        DocumentPart(b"", "application/pdf", "Paper.PDF", url=urls[2]),
        ImagePart(b"", "", "a.org", url=urls[3]),
    )


@given(st.text(max_size=30).map(lambda rest: f"https://a.org/{rest}"))
def test_no_address_raises_another_error_or_has_a_name_that_breaks_its_line(url):
    try:
        (part,) = read_files([url])
    except FileProcessingError as error:
        assert error.path == url
    else:
        assert (part.url, part.data) == (url, b"")
        assert part.name.isprintable()


@contextmanager
def as_nobody():
    """Give up the rights of root, which may read everything, for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_file_without_permission_is_refused(write):
    path = write("secret.txt", "x")
    path.chmod(0)
    with as_nobody():
        assert "change its permissions" in refused(path)


def test_a_file_of_200_mb_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "big.txt"
    with path.open("wb") as stream:
        stream.truncate(200_000_000)
    tracemalloc.start()
    try:
        assert "200,000,000 bytes" in refused(path)
        assert tracemalloc.get_traced_memory()[1] < MAX_BYTES / 10
    finally:
        tracemalloc.stop()


def test_the_limits_are_exact(write):
    path = write("a.txt", "a" * MAX_TEXT_BYTES)
    assert isinstance(read_files([path])[0], TextPart)
    path.write_bytes(b"a" * (MAX_TEXT_BYTES + 1))
    assert f"{MAX_TEXT_BYTES:,} are allowed" in refused(path)
    path.write_bytes(b"%PDF-" + b"a" * (MAX_BYTES - 5))
    assert isinstance(read_files([path])[0], DocumentPart)
    path.write_bytes(b"%PDF-" + b"a" * (MAX_BYTES - 4))
    refused(path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("notes.md", r"single path 'notes\.md'; pass a list"),
        (Path("notes.md"), "single path"),
        (b"notes.md", "of type bytes; pass a list"),
        ({"a": 1}, "of type dict; pass a list"),
        (3, "of type int; pass a list"),
        ([b"content"], "holds a value of type bytes"),
        ([None], "holds a value of type NoneType"),
        ([""], "an empty path"),
    ],
)
def test_files_must_be_a_list_of_paths(files, message):
    with pytest.raises(InvalidParameterError, match=message) as caught:
        read_files(files)
    assert caught.value.parameter == "files"


def test_nothing_is_returned_when_one_file_is_wrong(write):
    refused(write("a.txt", "x"), write("b.txt", ""))
