"""Values of every type -> JSON, as a model writes it by the schema -> the arguments of the call."""

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Iterable
from typing import Annotated, Literal, NotRequired, Optional

import jsonschema
import pytest
from hypothesis import given, settings, strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from abstractllm.errors import ToolArgumentError
from abstractllm.tools import Tool, ToolContext, to_tool_definitions, tool, validate_arguments
from abstractllm.types import ToolDefinition


class Color(enum.Enum):
    RED = "red"
    BLUE = 2


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Options(TypedDict):
    deep: bool
    depth: NotRequired[int]


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Place(BaseModel):
    name: str
    at: Point | None = None
    tags: list[str] = []


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: datetime.date
    color: Color = Field(Color.RED, alias="colour")


TYPES = {
    "text": str,
    "whole": int,
    "number": float,
    "flag": bool,
    "choice": Literal["a", "b", 3],
    "color": Color,
    "size": Size,
    "several": list[int],
    "few": set[int],
    "pair": tuple[int, str],
    "by_name": dict[str, float],
    "perhaps": int | None,
    "point": Point,
    "place": Place,
    "places": list[Place],
    "options": Options,
    "day": datetime.date,
    "moment": datetime.datetime,
    "span": datetime.timedelta,
    "key": uuid.UUID,
    "share": Annotated[int, Field(ge=0, le=100)],
}


def everything(
    text: str, whole: int, number: float, flag: bool, choice: Literal["a", "b", 3], color: Color, size: Size,
    several: list[int], few: set[int], pair: tuple[int, str], by_name: dict[str, float], perhaps: int | None,
    point: Point, place: Place, places: list[Place], options: Options, day: datetime.date, moment: datetime.datetime,
    span: datetime.timedelta, key: uuid.UUID, share: Annotated[int, Field(ge=0, le=100)], ctx: ToolContext,
):  # fmt: skip
    return {name: value for name, value in locals().items() if name != "ctx"}


texts = st.text(max_size=8)
finite = st.floats(allow_nan=False, allow_infinity=False)
points = st.builds(Point, st.integers(), finite)
places_ = st.builds(Place, name=texts, at=st.none() | points, tags=st.lists(texts, max_size=2))
VALUES = {
    "text": texts,
    "whole": st.integers(),
    "number": finite,
    "flag": st.booleans(),
    "choice": st.sampled_from(["a", "b", 3]),
    "color": st.sampled_from(Color),
    "size": st.sampled_from(Size),
    "several": st.lists(st.integers(), max_size=3),
    "few": st.sets(st.integers(), max_size=3),
    "pair": st.tuples(st.integers(), texts),
    "by_name": st.dictionaries(texts, finite, max_size=2),
    "perhaps": st.none() | st.integers(),
    "point": points,
    "place": places_,
    "places": st.lists(places_, max_size=2),
    "options": st.fixed_dictionaries({"deep": st.booleans()}, optional={"depth": st.integers()}),
    "day": st.dates(),
    "moment": st.datetimes(),
    "span": st.timedeltas(datetime.timedelta(-1000), datetime.timedelta(1000)),
    "key": st.uuids(),
    "share": st.integers(0, 100),
}
EVERYTHING = Tool.of(everything)
WRITERS = {name: TypeAdapter(hint) for name, hint in TYPES.items()}


def written(values):
    """Return values as a model writes them, read back from its text."""
    return json.loads(
        json.dumps({name: WRITERS[name].dump_python(value, mode="json") for name, value in values.items()})
    )


@settings(max_examples=60)
@given(st.fixed_dictionaries(VALUES))
def test_values_of_every_type_come_through(values):
    arguments = written(values)
    jsonschema.Draft202012Validator(EVERYTHING.definition.parameters).validate(arguments)
    found = EVERYTHING.arguments(arguments)
    assert found == values
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in values.items()}
    assert everything(**found, ctx=None) == values


@settings(max_examples=40)
@given(st.fixed_dictionaries(VALUES), st.data())
def test_what_is_left_out_is_named(values, data):
    gone = data.draw(st.sets(st.sampled_from(sorted(values)), min_size=1, max_size=3))
    arguments = {name: value for name, value in written(values).items() if name not in gone}
    with pytest.raises(ToolArgumentError) as caught:
        EVERYTHING.arguments(arguments)
    assert sorted(caught.value.problems) == [f"{name}: is missing" for name in sorted(gone)]


SCHEMA = {
    "type": "object",
    "properties": {
        "a": {"type": "integer"},
        "b": {"type": "array", "items": {"type": "string"}},
        "c": {"enum": [1, "x"]},
    },
    "required": ["a"],
}


@given(
    st.fixed_dictionaries(
        {"a": st.integers()},
        optional={"b": st.lists(texts, max_size=3), "c": st.sampled_from([1, "x"]), "d": st.none() | texts},
    )
)
def test_a_schema_written_by_hand_leaves_values_as_they_are(arguments):
    made = Tool(ToolDefinition("f", "", SCHEMA), lambda **given: given)
    assert made.arguments(arguments) == arguments
    assert made(**made.arguments(arguments)) == arguments


# What JSON cannot say by itself.


@pytest.mark.parametrize(
    ("hint", "given_", "expected"),
    [
        (datetime.date | str, "2025-01-02", datetime.date(2025, 1, 2)),
        (uuid.UUID | str, "12345678-1234-5678-1234-567812345678", uuid.UUID("12345678-1234-5678-1234-567812345678")),
        (str | datetime.date, "2025-01-02", "2025-01-02"),
        (decimal.Decimal, 1.5, decimal.Decimal("1.5")),
        (bytes, "ab", b"ab"),
        (Literal[Color.RED, "green"], "red", Color.RED),
        (list[Literal[Color.RED, Color.BLUE]], [2, "red"], [Color.BLUE, Color.RED]),
        (Annotated[Literal[Color.RED], "Which."] | int, "red", Color.RED),
        (dict[str, Literal[Size.SMALL]], {"a": 1}, {"a": Size.SMALL}),
        (Literal[Color.RED, "red"], "red", "red"),
        (Iterable[Iterable[int]], [["1"]], [[1]]),
        (tuple[Literal[Color.RED], ...], ["red"], (Color.RED,)),
        (Optional[Literal["a"]], None, None),  # noqa: UP045
        (Iterable[int], ["1", 2], [1, 2]),
        (Iterable[int] | None, None, None),
        (Iterable, [1], [1]),
        (list[Annotated[int, Field(gt=0)]], ["1"], [1]),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (Strict, {"day": "2025-01-02", "colour": 2}, Strict(day=datetime.date(2025, 1, 2), colour=Color.BLUE)),
        (object, {"any": [1]}, {"any": [1]}),
    ],
    ids=range(20),
)
def test_hints_say_what_a_text_means(hint, given_, expected):
    def function(value):
        return value

    function.__annotations__["value"] = hint
    found = Tool.of(function).arguments({"value": given_})["value"]
    assert (found, type(found)) == (expected, type(expected))


def test_items_of_an_iterable_are_checked_before_the_call():
    def add(numbers: Iterable[int]):
        return sum(numbers)

    made = Tool.of(add)
    assert made.definition.parameters["properties"]["numbers"] == {"type": "array", "items": {"type": "integer"}}
    with pytest.raises(ToolArgumentError, match=r"numbers\[1\]: Input should be a valid integer"):
        made.arguments({"numbers": [1, "x"]})


def test_a_strict_model_as_a_tool():
    made = Tool.of(Strict)
    found = made(**made.arguments({"day": "2025-01-02", "colour": 2}))
    assert (found.day, found.color) == (datetime.date(2025, 1, 2), Color.BLUE)
    with pytest.raises(ToolArgumentError, match="day: Input should be a valid date"):
        made.arguments({"day": "tomorrow"})


def test_a_strict_model_with_several_names_for_a_field():
    class Many(BaseModel):
        model_config = ConfigDict(strict=True)
        day: datetime.date = Field(validation_alias=AliasChoices("day", "date"))

    made = Tool.of(Many)
    assert made(**made.arguments({"day": "2025-01-02"})).day == datetime.date(2025, 1, 2)


def test_values_that_are_no_json_are_taken_as_they_are():
    marker = object()

    def function(a: object, b: datetime.date):
        return a, b

    found = Tool.of(function).arguments({"a": marker, "b": "2025-01-02"})
    assert found == {"a": marker, "b": datetime.date(2025, 1, 2)}
    circle = []
    circle.append(circle)
    assert Tool.of(function).arguments({"a": circle, "b": "2025-01-02"})["a"] is circle


def test_deep_values_come_through():
    deep = []
    for _ in range(400):
        deep = [deep]

    def function(a: object):
        return a

    assert Tool.of(function).arguments({"a": deep}) == {"a": deep}


def test_an_argument_of_null_that_may_be_left_out():
    def function(a: int, b: int = 2, c: int | None = 3):
        return a, b, c

    made = Tool.of(function)
    assert made.arguments({"a": 1, "b": None, "c": None}) == {"a": 1, "c": None}
    with pytest.raises(ToolArgumentError, match="a: Input should be a valid integer"):
        made.arguments({"a": None})


# What is remembered of a definition.


def test_a_changed_schema_is_read_again():
    definition = ToolDefinition("f", "", {"type": "object", "properties": {"a": {"type": "integer"}}})
    assert validate_arguments(definition, {"a": 1}) == {"a": 1}
    definition.parameters["properties"]["a"]["type"] = "string"
    assert validate_arguments(definition, {"a": "x"}) == {"a": "x"}
    with pytest.raises(ToolArgumentError):
        validate_arguments(definition, {"a": 1})


def test_a_changed_schema_of_a_tool_is_read_again():
    def function(a: int):
        return a

    made = tool(function)
    assert made.arguments({"a": "1"}) == {"a": 1}
    made.definition.parameters["properties"]["a"]["type"] = "string"
    assert made.arguments({"a": "1"}) == {"a": "1"}


def test_each_definition_has_its_own_memory():
    kinds = [("string", "x"), ("integer", 1)] * 50
    for kind, value in kinds:  # each new definition may lie where the one before was
        definition = ToolDefinition("f", "", {"type": "object", "properties": {"a": {"type": kind}}})
        (sent,) = to_tool_definitions([definition])
        assert sent is definition
        assert validate_arguments(definition, {"a": value}) == {"a": value}
