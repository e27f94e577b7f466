"""Turns of a conversation as OpenAI's Chat Completions writes them, both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from abstractllm.accumulator import call_deltas
from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError
from abstractllm.messages import to_messages
from abstractllm.types import ImagePart, Message, Part, TextPart, ToolCall
from abstractllm.wire.openai_facts import document_url, file_name, image_url, mappings, read_document

OWN = "openai_chat"
"""Key of this format in `provider_data`: fields that a service wants back, such as signed reasoning.

`reasoning_details` is a list of the turn's own, `extra_content` one entry or None for each of its calls.
"""

_FOLLOWS = "What was returned follows after the results."
"""What stands in a tool's result for an image or a document."""


def write_messages(messages: Sequence[Message], *, system: str, reasoning: str | None) -> list[dict[str, Any]]:
    """Return turns as JSON values. `system` is the word for that role, `reasoning` the field for earlier reasoning.

    Without such a field earlier reasoning is left out, as this format has no place for it. So are answers that say
    nothing, such as those of a model that only thought: Mistral and DeepSeek answer 400 to them. Images and documents
    that tools returned go into a turn of the user after the results, as a result can be text alone.
    """
    return [_write(message, system, reasoning) for message in _with_texts_alone(messages) if not _is_empty(message)]


def _with_texts_alone(messages: Sequence[Message]) -> Iterator[Message]:
    """Yield turns in which the results of tools are text."""
    shown: list[Part] = []
    for message in messages:
        if message.role != "tool":
            yield from _as_user(shown)
            shown = []
        elif not isinstance(message.content, str):
            moved = [part for part in message.content if not isinstance(part, TextPart)]
            if moved:
                shown += [TextPart(f"Returned by {message.name or 'the tool'}:"), *moved]
                message = replace(message, content=f"{message.text}\n{_FOLLOWS}".strip())
        yield message
    yield from _as_user(shown)


def _as_user(shown: Sequence[Part]) -> Iterator[Message]:
    if shown:
        yield Message("user", tuple(shown))


def _is_empty(message: Message) -> bool:
    return message.role == "assistant" and not (message.content or message.tool_calls or message.provider_data)


def check_parts(messages: tuple[Message, ...]) -> None:
    """Raise UnsupportedFeatureError for a part that has no place in a turn of its role."""
    for message in messages:
        if isinstance(message.content, str) or message.role in ("user", "tool"):
            continue
        for part in message.content:
            if not isinstance(part, TextPart):
                raise _misplaced(part, message.role)


def _misplaced(part: Part, role: str) -> UnsupportedFeatureError:
    feature = "vision" if isinstance(part, ImagePart) else "documents"
    return UnsupportedFeatureError(
        feature,
        f"Chat Completions takes images and documents of users and tools, not in a turn of the role {role!r}.",
    )


def _write(message: Message, system: str, reasoning: str | None) -> dict[str, Any]:
    turn: dict[str, Any] = {
        "role": system if message.role == "system" else message.role,
        "content": _write_content(message),
    }
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.reasoning and reasoning:
        turn[reasoning] = message.reasoning
    return with_calls(turn, message.tool_calls, message.provider_data)


def with_calls(
    turn: dict[str, Any], calls: tuple[ToolCall, ...], provider_data: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return an assistant's turn with its calls and with what the service wants back."""
    own: Mapping[str, Any] = (provider_data or {}).get(OWN) or {}
    if own.get("reasoning_details"):
        turn["reasoning_details"] = own["reasoning_details"]
    if calls:
        turn["tool_calls"] = write_calls(calls, own.get("extra_content") or [])
        turn["content"] = turn["content"] or None
    return turn


def write_calls(calls: tuple[ToolCall, ...], extras: list[Any]) -> list[dict[str, Any]]:
    """Return whole calls; arguments that could not be read are sent as the model wrote them."""
    written: list[dict[str, Any]] = [
        {"id": piece.id, "type": "function", "function": {"name": piece.name, "arguments": piece.arguments}}
        for piece in call_deltas(calls)
    ]
    for call, extra in zip(written, extras, strict=False):
        if extra is not None:
            call["extra_content"] = extra
    return written


def _write_content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_write_part(part, message.role) for part in message.content]


def _write_part(part: Part, role: str) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if role != "user":
        raise _misplaced(part, role)
    if isinstance(part, ImagePart):
        return {"type": "image_url", "image_url": {"url": image_url(part)}}
    return {"type": "file", "file": {"filename": file_name(part), "file_data": document_url(part)}}


# The other direction.


def read_messages(turns: object) -> tuple[Message, ...]:
    """Return the turns that a client sent. Raises InvalidParameterError, which names the one that is wrong."""
    if not isinstance(turns, list):
        raise InvalidParameterError("messages", "messages must be a list of messages.")
    read = to_messages([_prepared(turn) for turn in turns])
    return tuple(_completed(message, turn) for message, turn in zip(read, turns, strict=True))


def _prepared(turn: object) -> object:
    """Return a turn as `to_messages` takes it: with documents and refusals as parts, and reasoning by its one name."""
    if not isinstance(turn, Mapping):
        return turn
    prepared = dict(turn)
    prepared["reasoning"] = turn.get("reasoning_content") or turn.get("reasoning")
    prepared["provider_data"] = None  # of this package's own form; a client of this one does not send it
    content = turn.get("content")
    if isinstance(content, list):
        prepared["content"] = [_prepared_part(part) for part in content]
    elif content is None and turn.get("role") == "assistant":
        prepared["content"] = turn.get("refusal") or ""
    return prepared


def _prepared_part(part: object) -> object:
    if not isinstance(part, Mapping):
        return part
    if part.get("type") == "refusal" and isinstance(part.get("refusal"), str):
        return TextPart(part["refusal"])
    file = part.get("file")
    if part.get("type") == "file" and isinstance(file, Mapping):
        return read_document(file.get("filename"), file.get("file_data"))
    return part


def _completed(message: Message, turn: Mapping[str, Any] | Message) -> Message:
    """Return a message with what its service wants back."""
    if isinstance(turn, Message):
        return message
    extras = [call.get("extra_content") for call in mappings(turn.get("tool_calls"))]
    own = own_data(turn.get("reasoning_details"), extras)
    return replace(message, provider_data=own) if own else message


def own_data(details: object, extras: list[Any]) -> dict[str, Any] | None:
    """Return what a service wants back as `provider_data`, or None for nothing."""
    own: dict[str, Any] = {}
    if isinstance(details, list) and details:
        own["reasoning_details"] = details
    if any(extra is not None for extra in extras):
        own["extra_content"] = extras
    return {OWN: own} if own else None
