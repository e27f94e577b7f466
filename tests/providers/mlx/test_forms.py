"""Answers with a form, and calls that are forced, through the provider's public faces."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from abstractllm import (
    GenerationError,
    Grammar,
    IncompleteOutputError,
    InvalidParameterError,
    ModelCapability,
    Regex,
    UnsupportedFeatureError,
)
from abstractllm.accumulator import join
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.masking import Masking
from abstractllm.types import Message, ToolCall, ToolDefinition

Short = Annotated[str, Field(max_length=4)]


FewOrFlag = Annotated[list[Literal["x", "y"]], Field(max_length=3)] | bool


class Pet(BaseModel):
    name: Short
    kind: Literal["cat", "dog"]
    legs: Annotated[int, Field(ge=0, le=8)]


@dataclass
class Point:
    x: Annotated[int, Field(ge=-9, le=9)]
    y: Annotated[int, Field(ge=-9, le=9)] = 0


class Movie(TypedDict):
    title: Short
    good: bool


SCHEMA = {
    "type": "object",
    "properties": {
        "tags": {"type": "array", "items": {"enum": ["a", "ü", 3]}, "maxItems": 3},
        "on": {"type": "boolean"},
    },
    "required": ["tags", "on"],
}


@pytest.fixture(scope="module")
def llm(tiny_model: Path) -> Iterator[MLXProvider]:
    """A random model, which writes anything at all where nothing holds it."""
    with MLXProvider(model=str(tiny_model), max_tokens=200, temperature=1.0) as provider:
        yield provider


@pytest.fixture(scope="module")
def shipped() -> Iterator[MLXProvider]:
    """The model that ships."""
    with MLXProvider(max_tokens=80) as provider:
        yield provider


@pytest.mark.parametrize("kind", [Pet, Point, Movie, FewOrFlag])
@pytest.mark.parametrize("seed", range(3))
def test_an_answer_is_a_value_of_the_type(llm: MLXProvider, kind: Any, seed: int) -> None:
    from pydantic import TypeAdapter

    answer = llm.generate("Tell me.", response_format=kind, seed=seed)
    assert answer.finish_reason == "stop"
    assert TypeAdapter(kind).validate_python(answer.parsed) == answer.parsed
    assert not re.search(r"[:,]\s", re.sub(r'"[^"]*"', "", answer.content))


@pytest.mark.parametrize("seed", range(3))
def test_raw_schemas_expressions_and_grammars_hold(llm: MLXProvider, seed: int) -> None:
    wrapped = {"type": "json_schema", "json_schema": {"name": "tags", "schema": SCHEMA}}
    for form in (SCHEMA, wrapped):
        answer = llm.generate("Tell me.", response_format=form, seed=seed)
        jsonschema.validate(answer.parsed, SCHEMA)
    digits = llm.generate("Tell me.", response_format=Regex("[0-9]{2}-[a-f]+!"), seed=seed, max_tokens=400)
    assert re.fullmatch("[0-9]{2}-[a-f]+!", digits.parsed)
    words = llm.generate("Tell me.", response_format=Grammar('start: ("ab" | "c") "." '), seed=seed)
    assert words.content in ("ab.", "c.")


@pytest.mark.parametrize("whole", [False, True])
async def test_all_faces_give_the_same_value_and_streams_show_it_growing(llm: MLXProvider, whole: bool) -> None:
    options: dict[str, Any] = {"response_format": Pet, "seed": 5}
    expected = llm.generate("Tell me.", **options)
    if whole:
        assert (await llm.generate_async("Tell me.", **options)).parsed == expected.parsed
        return
    stream = llm.generate("Tell me.", stream=True, **options)
    seen = []
    for _ in stream:
        seen.append(stream.partial)
    assert stream.response.parsed == expected.parsed
    assert seen[-1] == expected.parsed.model_dump()
    assert all(set(earlier) <= set(later) for earlier, later in itertools.pairwise(seen))
    deltas = [delta async for delta in llm.generate_async("Tell me.", stream=True, **options)]
    assert [delta.parsed for delta in deltas if delta.parsed is not None] == [expected.parsed]
    assert join(deltas).content == expected.content


async def test_rows_with_and_without_a_form_share_a_batch(llm: MLXProvider) -> None:
    plain = [llm.generate_async(f"Question {i}", seed=i, max_tokens=30) for i in range(4)]
    formed = [
        llm.generate_async("Tell me.", response_format=form, seed=i) for i, form in enumerate([Pet, Point, SCHEMA])
    ]
    answers = await asyncio.gather(*plain, *formed)
    assert isinstance(answers[4].parsed, Pet)
    assert isinstance(answers[5].parsed, Point)
    jsonschema.validate(answers[6].parsed, SCHEMA)
    assert all(answer.parsed is None for answer in answers[:4])


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_is_cut_off_raises_and_holds_its_beginning(llm: MLXProvider, stream: bool) -> None:
    with pytest.raises(IncompleteOutputError) as caught:
        list(llm.generate("Tell me.", response_format=Pet, max_tokens=2, seed=1, stream=stream))  # type: ignore[call-overload]
    assert caught.value.response is not None
    assert caught.value.response.content.startswith('{"')


def test_a_text_that_is_cut_off_raises_and_one_that_is_just_whole_does_not(llm: MLXProvider) -> None:
    with pytest.raises(IncompleteOutputError):
        llm.generate("Tell me.", response_format=Regex("[0-9]{4}"), max_tokens=3)
    answer = llm.generate("Tell me.", response_format=Regex("[0-9]{4}"), max_tokens=4)
    assert (len(answer.parsed), answer.finish_reason) == (4, "stop")


def test_what_cannot_be_enforced_is_refused(llm: MLXProvider) -> None:
    with pytest.raises(UnsupportedFeatureError, match="uniqueItems"):
        llm.generate("Tell me.", response_format={"type": "array", "uniqueItems": True})
    with pytest.raises(InvalidParameterError, match="response_format"):
        llm.generate("Tell me.", response_format="json")
    with pytest.raises(InvalidParameterError, match="regex"):
        llm.generate("Tell me.", response_format=Regex("("))


@pytest.mark.parametrize("choice", ["required", "get_weather"])
def test_a_form_and_forced_calls_do_not_go_together(shipped: MLXProvider, choice: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match="tool_choice"):
        shipped.generate("Tell me.", response_format=Pet, tools=[get_weather], tool_choice=choice)
    with pytest.raises(UnsupportedFeatureError, match="tool_choice"):
        shipped.generate("Tell me.", response_format=Regex("a+"), tools=[get_weather])


@pytest.mark.parametrize("choice", ["none", "auto", None])
def test_an_answer_has_its_form_where_a_call_might_have_come(shipped: MLXProvider, choice: str | None) -> None:
    answer = shipped.generate("Ana has a cat.", response_format=Pet, tools=[get_weather], tool_choice=choice)
    assert answer.tool_calls or isinstance(answer.parsed, Pet)
    assert choice != "none" or not answer.tool_calls


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_comes_where_an_answer_would_have_a_form(shipped: MLXProvider, stream: bool) -> None:
    answer = shipped.generate("What is the weather in Lima?", response_format=Pet, tools=[get_weather], stream=stream)  # type: ignore[call-overload]
    answer = join(answer) if stream else answer
    assert [(call.name, call.arguments["city"]) for call in answer.tool_calls] == [("get_weather", "Lima")]
    assert answer.content == ""
    assert answer.finish_reason == "tool_calls"


def test_after_a_result_the_answer_has_its_form(shipped: MLXProvider) -> None:
    call = ToolCall("call_0", "get_weather", {"city": "Lima"})
    turns = [
        Message("user", "What is the weather in Lima?"),
        Message("assistant", tool_calls=(call,)),
        Message("tool", "20 degrees", tool_call_id="call_0"),
    ]
    answer = shipped.generate(messages=turns, response_format=Pet, tools=[get_weather], seed=1)
    assert isinstance(answer.parsed, Pet) or answer.has_tool_calls()


def test_calls_can_be_limited_to_one(shipped: MLXProvider) -> None:
    both = ToolDefinition("get_weather", "", {"type": "object", "properties": {"at": {"enum": ["a", "b"]}}})
    bias = {3: 100}  # the token that begins a call
    params = {"tools": [both], "tool_choice": "required", "logit_bias": bias, "max_tokens": 60}
    assert len(shipped.generate("Hello!", **params).tool_calls) > 1  # type: ignore[arg-type]
    one = shipped.generate("Hello!", options={"parallel_tool_calls": False}, **params)  # type: ignore[arg-type]
    assert len(one.tool_calls) == 1
    assert one.finish_reason == "tool_calls"
    with pytest.raises(InvalidParameterError, match="parallel_tool_calls"):
        shipped.generate("Hello!", options={"parallel_tool_calls": "no"})


def get_weather(city: str, unit: Literal["C", "F"] = "C") -> str:
    """Tell the weather in a city."""
    return f"{city} {unit}"


def get_time(place: str) -> str:
    """Tell the time in a place."""
    return place


@pytest.mark.parametrize("choice", ["required", "get_time"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_can_be_forced(shipped: MLXProvider, choice: str, stream: bool) -> None:
    answer = shipped.generate("Hello!", tools=[get_weather, get_time], tool_choice=choice, stream=stream)  # type: ignore[call-overload]
    answer = join(answer) if stream else answer
    assert answer.finish_reason == "tool_calls"
    assert answer.tool_calls
    assert all(call.invalid is None for call in answer.tool_calls)
    names = {call.name for call in answer.tool_calls}
    assert names == {"get_time"} if choice == "get_time" else names <= {"get_weather", "get_time"}


def test_it_says_that_it_can(llm: MLXProvider) -> None:
    assert llm.get_capabilities()[ModelCapability.STRUCTURED_OUTPUT] is True


class Failing:
    """A constraint that fails at the second token."""

    def __init__(self) -> None:
        self.tokens = 0

    def copy(self) -> Failing:
        return Failing()

    def replay(self, tokens: Any) -> None:
        self.tokens = len(list(tokens))

    def accept(self, token: int) -> None:
        self.tokens += 1
        if self.tokens > 1:
            raise GenerationError("the constraint broke")

    def fill(self, mask: Any) -> None:
        mask[:] = 1


class Constrained:
    def __init__(self, constraint: Any, generated: list[int]) -> None:
        self.constraint = constraint
        self.generated = generated


def test_a_constraint_that_fails_fails_its_row_alone() -> None:
    masking = Masking()
    masking.join([Constrained(None, []), Constrained(Failing(), []), Constrained(Failing(), [7])])
    masks, errors = masking.begin([], 40).result()
    assert (list(masks.rows), masks.bits.tolist(), errors) == ([1, 2], [[1, 1], [1, 1]], {})
    masks, errors = masking.begin([5, 0, 0], 40).result()
    assert list(errors) == [2]
    assert masks.bits.tolist() == [[1, 1], [2**32 - 1] * 2]
    masking.keep([0, 2])
    _, errors = masking.begin([], 40).result()
    assert list(errors) == [1]
    masking.keep([0])
    assert not masking.needed
