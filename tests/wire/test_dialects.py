"""Schemas in the dialects of services: what is made of each keyword, and that answers fit the schema that was given."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.schema import to_output_format
from abstractllm.wire.dialects import ANTHROPIC, GEMINI_TOOLS, STRICT, Dialect, rewritten, rooted

TEXT = {"type": "string"}


def closed(**properties: Any) -> dict[str, Any]:
    found = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": list(properties)} if properties else {})


NODE = {
    "$ref": "#/$defs/Node",
    "$defs": {
        "Node": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}}
    },
}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (TEXT, TEXT),
        ({"type": "string", "minLength": 3}, {"type": "string", "description": "minLength: 3"}),
        (
            {"type": "string", "description": "A name", "maxLength": 9, "title": "T"},
            {"type": "string", "description": "A name (maxLength: 9)", "title": "T"},
        ),
        ({"type": "string", "format": "email"}, {"type": "string", "format": "email"}),
        ({"type": "string", "format": "uri"}, {"type": "string", "description": 'format: "uri"'}),
        ({"type": "string", "pattern": "a+"}, {"type": "string", "pattern": "a+"}),
        ({"type": "string", "pattern": "(?=a)"}, {"type": "string", "description": 'pattern: "(?=a)"'}),
        (
            {"type": "integer", "minimum": 1, "default": 5},
            {"type": "integer", "minimum": 1, "description": "default: 5"},
        ),
        ({"type": "integer", "$comment": "c", "examples": [1], "default": None}, {"type": "integer"}),
        ({"oneOf": [TEXT, {"type": "null"}]}, {"anyOf": [TEXT, {"type": "null"}]}),
        ({"allOf": [TEXT]}, {"anyOf": [TEXT]}),
        (
            {"type": "array", "items": TEXT, "uniqueItems": True},
            {"type": "array", "items": TEXT, "description": "uniqueItems: true"},
        ),
        ({"type": "object"}, None),
        ({"type": "object", "additionalProperties": TEXT}, None),
        ({"type": "object", "properties": {}, "patternProperties": {"a": TEXT}}, None),
        ({"type": "object", "properties": {"a": TEXT}, "required": ["b"]}, None),
        ({"type": "object", "properties": {}}, closed()),
        ({"allOf": [TEXT, {"minLength": 3}]}, None),
        ({"type": "array"}, None),
        ({"type": "array", "items": True}, None),
        ({}, None),
        ({"enum": [{"a": 1}]}, None),
        ({"$ref": "#/properties/x"}, None),
    ],
)
def test_strict_schemas_keyword_by_keyword(given: dict[str, Any], made: dict[str, Any] | None) -> None:
    whole = rewritten({"type": "object", "properties": {"x": given}, "required": ["x"]}, STRICT)
    assert whole == (None if made is None else closed(x=made))


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (TEXT, {"type": ["string", "null"]}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"enum": ["a"]}, {"anyOf": [{"enum": ["a"]}, {"type": "null"}]}),
        ({"type": "string", "const": "a"}, {"anyOf": [{"type": "string", "const": "a"}, {"type": "null"}]}),
        (
            {"anyOf": [TEXT, {"type": "null"}], "description": "d"},
            {"anyOf": [TEXT, {"type": "null"}], "description": "d"},
        ),
        ({"anyOf": [TEXT, {"type": "integer"}]}, {"anyOf": [TEXT, {"type": "integer"}, {"type": "null"}]}),
        ({"type": "object", "properties": {}}, {**closed(), "type": ["object", "null"]}),
    ],
)
def test_what_may_be_left_out_may_be_null_where_everything_is_required(given: Any, made: Any) -> None:
    assert rewritten({"type": "object", "properties": {"x": given}}, STRICT) == closed(x=made)


def test_references_stand_alone_and_have_one_word() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/A", "description": "the a"}},
        "required": ["a"],
        "definitions": {"A": {"type": "object", "properties": {}}},
    }
    made = rewritten(schema, STRICT)
    assert made == closed(a={"description": "the a", "anyOf": [{"$ref": "#/$defs/A"}]}) | {"$defs": {"A": closed()}}


def test_a_root_that_is_a_reference_is_followed_and_a_root_that_is_no_object_has_no_place() -> None:
    made = rewritten(NODE, STRICT)
    assert made is not None
    assert (made["type"], made["required"], made["$defs"]["Node"]["required"]) == ("object", ["next"], ["next"])
    for other in ({"type": "array", "items": TEXT}, {"anyOf": [closed()]}, {"$ref": "#"}, TEXT):
        assert rewritten(other, STRICT) is None
        assert rooted(other) is None


def test_anthropic_has_no_bounds_no_long_lists_and_no_circles() -> None:
    made = rewritten(
        closed(n={"type": "integer", "maximum": 3}, a={"type": "array", "items": TEXT, "minItems": 1}), ANTHROPIC
    )
    assert made == closed(
        n={"type": "integer", "description": "maximum: 3"}, a={"type": "array", "items": TEXT, "minItems": 1}
    )
    long = rewritten(closed(a={"type": "array", "items": TEXT, "minItems": 2}), ANTHROPIC)
    assert long == closed(a={"type": "array", "items": TEXT, "description": "minItems: 2"})
    optional = rewritten({"type": "object", "properties": {"a": TEXT}}, ANTHROPIC)
    assert optional == {"type": "object", "properties": {"a": TEXT}, "additionalProperties": False}
    assert rewritten(NODE, ANTHROPIC) is None
    assert rewritten(closed(a={"$ref": "#/$defs/A"}) | {"$defs": {"A": TEXT}}, ANTHROPIC) is not None
    assert rewritten(closed(a={"$ref": "#"}), ANTHROPIC) is None


def test_gemini_is_not_told_what_it_has_no_field_for() -> None:
    tool = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "title": "T",
        "properties": {
            "a": {"const": "x", "examples": ["x"]},
            "b": {"type": "object", "additionalProperties": TEXT},
            "c": {},
        },
        "additionalProperties": False,
    }
    made = rewritten(tool, GEMINI_TOOLS)
    assert made is not None
    assert made["properties"]["a"] == {"description": 'const: "x"'}
    assert made["properties"]["b"] == {"type": "object", "description": 'additionalProperties: {"type": "string"}'}
    assert made.keys() == {"type", "properties"}


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ({"$ref": "#/$defs/City"}, {"type": "object", "properties": {"name": TEXT}}),
        (
            {"$ref": "#/$defs/City", "description": "Where to."},
            {"type": "object", "properties": {"name": TEXT}, "description": "Where to."},
        ),
        (
            {"type": "array", "items": {"$ref": "#/$defs/City"}},
            {"type": "array", "items": {"type": "object", "properties": {"name": TEXT}}},
        ),
        (
            {"anyOf": [{"$ref": "#/$defs/City"}, {"type": "null"}]},
            {"anyOf": [{"type": "object", "properties": {"name": TEXT}}, {"type": "null"}]},
        ),
        ({"type": ["string", "null"], "minLength": 1}, {"type": "string", "nullable": True, "minLength": 1}),
        ({"type": ["string"]}, TEXT),
        ({"type": ["string", "integer"]}, {"description": 'type: ["string", "integer"]'}),
        ({"type": "integer", "enum": [1, 2]}, {"type": "integer", "description": "enum: [1, 2]"}),
        ({"enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}),
    ],
)
def test_gemini_has_one_type_a_place_and_no_references(given: dict[str, Any], made: dict[str, Any]) -> None:
    city = {"type": "object", "properties": {"name": TEXT}}
    tool = {"type": "object", "properties": {"x": given}, "$defs": {"City": city}}
    assert rewritten(tool, GEMINI_TOOLS) == {"type": "object", "properties": {"x": made}}


def test_what_gemini_cannot_be_told_of_references_is_not_tried() -> None:
    assert rewritten(NODE, GEMINI_TOOLS) is None
    assert rewritten(closed(a={"$ref": "#"}), GEMINI_TOOLS) is None
    twice = {str(n): closed(a={"$ref": f"#/$defs/{n + 1}"}, b={"$ref": f"#/$defs/{n + 1}"}) for n in range(40)}
    assert rewritten(closed(x={"$ref": "#/$defs/0"}) | {"$defs": twice | {"40": TEXT}}, GEMINI_TOOLS) is None


def test_a_property_may_be_called_like_a_keyword() -> None:
    tool = {"type": "object", "properties": {"$ref": TEXT, "anyOf": TEXT, "items": TEXT}}
    assert rewritten(tool, GEMINI_TOOLS) == tool


# Whatever a service answers to a rewritten schema is an answer to the given one.


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from(["a", "b", "type", "enum"]), inner, max_size=3))
    required = [name for name in properties if draw(st.booleans())]
    said = {"additionalProperties": False} if draw(st.booleans()) else {}
    return {"type": "object", "properties": properties, "required": required, **said}


plain = st.sampled_from(
    [
        TEXT,
        {"type": "string", "enum": ["x", "y"]},
        {"const": 3},
        {"type": "integer", "minimum": 0, "maximum": 5},
        {"type": ["boolean", "null"]},
        {"$ref": "#/$defs/D"},
        {"$ref": "#/$defs/D", "description": "d"},
        {"type": "null"},
    ]
)
schemas = st.recursive(
    plain,
    lambda inner: st.one_of(
        objects(inner),
        inner.map(lambda one: {"type": "array", "items": one, "maxItems": 2}),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some}),
    ),
    max_leaves=6,
)
DEFINED = {"D": {"type": "object", "properties": {"deep": TEXT}}}


def values(schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of values of a rewritten schema."""
    if "$ref" in schema:
        return st.deferred(lambda: values(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root))
    if "anyOf" in schema:
        return st.one_of([values(one, root) for one in schema["anyOf"]])
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([of_kind(kind, schema, root) for kind in kinds])


def of_kind(kind: str, schema: dict[str, Any], root: dict[str, Any]) -> st.SearchStrategy[Any]:
    if kind == "object":
        required = set(schema.get("required", ()))
        found = {name: values(one, root) for name, one in schema["properties"].items()}
        return st.fixed_dictionaries(
            {name: one for name, one in found.items() if name in required},
            optional={name: one for name, one in found.items() if name not in required},
        )
    if kind == "array":
        return st.lists(values(schema["items"], root), max_size=2)
    return {
        "string": st.text(max_size=3),
        "integer": st.integers(0, 5),
        "boolean": st.booleans(),
        "null": st.none(),
    }[kind]


@pytest.mark.parametrize("dialect", [STRICT, ANTHROPIC])
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_what_fits_a_rewritten_schema_fits_the_given_one(dialect: Dialect, data: st.DataObject) -> None:
    schema = data.draw(objects(schemas)) | {"$defs": DEFINED}
    made = rewritten(schema, dialect)
    assert made is not None
    form = to_output_format(schema)
    value = data.draw(values(made, made))
    form.parse(json.dumps(value))


@given(objects(schemas))
@settings(max_examples=50, deadline=None)
def test_rewriting_twice_changes_nothing_more(schema: dict[str, Any]) -> None:
    schema = schema | {"$defs": DEFINED}
    for dialect in (STRICT, ANTHROPIC, GEMINI_TOOLS):
        made = rewritten(schema, dialect)
        assert made is not None
        assert rewritten(made, dialect) == made
