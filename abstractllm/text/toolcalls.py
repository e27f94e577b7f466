"""The text of a tool call -> `ToolCall`, with whichever parser the model's family has. Never raises, never drops."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from abstractllm.accumulator import decode_arguments
from abstractllm.types import ToolCall

Parser = Callable[[str, Sequence[Mapping[str, Any]]], Any]
"""Takes the text between the markers and the tools as JSON Schemas; returns one call or a list of them."""


def parse_calls(text: str, parser: Parser, tools: Sequence[Mapping[str, Any]], *, first: int) -> tuple[ToolCall, ...]:
    """Return the calls in `text`, numbered from `first`.

    What the parser cannot read becomes one call that is marked invalid and holds the text.
    """
    try:
        parsed = parser(text, tools)
    except Exception:  # a family's parser may raise anything on what a model writes
        return (_invalid(text, first),)
    found = parsed if isinstance(parsed, list) else [parsed]
    return tuple(_call(one, text, number) for number, one in enumerate(found, first)) or (_invalid(text, first),)


def _call(parsed: object, text: str, number: int) -> ToolCall:
    if not isinstance(parsed, Mapping) or not isinstance(parsed.get("name"), str) or not parsed["name"]:
        return _invalid(text, number)
    arguments = parsed.get("arguments")
    if arguments is None:
        arguments = {}
    decoded = decode_arguments(arguments) if isinstance(arguments, str) else arguments
    if not isinstance(decoded, Mapping):
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
        return ToolCall(f"call_{number}", parsed["name"], {}, invalid=written)
    return ToolCall(f"call_{number}", parsed["name"], dict(decoded))


def _invalid(text: str, number: int) -> ToolCall:
    return ToolCall(f"call_{number}", "", {}, invalid=text.strip())
