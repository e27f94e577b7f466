"""Tools as classes: `BaseTool`, and classes that look like it."""

import asyncio
import dataclasses
from types import SimpleNamespace
from typing import ClassVar

import pytest
from pydantic import BaseModel

from abstractllm.errors import InvalidParameterError, ToolArgumentError
from abstractllm.tools import BaseTool, Tool, ToolContext, to_tool_definitions
from abstractllm.types import ToolCall

URL = {"type": "object", "properties": {"url": {"type": "string"}}, "required": ["url"]}


class WebTool(BaseTool):
    name = "web_fetch"
    description = "Fetch a page."
    parameters = URL
    timeout = 5
    retries = 1
    sequential = True

    async def execute(self, url: str) -> str:
        return f"<{url}>"

    def approval(self, call: ToolCall) -> bool:
        return call.arguments["url"].startswith("http:")


class Counter(BaseTool):
    """Counts what it is given."""

    def __init__(self):
        self.count = 0

    def execute(self, by: int, ctx: ToolContext) -> int:
        self.count += by
        return self.count


class Duck:
    name = "duck"
    description = "Quack."
    parameters: ClassVar = {"type": "object", "properties": {"times": {"type": "integer"}}}

    def execute(self, times=1):
        return "quack" * times


class Plain:
    def __init__(self):
        self.name = "plain"

    def execute(self, times: int = 1):
        """Do it.

        Args:
            times: How often.
        """
        return times


def test_a_class_with_everything():
    made = Tool.of(WebTool())
    assert (made.name, made.definition.description, made.definition.parameters) == ("web_fetch", "Fetch a page.", URL)
    assert (made.timeout, made.retries, made.sequential, made.is_async) == (5, 1, True, True)
    assert made.approval(ToolCall("1", "web_fetch", {"url": "http://a"})) is True
    assert asyncio.run(made(**made.arguments({"url": "a"}))) == "<a>"
    with pytest.raises(ToolArgumentError, match="query: is not one of the parameters"):
        made.arguments({"url": "a", "query": "b"})


def test_a_class_with_hints_alone():
    counter = Counter()
    made = Tool.of(counter)
    assert (made.name, made.definition.description) == ("Counter", "Counts what it is given.")
    assert made.definition.parameters["properties"] == {"by": {"type": "integer"}}
    assert (made.context, made(**made.arguments({"by": "2"}), ctx=None), counter.count) == ("ctx", 2, 2)


def test_other_classes_of_the_same_form():
    made = Tool.of(Duck())
    assert (made.name, made.definition.description, made.definition.parameters) == ("duck", "Quack.", Duck.parameters)
    assert made(**made.arguments({"times": 2})) == "quackquack"
    assert (made.timeout, made.retries, made.approval) == (None, 0, False)
    plain = Tool.of(Plain()).definition
    assert (plain.name, plain.description) == ("plain", "Do it.")
    assert plain.parameters["properties"] == {"times": {"type": "integer", "description": "How often.", "default": 1}}
    assert Tool.of(SimpleNamespace(name="simple", execute=lambda a: a)).arguments({"a": 1}) == {"a": 1}


def test_they_stand_among_other_tools():
    names = [one.name for one in to_tool_definitions([WebTool(), Duck(), print_city, Counter()])]
    assert names == ["web_fetch", "duck", "print_city", "Counter"]


def print_city(city: str): ...


def test_a_name_and_settings_of_an_object():
    web = WebTool()
    web.name, web.timeout = "other", None
    assert (Tool.of(web).name, Tool.of(web).timeout, Tool.of(WebTool()).timeout) == ("other", None, 5)


def test_a_docstring_is_not_inherited():
    class Quiet(WebTool):
        description = ""

    class Quieter(BaseTool):
        def execute(self):
            pass

    assert Tool.of(Quiet()).definition.description == ""
    assert Tool.of(Quieter()).definition.description == ""


def test_a_class_needs_an_execute():
    class Idle(BaseTool):
        name = "idle"

    with pytest.raises(TypeError, match="execute"):
        Idle()


@pytest.mark.parametrize("kind", [WebTool, Duck])
def test_a_class_in_place_of_its_object(kind):
    for make in (lambda: Tool.of(kind), lambda: to_tool_definitions([kind])):
        with pytest.raises(InvalidParameterError, match=rf"is the class {kind.__name__}; pass an object of it"):
            make()


def test_models_and_dataclasses_with_these_names_stay_what_they_are():
    class Task(BaseModel):
        name: str

        def execute(self): ...

    @dataclasses.dataclass
    class Job:
        name: str = "job"

        def execute(self): ...

    assert [one.name for one in to_tool_definitions([Task, Job])] == ["Task", "Job"]
    assert list(Tool.of(Job).definition.parameters["properties"]) == ["name"]


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("name", "web fetch", "'web fetch', and models can only write"),
        ("timeout", 0, "timeout=0 must be"),
        ("retries", -1, "retries=-1"),
        ("approval", "no", "approval='no'"),
        ("sequential", None, "sequential=None"),
        ("description", 3, "description of the tool 'web_fetch' is a int"),
        ("parameters", {"type": "array"}, 'must be a JSON Schema with "type": "object"'),
        ("parameters", {"properties": {"uri": {}}}, "have 'uri', which its function does not take"),
        ("parameters", {"properties": {}}, "needs 'url', which its parameters do not have"),
    ],
    ids=range(9),
)
def test_attributes_that_cannot_be(attribute, value, message):
    web = WebTool()
    setattr(web, attribute, value)
    with pytest.raises(InvalidParameterError, match=message):
        Tool.of(web)
    with pytest.raises(InvalidParameterError, match=message):
        to_tool_definitions([web])


def test_one_object_is_no_list():
    with pytest.raises(InvalidParameterError, match="pass a list of tools"):
        to_tool_definitions(WebTool())
