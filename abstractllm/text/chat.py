"""Messages -> the dicts that chat templates read, in the shape that a given template accepts. Renders nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from abstractllm.types import Message, ToolCall, ToolDefinition


def template_messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """Return messages as chat templates expect them; calls' arguments stay objects, not JSON text."""
    return [_entry(message) for message in messages]


def template_tools(tools: Iterable[ToolDefinition]) -> list[dict[str, Any]]:
    """Return tools in the form of OpenAI's Chat Completions, which chat templates read."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
        }
        for tool in tools
    ]


def _entry(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        entry["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.role == "tool":
        entry["tool_call_id"] = message.tool_call_id
    if message.name:
        entry["name"] = message.name
    if message.reasoning:
        entry["reasoning_content"] = message.reasoning
    return entry


def _call(call: ToolCall) -> dict[str, Any]:
    arguments: Mapping[str, Any] | str = call.arguments if call.invalid is None else call.invalid
    return {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": arguments}}


def without_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the conversation with its system prompts put before the first user turn's text, or as a user turn."""
    said = "\n\n".join(message.text for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if not said:
        return tuple(rest)
    if rest and rest[0].role == "user":
        return (replace(rest[0], content=f"{said}\n\n{rest[0].text}"), *rest[1:])
    return (Message("user", said), *rest)


def merged_turns(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return the conversation with neighbouring plain turns of one role joined by a blank line."""
    merged: list[Message] = []
    for message in messages:
        if merged and _joinable(merged[-1], message):
            merged[-1] = replace(merged[-1], content=f"{merged[-1].text}\n\n{message.text}")
        else:
            merged.append(message)
    return tuple(merged)


def _joinable(one: Message, other: Message) -> bool:
    return one.role == other.role and one.role != "tool" and not one.tool_calls and not other.tool_calls
