"""Conversations as users write them -> `Message`s: dicts in OpenAI's form are understood. No provider, no I/O."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from abstractllm.accumulator import decode_arguments
from abstractllm.errors import InvalidParameterError, shown
from abstractllm.messages.values import read_value
from abstractllm.messages.writing import UNTOLD_DOCUMENT
from abstractllm.types import DocumentPart, ImagePart, Message, Part, Role, TextPart, ToolCall

_ROLES: Mapping[str, Role] = {role: role for role in get_args(Role)} | {"developer": "system", "human": "user"}
_KNOWN = get_args(Role)
_TEXT = (str, type(None))


def _bad(message: str) -> InvalidParameterError:
    return InvalidParameterError("messages", message)


def to_messages(conversation: object) -> tuple[Message, ...]:
    """Return a conversation as messages.

    `conversation` is a sequence of `Message`s and of mappings in the form of OpenAI's Chat Completions, with the
    further keys of `message_as_dict`. Raises InvalidParameterError, which names the turn that is wrong.
    """
    if isinstance(conversation, str) or not isinstance(conversation, Sequence) or not conversation:
        raise _bad("messages must be a list of messages that is not empty; for a single text use prompt.")
    return tuple(_to_message(number, turn) for number, turn in enumerate(conversation))


def _to_message(number: int, turn: object) -> Message:
    if isinstance(turn, Message):
        return _checked(number, turn)
    if not isinstance(turn, Mapping):
        raise _bad(f"messages[{number}] is a {type(turn).__name__}; it must be a Message or a dict.")
    given = turn.get("role")
    role = _ROLES.get(given) if isinstance(given, str) else None
    if role is None:
        raise _bad(f"messages[{number}] has the role {shown(given)}; use one of {', '.join(get_args(Role))}.")
    calls = _calls(number, turn.get("tool_calls"))
    if turn.get("content") is None and not calls:
        raise _bad(f"messages[{number}] has no content; give it a string or a list of parts.")
    return Message(
        role,
        _content(number, turn.get("content")),
        name=_text(number, turn, "name"),
        tool_calls=calls,
        tool_call_id=_text(number, turn, "tool_call_id"),
        reasoning=_text(number, turn, "reasoning"),
        provider_data=_values(number, turn, "provider_data"),
    )


def _checked(number: int, turn: Message) -> Message:
    """Return a message that a user has built, with tuples where it has lists."""
    if _is_plain(turn):
        return turn
    if turn.role not in get_args(Role):
        raise _bad(f"messages[{number}] has the role {shown(turn.role)}; use one of {', '.join(get_args(Role))}.")
    if turn.content is None:
        raise _bad(f"messages[{number}] has no content; give it a string or a list of parts.")
    for name in ("name", "tool_call_id", "reasoning"):
        _text(number, {name: getattr(turn, name)}, name)
    content, calls = _content(number, turn.content), _calls(number, turn.tool_calls)
    if (content, calls) == (turn.content, turn.tool_calls):
        return turn
    return replace(turn, content=content, tool_calls=calls)


def _is_plain(turn: Message) -> bool:
    """Whether a message is so simple that nothing can be wrong with it; each call checks a long history."""
    return (
        turn.role in _KNOWN
        and type(turn.content) is str
        and type(turn.name) in _TEXT
        and type(turn.reasoning) in _TEXT
        and type(turn.tool_call_id) in _TEXT
        and type(turn.tool_calls) is tuple
        and all(_is_sound(call) for call in turn.tool_calls)
    )


def _is_sound(call: object) -> bool:
    return isinstance(call, ToolCall) and isinstance(call.name, str) and isinstance(call.id, str)


def _text(number: int, holder: Mapping[str, Any], key: str) -> str | None:
    value = holder.get(key)
    if value is None or isinstance(value, str):
        return value
    raise _bad(f"messages[{number}] has a {key} of type {type(value).__name__}; it must be a string.")


def _values(number: int, holder: Mapping[str, Any], key: str) -> dict[str, Any] | None:
    """Return a dict that `message_as_dict` has written, None where there is none."""
    given = holder.get(key)
    if given is None:
        return None
    try:
        value = read_value(given)
    except ValueError as error:
        raise _bad(f"messages[{number}] has {key} that cannot be read: {error}.") from error
    if isinstance(value, dict):
        return value
    raise _bad(f"messages[{number}] has {key} of type {type(value).__name__}; it must be a dict.")


def _content(number: int, content: object) -> str | tuple[Part, ...]:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Iterable) and not isinstance(content, (Mapping, bytes)):
        return tuple(_part(number, part) for part in content)
    raise _bad(f"messages[{number}] has content of type {type(content).__name__}; use a string or a list of parts.")


def _part(number: int, part: object) -> Part:
    if isinstance(part, TextPart) and not isinstance(part.text, str):
        raise _bad(f"messages[{number}] has a TextPart whose text is of type {type(part.text).__name__}.")
    if isinstance(part, Part):
        return part
    if isinstance(part, str):
        return TextPart(part)
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return TextPart(part["text"], _text(number, part, "name"))
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        return _image(number, part)
    if isinstance(part, Mapping) and part.get("type") == "file":
        return _document(number, part)
    raise _bad(f"messages[{number}] has a part that is neither text, image_url nor file: {shown(part)}")


def _image(number: int, part: Mapping[str, Any]) -> ImagePart:
    source = part.get("image_url")
    url = source.get("url") if isinstance(source, Mapping) else source
    if not isinstance(url, str) or not url:
        raise _bad(f"messages[{number}] has an image_url without a url.")
    name, media_type = _text(number, part, "name"), _text(number, part, "media_type")
    if url.startswith("data:"):
        found, data = _data(number, url, media_type, "image/", "image_url")
        return ImagePart(data, found, name, url=_text(number, part, "source"))
    if "://" not in url:
        raise _bad(f"messages[{number}] has the image_url {shown(url)}, which is no URL; pass local files as files=.")
    return ImagePart(b"", media_type or "", name, url=url)


def _document(number: int, part: Mapping[str, Any]) -> DocumentPart:
    file = part.get("file")
    url = file.get("file_data") if isinstance(file, Mapping) else None
    if not isinstance(file, Mapping) or not isinstance(url, str) or ":" not in url:
        raise _bad(f"messages[{number}] has a file without file_data: data:TYPE;base64,DATA, or a URL.")
    name, media_type = _text(number, file, "filename"), _text(number, part, "media_type")
    if url.startswith("data:"):
        found, data = _data(number, url, media_type, "", "file")
        return DocumentPart(data, found, name, url=_text(number, part, "source"))
    return DocumentPart(b"", UNTOLD_DOCUMENT if media_type is None else media_type, name, url=url)


def _data(number: int, url: str, media_type: str | None, kind: str, what: str) -> tuple[str, bytes]:
    """Return the media type, which begins with `kind`, and the bytes of a `data:` URL (RFC 2397) in base64.

    Where our own `media_type` stands beside it, that one holds, and the URL may have no bytes.
    """
    header, _, body = url.removeprefix("data:").rpartition(",")
    told, *marks = header.split(";")
    plain = told.startswith(kind) and told and "base64" in marks and "," not in header and body
    if not plain and media_type is None:
        raise _bad(f"messages[{number}] has a {what} that is not in the form data:{kind}TYPE;base64,DATA.")
    try:
        return told if media_type is None else media_type, base64.b64decode(body, validate=True)
    except ValueError as error:
        raise _bad(f"messages[{number}] has a data: {what} that is not valid base64.") from error


def _calls(number: int, calls: object) -> tuple[ToolCall, ...]:
    if calls is None:
        return ()
    if isinstance(calls, (str, bytes, Mapping)) or not isinstance(calls, Iterable):
        raise _bad(f"messages[{number}] has tool_calls of type {type(calls).__name__}; it must be a list.")
    return tuple(_call(number, call) for call in calls)


def _call(number: int, call: object) -> ToolCall:
    if isinstance(call, ToolCall) and _is_sound(call):
        return call
    function: Any = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(name, str) or not (name or "values" in call):
        raise _bad(f"messages[{number}] has a tool call without a function name: {shown(call)}")
    identity = _text(number, call, "id") or ""
    values = _values(number, call, "values")
    if values is not None:
        return ToolCall(identity, name, values, invalid=_text(number, call, "invalid"))
    arguments = function.get("arguments") or {}
    if isinstance(arguments, Mapping):
        return ToolCall(identity, name, dict(arguments))
    if not isinstance(arguments, str):
        raise _bad(f"messages[{number}] calls {name!r} with arguments that are neither a dict nor JSON text.")
    decoded = decode_arguments(arguments)
    if decoded is None:
        return ToolCall(identity, name, {}, invalid=arguments)
    return ToolCall(identity, name, decoded)
