"""Calls as JSON: however the text is cut, the deltas join to one and the same call, and to what a whole parse gives."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from abstractllm.accumulator import join
from abstractllm.text.jsoncalls import JsonCalls, MemberScanner
from abstractllm.text.toolcalls import parse_calls
from abstractllm.types import GenerateResponse, ToolCall, ToolCallDelta

NAMES = st.text(min_size=1, max_size=8)
TEXT = st.text(st.sampled_from(list('ab"\\{}[]:, \n\u00e9\U0001f44d\ud800\u2028')) | st.characters(), max_size=8)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("name"), inner, max_size=3),
    max_leaves=4,
)
OBJECTS = st.dictionaries(TEXT | st.sampled_from(["name", "arguments", "parameters"]), VALUES, max_size=4)
BLANKS = st.text(" \t\r\n", max_size=2)
BREAKS = st.sampled_from(["", "", "", "}", "{", '"', "]", ",", ":", "\\", "x", "null", '"name"', '{"name":"f"}'])


def write(value: Any, random: Random) -> str:
    """JSON text of a value, with white space and escapes here and there."""

    def blank() -> str:
        return random.choice(["", "", " ", "\n", "\t \r"])

    if isinstance(value, dict):
        pairs = (f"{blank()}{write(key, random)}{blank()}:{write(one, random)}" for key, one in value.items())
        return blank() + "{" + (",".join(pairs) or blank()) + "}" + blank()
    if isinstance(value, list):
        return blank() + "[" + ",".join(write(one, random) for one in value) + "]" + blank()
    return blank() + json.dumps(value, ensure_ascii=random.random() < 0.5) + blank()


def written(values: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    return st.builds(lambda value, seed: write(value, Random(seed)), values, st.integers(0, 999))


@st.composite
def calls(draw):
    """Members of a call in any order, few of them surprising."""
    name = draw(st.sampled_from([{}, *[{"name": draw(NAMES)}] * 8, {"name": draw(VALUES)}]))
    key = draw(st.sampled_from(["arguments", "arguments", "parameters"]))
    value = draw(OBJECTS | OBJECTS | VALUES | OBJECTS.map(json.dumps))
    members = draw(st.dictionaries(TEXT, VALUES, max_size=2)) | name | draw(st.sampled_from([{}, *[{key: value}] * 8]))
    return dict(draw(st.permutations(list(members.items()))))


CALL_TEXTS = written(calls())


@st.composite
def cuts(draw, text):
    """A text in pieces, empty ones too."""
    places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]


@st.composite
def damaged(draw):
    """A call's text with a part of it replaced, and cut off perhaps."""
    text = draw(CALL_TEXTS)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(start + 3, len(text))))
    text = text[:start] + draw(BREAKS) + text[end:]
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


def parse(text: str, tools: Any) -> Any:
    """As mlx-lm's `json_tools` does."""
    return json.loads(text.strip())


def deltas_of(texts: list[str], **settings: Any) -> list[ToolCallDelta]:
    reader = JsonCalls(parse, (), index=0, number=0)
    pieces = [piece for text in texts for piece in reader.add(text)]
    pieces += reader.close(cut_off=settings.get("cut_off", False))
    assert reader.count == len({piece.index for piece in pieces})
    return pieces


def joined(texts: list[str], **settings: Any) -> tuple[ToolCall, ...]:
    return join([GenerateResponse(tool_call_deltas=(piece,)) for piece in deltas_of(texts, **settings)]).tool_calls


@given(st.data(), CALL_TEXTS | damaged())
def test_any_cut_gives_the_same_calls_and_the_same_text(data, text):
    whole = deltas_of([text])
    for texts in (data.draw(cuts(text)), list(text)):
        pieces = deltas_of(texts)
        assert joined(texts) == joined([text])
        assert "".join(piece.arguments for piece in pieces) == "".join(piece.arguments for piece in whole)
        assert [piece.name for piece in pieces if piece.name] == [piece.name for piece in whole if piece.name]


@given(CALL_TEXTS | damaged())
def test_a_call_is_valid_exactly_where_a_whole_parse_says_so(text):
    parsed = parse_calls(text, parse, (), first=0)
    streamed = joined(list(text))
    assert [call.invalid is None for call in streamed] == [call.invalid is None for call in parsed]
    for mine, other in zip(streamed, parsed, strict=True):
        if other.invalid is None:
            assert mine == other
        else:
            assert (mine.id, mine.arguments) == (other.id, {})
            assert mine.name == other.name or not other.name


@given(st.data(), NAMES, OBJECTS)
def test_the_joined_text_is_the_models_own(data, name, arguments):
    own = data.draw(written(st.just(arguments))).strip()
    before, after = data.draw(BLANKS), data.draw(BLANKS)
    text = f'{{"name":{json.dumps(name)},{before}"arguments":{before}{own}{after}}}{after}'
    pieces = deltas_of(data.draw(cuts(text)))
    assert "".join(piece.arguments for piece in pieces) == own
    assert [piece.index for piece in pieces] == [0] * len(pieces)
    assert (pieces[0].id, pieces[0].name) == ("call_0", name)
    assert all(piece.id is None and piece.name is None and piece.arguments for piece in pieces[1:])


@given(st.data(), CALL_TEXTS)
def test_a_call_that_is_cut_off_is_invalid_and_keeps_its_text(data, text):
    text = text.rstrip()
    size = data.draw(st.integers(0, len(text) - 1))
    (call,) = joined(data.draw(cuts(text[:size])), cut_off=True)
    assert call.arguments == {}
    assert call.invalid is not None
    assert call.invalid in text[:size]
    assert call.invalid or call.name or not text[:size].strip()


@given(written(OBJECTS))
def test_the_scanner_splits_any_object_as_a_json_parser_does(text):
    scanner = MemberScanner()
    for character in text:
        scanner.take(character)
    pairs = json.loads(text, object_pairs_hook=list)
    assert list(scanner.values) == [key for key, _ in pairs]
    assert [json.loads("".join(own), object_pairs_hook=list) for own in scanner.values.values()] == [
        value for _, value in pairs
    ]


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('{"name":"f","arguments":{"a":1}}', ToolCall("call_0", "f", {"a": 1})),
        ('{"name":"f","parameters":{"a":1}}', ToolCall("call_0", "f", {"a": 1})),
        ('{"arguments":{"a":1},"name":"f"}', ToolCall("call_0", "f", {"a": 1})),
        ('{"name":"f","id":"x","arguments":{"a":1},"more":[{}]}', ToolCall("call_0", "f", {"a": 1})),
        ('{"n\\u0061me":"f\\u006f","arguments":{}}', ToolCall("call_0", "fo", {})),
        ('{"name":"f","arguments":"{\\"a\\":1}"}', ToolCall("call_0", "f", {"a": 1})),
        ('{"name":"f","arguments":null}', ToolCall("call_0", "f", {})),
        ('{"name":"f"}', ToolCall("call_0", "f", {})),
        ('{"name":"f","arguments":{"a":1},"arguments":{"a":2}}', ToolCall("call_0", "f", {"a": 1})),
        ('{"name":"f","name":"g","arguments":{}}', ToolCall("call_0", "f", {})),
        ('{"name":"f","arguments":null,"arguments":{"a":1}}', ToolCall("call_0", "f", {})),
        ('{"name":"f","x":{"name":"g"},"arguments":{}}', ToolCall("call_0", "f", {})),
        ('{"name":"f","arguments":{"a":{}},"arguments":{"a":{"b":1}}}', ToolCall("call_0", "f", {"a": {}})),
        ('{"name":"f","arguments":[{"a":1}]}', ToolCall("call_0", "f", {}, invalid='[{"a":1}]')),
        ('{"name":"f","arguments":1{"a":1}}', ToolCall("call_0", "f", {}, invalid='{"name":"f","arguments":1{"a":1}}')),
        ('{"name":"f","arguments":[1, 2]}', ToolCall("call_0", "f", {}, invalid="[1, 2]")),
        ('{"name":"f","arguments":{"a":}}', ToolCall("call_0", "f", {}, invalid='{"a":}}')),
        ('{"name":"f","arguments":{"a":1}} x', ToolCall("call_0", "f", {}, invalid='{"a":1}} x')),
        ('{"name":"f","arguments":{"a":1},}', ToolCall("call_0", "f", {}, invalid='{"a":1},}')),
        ('{"name":"f","arguments":{"a":1}', ToolCall("call_0", "f", {}, invalid='{"a":1')),
        ('{"name":"f","arguments":{"a":', ToolCall("call_0", "f", {}, invalid='{"a":')),
        ('{"name":"f"', ToolCall("call_0", "f", {}, invalid='{"name":"f"')),
        ('{"name":"f","arguments":"{}', ToolCall("call_0", "f", {}, invalid='{"name":"f","arguments":"{}')),
        ('{"name":"f","arguments" {}}', ToolCall("call_0", "f", {}, invalid='{"name":"f","arguments" {}}')),
        ('{"name":"","arguments":{}}', ToolCall("call_0", "", {}, invalid='{"name":"","arguments":{}}')),
        ('{"arguments":{"a":1}}', ToolCall("call_0", "", {}, invalid='{"arguments":{"a":1}}')),
        ('{"arguments":{"a":1},"name":"f"', ToolCall("call_0", "", {}, invalid='{"arguments":{"a":1},"name":"f"')),
        ("", ToolCall("call_0", "", {}, invalid="")),
        ('{"name":"f","arguments":{"a":"\n"}}', ToolCall("call_0", "f", {}, invalid='{"a":"\n"}}')),
        ('{"name":"f","arguments":' + '{"a":' * 1500, ToolCall("call_0", "f", {}, invalid='{"a":' * 1500)),
    ],
)
def test_texts_and_their_calls(text, call):
    assert joined([text]) == joined(list(text)) == (call,)


def test_the_name_comes_when_its_string_ends_and_the_last_brace_when_all_is_certain():
    reader = JsonCalls(parse, (), index=2, number=7)
    texts = ['{"name": "ad', 'd"', ', "arguments": ', '{"a"', ": 1}", "}"]
    assert [reader.add(text) for text in texts] == [
        [],
        [ToolCallDelta(2, "call_7", "add")],
        [],
        [ToolCallDelta(2, arguments='{"a"')],
        [ToolCallDelta(2, arguments=": 1")],
        [],
    ]
    assert reader.close(cut_off=False) == [ToolCallDelta(2, arguments="}")]


def test_a_call_whose_arguments_come_first_comes_whole():
    reader = JsonCalls(parse, (), index=0, number=0)
    assert reader.add('{"arguments": {"a": 1}, "name": "f"}') == []
    assert reader.close(cut_off=False) == [ToolCallDelta(0, "call_0", "f", '{"a": 1}')]


def test_a_list_of_calls_is_read_whole():
    reader = JsonCalls(parse, (), index=1, number=4)
    assert reader.add('[{"name": "a", "arguments": {"x": 1}}, {"name": "b"}]') == []
    assert reader.close(cut_off=False) == [
        ToolCallDelta(1, "call_4", "a", '{"x":1}'),
        ToolCallDelta(2, "call_5", "b", "{}"),
    ]
    assert reader.count == 2
