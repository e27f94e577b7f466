"""The quick look never says yes where jsonschema says no, and says it for what is right of the usual schemas."""

import pytest
from hypothesis import given, settings, strategies as st
from jsonschema.validators import Draft3Validator, Draft7Validator, Draft202012Validator

from abstractllm.tools.fitting import quick_check

KINDS = ["string", "integer", "number", "boolean", "null", "array", "object"]
NAMES = st.sampled_from("abc")
leaves = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS) | st.lists(st.sampled_from(KINDS), min_size=1, max_size=2, unique=True),
        "enum": st.lists(st.sampled_from(["x", "y", 1, 1.0, True, None]), min_size=1, max_size=3),
        "description": st.just("d"),
        "minimum": st.integers(0, 1),
    },
)
schemas = st.recursive(
    leaves | st.booleans(),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(KINDS),
            "properties": st.dictionaries(NAMES, inner, max_size=3),
            "required": st.lists(NAMES, max_size=2, unique=True),
            "additionalProperties": st.booleans() | inner,
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
        },
    ),
    max_leaves=6,
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from([1.0, 1.5, "", "x", "y"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(schemas, st.lists(values, min_size=5, max_size=5))
def test_what_it_says_yes_to_fits(schema, some):
    check = quick_check(schema)
    for value in some if check is not None else ():
        if check(value):
            assert Draft202012Validator(schema).is_valid(value)
            assert Draft7Validator(schema).is_valid(value)


USUAL = {
    "type": "object",
    "title": "T",
    "properties": {
        "query": {"type": "string", "description": "What."},
        "limit": {"type": "integer", "default": 3},
        "share": {"type": ["number", "null"]},
        "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        "place": {"anyOf": [{"type": "object", "properties": {"x": {}}, "required": ["x"]}, {"type": "null"}]},
        "others": {"type": "object", "additionalProperties": True},
    },
    "required": ["query"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"query": "a"}, True),
        ({"query": "a", "limit": 1, "share": None, "tags": ["a", "b"], "place": {"x": []}, "others": {"a": 1}}, True),
        ({"query": "a", "share": 1.5, "place": None, "tags": []}, True),
        ({}, False),
        ({"query": 1}, False),
        ({"query": "a", "limit": True}, False),
        ({"query": "a", "limit": 1.5}, False),
        ({"query": "a", "tags": ["c"]}, False),
        ({"query": "a", "tags": "a"}, False),
        ({"query": "a", "place": {}}, False),
        ({"query": "a", "more": 1}, False),
        ([], False),
    ],
    ids=range(12),
)
def test_the_usual_schemas(value, expected):
    assert quick_check(USUAL)(value) is expected
    assert Draft202012Validator(USUAL).is_valid(value) is expected


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a"},
        {"type": "object", "properties": {"a": {"minimum": 1}}},
        {"type": "object", "additionalProperties": {"type": "string"}},
        {"$ref": "#/$defs/A"},
        {"items": {"const": 1}},
        {"anyOf": [{"const": 1}]},
        {"type": "object", "required": True},
        False,
    ],
    ids=range(8),
)
def test_schemas_that_say_more(schema):
    assert quick_check(schema) is None


def test_one_of_several_that_it_can_read_is_enough():
    check = quick_check({"anyOf": [{"const": 1}, {"type": "string"}]})
    assert (check("a"), check(1)) == (True, False)


@pytest.mark.parametrize(
    "part", [{"required": True}, {"type": "any"}, {"type": [{"type": "string"}, "null"]}, {"type": ["string", "any"]}]
)
def test_the_oldest_version_has_other_words(part):
    schema = {"$schema": Draft3Validator.META_SCHEMA["$schema"], "properties": {"a": part}}
    Draft3Validator.check_schema(schema)
    assert quick_check(schema) is None


def test_what_is_nested_deeply_is_left_alone():
    schema, value = {"type": "string"}, "x"
    for _ in range(15):
        schema, value = {"type": "array", "items": schema}, [value]
    assert quick_check(schema)(value) is True
    for _ in range(2000):
        schema = {"type": "array", "items": schema}
    assert quick_check(schema) is None
