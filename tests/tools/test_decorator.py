"""`@tool` on functions and in classes."""

import abc
import asyncio
import functools
import inspect
from types import MethodType

import pytest

from abstractllm.errors import InvalidParameterError
from abstractllm.tools import BaseTool, Tool, ToolContext, to_tool_definitions, tool

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@tool
def add(a: int, b: int = 2) -> int:
    """Add.

    Args:
        a: The first.
    """
    return a + b


@tool(name="subtract", description="Take away.", timeout=3, retries=1, approval=True, sequential=True)
def minus(a: int, b: int) -> int:
    """Not this."""
    return a - b


class Service:
    """Has tools of every kind."""

    def __init__(self, url: str):
        self.url = url

    @tool
    def ask(self, question: str, ctx: ToolContext | None = None) -> str:
        """Ask it."""
        return self.url + question

    @tool(timeout=3)
    async def wait(self, other: "Service | None" = None, seconds: int = 1) -> tuple[str, int]:
        return self.url, seconds

    @tool(name="by_hand", parameters=CITY)
    def look(self, city: str) -> str:
        """Look there."""
        return self.url + city

    @staticmethod
    @tool
    def below(a: int) -> int:
        return a

    @tool
    @staticmethod
    def above(a: int) -> int:
        return a

    @classmethod
    @tool
    def make(cls, a: int) -> tuple[type, int]:
        return cls, a

    @tool
    @classmethod
    def build(cls, a: int) -> tuple[type, int]:
        return cls, a


def test_without_arguments():
    assert add(1) == 3
    assert isinstance(add, Tool)
    assert add.definition.description == "Add."
    assert add.definition.parameters["properties"]["a"] == {"type": "integer", "description": "The first."}
    assert (add.name, add.__name__, add.__module__) == ("add", "add", "abstractllm.tools.tool")


def test_with_arguments():
    assert minus(3, b=1) == 2
    assert (minus.name, minus.definition.name, minus.__name__) == ("subtract", "subtract", "minus")
    assert minus.definition.description == "Take away."
    assert (minus.timeout, minus.retries, minus.approval, minus.sequential) == (3, 1, True, True)


def test_as_a_function():
    def double(a):
        return 2 * a

    made = tool(double, name="twice", parameters={"type": "object", "properties": {"a": {"type": "integer"}}})
    assert (made.name, made(2)) == ("twice", 4)
    assert made.arguments({"a": 3}) == {"a": 3}
    assert tool(lambda city: city, name="f", parameters=CITY)("x") == "x"


def test_a_schema_written_by_hand_is_copied_and_described_by_the_docstring():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}

    @tool(parameters=schema)
    def f(a):
        """Do it.

        Args:
            a: Not shown.
        """

    assert f.definition.description == "Do it."
    assert f.definition.parameters == schema
    f.definition.parameters["properties"].clear()
    assert schema["properties"]


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        (add.function, {"name": "add it"}, "'add it', and models can only write"),
        (add.function, {"name": "x" * 65}, "1 to 64"),
        (add.function, {"name": 3}, "the name 3"),
        (add.function, {"name": ""}, "the name ''"),
        (lambda a: a, {}, "a lambda, and a tool needs a name"),
        ("add", {}, r"tool\('add'\) names a tool; write @tool\(name='add'\)"),
        (add, {}, r"'add' is a tool already; change it with dataclasses.replace"),
        (3, {}, "not of an object of type int"),
        ({"name": "f"}, {}, "not of an object of type dict"),
    ],
    ids=range(9),
)
def test_what_cannot_be_decorated(function, settings, message):
    with pytest.raises(InvalidParameterError, match=message):
        tool(function, **settings)
    if settings:
        with pytest.raises(InvalidParameterError, match=message):
            tool(**settings)(function)


def test_objects_are_no_functions():
    class Look(BaseTool):
        def execute(self):
            pass

    with pytest.raises(InvalidParameterError, match=r"pass it to tools=\[...\] as it is"):
        tool(Look())


def test_functions_that_yield_are_refused():
    def one_by_one(a: int):
        yield a

    async def one_by_one_later(a: int):
        yield a

    for function in (one_by_one, one_by_one_later):
        with pytest.raises(InvalidParameterError, match="yields its results.*return them in a list"):
            tool(function)


def test_a_description_must_be_text():
    with pytest.raises(InvalidParameterError, match="description of the tool 'add' is a int"):
        _ = tool(add.function, description=3).definition
    with pytest.raises(InvalidParameterError, match="not a JSON Schema"):
        _ = tool(add.function, parameters=3).definition


def test_wrong_settings_are_refused_at_once():
    with pytest.raises(TypeError, match="timout"):
        tool(timout=3)
    with pytest.raises(InvalidParameterError, match="timeout=0"):
        tool(timeout=0)


# In classes.


def test_a_method_of_an_object_is_a_tool():
    service = Service("u")
    assert service.ask("?") == "u?"
    assert list(service.ask.definition.parameters["properties"]) == ["question"]
    assert (service.ask.context, service.ask.name, service.ask.definition.description) == ("ctx", "ask", "Ask it.")
    assert service.ask(**service.ask.arguments({"question": "!"})) == "u!"


def test_each_object_has_its_own():
    first, second = Service("1"), Service("2")
    (definition,) = to_tool_definitions([second.look])
    assert definition.function("x") == "2x"
    assert (first.look("x"), second.look("x")) == ("1x", "2x")
    assert first.look.definition.description == "Look there."
    assert first.look.arguments({"city": "Rome"}) == {"city": "Rome"}


def test_settings_go_with_it():
    service = Service("u")
    assert (service.wait.timeout, service.wait.is_async) == (3, True)
    assert asyncio.run(service.wait(seconds=2)) == ("u", 2)
    assert asyncio.run(Service.wait(service, seconds=3)) == ("u", 3)


def test_a_method_without_its_object():
    assert Service.ask(Service("u"), "?") == "u?"
    for make in (lambda: to_tool_definitions([Service.ask]), lambda: Tool.of(Service.look)):
        with pytest.raises(
            InvalidParameterError, match=r"method without its object; pass it from an object, as in obj\."
        ):
            make()


@pytest.mark.parametrize("name", ["below", "above"])
def test_static_methods(name):
    for holder in (Service, Service("u")):
        made = Tool.of(getattr(holder, name))
        assert list(made.definition.parameters["properties"]) == ["a"]
        assert made(**made.arguments({"a": "1"})) == 1


@pytest.mark.parametrize("name", ["make", "build"])
def test_class_methods(name):
    class Special(Service):
        pass

    for holder in (Special, Special("u")):
        made = Tool.of(getattr(holder, name))
        assert list(made.definition.parameters["properties"]) == ["a"]
        assert made(**made.arguments({"a": "1"})) == (Special, 1)
        assert to_tool_definitions([getattr(holder, name)])[0].name == name


def test_a_class_method_as_newer_pythons_bind_it():
    bound = MethodType(Service.__dict__["make"].__func__, Service)
    assert Tool.of(bound)(1) == (Service, 1)
    (definition,) = to_tool_definitions([bound])
    assert list(definition.parameters["properties"]) == ["a"]


def test_a_tool_in_a_subclass():
    class Loud(Service):
        @tool
        def ask(self, question: str) -> str:
            return super().ask(question).upper()

    assert Loud("u").ask("a") == "UA"
    assert Loud("u").ask.definition.description == "Ask it."  # as Python's help has it


def test_what_is_no_function_is_not_bound():
    class Holder:
        half = tool(functools.partial(add.function, 1), name="half")
        kind = tool(Service)

    assert Holder().half(2) == 3
    assert Holder().kind("u").url == "u"


def test_a_definition_of_its_own_is_bound_too():
    class Holder:
        look = Tool(to_tool_definitions([{"name": "look", "parameters": {}}])[0], lambda *given: given)

    holder = Holder()
    assert holder.look() == (holder,)
    assert holder.look.definition.function() == (holder,)


def test_an_abstract_tool_stays_abstract():
    class Base(abc.ABC):
        @tool
        @abc.abstractmethod
        def act(self): ...

    with pytest.raises(TypeError, match="abstract"):
        Base()


def test_a_wrapped_function():
    def logged(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    made = tool(logged(add.function))
    assert made(**made.arguments({"a": "1"})) == 3
    assert inspect.signature(made) == inspect.signature(add)
    assert Tool.of(functools.partial(add, b=5))(1) == 6
