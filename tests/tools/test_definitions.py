"""Tools as users give them, and the arguments of their calls."""

import datetime
import functools
import re
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from abstractllm.errors import InvalidParameterError, ToolArgumentError
from abstractllm.tools import to_tool_definitions, validate_arguments
from abstractllm.types import ToolDefinition

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
NODE = {
    "type": "object",
    "properties": {"tree": {"$ref": "#/$defs/Node"}},
    "$defs": {"Node": {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}},
}


def get_weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: Where.
        days: How many days.
    """
    return city * days


class Address(BaseModel):
    """Where someone lives."""

    street: str
    since: datetime.date | None = None


def one(tool):
    (definition,) = to_tool_definitions([tool])
    return definition


def refusal(*tools):
    with pytest.raises(InvalidParameterError) as caught:
        to_tool_definitions(list(tools))
    assert caught.value.parameter == "tools"
    return str(caught.value)


def problems(definition, arguments):
    with pytest.raises(ToolArgumentError) as caught:
        validate_arguments(definition, arguments)
    assert caught.value.tool == definition.name
    assert all("\n" not in problem for problem in caught.value.problems)
    return list(caught.value.problems)


# Forms.


def test_a_function_is_defined_by_its_signature_and_docstring():
    assert one(get_weather) == ToolDefinition(
        "get_weather",
        "Tell the weather.",
        {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where."},
                "days": {"type": "integer", "description": "How many days.", "default": 1},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    )
    assert one(get_weather).function is get_weather


@pytest.mark.parametrize(
    "form",
    [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": CITY}},
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": CITY, "strict": True}},
        {"type": "function", "name": "f", "description": "d", "parameters": CITY},
        {"name": "f", "description": "d", "parameters": CITY},
        {"name": "f", "description": "d", "input_schema": CITY},
        {"name": "f", "title": "F", "description": "d", "inputSchema": CITY, "annotations": {}},
        ToolDefinition("f", "d", CITY),
    ],
    ids=range(7),
)
def test_all_forms_of_a_schema_mean_the_same(form):
    assert one(form) == ToolDefinition("f", "d", CITY)


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}])
def test_a_tool_without_parameters(parameters):
    assert one({"name": "f", "parameters": parameters}).parameters == {"type": "object", "properties": {}}
    assert one({"name": "f"}).parameters == {"type": "object", "properties": {}}


def test_a_schema_is_copied():
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    definition = one({"name": "f", "parameters": schema})
    schema["properties"]["a"]["type"] = "nonsense"
    assert definition.parameters["properties"]["a"]["type"] == "string"


def test_a_changed_definition_does_not_change_the_next_one():
    one(get_weather).parameters["properties"].clear()
    assert set(one(get_weather).parameters["properties"]) == {"city", "days"}


def test_a_definition_keeps_its_function():
    definition = ToolDefinition("f", "", {"properties": {}}, get_weather)
    assert one(definition).function is get_weather
    assert one(definition).parameters["type"] == "object"


def test_tools_stay_in_order():
    names = [definition.name for definition in to_tool_definitions([get_weather, {"name": "b"}, Address])]
    assert names == ["get_weather", "b", "Address"]
    assert to_tool_definitions([]) == ()


# Refusals.


@pytest.mark.parametrize(
    "schema",
    [{"type": "array"}, {"type": ["object", "null"]}, {"anyOf": [CITY]}, {"$ref": "#/$defs/A"}, {"enum": [1]}],
)
def test_the_schema_must_be_one_of_an_object(schema):
    assert 'must be a JSON Schema with "type": "object"' in refusal({"name": "f", "parameters": schema})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": 3},
        {"type": "object", "required": "city"},
        {"type": "object", "properties": {"a": {"type": "strnig"}}},
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        {"type": "object", "properties": {"a": {"minimum": "0"}}},
        {"type": "object", "$id": 3},
    ],
)
def test_the_schema_must_be_well_formed(schema):
    assert "no JSON Schema" in refusal({"name": "f", "parameters": schema})
    assert "no JSON Schema" in refusal(ToolDefinition("f", "", schema))


@pytest.mark.parametrize("reference", ["https://example.org/a.json", "http://[", "other.json", "#/$defs/Missing"])
def test_references_stay_inside_the_schema(reference):
    schema = {"type": "object", "properties": {"a": {"$ref": reference}}}
    message = refusal({"name": "f", "parameters": schema})
    assert repr(reference) in message


def nested(depth):
    schema = {}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


@pytest.mark.parametrize("depth", [100, 400, 5000])
def test_a_deep_schema_breaks_nothing(depth):
    try:
        one({"name": "f", "parameters": nested(depth)})
    except InvalidParameterError as error:
        assert error.parameter == "tools"


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ({"name": "get weather"}, "'get weather'.*1 to 64 of a-z"),
        ({"name": "x" * 65}, "1 to 64"),
        ({"name": ""}, "1 to 64"),
        ({"name": "f\n"}, "1 to 64"),
        ({"name": 3}, "name 3"),
        ({"parameters": CITY}, "name None"),
        ({"name": "f", "paramters": CITY}, "unknown key 'paramters'. Did you mean 'parameters'"),
        ({"name": "f", "parameters": CITY, "input_schema": CITY}, "more than one of"),
        ({"name": "f", "parameters": "city"}, "of type str, not a JSON Schema"),
        ({"name": "f", "parameters": {"properties": {"a": {"default": object()}}}}, "cannot be written as JSON"),
        ({"name": "f", "description": 3}, "description of the tool 'f' is a int"),
        ({"type": "web_search"}, "type 'web_search'; only 'function'"),
        ({"type": "function", "function": get_weather}, "'function' that is not a mapping"),
        ({"name": "f", "parameters": {"$schema": {}}}, "unknown .schema {}"),
        ({"name": "f", "parameters": {"$schema": "http://["}}, "unknown .schema 'http"),
        (3, "of type int; it must be a function"),
        ("get_weather", "of type str"),
        (lambda city: city, "a lambda, and a tool needs a name; define it with def"),
    ],
    ids=range(18),
)
def test_what_is_no_tool_is_refused(tool, message):
    assert re.search(message, refusal(tool))


def test_an_unwritable_function_name_is_refused():
    def größe():
        pass

    assert "pass ToolDefinition(name" in refusal(größe)


@pytest.mark.parametrize("tools", [get_weather, {"name": "f"}, "f", ToolDefinition("f", "", CITY), 3, Address])
def test_tools_must_be_a_list(tools):
    with pytest.raises(InvalidParameterError, match="pass a list of tools"):
        to_tool_definitions(tools)


def test_two_tools_of_one_name_are_refused():
    assert "Two tools are named 'get_weather'" in refusal(get_weather, {"name": "get_weather"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
schema_like = st.recursive(
    json_values,
    lambda inner: st.dictionaries(
        st.sampled_from(["type", "properties", "items", "required", "$ref", "$defs", "anyOf", "a", "enum", "$schema"]),
        inner | st.sampled_from(["object", "string", "#", "#/properties", "x.json"]),
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(
        st.sampled_from(["type", "function", "name", "description", "parameters", "input_schema", "strict", "x"]),
        schema_like | st.sampled_from(["function", "f"]),
    )
    | schema_like.map(lambda schema: {"name": "f", "parameters": schema})
    | json_values
)
def test_no_input_raises_another_error(tool):
    try:
        definition = one(tool)
    except InvalidParameterError as error:
        assert error.parameter == "tools"
        return
    assert definition.parameters["type"] == "object"


# Arguments.


def test_arguments_of_a_function_are_coerced():
    def book(day: datetime.date, guests: list[Address], note: str = "none"):
        return day, guests, note

    found = validate_arguments(one(book), {"day": "2025-03-01", "guests": [{"street": "High St"}]})
    assert found == {"day": datetime.date(2025, 3, 1), "guests": [Address(street="High St")]}
    assert book(**found)[2] == "none"


def test_all_problems_are_listed():
    assert problems(one(get_weather), {"days": "many", "unit": "C"}) == [
        "city: is missing",
        "days: Input should be a valid integer, unable to parse string as an integer",
        "unit: is not one of the parameters",
    ]


def test_a_problem_says_where_it_is():
    def visit(places: list[Address]):
        pass

    assert problems(one(visit), {"places": [{"street": "a"}, {}]}) == ["places[1].street: is missing"]


def test_arguments_of_a_model_are_validated():
    definition = one(Address)
    arguments = {"street": "High St", "since": "2020-01-01"}
    assert Address(**validate_arguments(definition, arguments)).since == datetime.date(2020, 1, 1)
    assert problems(definition, {"since": "long ago"})[0] == "street: is missing"


def test_arguments_of_a_schema_are_validated_and_left_as_they_are():
    definition = one({"name": "f", "parameters": CITY})
    assert validate_arguments(definition, {"city": "Rome", "more": 1}) == {"city": "Rome", "more": 1}
    assert problems(definition, {"city": 3}) == ["city: 3 is not of type 'string'"]
    assert problems(definition, {}) == ["'city' is a required property"]


def test_recursive_schemas():
    definition = one({"name": "f", "parameters": NODE})
    assert validate_arguments(definition, {"tree": {"kids": [{"kids": []}]}})
    assert problems(definition, {"tree": {"kids": [{"kids": 3}]}}) == ["tree.kids[0].kids: 3 is not of type 'array'"]


def test_a_schema_by_hand_comes_before_the_function():
    definition = ToolDefinition("f", "", CITY, lambda city: city)
    assert validate_arguments(definition, {"city": "Rome"}) == {"city": "Rome"}
    assert problems(definition, {"city": 3})
    takes_anything = ToolDefinition("f", "", CITY, print)
    assert problems(takes_anything, {})


@pytest.mark.parametrize("arguments", [None, [], "city", 3])
def test_arguments_must_be_an_object(arguments):
    assert "must be an object" in problems(one(get_weather), arguments)[0]


def test_a_long_problem_is_shortened():
    definition = one({"name": "f", "parameters": CITY})
    (problem,) = problems(definition, {"city": ["x" * 10_000]})
    assert len(problem) < 300
    assert problem.endswith("is not of type 'string'")


@given(st.dictionaries(st.text(max_size=5) | st.sampled_from(["city", "days"]), json_values))
def test_arguments_that_pass_fit_the_function(arguments):
    try:
        found = validate_arguments(one(get_weather), arguments)
    except ToolArgumentError as error:
        assert error.problems
        return
    assert isinstance(found["city"], str)
    assert isinstance(found.get("days", 1), int)
    assert set(found) == set(arguments)


@given(st.text(max_size=10), st.integers(-5, 5), st.booleans())
def test_the_values_that_the_schema_allows_come_through(city, days, given_days):
    arguments = {"city": city} | ({"days": days} if given_days else {})
    assert validate_arguments(one(get_weather), arguments) == arguments


def test_bound_arguments_are_neither_shown_nor_changed():
    definition = one(functools.partial(get_weather, days=2))
    assert definition.name == "get_weather"
    assert set(definition.parameters["properties"]) == {"city"}
    assert definition.function(**validate_arguments(definition, {"city": "a"})) == "aa"
    assert problems(definition, {"city": "a", "days": 3}) == ["days: is not one of the parameters"]


def test_importing_the_module_imports_no_library():
    names = {"pydantic", "docstring_parser", "jsonschema", "referencing"}
    code = f"import sys, abstractllm.tools; print({names!r} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_schema_stays_in_the_order_in_which_it_was_written():
    parameters = {"properties": {"b": {"type": "integer"}, "a": {}}, "required": ["b"], "type": "object", "title": "T"}
    (definition,) = to_tool_definitions([{"name": "f", "parameters": parameters}])
    assert list(definition.parameters) == ["properties", "required", "type", "title"]
    assert list(definition.parameters["properties"]) == ["b", "a"]
