"""Grammars of calls, walked with llguidance: whatever it lets a model write is a call that fits its tool's schema."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from llguidance import LLMatcher, LLTokenizer

from abstractllm import embedded
from abstractllm.errors import InvalidParameterError
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.text.toolgrammar import CallSyntax, call_grammar, can_force
from abstractllm.types import ToolDefinition

import_mlx()
from mlx_lm.tool_parsers import json_tools, mistral  # noqa: E402

START, END, EOS = 3, 4, 2
"""Ids of the shipped tokenizer."""

ADDED = {"[TOOL_CALLS]": (2048, True), "[ARGS]": (2049, True), "[CALL]": (2050, False), "<|call|>": (2051, False)}
"""Tokens of another tokenizer, which is otherwise the shipped one: ids, and whether they are special."""

HERMES = CallSyntax(START, END)
HEADERS = CallSyntax(ADDED["[TOOL_CALLS]"][0], style="header", header=ADDED["[ARGS]"][0])
LIST = CallSyntax(ADDED["[TOOL_CALLS]"][0], style="list")

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def obj(required: str = "", /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


NODE = obj("value", value=INTEGER, next={"$ref": "#/$defs/Node"}) | {"additionalProperties": False}
SCHEMAS: dict[str, dict[str, Any]] = {
    "none": obj(),
    "word": obj("text", text=STRING),
    "optional": obj(text=STRING),
    "mixed": obj("a", a=INTEGER, b=STRING, c={"type": "boolean"}),
    "numbers": obj("x y", x=NUMBER, y={"type": "integer", "minimum": -5, "maximum": 40}),
    "bounds": obj("x", x={"type": "number", "exclusiveMinimum": 0, "maximum": 1}),
    "multiple": obj("n", n={"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100}),
    "enum": obj("unit", unit={"enum": ["celsius", "kelvin", 'a "quoted" one', "é"]}),
    "const": obj("kind", kind={"const": "fixed"}),
    "nothing": obj("x", x={"type": "null"}),
    "nullable": obj("x", x={"type": ["string", "null"]}),
    "any_of": obj("x", x={"anyOf": [INTEGER, {"type": "array", "items": STRING, "maxItems": 2}]}),
    "one_of": obj("x", x={"oneOf": [INTEGER, obj("b", b={"const": 2})]}),
    "all_of": obj("x", x={"allOf": [obj("a", a=INTEGER), obj("b", b=STRING)]}),
    "list": obj("items", items={"type": "array", "items": INTEGER, "minItems": 1, "maxItems": 3}),
    "nested_lists": obj("m", m={"type": "array", "items": {"type": "array", "items": NUMBER, "maxItems": 2}}),
    "tuple": obj("t", t={"type": "array", "prefixItems": [INTEGER, STRING], "items": False, "minItems": 2}),
    "deep": obj("a", a=obj("b", b=obj("c", c=obj("d", d={"type": "boolean"})))),
    "length": obj("s", s={"type": "string", "minLength": 2, "maxLength": 5}),
    "pattern": obj("s", s={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,3}$"}),
    "date": obj("d", d={"type": "string", "format": "date"}),
    "uuid": obj("u", u={"type": "string", "format": "uuid"}),
    "map": obj("m", m={"type": "object", "additionalProperties": INTEGER, "maxProperties": 2}),
    "patterns": obj("m", m={"type": "object", "patternProperties": {"^x": INTEGER}, "additionalProperties": False}),
    "closed": obj("a", a=INTEGER) | {"additionalProperties": False},
    "open": {"type": "object"},
    "titled": obj("a", a={"type": "integer", "title": "A", "description": "An a.", "default": 3}),
    "ref": obj("node", node={"$ref": "#/$defs/Node"}) | {"$defs": {"Node": NODE}},
    "same_ref": obj("node", node={"$ref": "#/$defs/Node"}) | {"$defs": {"Node": {"enum": ["p", "q"]}}},
    "old_ref": obj("x", x={"$ref": "#/definitions/X"}) | {"definitions": {"X": {"type": "boolean"}}},
    "self_ref": obj("k", sub={"$ref": "#"}, k={"const": 1}),
    "nested_ref": obj("l", l={"type": "array", "items": {"$ref": "#/$defs/A"}, "maxItems": 2})
    | {"$defs": {"A": obj("b", b={"$ref": "#/$defs/B"}), "B": {"enum": [1, 2, 3]}}},
    "name": obj("name arguments", name=STRING, arguments=obj("name", name=INTEGER)),
    "odd_keys": obj("a-b", **{"a-b": INTEGER, "ü": STRING, 'q"': {"type": "boolean"}}),
    "many": obj("p0", **{f"p{number}": INTEGER for number in range(12)}),
    "get": obj("id", id=INTEGER),
    "get_all": obj("limit", limit={"type": "integer", "minimum": 1}),
}
NAMES = list(SCHEMAS)
SETS = [[NAMES[(first + 5 * step) % len(NAMES)] for step in range(1 + first % 4)] for first in range(len(NAMES))]


def tools_named(*names: str) -> list[ToolDefinition]:
    return [ToolDefinition(name, "", SCHEMAS[name]) for name in names]


@cache
def tokenizer() -> LLTokenizer:
    content = json.loads((embedded.PATH / "tokenizer.json").read_text())
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    content["added_tokens"] += [
        {"id": token, "content": text, "special": special, **flags} for text, (token, special) in ADDED.items()
    ]
    return LLTokenizer(json.dumps(content), eos_token=EOS)


def matcher_of(tools: list[ToolDefinition], syntax: CallSyntax, choice: str, **settings: Any) -> LLMatcher:
    matcher = LLMatcher(tokenizer(), call_grammar(tools, syntax, choice, **settings))
    assert not matcher.is_error(), matcher.get_error()
    return matcher


def allowed(matcher: LLMatcher) -> list[int]:
    mask = int.from_bytes(matcher.compute_bitmask(), "little")
    return [token for token in range(tokenizer().vocab_size) if mask >> token & 1]


@cache
def closing() -> frozenset[int]:
    """Tokens that bring JSON nearer to its end."""
    return frozenset(token for token in range(2048) if set(tokenizer().decode_str([token])) & set('"}],'))


def walk(matcher: LLMatcher, seed: int, hint: str = "", limit: int = 200) -> str | None:
    """Write a random text that the grammar allows; None when it has not ended by `limit` tokens.

    Where it is free to, the walk goes for the text's end, for what ends JSON, and sometimes for the text `hint`.
    """
    draw = random.Random(seed)
    matcher.reset()
    written: list[int] = []
    hinted = tokenizer().tokenize_str(hint, parse_special=True)
    while len(written) < limit:
        if hinted and draw.random() < 0.1 and matcher.validate_tokens(hinted) == len(hinted):
            step = hinted
        else:
            tokens = allowed(matcher)
            if (EOS in tokens and draw.random() < 0.3) or tokens == [EOS]:
                return tokenizer().decode_bytes(written).decode(errors="replace")
            likely = [token for token in tokens if token in closing()]
            step = [draw.choice(likely if likely and draw.random() < 0.5 else [one for one in tokens if one != EOS])]
        assert matcher.consume_tokens(step), matcher.get_error()
        written += step
    return None


def texts(matcher: LLMatcher, seeds: int, **settings: Any) -> Iterator[str]:
    """Yield the texts of some walks, of which at least one ends."""
    found = [text for seed in range(seeds) if (text := walk(matcher, seed, **settings)) is not None]
    assert found, "no walk has ended"
    yield from found


def hermes_calls(text: str) -> list[Any]:
    """Calls of a text that is nothing but calls."""
    assert re.fullmatch(r"(<tool_call>((?!</?tool_call>).)*</tool_call>)+", text, re.DOTALL), text
    return [json_tools.parse_tool_call(call) for call in re.findall(r"<tool_call>(.*?)</tool_call>", text, re.DOTALL)]


def mistral_calls(text: str) -> list[Any]:
    assert text.startswith("[TOOL_CALLS]")
    calls = mistral.parse_tool_call(text.removeprefix("[TOOL_CALLS]"))
    return calls if isinstance(calls, list) else [calls]


def check(calls: list[Any], names: list[str], *, complete: bool = True) -> None:
    assert calls
    for call in calls:
        assert call["name"] in names
        schema = SCHEMAS[call["name"]]
        wanted = schema if complete else {key: value for key, value in schema.items() if key != "required"}
        Draft202012Validator(wanted).validate(call["arguments"])


@pytest.mark.parametrize("names", SETS, ids="+".join)
def test_required_calls_fit_their_schemas(names: list[str]) -> None:
    matcher = matcher_of(tools_named(*names), HERMES, "required")
    for text in texts(matcher, 3):
        check(hermes_calls(text), names)


@pytest.mark.parametrize("syntax", [HEADERS, LIST], ids=["header", "list"])
@pytest.mark.parametrize("names", SETS[::4], ids="+".join)
def test_required_calls_of_mistrals_family(names: list[str], syntax: CallSyntax) -> None:
    matcher = matcher_of(tools_named(*names), syntax, "required")
    for text in texts(matcher, 3):
        check(mistral_calls(text), names)


@pytest.mark.parametrize(
    ("syntax", "read"), [(HERMES, hermes_calls), (HEADERS, mistral_calls), (LIST, mistral_calls)], ids=str
)
def test_a_named_tool_is_called_exactly_once(syntax: CallSyntax, read: Callable[[str], list[Any]]) -> None:
    matcher = matcher_of(tools_named("get", "get_all", "word"), syntax, "get")
    for text in texts(matcher, 5):
        (call,) = read(text)
        check([call], ["get"])


@pytest.mark.parametrize("syntax", [HERMES, HEADERS, LIST], ids=["object", "header", "list"])
def test_required_calls_may_be_several(syntax: CallSyntax) -> None:
    matcher = matcher_of(tools_named("none", "get"), syntax, "required")
    read = hermes_calls if syntax is HERMES else mistral_calls
    assert {len(read(text)) for text in texts(matcher, 12)} >= {1, 2}


@pytest.mark.parametrize("names", SETS[::6], ids="+".join)
def test_free_text_has_calls_that_fit_their_schemas(names: list[str]) -> None:
    matcher = matcher_of(tools_named(*names), HERMES, "auto")
    found = list(texts(matcher, 10, hint="<tool_call>"))
    calls = [part.split("</tool_call>")[0] for text in found for part in text.split("<tool_call>")[1:]]
    check([json_tools.parse_tool_call(call) for call in calls], names, complete=False)
    assert any(text.split("<tool_call>")[0] for text in found), "no text that is free"


INTEGERS = {"a": {"type": "integer"}, "b": {"type": "integer"}}
CLOSED = {"type": "object", "properties": INTEGERS, "required": ["a"], "additionalProperties": False}
TWO = ToolDefinition("two", "", CLOSED)


def test_calls_of_the_models_own_accord_name_their_arguments_in_any_order() -> None:
    for order in ("ab", "ba"):
        matcher = matcher_of([TWO], HERMES, "auto")
        text = "".join(f'"{name}":{i},' for i, name in enumerate(order)).rstrip(",")
        call = f'<tool_call>{{"name":"two","arguments":{{{text}}}}}</tool_call>'
        assert rest_of(matcher, call) == ""
    wrong = '<tool_call>{"name":"two","arguments":{"c":1}}</tool_call>'
    assert rest_of(matcher_of([TWO], HERMES, "auto"), wrong).startswith("c")
    empty = '<tool_call>{"name":"two","arguments":{}}</tool_call>'
    assert rest_of(matcher_of([TWO], HERMES, "auto"), empty).startswith("}")


@pytest.mark.parametrize("start", ["{{call}}", "[CALL]", ADDED["[CALL]"][0], ADDED["<|call|>"][0]])
def test_markers_of_all_kinds(start: str | int) -> None:
    marker = start if isinstance(start, str) else tokenizer().decode_str([start])
    syntax = CallSyntax(start, "{{end}}")
    for choice in ("required", "auto"):
        matcher = matcher_of(tools_named("get"), syntax, choice)
        found = list(texts(matcher, 8, hint=marker))
        calls = [part.split("{{end}}")[0] for text in found for part in text.split(marker)[1:]]
        check([json.loads(call) for call in calls], ["get"])


@pytest.mark.parametrize(
    "syntax", [HEADERS, LIST, CallSyntax("[CALLS]", style="header", header=HEADERS.header), CallSyntax("[CALLS]")]
)
def test_nothing_follows_calls_that_have_no_end_marker(syntax: CallSyntax) -> None:
    matcher = matcher_of(tools_named("none"), syntax, "auto")
    start = "[CALLS]" if isinstance(syntax.start, str) else "[TOOL_CALLS]"
    call = {"header": "none[ARGS]{}", "list": '[{"name":"none","arguments":{}}]'}
    text = "So: " + start + call.get(syntax.style, '{"name":"none","arguments":{}}')
    assert matcher.consume_tokens(tokenizer().tokenize_str(text, parse_special=True)), matcher.get_error()
    assert matcher.is_accepting()
    assert matcher.validate_tokens(tokenizer().tokenize_str("x")) == 0


def rest_of(matcher: LLMatcher, text: str) -> str:
    """Return the part of a text that the grammar does not allow."""
    tokens = tokenizer().tokenize_str(text, parse_special=True)
    return tokenizer().decode_str(tokens[matcher.validate_tokens(tokens) :])


def accepts(matcher: LLMatcher, text: str) -> bool:
    matcher.reset()
    return matcher.consume_tokens(tokenizer().tokenize_str(text, parse_special=True)) and matcher.is_accepting()


def hermes(name: str, arguments: str) -> str:
    return f'<tool_call>{{"name":"{name}","arguments":{arguments}}}</tool_call>'


def test_auto_leaves_everything_free_but_calls() -> None:
    matcher = matcher_of(tools_named("get"), HERMES, "auto")
    assert set(allowed(matcher)) == set(range(tokenizer().vocab_size))
    assert matcher.consume_tokens(tokenizer().tokenize_str("Hi <|im_start|>", parse_special=True))
    assert set(allowed(matcher)) == set(range(tokenizer().vocab_size))
    matcher.consume_token(START)
    assert all(tokenizer().decode_str([token]).startswith("{") for token in allowed(matcher))
    assert accepts(matcher, "Hi" + hermes("get", '{"id":1}') + " and " + hermes("get", '{"id":2}') + "!")
    assert rest_of(matcher_of(tools_named("get"), HERMES, "auto"), "<tool_call>Hi") == "Hi"


def test_a_marker_as_text_leaves_the_tokens_free_that_are_named() -> None:
    syntax = CallSyntax("{{call}}", "{{end}}")
    with_think = matcher_of(tools_named("none"), syntax, "auto", text_tokens=[1, 5])
    text = 'a<|im_start|>b<tools>{{call}}{"name":"none","arguments":{}}{{end}}c<|im_start|>'
    assert accepts(with_think, text)
    assert accepts(
        matcher_of(tools_named("none"), syntax, "auto"), text.replace("<|im_start|>", "").replace("<tools>", "")
    )
    assert rest_of(matcher_of(tools_named("none"), syntax, "auto"), text).startswith("<|im_start|>")
    assert rest_of(matcher_of(tools_named("none"), syntax, "auto", text_tokens=[1]), "<|im_start|>{{call}}x") == "x"


def test_tokens_in_angle_brackets_need_their_id() -> None:
    """Why markers can be ids: as texts they would be spelled, letter by letter."""
    assert rest_of(matcher_of(tools_named("get"), CallSyntax("<|call|>", END), "auto"), "a<|call|>") == "<|call|>"
    assert tokenizer().is_special_token(ADDED["<|call|>"][0])
    assert not tokenizer().is_special_token(ADDED["[CALL]"][0])


def test_markers_cannot_stand_in_the_strings_of_a_call() -> None:
    matcher = matcher_of(tools_named("word"), HERMES, "word")
    matcher.consume_tokens(
        tokenizer().tokenize_str('<tool_call>{"name":"word","arguments":{"text":"a', parse_special=True)
    )
    assert not {START, END, EOS} & set(allowed(matcher))


@pytest.mark.parametrize(
    ("text", "choice", "accepted"),
    [
        (hermes("get", '{"id":1}'), "required", True),
        (hermes("get", '{"id":1}'), "get", True),
        (hermes("get", '{"id":1}') * 2, "required", True),
        (hermes("get", '{"id":1}') * 2, "get", False),
        (hermes("get_all", '{"limit":1}'), "required", True),
        (hermes("get_all", '{"limit":1}'), "get", False),
        (hermes("get_al", "{}"), "required", False),
        (hermes("none", "{}"), "required", True),
        (hermes("none", '{"x":1}'), "required", False),
        (hermes("open", '{"x":1}'), "required", True),
        (hermes("get", "{}"), "required", False),
        (hermes("get", '{"id": 1}'), "required", False),
        (hermes("get", '{"id":1,"more":2}'), "required", False),
        ("Hi" + hermes("get", '{"id":1}'), "required", False),
        (hermes("get", '{"id":1}') + "\n", "required", False),
        ("", "required", False),
        (hermes("ref", '{"node":{"value":1,"next":{"value":2}}}'), "required", True),
        (hermes("ref", '{"node":"p"}'), "required", False),
        (hermes("same_ref", '{"node":"p"}'), "required", True),
        (hermes("same_ref", '{"node":{"value":1}}'), "required", False),
        (hermes("self_ref", '{"sub":{"sub":{"k":1},"k":1},"k":1}'), "required", True),
    ],
)
def test_texts_that_are_calls_and_that_are_not(text: str, choice: str, accepted: bool) -> None:
    tools = tools_named("get", "get_all", "none", "open", "ref", "same_ref", "self_ref")
    assert accepts(matcher_of(tools, HERMES, choice), text) is accepted


def test_blanks_and_lines_for_models_that_write_them() -> None:
    matcher = matcher_of(tools_named("mixed"), CallSyntax(START, END, spaced=True, lines=True), "required")
    call = '<tool_call>\n{"name": "mixed", "arguments": {"a": 1, "b": "x"}}\n</tool_call>'
    assert accepts(matcher, call + "\n" + call)
    assert accepts(matcher, call.replace("\n", ""))
    assert not accepts(matcher, call.replace("\n", "\n\n"))
    assert not accepts(matcher, call.replace(": ", ":"))
    matcher = matcher_of(tools_named("get"), CallSyntax("[TOOL]", style="list", spaced=True), "required")
    assert accepts(matcher, '[TOOL][{"name": "get", "arguments": {"id": 1}}, {"name": "get", "arguments": {"id": 2}}]')


def test_schemas_that_cannot_be_enforced_are_refused_unless_lenient() -> None:
    tool = ToolDefinition("f", "", obj("x", x={"type": "array", "items": INTEGER, "uniqueItems": True}))
    assert "uniqueItems" in LLMatcher(tokenizer(), call_grammar([tool], HERMES, "f")).get_error()
    assert accepts(matcher_of([tool], HERMES, "f", lenient=True), hermes("f", '{"x":[1,1]}'))


def test_a_schema_that_speaks_of_others_keeps_its_word() -> None:
    opened = obj("a", a=INTEGER) | {"additionalProperties": True}
    matcher = matcher_of([ToolDefinition("f", "", opened)], HERMES, "f")
    assert accepts(matcher, hermes("f", '{"a":1,"b":2}'))


@pytest.mark.parametrize("choice", ["auto", "required", "get"])
def test_no_tools_no_grammar(choice: str) -> None:
    with pytest.raises(InvalidParameterError, match="no such tool to call; the tools are: none"):
        call_grammar([], HERMES, choice)


def test_an_unknown_name() -> None:
    with pytest.raises(InvalidParameterError, match="'sum'.*get, word") as failure:
        call_grammar(tools_named("get", "word"), HERMES, "sum")
    assert failure.value.parameter == "tool_choice"


def test_families_whose_calls_can_be_forced() -> None:
    assert can_force("json_tools")
    assert can_force("mistral")
    assert not can_force("qwen3_coder")
    assert not can_force(None)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_one_call_at_most(choice: str) -> None:
    def single(text: str) -> bool:
        return accepts(matcher_of(tools_named("get"), HERMES, choice, single=True), text)

    one = hermes("get", '{"id":1}')
    assert single(one)
    assert not single(one * 2)
    assert single(f"So: {one} Yes.") is (choice == "auto")
    assert single("Hi") is (choice == "auto")
    assert accepts(matcher_of(tools_named("get"), HERMES, choice), one * 2)


@pytest.mark.parametrize("syntax", [CallSyntax("{{call}}", "{{end}}"), CallSyntax("[CALLS]"), LIST])
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_one_call_at_most_in_other_families(syntax: CallSyntax, choice: str) -> None:
    start = syntax.start if isinstance(syntax.start, str) else "[TOOL_CALLS]"
    call = '{"name":"none","arguments":{}}'
    body, more = (f"[{call}]", f"[{call},{call}]") if syntax.style == "list" else (call, call)
    end = syntax.end or ""
    assert accepts(matcher_of(tools_named("none"), syntax, choice, single=True), f"{start}{body}{end}")
    several = f"{start}{more}{end}" if syntax.style == "list" else f"{start}{body}{end}" * 2
    assert accepts(matcher_of(tools_named("none"), syntax, choice), several)
    if syntax.style == "list" or choice == "required":
        assert not accepts(matcher_of(tools_named("none"), syntax, choice, single=True), several)


@pytest.mark.parametrize("single", [False, True])
def test_calls_or_json_of_a_form(single: bool) -> None:
    form = {**obj("a", a=INTEGER), "additionalProperties": False, "x-guidance": {"whitespace_flexible": False}}

    def fits(text: str) -> bool:
        return accepts(matcher_of(tools_named("get"), HERMES, "auto", form=form, single=single), text)

    one = hermes("get", '{"id":1}')
    assert fits('{"a":1}')
    assert fits(one)
    assert fits(one * 2) is not single
    for text in ("Hi", '{"a":"x"}', '{"a":1}' + one, one + '{"a":1}', ""):
        assert not fits(text)
