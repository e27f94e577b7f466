"""From tokens to deltas. The tokens here are the pieces of a text, so that any cut can be tried."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, strategies as st

from abstractllm.accumulator import join
from abstractllm.text.reader import OutputReader
from abstractllm.text.sections import Section
from abstractllm.types import ToolCall, ToolCallDelta

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


def read(
    texts: list[str],
    sections: tuple[Section, ...] = (THINK, CALL),
    last: str = "",
    cut_off: bool = False,
    parser: Any = parse,
    **settings: Any,
) -> Read:
    """Read an answer whose tokens are these texts, as the engine does: to the end or to a stop string."""
    reader = OutputReader(Pieces(texts, last), sections=sections, parser=parser, **settings)
    deltas = []
    for token in range(len(texts)):
        deltas.append(reader.add(token))
        if reader.stop_string is not None:
            break
    else:
        deltas.append(reader.flush(cut_off=cut_off))
    present = [delta for delta in deltas if delta is not None]
    for delta in present:
        assert delta.content or delta.reasoning or delta.tool_call_deltas, "an empty delta"
        assert not delta.tool_calls
    whole = join(present)
    assert reader.calls == len(whole.tool_calls)
    return Read(whole.content, whole.reasoning, list(whole.tool_calls), reader.stop_string)


@given(
    st.lists(TEXTS, max_size=6),
    st.sampled_from([(), (THINK,), (THINK, CALL), (REST, THINK)]),
    st.lists(st.sampled_from(["stop", "END", "a\n", "<", ">b"]), max_size=2),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_any_split_reads_the_same(texts, sections, stops, opened, json_calls, cut_off):
    settings = {
        "sections": sections,
        "stops": stops,
        "inside": sections[0] if sections and opened else None,
        "json_calls": json_calls,
        "cut_off": cut_off,
    }
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


@pytest.mark.parametrize("json_calls", [False, True])
@pytest.mark.parametrize("cut_off", [False, True])
def test_a_call_that_is_cut_off_is_marked(json_calls, cut_off):
    (call,) = read(list('<call>{"name": "f", "argu'), json_calls=json_calls, cut_off=cut_off).calls
    assert (call.arguments, call.invalid) == ({}, '{"name": "f", "argu')


@pytest.mark.parametrize("json_calls", [False, True])
def test_a_call_that_lacks_its_end_marker_only_is_read_when_the_model_stopped(json_calls):
    text = list('<call>{"name": "f", "arguments": {"a": 1}} ')
    assert read(text, json_calls=json_calls).calls == [ToolCall("call_0", "f", {"a": 1})]


def test_of_calls_without_their_end_marker_that_were_cut_off_only_whole_json_is_read():
    text = '<call>{"name": "f", "arguments": {"a": 1}}'
    assert read(list(text), json_calls=True, cut_off=True).calls == [ToolCall("call_0", "f", {"a": 1})]
    assert read(list(text), cut_off=True).calls == [ToolCall("call_0", "", {}, invalid=text[6:])]


def test_lenient_parsers_make_no_calls_of_what_was_cut_off():
    lenient = {"name": "delete", "arguments": {}}
    text = list("<call>delete<arg_key>path</arg_key><arg_va")
    assert read(text, parser=lambda text, tools: lenient).calls == [ToolCall("call_0", "delete", {})]
    (call,) = read(text, parser=lambda text, tools: lenient, cut_off=True).calls
    assert (call.name, call.invalid) == ("", "delete<arg_key>path</arg_key><arg_va")


@pytest.mark.parametrize(("tail", "names"), [("", ["f"]), (" ", ["f"]), ('g[ARGS]{"b": 1', [""]), ("g[AR", [""])])
def test_calls_without_any_end_marker_that_were_cut_off(tail, names):
    def parser(text: str, tools: Any) -> Any:
        if "b" in text:
            raise ValueError(text)
        return [{"name": "f", "arguments": {"a": 1}}]

    found = read(list('[CALLS]f[ARGS]{"a": 1}' + tail), (REST,), parser=parser, cut_off=True)
    assert [call.name for call in found.calls] == names


def test_json_calls_come_in_pieces():
    texts = ["Hm<call>", '{"name": "f', '", "argu', 'ments": {"a"', ': "x', "y", '"}', "}</call>", "so"]
    reader = OutputReader(Pieces(texts), sections=(CALL,), parser=parse, json_calls=True, first_call=5)
    deltas = [*map(reader.add, range(len(texts))), reader.flush()]
    assert [delta.tool_call_deltas if delta else None for delta in deltas] == [
        (),
        None,
        (ToolCallDelta(0, "call_5", "f"),),
        (ToolCallDelta(0, arguments='{"a"'),),
        (ToolCallDelta(0, arguments=': "x'),),
        (ToolCallDelta(0, arguments="y"),),
        (ToolCallDelta(0, arguments='"'),),
        (ToolCallDelta(0, arguments="}"),),
        (),
        None,
    ]


def test_whole_calls_and_lists_are_counted_on():
    text = '<call>[{"name": "a"}, {"name": "b"}]</call><call>{"name": "c"}</call><call>{</call>'
    for json_calls in (False, True):
        found = read(list(text), json_calls=json_calls, first_call=2)
        assert [(call.id, call.name) for call in found.calls] == [
            ("call_2", "a"),
            ("call_3", "b"),
            ("call_4", "c"),
            ("call_5", ""),
        ]


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
