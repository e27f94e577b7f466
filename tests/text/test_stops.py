"""Stop strings, against a plain search in the whole text."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, strategies as st

from abstractllm.text.stops import StopMatcher, held_back

TEXTS = st.text("ab\n", max_size=40)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=5), max_size=4)


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    """Cut a text at these places."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[one:other] for one, other in pairwise(places)]


def expected(text: str, stops: list[str]) -> tuple[str, str | None]:
    """What is left of a whole text: the match that ends first counts, and of those the longest."""
    for end in range(len(text) + 1):
        matches = [stop for stop in stops if text[:end].endswith(stop)]
        if matches:
            longest = max(matches, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(TEXTS, STOPS, st.lists(st.integers(0), max_size=20))
def test_any_split_gives_what_a_plain_search_gives(text, stops, cuts):
    matcher = StopMatcher(stops)
    output = "".join(matcher.add(piece) for piece in pieces_of(text, cuts)) + matcher.flush()
    assert (output, matcher.matched) == expected(text, stops)


@given(TEXTS, STOPS)
def test_the_output_holds_no_stop_string(text, stops):
    matcher = StopMatcher(stops)
    output = "".join(map(matcher.add, text)) + matcher.flush()
    assert not any(stop in output for stop in stops)


@given(TEXTS, STOPS)
def test_only_what_may_become_a_stop_string_is_held_back(text, stops):
    matcher = StopMatcher(stops)
    shown = matcher.add(text)
    if matcher.matched is None:
        held = text[len(shown) :]
        assert not held or any(stop.startswith(held) and stop != held for stop in stops)


def test_the_match_that_ends_first_counts():
    matcher = StopMatcher(["a long one", "lo"])
    assert matcher.add("this is a long one") == "this is a "
    assert matcher.matched == "lo"


def test_of_matches_that_end_together_the_longest_counts():
    matcher = StopMatcher(["END", "\nEND"])
    assert matcher.add("text\nEND") == "text"
    assert matcher.matched == "\nEND"


def test_nothing_comes_after_a_match():
    matcher = StopMatcher(["."])
    assert matcher.add("One. Two. ") == "One"
    assert matcher.add("Three") == ""
    assert matcher.flush() == ""


def test_a_beginning_that_comes_to_nothing_is_given_back():
    matcher = StopMatcher(["</s>"])
    assert matcher.add("x </") == "x "
    assert matcher.add("b>") == "</b>"
    assert matcher.add(" <") == " "
    assert matcher.flush() == "<"


def test_without_stop_strings_text_passes():
    matcher = StopMatcher([])
    assert matcher.add("anything") == "anything"
    assert matcher.matched is None


def test_held_back_measures_the_longest_beginning_of_a_marker():
    assert held_back("one <to", ["<tool>", "<t"]) == 3
    assert held_back("<tool>", ["<tool>"]) == 0
    assert held_back("", ["<tool>"]) == 0
    assert held_back("text", []) == 0
