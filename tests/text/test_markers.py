"""Families' marks and tool calls, told from chat templates."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from abstractllm import embedded
from abstractllm.text.markers import call_format, parse_function_tags, parse_json, parse_mistral, thought_marks
from abstractllm.text.toolcalls import parse_calls

JSON_TAGS = "<tool_call>\n{{ tool_call.name }}</tool_call>"
FUNCTION_TAGS = "{{ '<tool_call>\\n<function=' + tool_call.name }} {{ tool_call.arguments }}"
MISTRAL = "{{ '[TOOL_CALLS]' + tool_call.name }}"
GLM = "<tool_call>{{ tool_call.name }}<arg_key>"

NAMES = st.from_regex(r"[a-zA-Z_][\w-]{0,12}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ARGUMENTS = st.dictionaries(NAMES, VALUES, max_size=4)


@pytest.mark.parametrize(
    ("template", "name", "start", "end"),
    [
        (JSON_TAGS, "json_tools", "<tool_call>", "</tool_call>"),
        (FUNCTION_TAGS, "function_tags", "<tool_call>", "</tool_call>"),
        (MISTRAL, "mistral", "[TOOL_CALLS]", ""),
        ((embedded.PATH / "chat_template.jinja").read_text(), "json_tools", "<tool_call>", "</tool_call>"),
    ],
    ids=["json", "tags", "mistral", "shipped"],
)
def test_a_template_tells_the_format(template: str, name: str, start: str, end: str) -> None:
    found = call_format(template)
    assert found is not None
    assert (found.name, found.start, found.end) == (name, start, end)


@pytest.mark.parametrize("template", [None, "", "{{ messages }} {{ tools }}", GLM])
def test_a_format_that_is_not_known_is_none(template: str | None) -> None:
    assert call_format(template) is None


def test_marks_of_thoughts_must_both_be_tokens() -> None:
    assert thought_marks({"<think>", "</think>", "a"}) == ("<think>", "</think>")
    assert thought_marks(["[THINK]", "[/THINK]"]) == ("[THINK]", "[/THINK]")
    assert thought_marks({"<think>", "a"}) is None


@given(NAMES, ARGUMENTS)
def test_json_calls_come_back(name: str, arguments: dict[str, object]) -> None:
    call = {"name": name, "arguments": arguments}
    assert parse_json(f"\n{json.dumps(call)}\n", ()) == call


@given(st.lists(st.tuples(NAMES, ARGUMENTS), min_size=1, max_size=3), st.sampled_from(["list", "header", "with ids"]))
def test_calls_of_mistral_come_back(calls: list[tuple[str, dict[str, object]]], form: str) -> None:
    expected = [{"name": name, "arguments": arguments} for name, arguments in calls]
    middle = "[CALL_ID]a1B2c3D4e[ARGS]" if form == "with ids" else "[ARGS]"
    text = "[TOOL_CALLS]".join(f"{name}{middle}{json.dumps(arguments)}" for name, arguments in calls)
    assert parse_mistral(f" {json.dumps(expected)}" if form == "list" else text, ()) == expected


@pytest.mark.parametrize("text", ["", "[", "look_up", "look_up[ARGS]", "look_up[ARGS]{", 'f[ARGS]{"a":1} and more'])
def test_what_mistral_did_not_write_becomes_an_invalid_call(text: str) -> None:
    (call,) = parse_calls(text, parse_mistral, (), first=0)
    assert call.invalid == text


def tool(**properties: object) -> dict[str, object]:
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": "f", "description": "", "parameters": parameters}}


def tagged(**arguments: str) -> str:
    lines = [f"<parameter={key}>\n{value}\n</parameter>" for key, value in arguments.items()]
    return "\n".join(["", "<function=f>", *lines, "</function>", ""])


@given(st.text(alphabet=st.characters(exclude_characters="<", exclude_categories=["Cs"])))
def test_text_in_tags_stays_as_it_is(text: str) -> None:
    found = parse_function_tags(tagged(a=text), [tool(a={"type": "string"})])
    assert found == {"name": "f", "arguments": {"a": text}}


@given(VALUES.filter(lambda value: "</parameter>" not in json.dumps(value)))
def test_json_in_tags_comes_back(value: object) -> None:
    written = tagged(a=json.dumps(value), b="2", c="True", d="so, so")
    found = parse_function_tags(written, [tool(a={"type": ["object", "string"]}, b={"type": "string"})])
    assert found["arguments"] == {"a": value, "b": "2", "c": True, "d": "so, so"}


@pytest.mark.parametrize("text", ["", "f", "<function=>", "<parameter=a>1</parameter>"])
def test_tags_without_a_function_become_an_invalid_call(text: str) -> None:
    (call,) = parse_calls(text, parse_function_tags, (), first=0)
    assert call.invalid == text
