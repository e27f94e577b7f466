"""Our messages and tools -> LangChain's, for a chat model that is asked. Knows no model and does no I/O."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall as LangChainToolCall,
    ToolMessage,
)
from langchain_core.messages.tool import invalid_tool_call, tool_call

from abstractllm.integrations.langchain.reading import REASONING
from abstractllm.types import ImagePart, Message, Part, TextPart, ToolCall, ToolDefinition

KEPT = "langchain"
"""Key in `provider_data` for what a turn of the model has beside text and calls: `{"content", "additional_kwargs"}`."""


def from_messages(messages: Iterable[Message]) -> list[BaseMessage]:
    """Return a conversation in LangChain's messages; images and documents become blocks of its standard form."""
    return [_message(message) for message in messages]


def from_tool(tool: ToolDefinition) -> dict[str, Any]:
    """Return a tool in the form that every `bind_tools` takes."""
    return function(tool.name, tool.description, tool.parameters)


def function(name: str, description: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a function in OpenAI's form, which LangChain passes around."""
    told = {"name": name, "description": description, "parameters": dict(parameters)}
    return {"type": "function", "function": told}


def _message(message: Message) -> BaseMessage:
    content = _content(message.content)
    if message.role == "system":
        return SystemMessage(content=content, name=message.name)
    if message.role == "tool":
        return ToolMessage(content=content, name=message.name, tool_call_id=message.tool_call_id or "")
    return _answer(message) if message.role == "assistant" else HumanMessage(content=content, name=message.name)


def _answer(message: Message) -> AIMessage:
    """Return a turn of the model; one that a chat model gave comes back to it as it was."""
    kept = (message.provider_data or {}).get(KEPT)
    kept = kept if isinstance(kept, Mapping) else {}
    more = dict(kept.get("additional_kwargs") or {})
    if message.reasoning:
        more[REASONING] = message.reasoning
    return AIMessage(
        content=kept.get("content") or _content(message.content),
        name=message.name,
        additional_kwargs=more,
        tool_calls=[_call(call) for call in message.tool_calls if call.invalid is None],
        invalid_tool_calls=[_broken(call) for call in message.tool_calls if call.invalid is not None],
    )


def _call(call: ToolCall) -> LangChainToolCall:
    return tool_call(name=call.name, args=json.loads(json.dumps(dict(call.arguments))), id=call.id)


def _broken(call: ToolCall) -> InvalidToolCall:
    return invalid_tool_call(name=call.name or None, args=call.invalid, id=call.id, error="No JSON object.")


def _content(content: str | tuple[Part, ...]) -> Any:
    return content if isinstance(content, str) else [_block(part) for part in content]


def _block(part: Part) -> dict[str, Any]:
    """Return a block of version 1 of LangChain's content, which its integrations understand."""
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    kind = "image" if isinstance(part, ImagePart) else "file"
    named = {"filename": part.name} if part.name and kind == "file" else {}
    media = {"mime_type": part.media_type} if part.media_type else {}
    if part.url is not None and not part.data:
        return {"type": kind, "url": part.url, **media, **named}
    return {"type": kind, "base64": base64.b64encode(part.data).decode(), **media, **named}
