"""From tokens to deltas. The tokens here are the pieces of a text, so that any cut can be tried."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, strategies as st

from abstractllm.text.reader import OutputReader
from abstractllm.text.sections import Section
from abstractllm.types import ToolCall

THINK = Section("reasoning", "<think>", "</think>")
CALL = Section("tool_call", "<call>", "</call>")
REST = Section("tool_call", "[CALLS]", "")
ALPHABET = [*"ab <>/\n", "<think>", "</think>", "<call>", "</call>", '{"name": "f"}', "stop", "END"]
TEXTS = st.lists(st.sampled_from(ALPHABET), max_size=20).map("".join)


class Pieces:
    """A detokenizer whose token number n is the n-th of some texts."""

    def __init__(self, texts: list[str], last: str = "") -> None:
        self._texts = texts
        self._last = last

    def add(self, token: int) -> str:
        return self._texts[token]

    def flush(self) -> str:
        return self._last


@dataclass
class Read:
    """What one answer gave."""

    content: str = ""
    reasoning: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    stop: str | None = None


def parse(text: str, tools: Any) -> Any:
    return json.loads(text)


def read(texts: list[str], sections: tuple[Section, ...] = (THINK, CALL), last: str = "", **settings: Any) -> Read:
    """Read an answer whose tokens are these texts, as the engine does: to the end or to a stop string."""
    reader = OutputReader(Pieces(texts, last), sections=sections, parser=parse, **settings)
    deltas = []
    for token in range(len(texts)):
        deltas.append(reader.add(token))
        if reader.stop_string is not None:
            break
    else:
        deltas.append(reader.flush())
    found = Read(stop=reader.stop_string)
    for delta in filter(None, deltas):
        assert delta.content or delta.reasoning or delta.tool_calls, "an empty delta"
        found.content += delta.content
        found.reasoning += delta.reasoning
        found.calls += delta.tool_calls
    assert reader.calls == len(found.calls)
    return found


@given(
    st.lists(TEXTS, max_size=6),
    st.sampled_from([(), (THINK,), (THINK, CALL), (REST, THINK)]),
    st.lists(st.sampled_from(["stop", "END", "a\n", "<", ">b"]), max_size=2),
    st.booleans(),
)
def test_any_split_reads_the_same(texts, sections, stops, opened):
    settings = {"sections": sections, "stops": stops, "inside": sections[0] if sections and opened else None}
    whole = read(["".join(texts)], **settings)
    assert read(texts, **settings) == whole
    assert read(list("".join(texts)), **settings) == whole
    assert read([], last="".join(texts), **settings) == whole


@given(TEXTS)
def test_without_sections_and_stops_the_text_is_the_content(text):
    assert read(list(text), ()) == Read(text)


@pytest.mark.parametrize(
    ("text", "content", "reasoning", "calls"),
    [
        ("<think>hm</think>Yes", "Yes", "hm", []),
        ("<think>hm</think>\n\nYes\n", "Yes\n", "hm", []),
        ('Look: <call>{"name": "f"}</call>\n ', "Look: ", "", ["f"]),
        ('<call>{"name": "f"}</call>\n<call>{"name": "g"}</call>', "", "", ["f", "g"]),
        ("<think>a</think><think>b</think>c", "c", "ab", []),
        ("<think><call>x</call></think>ok", "ok", "<call>x</call>", []),
        ("<think>never closed </thi", "", "never closed </thi", []),
        ("1 < 2 and <b>bold</b>", "1 < 2 and <b>bold</b>", "", []),
        ("<think></think>Yes", "Yes", "", []),
        ("  leading space stays", "  leading space stays", "", []),
    ],
)
def test_texts_and_what_is_read(text, content, reasoning, calls):
    found = read(list(text))
    assert (found.content, found.reasoning, [call.name for call in found.calls]) == (content, reasoning, calls)


def test_calls_are_numbered_through():
    found = read(['<call>{"name": "f"}</call>'] * 3)
    assert [call.id for call in found.calls] == ["call_0", "call_1", "call_2"]


def test_a_call_that_cannot_be_read_is_marked_and_keeps_its_text():
    found = read(list('<call>{"name": </call>sorry'))
    assert found.calls == [ToolCall("call_0", "", {}, invalid='{"name":')]
    assert found.content == "sorry"


def test_a_call_that_is_cut_off_is_marked():
    assert read(list('<call>{"name": "f", "argu')).calls[0].invalid == '{"name": "f", "argu'


def test_a_call_without_end_marker_goes_on_to_the_end():
    found = read(list('hm[CALLS][{"name": "f"}, {"name": "g"}]'), (REST,))
    assert (found.content, [call.name for call in found.calls]) == ("hm", ["f", "g"])


def test_the_prompt_may_have_opened_the_reasoning():
    found = read(list("hm</think>\nYes"), inside=THINK)
    assert (found.content, found.reasoning) == ("Yes", "hm")


def test_stop_strings_count_in_visible_text_only():
    found = read(list('<think>stop</think><call>{"name": "stop"}</call>go stop no'), stops=["stop"])
    assert found == Read("go ", "stop", [ToolCall("call_0", "stop", {})], "stop")


def test_a_stop_string_may_have_a_section_inside():
    assert read(list("a st<think>hm</think>op b"), stops=["stop"]) == Read("a ", "hm", [], "stop")


def test_nothing_comes_after_a_stop_string():
    found = read(['a END <think>b</think><call>{"name": "f"}</call>'], stops=["END"])
    assert found == Read("a ", "", [], "END")


def test_the_beginning_of_a_stop_string_is_given_back_at_the_end():
    assert read(list("the EN"), stops=["END"]) == Read("the EN")


def test_a_stop_string_in_what_was_held_back_counts():
    assert read(list("a <th"), stops=["<th"]) == Read("a ", stop="<th")


def test_hidden_tokens_are_read_in_calls_only():
    texts = ["a", "<x>", "<think>", "b", "<x>", "</think>", "<call>", '{"name": "', "<x>", '"}', "</call>", "<x>"]
    found = read(texts, hidden={1, 4, 8, 11})
    assert found == Read("a", "b", [ToolCall("call_0", "<x>", {})])


def test_hidden_tokens_are_hidden_without_sections():
    assert read(["a", "<x>", "b"], (), hidden={1}) == Read("ab")


def test_text_comes_as_soon_as_it_is_certain():
    reader = OutputReader(Pieces(["Hello", " <", "b"]), sections=(THINK,))
    assert [delta.content for delta in map(reader.add, range(3))] == ["Hello", " ", "<b"]
    assert reader.flush() is None
