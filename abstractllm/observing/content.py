"""Messages and answers as JSON text in the form that OpenTelemetry's conventions give them.

Source: gen-ai-input-messages.json, gen-ai-output-messages.json and gen-ai-tool-definitions.json of the repository
open-telemetry/semantic-conventions-genai. Images and documents are named and not copied. Knows no spans.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from abstractllm.errors import shown
from abstractllm.types import GenerateResponse, Message, Part, TextPart, ToolCall, ToolDefinition

_REASONS = {"tool_calls": "tool_call"}


def messages_json(messages: Iterable[Message]) -> str:
    """Return a conversation."""
    return as_json([{"role": message.role, "parts": list(_parts(message))} for message in messages])


def response_json(response: GenerateResponse) -> str:
    """Return an answer, or several, each with its reason for ending; one that was cut off has "error"."""
    return as_json(
        [
            {
                "role": "assistant",
                "parts": list(_parts(one.to_message())),
                "finish_reason": _REASONS.get(one.finish_reason or "error", one.finish_reason or "error"),
            }
            for one in response.choices or (response,)
        ]
    )


def tools_json(tools: Sequence[ToolDefinition]) -> str:
    """Return the tools that a model may call, with what it is told of them."""
    return as_json(
        [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in tools
        ]
    )


def content_json(content: str | tuple[Part, ...]) -> str:
    """Return the content of one message, such as a tool's result: text, or its parts."""
    return as_json(content if isinstance(content, str) else [_part(part) for part in content])


def as_json(value: Any) -> str:
    """Return a value as JSON text; what JSON does not know is its repr, and so is a value that contains itself.

    Half of a surrogate pair, which a model may make and UTF-8 cannot be made of, becomes a question mark.
    """
    try:
        text = json.dumps(value, default=_known, ensure_ascii=False, skipkeys=True)
    except (ValueError, RecursionError):
        text = json.dumps(shown(value))
    return text.encode("utf-8", "replace").decode("utf-8")


def _known(value: object) -> object:
    """Return a mapping that is no dict as one, everything else as text."""
    return dict(value) if hasattr(value, "keys") and hasattr(value, "__getitem__") else repr(value)


def _parts(message: Message) -> Iterator[dict[str, Any]]:
    if message.role == "tool":
        yield {"type": "tool_call_response", "id": message.tool_call_id, "response": message.text}
        return
    if message.reasoning:
        yield {"type": "reasoning", "content": message.reasoning}
    if isinstance(message.content, str):
        if message.content:
            yield {"type": "text", "content": message.content}
    else:
        yield from map(_part, message.content)
    yield from map(_call, message.tool_calls)


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "content": part.text}
    modality = "image" if part.media_type.startswith("image/") else "document"
    if part.url is not None:
        return {"type": "uri", "modality": modality, "mime_type": part.media_type, "uri": part.url}
    return {"type": modality, "mime_type": part.media_type, "name": part.name, "bytes": len(part.data)}


def _call(call: ToolCall) -> dict[str, Any]:
    arguments = call.arguments if call.invalid is None else call.invalid
    return {"type": "tool_call", "id": call.id, "name": call.name, "arguments": arguments}
