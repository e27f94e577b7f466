"""The text of calls, with parsers that do all that parsers do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from abstractllm.text.toolcalls import parse_calls
from abstractllm.types import ToolCall

KEYS = st.sampled_from(["name", "arguments", "x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def read_json(text: str, tools: Any) -> Any:
    return json.loads(text)


def parse(text: str, parser: Any = read_json, first: int = 0) -> tuple[ToolCall, ...]:
    return parse_calls(text, parser, [], first=first)


def test_one_call():
    assert parse('{"name": "add", "arguments": {"a": 1}}') == (ToolCall("call_0", "add", {"a": 1}),)


def test_several_calls_are_numbered_on():
    calls = parse('[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]', first=3)
    assert [(call.id, call.name) for call in calls] == [("call_3", "a"), ("call_4", "b")]


@pytest.mark.parametrize("arguments", ['""', '" "', '"{}"', "null", "{}"])
def test_no_arguments_come_in_many_forms(arguments):
    assert parse(f'{{"name": "now", "arguments": {arguments}}}') == (ToolCall("call_0", "now", {}),)


def test_left_out_arguments():
    assert parse('{"name": "now"}') == (ToolCall("call_0", "now", {}),)


def test_arguments_as_json_text():
    text = json.dumps({"name": "add", "arguments": '{"a": "ü"}'})
    assert parse(text) == (ToolCall("call_0", "add", {"a": "ü"}),)


@pytest.mark.parametrize("arguments", ["[1]", "1", "true", '"not json"', '"[1]"', json.dumps("[" * 100_000)])
def test_arguments_that_are_no_object_leave_the_name(arguments):
    written = json.loads(arguments)
    invalid = written if isinstance(written, str) else arguments
    assert parse(f'{{"name": "add", "arguments": {arguments}}}') == (ToolCall("call_0", "add", {}, invalid=invalid),)


@pytest.mark.parametrize(
    "text", ["", "{", "nonsense", "1", "null", "[]", '{"name": 1}', '{"arguments": {}}', "[" * 100_000]
)
def test_what_cannot_be_read_keeps_its_text(text):
    assert parse(f" {text}\n") == (ToolCall("call_0", "", {}, invalid=text),)


def test_a_bad_call_among_good_ones():
    text = '[{"name": "a"}, 7, {"name": "b"}]'
    good, bad, other = parse(text)
    assert (good.name, other.name) == ("a", "b")
    assert (bad.id, bad.invalid) == ("call_1", text)


@pytest.mark.parametrize(
    "error", [KeyError("name"), IndexError(), ValueError("no"), RecursionError(), AttributeError()]
)
def test_a_parser_may_raise_anything(error):
    def parser(text: str, tools: Any) -> Any:
        raise error

    assert parse("text", parser) == (ToolCall("call_0", "", {}, invalid="text"),)


def test_parsers_get_the_tools():
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert parse_calls("x", lambda text, given: {"name": given[0]["function"]["name"]}, tools, first=0)[0].name == "add"


@given(st.text() | JSON.map(json.dumps))
def test_any_text_gives_calls_and_an_invalid_one_has_no_arguments(text):
    calls = parse(text)
    assert calls
    for call in calls:
        assert call.invalid is None or not call.arguments
        assert call.name or call.invalid == text.strip()


@given(JSON)
def test_whatever_a_parser_returns_gives_calls(value):
    assert parse("text", lambda text, tools: value)
