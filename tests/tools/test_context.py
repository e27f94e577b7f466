"""`ToolContext`: where it is found among the parameters of a function, and that no model gives it."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Annotated, Any, Optional

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, ConfigDict

from abstractllm.errors import InvalidParameterError, ToolArgumentError
from abstractllm.tools import (
    BaseTool,
    StopRun,
    Tool,
    ToolContext,
    ToolRetry,
    to_tool_definitions,
    tool,
    validate_arguments,
)
from abstractllm.types import Message, ToolCall, ToolDefinition, Usage

if TYPE_CHECKING:
    from nowhere import Deps

Hidden = ToolContext
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def alone(city: str, ctx: ToolContext): ...
def of_something(city: str, ctx: ToolContext[dict[str, int]]): ...
def of_something_unknown(city: str, ctx: ToolContext[Deps]): ...
def of_something_in_it(city: str, ctx: ToolContext[nowhere.Deps[int]]): ...  # noqa: F821
def quoted_within(city: str, ctx: Optional["ToolContext[Deps]"]): ...  # noqa: UP037, UP045
def optional(city: str, ctx: ToolContext[Deps] | None = None): ...
def optional_in_old_words(ctx: Optional[ToolContext], city: str): ...  # noqa: UP045
def annotated(city: str, *, ctx: Annotated[ToolContext[Deps], "The run."]): ...
def annotated_within(city: str, ctx: Annotated[ToolContext, "x"] | None = None): ...
def by_another_name(city: str, ctx: Hidden): ...
def as_text(city: str, ctx: "ToolContext[Deps] | None"): ...  # noqa: UP037
def with_any_others(city: str, ctx: ToolContext, **others: Any): ...
async def waiting(city: str, ctx: ToolContext): ...


def not_as_text(city, ctx):
    pass


not_as_text.__annotations__ = {"city": str, "ctx": ToolContext[int]}


class Service:
    def ask(self, city: str, ctx: ToolContext): ...

    @classmethod
    def make(cls, city: str, ctx: ToolContext): ...

    def __call__(self, city: str, ctx: ToolContext[Service]): ...


class Executed(BaseTool):
    def execute(self, city: str, ctx: ToolContext): ...


@dataclasses.dataclass
class Held:
    city: str
    ctx: ToolContext[Deps]


FORMS = [
    alone, of_something, of_something_unknown, of_something_in_it, optional, optional_in_old_words, quoted_within,
    annotated, annotated_within, by_another_name, as_text, with_any_others, waiting, not_as_text, Service().ask,
    Service.make, Service(), Executed(), Held, functools.partial(alone), tool(alone),
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
def test_the_context_is_found_and_not_shown(form):
    made = Tool.of(form)
    assert made.context == "ctx"
    assert list(made.definition.parameters["properties"]) == ["city"]
    assert made.definition.parameters["required"] == ["city"]
    assert made.arguments({"city": "Rome"}) == {"city": "Rome"}


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
def test_a_model_cannot_give_the_context(form):
    made = Tool.of(form)
    for given_ in ({"city": "Rome", "ctx": {"deps": 1}}, {"city": "Rome", "ctx": None}):
        with pytest.raises(ToolArgumentError) as caught:
            made.arguments(given_)
        assert caught.value.problems == ("ctx: is not one of the parameters",)
        with pytest.raises(ToolArgumentError):
            validate_arguments(made.definition, given_)


@pytest.mark.parametrize("form", [one for one in FORMS if one is not FORMS[-1] and not isinstance(one, Executed)])
def test_the_context_beside_a_schema_written_by_hand(form):
    made = Tool(ToolDefinition("f", "", CITY), form)
    assert made.context == "ctx"
    with pytest.raises(ToolArgumentError) as caught:
        made.arguments({"ctx": 1})
    assert caught.value.problems == ("'city' is a required property", "ctx: is not one of the parameters")


def test_a_plain_definition_does_not_show_the_context_either():
    (definition,) = to_tool_definitions([alone])
    assert list(definition.parameters["properties"]) == ["city"]
    assert validate_arguments(definition, {"city": "Rome"}) == {"city": "Rome"}


def test_a_bound_context_is_the_callers():
    context = ToolContext(1)
    made = Tool.of(functools.partial(alone, ctx=context))
    assert made.context is None
    assert list(made.definition.parameters["properties"]) == ["city"]


def test_the_docstring_may_speak_of_it():
    def documented(city: str, ctx: ToolContext):
        """Do.

        Args:
            city: Where.
            ctx: The run.
        """

    assert Tool.of(documented).definition.parameters["properties"] == {
        "city": {"type": "string", "description": "Where."}
    }


def twice(a: ToolContext, b: ToolContext[int] | None = None): ...
def something_else(a: ToolContext | int): ...
def one_of_many(a: list[ToolContext]): ...
def unknown(a: Deps): ...
def out_of_reach(a: nowhere.ToolContext): ...  # noqa: F821
def no_hint(a: "ToolContext["): ...  # noqa: F722


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (twice, "takes its context twice, as 'a' and 'b'; take it once"),
        (something_else, "is a ToolContext or something else; annotate it as ToolContext alone"),
        (one_of_many, "no JSON Schema"),
        (unknown, "hint of 'a' in the tool 'unknown' cannot be resolved"),
        (out_of_reach, "cannot be resolved"),
        (no_hint, "cannot be resolved"),
    ],
)
def test_what_is_no_context(function, message):
    with pytest.raises(InvalidParameterError, match=message):
        Tool.of(function)
    with pytest.raises(InvalidParameterError, match=message):
        to_tool_definitions([function])


def test_two_contexts_beside_a_schema_written_by_hand():
    with pytest.raises(InvalidParameterError, match="takes its context twice"):
        Tool(ToolDefinition("twice", "", {"type": "object"}), twice)


def test_a_schema_with_the_context_in_it():
    schema = {"type": "object", "properties": {"city": {}, "ctx": {}}}
    with pytest.raises(InvalidParameterError, match="have 'ctx', its context, which no model can give"):
        Tool(ToolDefinition("f", "", schema), alone)


def test_hints_that_say_nothing_do_no_harm_beside_a_schema():
    def function(city: Deps, ctx: ToolContext): ...

    assert Tool(ToolDefinition("f", "", CITY), function).context == "ctx"


def test_a_model_may_hold_one():
    class State(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        context: ToolContext

    State.model_rebuild(_types_namespace={"ToolContext": ToolContext})
    context = ToolContext(1)
    assert State(context=context).context is context
    with pytest.raises(InvalidParameterError, match="no JSON Schema"):
        Tool.of(State)


# The data.


def test_a_context_for_tests_of_a_tool_needs_its_deps_alone():
    context = ToolContext({"key": 1})
    assert (context.deps, context.attempt, context.messages, context.usage) == ({"key": 1}, 1, (), Usage())
    assert context.call == ToolCall("", "")
    assert context.cancelled is False


def test_a_context_tells_what_it_was_told():
    told, call = [False], ToolCall("1", "f", {"a": 1})
    context = ToolContext("d", call, 2, [Message("user", "Hi")], Usage(1, 2), lambda: told[0])
    assert (context.call, context.attempt, context.messages[0].text, context.usage.total_tokens) == (call, 2, "Hi", 3)
    assert context.cancelled is False
    told[0] = True
    assert context.cancelled is True


def test_the_exceptions_of_tools():
    assert str(ToolRetry("Say the year too.")) == "Say the year too."
    assert StopRun({"a": 1}).value == {"a": 1}
    assert StopRun().value is None
    assert not issubclass(ToolRetry, StopRun)


@given(st.permutations(["a", "b", "ctx", "c"]), st.booleans())
def test_the_context_may_stand_anywhere(order, by_keyword):
    signature = ", ".join(f"{name}: {'ToolContext' if name == 'ctx' else 'int'}" for name in order)
    names: dict[str, Any] = {}
    exec(f"def f({'*, ' if by_keyword else ''}{signature}): return [a, b, c, ctx]", globals(), names)
    made = Tool.of(names["f"])
    values = made.arguments({"a": 1, "b": 2, "c": 3})
    assert made.context == "ctx"
    assert made(**values, ctx=4) == [1, 2, 3, 4]
