"""Marked stretches of text, cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from abstractllm.text.sections import Piece, Section, SectionSplitter

THINK = Section("reasoning", "<t>", "</t>")
CALL = Section("tool_call", "<c>", "</c>")
REST = Section("tool_call", "[CALLS]", "")
ODD = Section("reasoning", "<", "<>")
"""Its start begins the others' markers, and its end."""

TEXTS = st.lists(st.sampled_from(["<t>", "</t>", "<c>", "</c>", "[CALLS]", "<", "/", "t>", "a", " ", "<>"])).map(
    "".join
)
SECTIONS = st.lists(st.sampled_from([THINK, CALL, REST, ODD]), unique=True)


def split(texts: list[str], sections: list[Section], inside: Section | None = None) -> list[Piece]:
    """What a splitter returns for a text that comes in pieces."""
    splitter = SectionSplitter(sections, inside)
    return [*(piece for text in texts for piece in splitter.add(text)), *splitter.flush()]


def joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces with neighbours of one section joined, so that they do not depend on the cuts."""
    whole: list[Piece] = []
    for piece in pieces:
        if whole and whole[-1].kind == piece.kind and not whole[-1].closes:
            whole[-1] = Piece(piece.kind, whole[-1].text + piece.text, piece.closes)
        else:
            whole.append(piece)
    return whole


@given(st.lists(TEXTS, max_size=6), SECTIONS, st.sampled_from([None, THINK, CALL]))
def test_any_split_gives_the_same_pieces(texts, sections, inside):
    whole = joined(split(["".join(texts)], sections, inside))
    assert joined(split(texts, sections, inside)) == whole
    assert joined(split(list("".join(texts)), sections, inside)) == whole


@given(TEXTS, SECTIONS)
def test_no_text_is_lost(text, sections):
    pieces = split(list(text), sections)
    kept = sum(len(piece.text) for piece in pieces)
    assert len(text) - kept <= sum(len(s.start + s.end) for s in sections) * (1 + sum(p.closes for p in pieces))


@given(TEXTS)
def test_without_sections_all_is_content(text):
    assert "".join(piece.text for piece in split(list(text), [])) == text


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a<t>b</t>c", [Piece("content", "a"), Piece("reasoning", "b", True), Piece("content", "c")]),
        ("<c>1</c><c>2</c>", [Piece("tool_call", "1", True), Piece("tool_call", "2", True)]),
        ("<t></t>", [Piece("reasoning", "", True)]),
        ("<t>a <c>1</c></t>b", [Piece("reasoning", "a <c>1</c>", True), Piece("content", "b")]),
        ("<t>never closed", [Piece("reasoning", "never closed", True)]),
        ("<t>cut of</", [Piece("reasoning", "cut of</", True)]),
        ("a</t>b", [Piece("content", "a</t>b")]),
        ("1 < 2 <", [Piece("content", "1 < 2 <")]),
        ("<<t>a</t>", [Piece("content", "<"), Piece("reasoning", "a", True)]),
        ("<c><c>1</c>", [Piece("tool_call", "<c>1", True)]),
    ],
)
def test_texts_and_their_pieces(text, pieces):
    assert joined(split(list(text), [THINK, CALL])) == pieces


def test_a_section_without_an_end_goes_on_to_the_end():
    assert joined(split(list("hm[CALLS]a<c>[CALLS]b"), [CALL, REST])) == [
        Piece("content", "hm"),
        Piece("tool_call", "a<c>[CALLS]b", True),
    ]


def test_the_prompt_may_have_opened_a_section():
    assert joined(split(["so", "</", "t>", "Yes"], [THINK], THINK)) == [
        Piece("reasoning", "so", True),
        Piece("content", "Yes"),
    ]


def test_of_overlapping_markers_the_one_that_ends_first_counts():
    long, short = Section("reasoning", "abcd", "."), Section("tool_call", "bc", ".")
    for texts in (["abcd."], list("abcd.")):
        assert joined(split(texts, [long, short])) == [Piece("content", "a"), Piece("tool_call", "d", True)]


def test_of_markers_that_end_together_the_longer_counts():
    long, short = Section("reasoning", "abc", "."), Section("tool_call", "bc", ".")
    assert joined(split(list("abcd."), [short, long])) == [Piece("reasoning", "d", True)]


def test_a_splitter_says_where_it_is():
    splitter = SectionSplitter([THINK])
    assert splitter.inside is None
    splitter.add("<t>a")
    assert splitter.inside == THINK
    splitter.flush()
    assert splitter.inside is None


def test_text_that_cannot_be_a_marker_comes_at_once():
    splitter = SectionSplitter([THINK])
    assert splitter.add("hello ") == [Piece("content", "hello ")]
    assert splitter.add("a <") == [Piece("content", "a ")]
    assert splitter.add("b") == [Piece("content", "<b")]
