"""Requests' and answers' parts for property tests, of every kind that wire formats share."""

from __future__ import annotations

from hypothesis import strategies as st

from abstractllm.schema import OutputFormat, to_output_format
from abstractllm.types import ImagePart, ToolCall, ToolDefinition

texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))
objects = st.dictionaries(texts, values, max_size=3)
properties = st.dictionaries(names, st.sampled_from([{"type": "string"}, {"type": "integer"}]), max_size=3)
images = st.binary(max_size=20).map(lambda data: ImagePart(b"\x89PNG\r\n\x1a\n" + data, "image/png"))


@st.composite
def calls(draw: st.DrawFn, identity: str) -> ToolCall:
    """A call that could be decoded, or one that could not."""
    name = draw(names)
    if draw(st.booleans()):
        return ToolCall(identity, name, draw(objects))
    return ToolCall(identity, name, {}, invalid=draw(st.sampled_from(['{"a": ', "[1]", "no JSON", '{"é'])))


@st.composite
def call_lists(draw: st.DrawFn, prefix: str = "toolu_") -> tuple[ToolCall, ...]:
    """Up to three calls with ids of their own."""
    return tuple(draw(calls(f"{prefix}{number}")) for number in range(draw(st.integers(0, 3))))


@st.composite
def tools(draw: st.DrawFn) -> tuple[ToolDefinition, ...]:
    """Tools of different names."""
    found = draw(st.lists(names, max_size=2, unique=True))
    schema = {"type": "object", "properties": draw(properties)}
    return tuple(ToolDefinition(name, draw(st.sampled_from(["", "Does it."])), schema) for name in found)


@st.composite
def closed_formats(draw: st.DrawFn) -> OutputFormat:
    """An object that has the properties that are named, and no others."""
    return to_output_format({"type": "object", "properties": draw(properties), "additionalProperties": False})
