"""What a callable takes: every kind of callable, hint and docstring."""

import dataclasses
import datetime
import enum
import functools
import gc
import inspect
import weakref
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Optional

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, Field, RootModel
from typing_extensions import Doc, TypedDict

from abstractllm.errors import InvalidParameterError
from abstractllm.tools.callables import callable_name, look_into


class Unit(enum.Enum):
    CELSIUS = "c"
    FAHRENHEIT = "f"


class Place(BaseModel):
    """A place on a map."""

    title: str = "home"
    latitude: float = Field(ge=-90, le=90, description="Degrees north.")


class Tree(BaseModel):
    """A tree of trees."""

    kids: list["Tree"] = []


class Options(TypedDict, total=False):
    deep: bool


class Pair(NamedTuple):
    left: int
    right: int = 0


@dataclasses.dataclass
class Base:
    """Something with a start.

    Attributes:
        start: When it begins.
    """

    start: "datetime.date"


@dataclasses.dataclass
class Event(Base):
    tags: list[str] = dataclasses.field(default_factory=list)
    token: dataclasses.InitVar[int] = 0
    hidden: int = dataclasses.field(default=0, init=False)


class Service:
    """Serves."""

    def __init__(self, url: str = "here"):
        self.url = url

    def ask(self, question: str) -> str:
        """Ask a question."""
        return question + self.url

    @classmethod
    def make(cls, url: str):
        """Make one."""
        return cls(url)

    @staticmethod
    def ping(count: int):
        """Ping it."""
        return count

    def __call__(self, order: str):
        """Order something."""
        return order


def schema(function):
    return look_into("tool", function).schema


def properties(function):
    return schema(function)["properties"]


def hinted(hint, default=inspect.Parameter.empty):
    def function(value):
        pass

    function.__annotations__ = {"value": hint}
    function.__defaults__ = None if default is inspect.Parameter.empty else (default,)
    return function


HINTS = [
    (str, {"type": "string"}),
    (int, {"type": "integer"}),
    (float, {"type": "number"}),
    (bool, {"type": "boolean"}),
    (Any, {}),
    (None, {"type": "null"}),
    (list[int], {"type": "array", "items": {"type": "integer"}}),
    (list, {"type": "array", "items": {}}),
    (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
    (dict, {"type": "object", "additionalProperties": True}),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
    (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
    (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
    (datetime.date, {"type": "string", "format": "date"}),
    (Unit, {"$ref": "#/$defs/Unit"}),
    (Annotated[int, Field(ge=1)], {"type": "integer", "minimum": 1}),
    (Annotated[int, "How many."], {"type": "integer", "description": "How many."}),
    (Annotated[int, Doc("How many.")], {"type": "integer", "description": "How many."}),
    (Annotated[int, Field(description="How many.")], {"type": "integer", "description": "How many."}),
    ("list[Place]", {"type": "array", "items": {"$ref": "#/$defs/Place"}}),
]


@pytest.mark.parametrize(("hint", "expected"), HINTS, ids=range(len(HINTS)))
def test_hints(hint, expected):
    found = schema(hinted(hint))
    assert found["properties"]["value"] == expected
    assert found["required"] == ["value"]


@pytest.mark.parametrize(
    ("hint", "default", "expected"),
    [
        (int, 3, {"type": "integer", "default": 3}),
        (Unit, Unit.CELSIUS, {"$ref": "#/$defs/Unit", "default": "c"}),
        (dict, {"title": "x"}, {"type": "object", "additionalProperties": True, "default": {"title": "x"}}),
        (int, None, {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}),
        (int | None, None, {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None}),
        (Any, None, {"default": None}),
        (object, None, {"default": None}),
        (int, object(), {"type": "integer"}),
        (int, Field(3, description="M."), {"type": "integer", "default": 3, "description": "M."}),
    ],
    ids=range(9),
)  # fmt: skip
def test_defaults(hint, default, expected):
    found = schema(hinted(hint, default))
    assert found["properties"]["value"] == expected
    assert "required" not in found


def test_the_default_of_a_field_of_pydantic_is_handed_over():
    callee = look_into("tool", hinted(int, Field(3)))
    assert callee.coerce({}) == {"value": 3}
    made = look_into("tool", hinted(list, Field(default_factory=list)))
    assert made.coerce({}) == {"value": []}
    assert "value" in schema(hinted(int, Field(ge=1)))["required"]


def test_no_hints_allow_anything():
    def function(a, b=1):
        pass

    assert schema(function) == {
        "type": "object",
        "properties": {"a": {}, "b": {"default": 1}},
        "required": ["a"],
        "additionalProperties": False,
    }


def test_other_keywords_are_allowed_where_the_function_takes_them():
    def function(a: int, **others):
        return a, others

    callee = look_into("tool", function)
    assert callee.schema["additionalProperties"] is True
    assert callee.coerce({"a": "1", "p0": 2, "b": 3}) == {"a": 1, "p0": 2, "b": 3}


def test_names_that_pydantic_keeps_for_itself():
    def function(_private: int, model_config: int, schema: int, copy: int, self_: int, json: int = 1):
        pass

    names = ["_private", "model_config", "schema", "copy", "self_", "json"]
    assert list(properties(function)) == names
    assert look_into("tool", function).coerce(dict.fromkeys(names, "1")) == dict.fromkeys(names, 1)


def test_nested_models_are_without_titles_but_for_properties_of_that_name():
    def function(place: Place):
        pass

    assert schema(function)["$defs"] == {
        "Place": {
            "type": "object",
            "description": "A place on a map.",
            "properties": {
                "title": {"type": "string", "default": "home"},
                "latitude": {"type": "number", "description": "Degrees north.", "minimum": -90, "maximum": 90},
            },
            "required": ["latitude"],
        }
    }


def test_the_schema_begins_with_what_people_read_first():
    def function(place: Place):
        pass

    assert list(schema(function))[:3] == ["type", "properties", "required"]


def test_a_model_that_contains_itself():
    found = schema(Tree)
    assert found["type"] == "object"
    assert found["properties"]["kids"]["items"] == {"$ref": "#/$defs/Tree"}


def test_models_and_their_docstrings():
    class Person(BaseModel):
        """A person.

        Attributes:
            name: What to call them.
            age: In years.
        """

        name: str
        age: int = Field(3, description="Years.")

    callee = look_into("Person", Person)
    assert callee.description == "A person."
    assert callee.schema["properties"] == {
        "name": {"type": "string", "description": "What to call them."},
        "age": {"type": "integer", "description": "Years.", "default": 3},
    }


def test_a_dataclass():
    callee = look_into("Base", Base)
    assert callee.description == "Something with a start."
    assert callee.schema["properties"]["start"] == {
        "type": "string", "format": "date", "description": "When it begins.",
    }  # fmt: skip


def test_a_dataclass_with_all_kinds_of_fields():
    callee = look_into("Event", Event)
    assert callee.description == ""
    assert list(callee.schema["properties"]) == ["start", "tags", "token"]
    assert callee.schema["required"] == ["start"]
    event = Event(**callee.coerce({"start": "2025-01-01", "token": "3"}))
    assert (event.start, event.tags) == (datetime.date(2025, 1, 1), [])


def test_methods_and_objects():
    service = Service()
    kinds = [service.ask, Service.make, Service.ping, service, Service]
    assert [callable_name("", kind) for kind in kinds] == ["ask", "make", "ping", "Service", "Service"]
    assert [list(properties(kind)) for kind in kinds] == [["question"], ["url"], ["count"], ["order"], ["url"]]
    assert [look_into("tool", kind).description for kind in kinds] == [
        "Ask a question.", "Make one.", "Ping it.", "Order something.", "Serves.",
    ]  # fmt: skip


def test_an_object_is_described_by_its_class_where_its_call_is_not():
    class Quiet:
        def __call__(self, order: str):
            pass

    class Described(Quiet):
        """Takes orders."""

    assert [look_into("tool", one).description for one in (Quiet(), Described())] == ["", "Takes orders."]


def test_other_callables():
    async def wait(seconds: int):
        """Wait."""

    @functools.wraps(wait)
    def wrapped(*args, **kwargs):
        pass

    half = functools.partial(functools.partial(wait), seconds=1)
    assert list(properties(wait)) == list(properties(wrapped)) == ["seconds"]
    assert (callable_name("", half), look_into("tool", half).description) == ("wait", "Wait.")
    assert properties(half) == {}
    assert list(properties(Pair)) == ["left", "right"]
    assert properties(hinted(Options))["value"] == {"$ref": "#/$defs/Options"}


def test_a_partial_may_be_named():
    half = functools.partial(print)
    half.__name__ = "say"
    assert callable_name("", half) == "say"


def test_types_of_the_enclosing_function():
    class Local(BaseModel):
        a: int

    def function(value: "Local"):
        return Local

    assert look_into("tool", function).coerce({"value": {"a": 1}}) == {"value": Local(a=1)}


def test_an_unresolved_return_type_does_no_harm():
    def function(a: int) -> "Nowhere":  # noqa: F821
        pass

    assert properties(function) == {"a": {"type": "integer"}}


def by_position(a, /):
    pass


def any_number(*args):
    pass


def cannot_be_known(a: "Nowhere"):  # noqa: F821
    pass


def takes_function(a: Callable[[int], int]):
    pass


def takes_object(a: weakref.ref):
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (any_number, r"takes \*args.*take a list instead"),
        (by_position, "'a' by position alone"),
        (cannot_be_known, "hint of 'a' in the tool 'tool' cannot be resolved .*Nowhere"),
        (takes_function, "no JSON Schema"),
        (takes_object, "no JSON Schema"),
        (Service.ask, r"method without its object; pass it from an object, as in obj\.tool"),
        (dict, "wrap it in a function"),
        (RootModel[list[int]], "takes no named arguments"),
    ],
)
def test_what_cannot_be_a_tool(function, message):
    with pytest.raises(InvalidParameterError, match=message) as caught:
        look_into("tool", function)
    assert caught.value.parameter == "tools"


# Docstrings.

GOOGLE = """Find a train.

The fastest one.

Args:
    start (str): Where from,
        or "here".
    end: Where to.
    **more: More.

Returns:
    A train.
"""
NUMPY = """Find a train.

The fastest one.

Parameters
----------
start : str
    Where from,
    or "here".
end, via : str
    Where to.
"""
SPHINX = """Find a train.

The fastest one.

:param start: Where from,
    or "here".
:type start: str
:param end: Where to.
:returns: A train.
"""


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_styles_of_docstrings(text):
    def function(start, end, via: Annotated[str, "Own words."] = "", **more):
        pass

    function.__doc__ = text
    callee = look_into("tool", function)
    assert callee.description.split("\n\n") == ["Find a train.", "The fastest one."]
    described = {name: part.get("description") for name, part in callee.schema["properties"].items()}
    assert described == {"start": 'Where from,\nor "here".', "end": "Where to.", "via": "Own words."}


@given(
    st.text() | st.lists(st.sampled_from([*GOOGLE.split("\n"), *NUMPY.split("\n"), *SPHINX.split("\n")])).map("\n".join)
)
def test_no_docstring_raises_another_error(text):
    def function(start: int):
        pass

    function.__doc__ = text
    try:
        callee = look_into("tool", function)
    except InvalidParameterError:
        return
    assert callee.schema["required"] == ["start"]


# Memory.


def test_a_function_is_looked_into_once():
    assert look_into("tool", by_two).model is look_into("tool", by_two).model
    service = Service()
    assert look_into("tool", service.ask).model is look_into("tool", Service("there").ask).model


def by_two(a: int):
    """Say two."""


def test_a_new_docstring_is_read():
    def function(a: int):
        """Say one."""

    assert look_into("tool", function).description == "Say one."
    function.__doc__ = "Say two."
    assert look_into("tool", function).description == "Say two."


def test_bound_and_unbound_are_kept_apart():
    def function(first, second):
        pass

    assert list(properties(function.__get__(1))) == ["second"]
    assert list(properties(function)) == ["first", "second"]


def test_an_unhashable_callable():
    class Loose(dict):
        def __call__(self, a: int):
            pass

    assert list(properties(Loose())) == ["a"]


def test_a_function_is_not_kept_alive():
    def function(a: int, b: Place):
        pass

    look_into("tool", function)
    gone = weakref.ref(function)
    del function
    gc.collect()
    assert gone() is None
