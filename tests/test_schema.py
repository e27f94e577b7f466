"""What may be given as `response_format`, and the values that come of answers."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal, NewType, Optional, Union

import pytest
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict

import abstractllm
from abstractllm.errors import InvalidParameterError, OutputValidationError
from abstractllm.schema import Grammar, OutputFormat, Regex, to_output_format


class Color(enum.Enum):
    RED = "red"


class City(BaseModel):
    name: str = Field(min_length=1)
    inhabitants: int = 0


class Tree(BaseModel):
    label: str
    children: list[Tree] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Movie(TypedDict):
    title: str
    year: int


UserId = NewType("UserId", int)
ADDRESS = {
    "$defs": {"code": {"type": "string", "pattern": "^[0-9]{5}$"}},
    "type": "object",
    "properties": {"code": {"$ref": "#/$defs/code"}, "street": {"type": "string"}},
    "required": ["code"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("given", "text", "value"),
    [
        (City, '{"name":"Ulm"}', City(name="Ulm")),
        (Tree, '{"label":"a","children":[{"label":"b"}]}', Tree(label="a", children=[Tree(label="b")])),
        (Point, '{"x":1,"y":2}', Point(1, 2)),
        (Movie, '{"title":"Up","year":2009}', {"title": "Up", "year": 2009}),
        (list[int], "[1,2]", [1, 2]),
        (set[int], "[1,2,1]", {1, 2}),
        (dict[str, date], '{"a":"2025-01-31"}', {"a": date(2025, 1, 31)}),
        (Literal["a", 1], "1", 1),
        (Optional[int], "null", None),  # noqa: UP045
        (Union[int, str], '"x"', "x"),  # noqa: UP007
        (int | None, "3", 3),
        (Annotated[int, Field(gt=2)], "3", 3),
        (UserId, "7", 7),
        (Color, '"red"', Color.RED),
        (Literal[Color.RED], '"red"', Color.RED),
        (Literal[Color.RED, "blue"] | None, '"blue"', "blue"),
        (list[Literal[Color.RED]], '["red"]', [Color.RED]),
        (Iterable[int], "[1,2]", [1, 2]),
        (Decimal, "0.1", Decimal("0.1")),
        (bool, "true", True),
        (Any, '{"a":[]}', {"a": []}),
        (TypeAdapter(list[Point]), '[{"x":1}]', [Point(1)]),
        (ADDRESS, '{"code":"89073","street":"é"}', {"code": "89073", "street": "é"}),
        ({"enum": [1, "a"]}, '"a"', "a"),
        ({}, "1.5", 1.5),
        ({"type": "json_object"}, '{"a": 1}', {"a": 1}),
        (
            {"type": "json_schema", "json_schema": {"name": "code", "schema": ADDRESS}},
            '{"code":"89073"}',
            {"code": "89073"},
        ),
        (Regex("[a-z]+"), "abc", "abc"),
        (Grammar('start: "a"'), "a", "a"),
    ],
    ids=str,
)
def test_accepted_kinds(given, text, value):
    output = to_output_format(given)
    assert output.parse(text) == value
    assert to_output_format(output) is output


@pytest.mark.parametrize(
    "given",
    [None, "json", b"x", 5, 1.5, True, [int], (int,), City(name="Ulm"), object(), lambda: 1, range, open],
    ids=str,
)
def test_everything_else_is_told_what_is_accepted(given):
    with pytest.raises(InvalidParameterError, match="TypedDict or other type, a JSON Schema") as failure:
        to_output_format(given)
    assert failure.value.parameter == "response_format"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "text"}, "are no JSON Schema: type"),
        ({"type": "object", "required": "a"}, "are no JSON Schema: required"),
        ({"type": "string", "pattern": "("}, "are no JSON Schema: pattern"),
        ({"$ref": "#/$defs/x"}, "refer to '#/\\$defs/x'"),
        ({"$ref": "http://example.com/x"}, "is not in them"),
        ({"$schema": "http://example.com/x"}, "unknown \\$schema"),
        ({"const": float("nan")}, "cannot be written as JSON"),
        ({"const": "\ud800"}, "cannot be written as JSON"),
        ({"const": {1, 2}}, "cannot be written as JSON"),
        ({"type": "json_object", "schema": {}}, "the key 'schema'"),
        ({"type": "json_schema"}, "must be a mapping"),
        ({"type": "json_schema", "json_schema": {"name": "x"}}, "must be a mapping"),
        ({"type": "json_schema", "json_schema": {"schema": {}, "extra": 1}}, "the key 'extra'"),
        (Regex(""), "Regex\\(''\\)"),
        (Regex(None), "Regex\\(None\\)"),
        (Grammar(""), "Grammar\\(''\\)"),
    ],
)
def test_mappings_and_texts_that_are_wrong(given, message):
    with pytest.raises(InvalidParameterError, match=message):
        to_output_format(given)


def test_a_schema_that_is_too_deep():
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(InvalidParameterError, match=r"nested too deeply|cannot be written"):
        to_output_format(schema)


def test_the_schema_keeps_its_references():
    output = to_output_format(Tree)
    assert output.schema is not None
    assert output.schema["$ref"] == "#/$defs/Tree"
    assert output.schema["$defs"]["Tree"]["properties"]["children"]["items"] == {"$ref": "#/$defs/Tree"}
    assert (output.kind, output.name, output.typed) == ("json", "Tree", True)
    assert to_output_format(ADDRESS).schema == ADDRESS
    assert not to_output_format(ADDRESS).typed


def test_a_format_does_not_change_with_the_mapping_that_it_came_from():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    output = to_output_format(schema)
    schema["properties"]["a"]["type"] = "string"
    assert output.parse('{"a":1}') == {"a": 1}


def test_types_that_are_equal_keep_their_own_order():
    first, second = to_output_format(Union[int, str]), to_output_format(Union[str, int])  # noqa: UP007
    assert [part["type"] for part in first.schema["anyOf"]] == ["integer", "string"]
    assert [part["type"] for part in second.schema["anyOf"]] == ["string", "integer"]


def test_patterns_of_types_are_for_pydantic():
    output = to_output_format(Annotated[str, Field(pattern=r"^\p{Lu}+$")])
    assert output.parse('"É"') == "É"


@pytest.mark.parametrize(
    ("given", "text", "message"),
    [
        (City, '{"name":', "line 1 column 8"),
        (City, '{"name":""}', "- name: String should have at least 1 character"),
        (City, '{"name":"a","inhabitants":"x"}', "- inhabitants: Input should be a valid integer"),
        (list[Point], '[{"x":1},{}]', r"- \[1\].x: Field required"),
        (ADDRESS, '{"code":', r"line 1 column 9 \(character 8\)"),
        (ADDRESS, '{\n"code" 1}', r"line 2 column 8 \(character 9\)"),
        (ADDRESS, '{"code":"1","x":1}', r"(?s)- Additional properties.*- code: '1' does not match"),
        ({"type": "number"}, "NaN", "NaN is no JSON"),
        ({"type": "integer"}, "9" * 5000, "digits"),
        ({}, "[" * 100_000, "nested too deeply"),
        ({"type": "array", "items": {"type": "integer"}}, str(["a"] * 20).replace("'", '"'), "- and 10 more"),
        ({"type": "number", "multipleOf": 0.01}, "0.015", "0.015 is not a multiple of 0.01"),
        ({"type": "number", "multipleOf": 0.01}, "1e999", "inf is not a multiple of 0.01"),
    ],
)
def test_answers_that_do_not_fit(given, text, message):
    with pytest.raises(OutputValidationError, match=message) as failure:
        to_output_format(given).parse(text)
    assert failure.value.response is None


@pytest.mark.parametrize("text", ["39.3", "901.31", "-0.07", "12", "1e2"])
def test_decimal_multiples_are_exact(text):
    assert to_output_format({"type": "number", "multipleOf": 0.01}).parse(text) == float(text)


def test_formats_are_not_checked():
    assert to_output_format({"type": "string", "format": "date"}).parse('"tomorrow"') == "tomorrow"


def test_parts_of_answers():
    assert to_output_format(City).partial('{"name":"Ul') == {"name": "Ul"}
    assert to_output_format(ADDRESS).partial('{"code":"89073","str') == {"code": "89073"}
    assert to_output_format(Regex("a+")).partial("aa") == "aa"


def test_public_names():
    assert abstractllm.Regex("a") == Regex("a")
    assert abstractllm.Grammar("a") == Grammar("a")
    assert isinstance(to_output_format(Regex("a")), OutputFormat)


# Null for what may be left out.


class Place(BaseModel):
    name: str
    floor: int = 0
    inner: Place | None = None


NULLS = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"anyOf": [{"$ref": "#"}, {"type": "string"}]}},
    "required": ["a"],
}


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (NULLS, '{"a": "x", "b": null}', {"a": "x"}),
        (NULLS, '{"a": "x", "b": {"a": "y", "b": null}}', {"a": "x", "b": {"a": "y"}}),
        (Place, '{"name": "x", "floor": null}', Place(name="x")),
        (
            Place,
            '{"name": "x", "inner": {"name": "y", "floor": null, "inner": null}}',
            Place(name="x", inner=Place(name="y")),
        ),
    ],
)
def test_null_counts_as_left_out_where_it_does_not_fit(form, text, value):
    assert to_output_format(form).parse(text) == value


@pytest.mark.parametrize(
    ("form", "text"), [(NULLS, '{"a": null}'), (NULLS, "null"), (Place, '{"name": null, "floor": null}')]
)
def test_null_for_what_must_be_there_is_no_value(form, text):
    with pytest.raises(OutputValidationError, match="None|null|string|valid") as caught:
        to_output_format(form).parse(text)
    assert (caught.value.__cause__ is not None) is (form is Place)


def test_null_that_fits_stays():
    form = to_output_format(
        {"type": "object", "properties": {"a": {"type": ["string", "null"]}, "b": {"type": "string"}}}
    )
    assert form.parse('{"a": null, "b": null}') == {"a": None}
