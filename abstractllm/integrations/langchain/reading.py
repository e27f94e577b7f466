"""LangChain's messages -> ours. Knows no provider, does no I/O and fetches nothing.

Blocks of content are understood in LangChain's own forms (those of version 1 and the older ones with `source_type`) and
in those of OpenAI and Anthropic, which LangChain passes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, FunctionMessage, ToolMessage

from abstractllm.errors import InvalidParameterError
from abstractllm.integrations.langchain.parts import part_of, text_of_block
from abstractllm.types import Message, Part, Role, TextPart, ToolCall

_ROLES: Mapping[str, Role] = {
    "human": "user",
    "user": "user",
    "system": "system",
    "developer": "system",
    "ai": "assistant",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_CALLS = frozenset(
    {"tool_use", "tool_call", "function_call", "tool_call_chunk", "invalid_tool_call", "input_json_delta"}
)
"""Blocks that say again what stands in `tool_calls`."""
REASONING = "reasoning_content"
PROVIDER_DATA = "provider_data"
"""Keys of `additional_kwargs` for what a turn carries beside its text."""


def to_messages(conversation: Sequence[BaseMessage]) -> tuple[Message, ...]:
    """Return a conversation as our messages, in order.

    A block with the result of a tool in a user's turn, as Anthropic has it, becomes a turn of its own. Raises
    InvalidParameterError, which names the turn, for roles and blocks that are not known.
    """
    return tuple(turn for number, message in enumerate(conversation) for turn in _turns(number, message))


def _turns(number: int, message: BaseMessage) -> Iterator[Message]:
    role = _role(number, message)
    if role == "assistant":
        yield _answer(number, message)
        return
    if isinstance(message, (ToolMessage, FunctionMessage)):
        identity = message.tool_call_id if isinstance(message, ToolMessage) else message.name
        yield Message("tool", _content(number, message.content), message.name, tool_call_id=identity)
        return
    if isinstance(message.content, str):
        yield Message(role, message.content, message.name)
        return
    yield from _results(number, message.content)
    rest = [block for block in message.content if not _is_result(block)]
    if rest or not message.content:
        yield Message(role, _content(number, rest), message.name)


def _role(number: int, message: BaseMessage) -> Role:
    name = message.role if isinstance(message, ChatMessage) else message.type.removesuffix("MessageChunk").lower()
    role = _ROLES.get(name)
    if role is None:
        raise _bad(number, f"has the role {name!r}, which cannot be sent; it is one of {', '.join(sorted(_ROLES))}")
    return role


def _content(number: int, content: str | Sequence[str | dict[Any, Any]]) -> str | tuple[Part, ...]:
    if isinstance(content, str):
        return content
    parts = tuple(part_of(f"messages[{number}]", block) for block in content)
    if all(isinstance(part, TextPart) and part.name is None for part in parts):
        return "\n\n".join(part.text for part in parts if isinstance(part, TextPart))
    return parts


def _is_result(block: str | dict[Any, Any]) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _results(number: int, content: Sequence[str | dict[Any, Any]]) -> Iterator[Message]:
    for block in content:
        if isinstance(block, dict) and _is_result(block):
            yield Message(
                "tool", _content(number, block.get("content") or ""), tool_call_id=str(block.get("tool_use_id"))
            )


def _answer(number: int, message: BaseMessage) -> Message:
    more = message.additional_kwargs
    calls = _calls(message) if isinstance(message, AIMessage) else ()
    text, thoughts = _said(number, message.content)
    return Message(
        "assistant",
        text,
        message.name,
        tool_calls=calls,
        reasoning=more.get(REASONING) or thoughts or None,
        provider_data=more.get(PROVIDER_DATA),
    )


def _said(number: int, content: str | Sequence[str | dict[Any, Any]]) -> tuple[str, str]:
    """Return the text of an answer, and what was thought before it."""
    if isinstance(content, str):
        return content, ""
    said: list[str] = []
    thought: list[str] = []
    for block in content:
        kind = "text" if isinstance(block, str) else block.get("type")
        if isinstance(block, dict) and kind in ("reasoning", "thinking", "reasoning_content"):
            thought.append(_thought(block))
        elif kind not in _CALLS and kind != "redacted_thinking":
            said.append(text_of_block(f"messages[{number}]", block))
    return "".join(said), "".join(thought)


def _thought(block: Mapping[str, Any]) -> str:
    text = block.get("reasoning") or block.get("thinking") or ""
    return text if isinstance(text, str) else ""


def _calls(message: AIMessage) -> tuple[ToolCall, ...]:
    whole = tuple(ToolCall(call["id"] or "", call["name"], call["args"]) for call in message.tool_calls)
    broken = tuple(
        ToolCall(call["id"] or "", call["name"] or "", {}, invalid=_as_text(call["args"]))
        for call in message.invalid_tool_calls
    )
    return whole + broken


def _as_text(arguments: object) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)


def _bad(number: int, what: str) -> InvalidParameterError:
    return InvalidParameterError("messages", f"messages[{number}] {what}.")
