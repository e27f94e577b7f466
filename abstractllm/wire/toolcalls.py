"""Tool calls in formats that hold their arguments as JSON objects, not as text. Knows no format.

A call whose text is no JSON object is held as an object with the one key `INVALID_JSON`, as Anthropic's guide to
fine-grained tool streaming proposes, so that a model sees in the history what it wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abstractllm.accumulator import decode_arguments
from abstractllm.types import ToolCall
from abstractllm.wire.bodies import json_text

INVALID = "INVALID_JSON"


def arguments_object(call: ToolCall) -> dict[str, Any]:
    """Return the arguments of a call as an object."""
    return dict(call.arguments) if call.invalid is None else {INVALID: call.invalid}


def call_of(identity: str, name: str, arguments: object) -> ToolCall:
    """Return a call; the inverse of `arguments_object`. Some services send the arguments as text, or none."""
    text = arguments_text(arguments)
    decoded = decode_arguments(text)
    return ToolCall(identity, name, {}, invalid=text) if decoded is None else ToolCall(identity, name, decoded)


def arguments_text(arguments: object) -> str:
    """Return arguments as JSON text: what a stream says of them, in one piece."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    if not isinstance(arguments, Mapping):
        return json_text(arguments)
    only = arguments.get(INVALID) if len(arguments) == 1 else None
    return only if isinstance(only, str) else json_text(arguments)
