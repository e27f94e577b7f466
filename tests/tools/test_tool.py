"""`Tool`: what it is made of, what it keeps of its function, and its settings."""

import asyncio
import dataclasses
import functools
import gc
import inspect
import math
import pickle
import threading
import weakref

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel

from abstractllm.errors import InvalidParameterError, ToolArgumentError
from abstractllm.tools import Tool, ToolContext, to_tool_definitions, tool
from abstractllm.types import ToolDefinition

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SETTINGS = {"timeout": 3, "retries": 2, "approval": True, "sequential": True}


def get_weather(city: str, days: int = 1) -> str:
    """Tell the weather.

    Args:
        city: Where.
    """
    return city * days


async def wait(seconds: float) -> float:
    """Wait."""
    return seconds


class Later:
    async def __call__(self, seconds: float) -> float:
        return seconds


class Service:
    def __init__(self, url: str):
        self.url = url

    async def ask(self, question: str) -> str:
        return self.url + question

    @classmethod
    def make(cls, url: str) -> str:
        return cls(url).url


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Address(BaseModel):
    street: str


def refusal(tool):
    with pytest.raises(InvalidParameterError) as caught:
        Tool.of(tool)
    assert caught.value.parameter == "tools"
    return str(caught.value)


# What becomes a tool.


@pytest.mark.parametrize(
    ("function", "name", "arguments", "result"),
    [
        (get_weather, "get_weather", {"city": "a", "days": "2"}, "aa"),
        (functools.partial(get_weather, days=3), "get_weather", {"city": "a"}, "aaa"),
        (functools.partial(get_weather, "b"), "get_weather", {"days": 2}, "bb"),
        (Service("u").ask, "ask", {"question": "?"}, "u?"),
        (Service.make, "make", {"url": "u"}, "u"),
        (Later(), "Later", {"seconds": 1}, 1.0),
        (wait, "wait", {"seconds": "1.5"}, 1.5),
        (Point, "Point", {"x": "1"}, Point(1)),
        (Address, "Address", {"street": "s"}, Address(street="s")),
        (ToolDefinition("f", "", CITY, get_weather), "f", {"city": "a"}, "a"),
        (functools.lru_cache(get_weather), "get_weather", {"city": "a"}, "a"),
    ],
    ids=range(11),
)
def test_what_becomes_a_tool(function, name, arguments, result):
    made = Tool.of(function)
    assert made.name == made.definition.name == name
    assert to_tool_definitions([made]) == (made.definition,)
    found = made(**made.arguments(arguments))
    assert (asyncio.run(found) if made.is_async else found) == result


def test_a_tool_stays_the_tool_it_is():
    made = tool(get_weather)
    assert Tool.of(made) is made
    assert made.definition is made.definition
    assert Tool.of(made.definition).function is get_weather


def test_the_definition_is_that_of_the_function():
    (plain,) = to_tool_definitions([get_weather])
    assert Tool.of(get_weather).definition == plain
    assert Tool.of(get_weather).definition.function is get_weather


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"name": "f", "parameters": CITY},
            r"of type dict has no function to call; pass the function itself",
        ),
        (ToolDefinition("f", "", CITY), "definition of the tool 'f' has no function to call"),
        ("get_weather", "of type str has no function"),
        (None, "of type NoneType has no function"),
        (lambda city: city, "A tool is a lambda"),
        (Service.ask, r"method without its object; pass it from an object, as in obj\.ask"),
        (ToolDefinition("f f", "", CITY, get_weather), "1 to 64 of a-z"),
        (ToolDefinition("f", "", {"type": "array"}, get_weather), 'must be a JSON Schema with "type": "object"'),
    ],
    ids=range(8),
)
def test_what_is_no_tool(given, message):
    with pytest.raises(InvalidParameterError, match=message):
        Tool.of(given)


# Schemas written by hand.


def test_a_schema_with_a_function_beside_it():
    made = Tool(ToolDefinition("look", "Look.", CITY), lambda city: city)
    assert made.definition.function is made.function
    assert made.arguments({"city": "Rome"}) == {"city": "Rome"}
    assert made("x") == "x"
    with pytest.raises(ToolArgumentError, match="city: 3 is not of type 'string'"):
        made.arguments({"city": 3})


def test_a_schema_without_all_of_its_parts_is_completed():
    made = Tool(ToolDefinition("f", "", {"properties": {}}), lambda: 1)
    assert made.definition.parameters == {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda town: town, "have 'city', which its function does not take"),
        (lambda city, town: town, "needs 'town', which its parameters do not have"),
        (lambda city, /: city, "have 'city', which its function does not take"),
        (Service.ask, "method without its object"),
    ],
)
def test_a_schema_that_does_not_fit_its_function(function, message):
    with pytest.raises(InvalidParameterError, match=message):
        Tool(ToolDefinition("f", "", CITY), function)
    with pytest.raises(InvalidParameterError, match=message):
        _ = tool(function, name="f", parameters=CITY).definition


@pytest.mark.parametrize("function", [lambda **others: others, lambda city="": city, lambda city, town="": city, dict])
def test_a_schema_that_may_fit_its_function(function):
    assert Tool(ToolDefinition("f", "", CITY), function).arguments({"city": "Rome"}) == {"city": "Rome"}


def test_what_a_schema_allows_and_its_function_does_not_take_is_told():
    schema = {"type": "object", "properties": {"a": {}, "b": {}}}
    made = Tool(ToolDefinition("f", "", schema), lambda a, b=1: a)
    with pytest.raises(ToolArgumentError) as caught:
        made.arguments({"b": 1, "d": 2, "c": 3})
    assert caught.value.problems == (
        "a: is missing",
        "c: is not one of the parameters",
        "d: is not one of the parameters",
    )
    assert made.arguments({"a": None}) == {"a": None}


# What it keeps of its function.


def test_a_tool_looks_like_its_function():
    made = tool(get_weather)
    assert (made.__name__, made.__qualname__, made.__doc__) == ("get_weather", "get_weather", get_weather.__doc__)
    assert made.__wrapped__ is get_weather
    assert inspect.signature(made) == inspect.signature(get_weather)
    assert inspect.getdoc(made) == inspect.getdoc(get_weather)
    assert inspect.unwrap(made) is get_weather
    assert "function that a model may call" in Tool.__doc__
    assert "get_weather" in repr(made)


def test_a_tool_without_a_named_function():
    made = Tool(ToolDefinition("later", "", {"type": "object"}), functools.partial(dict))
    assert (made.__name__, made.__qualname__) == ("later", "later")


def test_a_tool_has_no_other_attributes():
    with pytest.raises(AttributeError, match="'Tool' object has no attribute 'nme'"):
        _ = tool(get_weather).nme
    with pytest.raises(dataclasses.FrozenInstanceError):
        tool(get_weather).timeout = 3


def test_tools_are_keys():
    made = tool(get_weather)
    assert {made: 1}[made] == 1
    assert made != tool(get_weather)
    assert weakref.ref(made)() is made


def test_a_changed_copy():
    made = tool(get_weather, timeout=3)
    changed = dataclasses.replace(made, timeout=4, approval=True)
    assert (changed.timeout, changed.approval, changed.definition) == (4, True, made.definition)
    assert made.timeout == 3
    other = dataclasses.replace(made, definition=dataclasses.replace(made.definition, name="other"))
    assert (other.name, other.arguments({"city": "a", "days": "1"})) == ("other", {"city": "a", "days": 1})


def test_a_definition_is_pickled_without_its_memory():
    definition = dataclasses.replace(Tool.of(get_weather).definition)
    assert pickle.loads(pickle.dumps(definition)) == definition


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (get_weather, False),
        (wait, True),
        (functools.partial(functools.partial(wait), seconds=1), True),
        (functools.partial(get_weather, days=1), False),
        (Later(), True),
        (Service("").ask, True),
        (Service("").make, False),
        (Address, False),
        (tool(wait), True),
        (functools.partial(tool(wait), seconds=1), True),
    ],
    ids=range(10),
)
def test_whether_it_is_async(function, expected):
    assert Tool.of(function).is_async is expected


# Settings.


def test_settings():
    made = tool(get_weather, **SETTINGS)
    assert {name: getattr(made, name) for name in SETTINGS} == SETTINGS
    plain = Tool.of(get_weather)
    assert (plain.timeout, plain.retries, plain.approval, plain.sequential) == (None, 0, False, False)
    assert tool(get_weather, timeout=math.inf).timeout == math.inf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timeout": 0}, "timeout=0 must be a number of seconds above 0"),
        ({"timeout": -1.5}, "above 0"),
        ({"timeout": math.nan}, "above 0"),
        ({"timeout": "3"}, "timeout='3' must be a number"),
        ({"timeout": True}, "timeout=True must be a number"),
        ({"retries": -1}, "retries=-1 must be a whole number from 0"),
        ({"retries": 1.0}, "whole number"),
        ({"retries": True}, "whole number"),
        ({"approval": "yes"}, "approval='yes' must be True, False or a function of a ToolCall"),
        ({"approval": None}, "approval=None must be"),
        ({"sequential": 1}, "sequential=1 must be True or False"),
    ],
    ids=range(11),
)
def test_settings_that_cannot_be(settings, message):
    (name,) = settings
    definition = Tool.of(get_weather).definition
    for make in (
        lambda: tool(**settings),
        lambda: tool(get_weather, **settings),
        lambda: Tool(definition, get_weather, **settings),
    ):
        with pytest.raises(InvalidParameterError, match=message) as caught:
            make()
        assert caught.value.parameter == name


# What is found out late.


@tool
def visit(place: "Place") -> str:
    return place.name


@dataclasses.dataclass
class Place:
    name: str


def test_a_hint_may_name_what_comes_later():
    assert visit(**visit.arguments({"place": {"name": "x"}})) == "x"


def test_many_threads_ask_first():
    made, start, found = tool(get_weather), threading.Barrier(8), []

    def ask():
        start.wait()
        found.append((made.context, made.definition))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(None, Tool.of(get_weather).definition)] * 8


def test_what_is_wrong_is_said_each_time():
    @tool
    def broken(a: "Nowhere"):  # noqa: F821
        pass

    for _ in range(2):
        with pytest.raises(InvalidParameterError, match="hint of 'a' in the tool 'broken' cannot be resolved"):
            _ = broken.definition
    assert broken.name == "broken"
    assert "broken" in repr(broken)


def test_nothing_keeps_a_tool_alive():
    class Holder:
        def __init__(self):
            self.tool = Tool.of(self.act)
            self.by_hand = Tool(ToolDefinition("f", "", {"properties": {"a": {}}}), self.act)

        def act(self, a: int) -> int:
            return a

    holder = Holder()
    to_tool_definitions([holder.tool, holder.by_hand])
    assert holder.tool.arguments({"a": 1}) == holder.by_hand.arguments({"a": 1}) == {"a": 1}
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


# Arguments named like anything inside.


def test_arguments_may_have_any_name():
    def trap(tool_name: str, call: int, ctx: int, arguments: dict, definition: str, name: str, given: int, self: int):
        return locals()

    given = {"tool_name": "a", "call": 1, "ctx": 2, "arguments": {"a": 1}, "definition": "d", "name": "n", "given": 3}
    given["self"] = 4
    made = tool(trap)
    assert made(**made.arguments(given)) == given
    by_hand = Tool(ToolDefinition("f", "", {"properties": {one: {} for one in given}}), trap)
    assert by_hand(**by_hand.arguments(given)) == given


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True) | st.sampled_from(
    [
        "self",
        "cls",
        "ctx",
        "context",
        "name",
        "tool",
        "function",
        "arguments",
        "model_config",
        "model_fields",
        "copy",
        "p0",
    ]
)


@given(st.dictionaries(NAMES, st.integers() | st.text() | st.none(), max_size=5))
def test_arguments_of_any_name_come_through_by_any_way(arguments):
    def everything(ctx_: ToolContext = None, **others):
        return others

    assert Tool.of(everything).arguments(arguments | {}) == arguments
    by_hand = Tool(ToolDefinition("f", "", {"properties": {one: {} for one in arguments}}), everything)
    assert by_hand(**by_hand.arguments(arguments)) == arguments


def test_what_yields_is_refused_however_it_is_given():
    def counting():
        yield 1

    async def streaming():
        yield 1

    for function in (counting, streaming):
        with pytest.raises(InvalidParameterError, match="yields its results.*return them in a list"):
            Tool.of(function)
