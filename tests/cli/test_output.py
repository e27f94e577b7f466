"""What reaches a terminal."""

import io
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from abstractllm.cli.output import AnswerWriter, TerminalFilter, one_line, print_table, printable, readable_size

texts = st.text(st.sampled_from("ab[]012;mJ \n\t\\\x07\x1b\r\x9b\x00\x7f\x08P"), max_size=40) | st.text()


class TerminalText(io.StringIO):
    """A text that says that it is a terminal."""

    def isatty(self):
        return True


@given(texts)
def test_nothing_printable_is_lost_and_nothing_else_is_kept(text):
    shown = printable(text)
    assert not set(shown) & {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))}
    if text.isprintable():
        assert shown == text


@given(texts, st.data())
def test_any_cut_into_pieces_gives_the_same(text, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    places = [0, *cuts, len(text)]
    shown = TerminalFilter()
    pieces = [shown.feed(text[start:end]) for start, end in pairwise(places)]
    assert "".join(pieces) + shown.flush() == printable(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred\x1b[0m", "ared"),
        ("a\x1b[2J\x1b[H", "a"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]8;;http://a\x1b\\link", "link"),
        ("safe\rfake", "safefake"),
        ("a\nb\tc é 漢 🎉", "a\nb\tc é 漢 🎉"),
    ],
)
def test_examples(text, shown):
    assert printable(text) == shown


def test_an_unfinished_sequence_holds_back_a_bounded_text():
    shown = TerminalFilter()
    assert "x" * 100 in shown.feed("\x1b]" + "x" * 1000)


def test_a_file_gets_the_text_as_it_is():
    target = io.StringIO()
    writer = AnswerWriter(target)
    writer.write("a\x1b[31m\r")
    writer.end()
    assert target.getvalue() == "a\x1b[31m\r\n"


def test_a_terminal_gets_what_is_printable():
    target = TerminalText()
    writer = AnswerWriter(target)
    for piece in ("a\x1b", "[31", "mb\n"):
        writer.write(piece)
    writer.end()
    assert target.getvalue() == "ab\n"


def test_an_empty_answer_writes_nothing():
    target = io.StringIO()
    AnswerWriter(target).end()
    assert target.getvalue() == ""


@given(texts)
def test_one_line_is_one_line(text):
    assert len(one_line(text).splitlines()) <= 1


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "?"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (2_500_000_000, "2.5 GB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_sizes(size, text):
    assert readable_size(size) == text


def test_a_table_shows_what_it_is_given_and_reads_no_markup(capsys):
    print_table(("A", "B"), [("[red]x[/red]", "y" * 300), ("\x1b[31m", "z\nz")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["A", "B"]
    assert lines[1].split() == ["[red]x[/red]", "y" * 300]
    assert lines[2].split() == ["z", "z"]
