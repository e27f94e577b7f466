"""Constrained output without a model: random walks through the masks of the shipped tokenizer."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import jsonschema
import numpy as np
import pytest
from pydantic import BaseModel, Field

from abstractllm import embedded
from abstractllm.errors import GenerationError, InvalidParameterError, UnsupportedFeatureError
from abstractllm.providers.local.constraint import Constraint, ConstraintCompiler
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.providers.local.vocabulary import Gate
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.tokens import load_tokenizer
from abstractllm.schema import Grammar, Regex, to_output_format

from ..mlx.conftest import write_tokenizer
from .schemas import SchemaMaker, Walker, tokens_in

import_mlx()

WIDTH = 2100
"""More logits than the shipped tokenizer has tokens."""


def write_more_tokens(folder: Path, added: dict[str, bool]) -> ChatTokenizer:
    """Load the shipped tokenizer with more tokens, which are special or not."""
    file = write_tokenizer(folder) / "tokenizer.json"
    content = json.loads(file.read_text())
    first = len(content["model"]["vocab"])
    for number, (text, special) in enumerate(added.items(), first):
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        content["added_tokens"].append({"id": number, "content": text, "special": special, **flags})
    file.write_text(json.dumps(content))
    return load_tokenizer(folder, None)


class Bench:
    """A compiler with its tokenizer and a walker."""

    def __init__(self, tokenizer: ChatTokenizer, width: int = WIDTH) -> None:
        self.tokenizer = tokenizer
        self.compiler = ConstraintCompiler(tokenizer, width)
        names = [tokenizer.wrapper.convert_ids_to_tokens(token) for token in range(width)]
        texts = [b"" if name is None else tokenizer.token_bytes(token) for token, name in enumerate(names)]
        self.walker = Walker(texts, self.compiler.words, tokenizer.stop_tokens)

    def compile(self, response_format: Any, gate: Gate | None = None) -> Constraint:
        return self.compiler.compile(to_output_format(response_format), gate)

    def says(self, constraint: Constraint, text: str) -> bool:
        """Whether the masks allow a text token by token, and then the end."""
        one = constraint.copy()
        for token in self.tokenizer.encode(text):
            if token not in self.walker.allowed(one):
                return False
            one.accept(token)
        return one.complete


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(load_tokenizer(embedded.PATH, None))


@pytest.fixture(scope="module")
def thinker(tmp_path_factory) -> Bench:
    """A tokenizer with markers of reasoning, the second pair of which is no token of its own."""
    folder = tmp_path_factory.mktemp("thinker")
    return Bench(write_more_tokens(folder, {"<think>": True, "</think>": True, "\n\n": False}))


@pytest.mark.parametrize("part", range(8))
def test_random_schemas_are_kept(bench, part):
    for seed in range(part * 50, part * 50 + 50):
        schema = SchemaMaker(seed).make()
        output = to_output_format(schema)
        constraint = bench.compile(schema)
        tokens = bench.walker.walk(constraint, Random(seed))
        text = bench.walker.text(tokens)
        value = json.loads(text)
        jsonschema.Draft202012Validator(schema).validate(value)
        assert output.parse(text) == value
        assert constraint.complete
        assert tokens_in(bench.walker.mask)[-1] < 2048


class Leaf(BaseModel):
    kind: Literal["leaf"] = "leaf"
    value: Annotated[int, Field(ge=-5, le=50)]


class Node(BaseModel):
    kind: Literal["node"] = "node"
    names: set[Annotated[str, Field(max_length=3)]] = Field(max_length=2)
    left: Annotated[Leaf | Node, Field(discriminator="kind")] | None = None
    counts: dict[Literal["a", "b"], bool] = {}


@pytest.mark.parametrize("hint", [Node, list[Leaf], dict[Literal["x"], Leaf], tuple[int, bool], Path | None])
def test_types_are_kept(bench, hint):
    output = to_output_format(hint)
    start = bench.compile(hint)
    for seed in range(10):
        constraint = start.copy()
        output.parse(bench.walker.text(bench.walker.walk(constraint, Random(seed))))


def test_special_tokens_are_never_allowed(bench):
    stops = bench.tokenizer.stop_tokens
    added = set(bench.tokenizer.wrapper.added_tokens_decoder)
    assert len(added) == 9
    for response_format in (Regex(r"(?s).*"), Grammar("start: /(?s).*/"), {}, {"type": "string"}):
        constraint = bench.compile(response_format)
        for step in range(12):
            allowed = bench.walker.allowed(constraint)
            assert added.intersection(allowed) - stops == set()
            assert max(allowed) < 2048
            assert stops.issubset(allowed) == constraint.complete
            ordinary = [token for token in allowed if token not in stops]
            if not ordinary:
                break
            constraint.accept(ordinary[step % len(ordinary)])


def test_json_is_compact(bench):
    constraint = bench.compile({"type": "object", "properties": {"a": {}, "b": {}}, "additionalProperties": False})
    assert bench.says(constraint, '{"a":[1,{"x":2}],"b":null}')
    for text in ('{ "a":1}', '{"a": 1}', '{"a":1, "b":2}', ' {"a":1}', '{"a":1}\n', '{"a":[1, 2]}'):
        assert not bench.says(constraint, text)


@pytest.mark.parametrize(
    ("response_format", "right", "wrong"),
    [
        (Regex("[0-9]{3}-é+"), ["123-é", "000-ééé"], ["12-é", "123-", "123-e"]),
        (Regex("a/b\"c"), ['a/b"c'], ["a"]),
        (Grammar('start: "(" start ")" | NAME\nNAME: /[a-z]+/'), ["a", "((ab))"], ["(a", "()", "a)"]),
        (Grammar('start: "x=" %json {"type": "array", "items": {"type": "integer"}}'), ["x=[1,2]"], ["x=[1, 2]"]),
        (list[int], ["[]", "[1,-2]"], ["[1.5]", "[1", "[1]]"]),
        ({"type": "object", "properties": {"a": {"type": "integer"}}}, ["{}", '{"a":1}'], ['{"b":1}', '{"a":1,"b":1}']),
        (
            {"anyOf": [{"required": ["b"]}, {"required": ["a"]}], "type": "object", "properties": {"a": {}}},
            ['{"a":1}', '{"b":1}', '{"a":1,"c":2}'],
            ["{}"],
        ),
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, ["0", "-9223372036854774784"], ["9" * 20]),
        ({"type": "integer", "minimum": 2**53 + 1, "maximum": 2**53 + 3}, [str(2**53 + 2)], [str(2**53)]),
        ({"type": "number", "minimum": -0.5, "exclusiveMaximum": 0}, ["-0.5", "-0.01"], ["0", "-0", "-0.6"]),
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, ["0.5", "0.01"], ["0", "0.0", "0.51"]),
        ({"type": "integer", "format": "int32"}, ["1"], ["x"]),
        ({"type": "array", "uniqueItems": False}, ["[1,1]"], ["1"]),
        ({"oneOf": [{"const": 1, "title": "one"}, {"const": 2}]}, ["1", "2"], ["3"]),
        ({"type": "string"}, ['"\\n"', '"\\u0000"', '"é😀"'], ['"\\ud83d"', '"\\u00e9"', '"\n"']),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_allowed(bench, response_format, right, wrong):
    constraint = bench.compile(response_format)
    assert [text for text in right if not bench.says(constraint, text)] == []
    assert [text for text in wrong if bench.says(constraint, text)] == []


def test_lists_that_end_in_themselves(bench):
    end, link = (
        {"type": "null"},
        {"type": "object", "properties": {"next": {"$ref": "#/$defs/list"}}, "required": ["next"]},
    )
    constraint = bench.compile({"$ref": "#/$defs/list", "$defs": {"list": {"oneOf": [end, link]}}})
    assert bench.says(constraint, '{"next":{"next":null}}')


REFUSED = {
    "not": {"not": {}},
    "if": {"if": {}, "then": {}},
    "contains": {"contains": {}},
    "uniqueItems": {"uniqueItems": True},
    "propertyNames": {"propertyNames": {"maxLength": 2}},
    "dependentRequired": {"dependentRequired": {"a": ["b"]}},
    "dependentSchemas": {"dependentSchemas": {"a": {}}},
    "dependencies": {"dependencies": {"a": ["b"]}},
    "unevaluatedProperties": {"unevaluatedProperties": False},
    "unevaluatedItems": {"unevaluatedItems": False},
    "$dynamicRef": {"$dynamicRef": "#"},
    "divisibleBy": {"divisibleBy": 2},
    "x-guidance": {"x-guidance": {"lenient": True}},
    "format": {"type": "string", "format": "isbn"},
    "pattern": {"type": "string", "pattern": "^(?!a)"},
    "oneOf": {"oneOf": [{"minimum": 1}, {"maximum": 5}]},
    "patternProperties": {"type": "object", "patternProperties": {"a": {"type": "null"}, "b": {}}},
    "minProperties": {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "minProperties": 2},
    "minimum": {"type": "integer", "minimum": 10**19},
    "maximum": {"type": "number", "maximum": 1e-12},
    "exclusiveMaximum": {"type": "number", "exclusiveMaximum": 1e20},
    "multipleOf": {"type": "number", "multipleOf": 1e-30},
    "const": {"const": -(2**63)},
    "enum": {"enum": [["x", 2**53 + 1]]},
    "$ref": {"$defs": {f"d{n}": {"items": {"$ref": f"#/$defs/d{(n + 1) % 400}"}} for n in range(400)}},
    "$schema": {"$schema": "http://json-schema.org/draft-03/schema#", "type": "integer"},
}  # fmt: skip


@pytest.mark.parametrize("keyword", REFUSED)
def test_keywords_that_cannot_be_enforced_are_named(bench, keyword):
    with pytest.raises(UnsupportedFeatureError) as failure:
        bench.compile(REFUSED[keyword])
    assert f"'{keyword}'" in str(failure.value)
    assert failure.value.feature == "response_format"


def test_the_place_of_a_keyword_is_named(bench):
    with pytest.raises(UnsupportedFeatureError, match=r"'not' in properties.a.anyOf\[1\] is not supported"):
        bench.compile({"properties": {"a": {"anyOf": [{}, {"not": {"type": "null"}}]}}})


@pytest.mark.parametrize(
    ("response_format", "message"),
    [
        (Regex("("), "The regex in response_format is not valid"),
        (Regex("(?=a)b"), "look-around"),
        (Regex("a" * 10_001), "10,001 characters"),
        (Grammar("start: nothing"), "unknown name"),
        (Grammar("begin: /a/"), "no start rule"),
        (Grammar('start: <|im_start|> "a"'), r"special token <\|im_start\|>"),
        (Grammar("start: <[1]>"), "special token"),
        (Grammar("start: a\na: b\nb: a"), "No text fits"),
        (Grammar("start: a0\n" + "\n".join(f"a{n}: a{n + 1}" for n in range(501)) + "\na501: /x/"), "more than 500"),
        (Grammar('start: %json {"type": "nothing"}'), "no JSON Schema"),
        (Grammar('start: %json {"type": }'), "%json block"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "No value fits"),
        ({"$ref": "#"}, "contains itself"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "contains itself"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "contains itself"),
    ],
)
def test_formats_that_are_wrong(bench, response_format, message):
    with pytest.raises(InvalidParameterError, match=message) as failure:
        bench.compile(response_format)
    assert failure.value.parameter == "response_format"


def test_a_schema_in_a_grammar_is_checked_too(bench):
    with pytest.raises(UnsupportedFeatureError, match="'const'"):
        bench.compile(Grammar('start: "x" %json {"const": -9223372036854775808}'))


def test_our_own_grammars_may_use_special_tokens(bench):
    constraint = bench.compiler.compile('start: <tool_call> %json {"const": {"a": 1}} </tool_call>')
    assert bench.says(constraint, '<tool_call>{"a":1}</tool_call>')
    assert bench.walker.allowed(constraint) == [3]


def test_copies_are_independent(bench):
    one = bench.compile({"type": "array", "items": {"type": "boolean"}})
    one.accept(*bench.tokenizer.encode("["))
    other = one.copy()
    before = bench.walker.allowed(one)
    for token in bench.tokenizer.encode("true]"):
        other.accept(token)
    assert other.finished
    assert not one.complete
    assert bench.walker.allowed(one) == before


def test_a_format_that_is_known_begins_anew(bench):
    one = bench.compile({"const": "ab"})
    for token in bench.tokenizer.encode('"ab"'):
        one.accept(token)
    again = bench.compile({"const": "ab"})
    assert again._compiled is one._compiled
    assert one.finished
    assert not again.finished
    assert bench.says(again, '"ab"')


def test_grammars_are_kept_in_the_order_of_their_use(bench, monkeypatch):
    monkeypatch.setattr("abstractllm.providers.local.constraint._KEPT", 2)
    compiler = ConstraintCompiler(bench.tokenizer, WIDTH)
    formats = [to_output_format({"const": number}) for number in range(3)]
    kept = [compiler.compile(formats[number])._compiled for number in (0, 1, 0, 2)]
    assert compiler.compile(formats[0])._compiled is kept[0]
    assert compiler.compile(formats[2])._compiled is kept[3]
    assert compiler.compile(formats[1])._compiled is not kept[1]


def test_many_threads_compile(bench):
    compiler = ConstraintCompiler(bench.tokenizer, WIDTH)
    formats = [to_output_format(SchemaMaker(seed).make()) for seed in range(12)]

    def answer(number: int) -> list[int]:
        walker = Walker(bench.walker.texts, compiler.words, bench.tokenizer.stop_tokens)
        return walker.walk(compiler.compile(formats[number % 12]), Random(number % 12))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(answer, range(48)))
    assert answers == [answer(number) for number in range(48)]


def test_the_end(bench):
    (stop,) = bench.tokenizer.stop_tokens
    constraint = bench.compile({"type": "integer"})
    with pytest.raises(GenerationError, match=f"does not allow the token {stop}"):
        constraint.accept(stop)
    constraint.accept(*bench.tokenizer.encode("7"))
    assert (constraint.complete, constraint.finished) == (True, False)
    constraint.accept(stop)
    assert (constraint.complete, constraint.finished) == (True, True)
    assert bench.walker.allowed(constraint) == [stop]
    constraint.accept(stop)
    with pytest.raises(GenerationError):
        constraint.accept(*bench.tokenizer.encode("7"))


def test_a_refused_token_changes_nothing(bench):
    constraint = bench.compile({"enum": ["ab", 5]})
    before = bench.walker.allowed(constraint)
    for token in set(range(2048)).difference(before):
        with pytest.raises(GenerationError):
            constraint.accept(token)
    assert bench.walker.allowed(constraint) == before
    assert bench.says(constraint, '"ab"')


def test_replay(bench):
    schema = SchemaMaker(4).make()
    constraint = bench.compile(schema)
    tokens = bench.walker.walk(constraint, Random(3))
    half = bench.compile(schema)
    half.replay(tokens[: len(tokens) // 2])
    expected = bench.walker.allowed(half)
    constraint.replay(tokens[: len(tokens) // 2])
    assert bench.walker.allowed(constraint) == expected
    constraint.replay(tokens)
    assert constraint.complete


@pytest.mark.parametrize("width", [2000, 2047, 2048, 2049, 5000])
def test_rows_of_every_width(width):
    bench = Bench(load_tokenizer(embedded.PATH, None), width)
    rows = np.full((3, bench.compiler.words + 5), -1, dtype=np.int32)
    constraint = bench.compile(Regex(".*"))
    constraint.fill(rows[1])
    allowed = tokens_in(rows[1].copy())
    assert max(allowed) == min(width, 2048) - 1
    assert (rows[0] == -1).all()
    assert (rows[2] == -1).all()
    assert not rows[1, bench.compiler.words :].any()
    free = bench.compile(Regex("a"), Gate("</think>"))
    free.fill(rows[1])
    assert max(tokens_in(rows[1].copy())) == min(width, 2048) - 1


def test_a_stop_token_that_is_text_too(tmp_path):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path), [300])
    bench = Bench(tokenizer)
    text = bench.walker.texts[300].decode()
    constraint = bench.compile(Regex(f"(a{text}b|a)"))
    constraint.accept(*tokenizer.encode("a"))
    assert 300 in bench.walker.allowed(constraint)
    before = bench.compile(Regex(f"{text}b"))
    assert 300 not in bench.walker.allowed(before)


def test_a_tokenizer_that_cannot_be_read(bench):
    class Slow:
        wrapper = object()
        stop_tokens = {2}

    with pytest.raises(UnsupportedFeatureError, match="tokenizer"):
        ConstraintCompiler(Slow(), WIDTH).compile(to_output_format(int))


# Reasoning.


class TestGate:
    """Free text before the constrained one."""

    def test_the_prompt_has_opened_it(self, thinker):
        constraint = thinker.compile({"const": 1}, Gate("</think>"))
        assert thinker.says(constraint, "I think {so}.</think>1")
        assert thinker.says(constraint, "</think>\n\n1")
        assert not thinker.says(constraint, "1")
        assert not thinker.says(constraint, "</think>2")
        assert not thinker.says(constraint, "</think>\n\n\n\n1")

    def test_it_cannot_be_left_by_stopping(self, thinker):
        constraint = thinker.compile({"const": 1}, Gate("</think>"))
        allowed = thinker.walker.allowed(constraint)
        assert set(range(2051)) - set(allowed) == thinker.tokenizer.stop_tokens
        assert (constraint.complete, constraint.finished) == (False, False)
        with pytest.raises(GenerationError):
            constraint.accept(*thinker.tokenizer.stop_tokens)

    @pytest.mark.parametrize("cut", range(1, 8))
    def test_the_marker_comes_in_pieces(self, bench, cut):
        constraint = bench.compile({"const": 1}, Gate("</think>"))
        for piece in ("a <", "/th</think>"[:cut], "/th</think>"[cut:]):
            for token in bench.tokenizer.encode(piece):
                assert token in bench.walker.allowed(constraint)
                constraint.accept(token)
        assert bench.says(constraint, "1")
        assert not bench.says(constraint, "2")

    def test_no_token_runs_over_its_end_into_something_else(self, bench):
        constraint = bench.compile({"type": "object"}, Gate('x"'))
        long = [token for token, text in enumerate(bench.walker.texts) if text.startswith(b'"') and text[1:].strip()]
        assert long
        constraint.accept(*bench.tokenizer.encode("x"))
        assert not set(long).intersection(bench.walker.allowed(constraint))
        for token in long:
            with pytest.raises(GenerationError):
                constraint.accept(token)
        constraint.accept(*bench.tokenizer.encode('"'))
        assert bench.says(constraint, "{}")

    @pytest.mark.parametrize("markers", [("<think>", "</think>"), ("<|open|>say", "<|close|>say")])
    def test_it_may_open_or_not(self, thinker, markers):
        start, end = markers
        constraint = thinker.compile({"const": 1}, Gate(end, start))
        assert thinker.says(constraint, "1")
        assert thinker.says(constraint, f"{start}\nhm{end}1")
        assert thinker.says(constraint, f"{start}{end}\n\n1")
        assert not thinker.says(constraint, f"hm{end}1")
        assert not thinker.says(constraint, f"{start}1")
        assert not thinker.says(constraint, f"{start}1{end}")

    def test_the_text_may_begin_like_the_marker(self, bench):
        constraint = bench.compile(Regex("<thin>[a-z]"), Gate("</think>", "<think>"))
        assert bench.says(constraint, "<thin>a")
        assert bench.says(constraint, "<think>hm</think><thin>a")
        assert not bench.says(constraint, "<thing>")

    def test_copies_and_replays(self, thinker):
        constraint = thinker.compile({"const": 12}, Gate("</think>", "<think>"))
        tokens = thinker.tokenizer.encode("<think>hm</think>\n\n1")
        for token in tokens:
            constraint.accept(token)
        twin = constraint.copy()
        twin.replay(tokens[:2])
        assert thinker.says(twin, "</think>12")
        assert thinker.says(constraint, "2")

    def test_random_answers(self, thinker):
        start = thinker.compile({"enum": ["a", 1]}, Gate("</think>", "<think>"))
        (begin, end) = thinker.tokenizer.encode("<think></think>")
        for seed in range(20):
            random, constraint = Random(seed), start.copy()
            constraint.accept(begin)
            for _ in range(30):
                free = set(thinker.walker.allowed(constraint)) - {end}
                constraint.accept(random.choice(sorted(free)))
            constraint.accept(end)
            tokens = thinker.walker.walk(constraint, random)
            assert thinker.walker.text(tokens).strip() in ('"a"', "1")
