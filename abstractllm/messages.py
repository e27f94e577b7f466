"""Conversations as users write them -> `Message`s: dicts in OpenAI's form are understood. No provider, no I/O."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from abstractllm.accumulator import decode_arguments
from abstractllm.errors import InvalidParameterError
from abstractllm.types import ImagePart, Message, Part, Role, TextPart, ToolCall

_ROLES: Mapping[str, Role] = {role: role for role in get_args(Role)} | {"developer": "system", "human": "user"}


def _bad(message: str) -> InvalidParameterError:
    return InvalidParameterError("messages", message)


def to_messages(conversation: object) -> tuple[Message, ...]:
    """Return a conversation as messages.

    `conversation` is a sequence of `Message`s and of mappings in the form of OpenAI's Chat Completions.
    Raises InvalidParameterError, which names the turn that is wrong.
    """
    if isinstance(conversation, str) or not isinstance(conversation, Sequence) or not conversation:
        raise _bad("messages must be a list of messages that is not empty; for a single text use prompt.")
    return tuple(_to_message(number, turn) for number, turn in enumerate(conversation))


def _to_message(number: int, turn: object) -> Message:
    if isinstance(turn, Message):
        return turn
    if not isinstance(turn, Mapping):
        raise _bad(f"messages[{number}] is a {type(turn).__name__}; it must be a Message or a dict.")
    role = _ROLES.get(str(turn.get("role")))
    if role is None:
        raise _bad(f"messages[{number}] has the role {turn.get('role')!r}; use one of {', '.join(get_args(Role))}.")
    return Message(
        role,
        _content(number, turn.get("content")),
        name=turn.get("name"),
        tool_calls=tuple(_call(number, call) for call in turn.get("tool_calls") or ()),
        tool_call_id=turn.get("tool_call_id"),
        reasoning=turn.get("reasoning"),
    )


def _content(number: int, content: object) -> str | tuple[Part, ...]:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Iterable):
        return tuple(_part(number, part) for part in content)
    raise _bad(f"messages[{number}] has content of type {type(content).__name__}; use a string or a list of parts.")


def _part(number: int, part: object) -> Part:
    if isinstance(part, get_args(Part)):
        return part  # type: ignore[return-value]
    if isinstance(part, str):
        return TextPart(part)
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return TextPart(part["text"])
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        return _image(number, part.get("image_url"))
    raise _bad(f"messages[{number}] has a part that is neither text nor image_url: {part!r:.80}")


def _image(number: int, source: object) -> ImagePart:
    url = source.get("url") if isinstance(source, Mapping) else source
    if not isinstance(url, str) or not url:
        raise _bad(f"messages[{number}] has an image_url without a url.")
    if not url.startswith("data:"):
        return ImagePart(b"", "", url=url)
    header, _, body = url.partition(",")
    try:
        return ImagePart(base64.b64decode(body, validate=True), header[5:].split(";")[0])
    except binascii.Error as error:
        raise _bad(f"messages[{number}] has a data: image that is not valid base64.") from error


def _call(number: int, call: object) -> ToolCall:
    if isinstance(call, ToolCall):
        return call
    function: Any = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping) or not function.get("name"):
        raise _bad(f"messages[{number}] has a tool call without a function name: {call!r:.80}")
    arguments = function.get("arguments") or {}
    identity = str(call.get("id") or "")
    if isinstance(arguments, Mapping):
        return ToolCall(identity, function["name"], dict(arguments))
    decoded = decode_arguments(str(arguments))
    if decoded is None:
        return ToolCall(identity, function["name"], {}, invalid=str(arguments))
    return ToolCall(identity, function["name"], decoded)
