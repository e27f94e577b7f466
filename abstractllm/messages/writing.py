"""`Message`s -> dicts in the form of OpenAI's Chat Completions that `to_messages` reads back without loss.

Where that form has no place for something, a key of our own stands beside its own: `provider_data` and `reasoning` of
a turn, `name`, `media_type` and `source` of a part, `values` and `invalid` of a call. No provider, no I/O.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from abstractllm.accumulator import decode_arguments
from abstractllm.errors import InvalidParameterError
from abstractllm.messages.values import written_value
from abstractllm.types import DocumentPart, ImagePart, Message, Part, TextPart, ToolCall

UNTOLD_DOCUMENT = "application/pdf"
"""The media type of a document at an address that says none."""


def message_as_dict(message: Message) -> dict[str, Any]:
    """Return a turn in the form of OpenAI's Chat Completions, without what is None or empty.

    `to_messages([message_as_dict(message)])[0] == message`, also after a way through `json`: bytes are base64.
    Raises InvalidParameterError for `provider_data` or arguments of a call with objects that JSON cannot hold; bytes,
    tuples and keys that are no strings can be there.
    """
    text = isinstance(message.content, str)
    described: dict[str, Any] = {
        "role": message.role,
        "content": message.content if text else [_part(part) for part in message.content],  # type: ignore[arg-type]
    }
    for name in ("name", "tool_call_id", "reasoning"):
        if getattr(message, name) is not None:
            described[name] = getattr(message, name)
    if message.tool_calls:
        described["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.provider_data is not None:
        described["provider_data"] = _value(message.provider_data, "provider_data")
    return described


def _value(value: Mapping[str, Any], what: str) -> Any:
    try:
        return written_value(value)
    except ValueError as error:
        raise InvalidParameterError("messages", f"The {what} of a message cannot be kept as JSON: {error}.") from error


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text, **_given(name=part.name)}
    if isinstance(part, ImagePart):
        address, extra = _address(part, untold="", plain=r"image/[^;,]*")
        return {"type": "image_url", "image_url": {"url": address}, **_given(name=part.name), **extra}
    address, extra = _address(part, untold=UNTOLD_DOCUMENT, plain=r"[^;,]+")
    return {"type": "file", "file": {**_given(filename=part.name), "file_data": address}, **extra}


def _given(**texts: str | None) -> dict[str, str]:
    return {key: text for key, text in texts.items() if text is not None}


def _address(part: ImagePart | DocumentPart, *, untold: str, plain: str) -> tuple[str, dict[str, str]]:
    """Return the URL that stands for a part, and the keys that say what it does not.

    `untold` is the media type that is read for an address, `plain` the pattern of those that a `data:` URL can say.
    """
    if not part.data and part.url and "://" in part.url and not part.url.startswith("data:"):
        return part.url, {} if part.media_type == untold else {"media_type": part.media_type}
    address = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode('ascii')}"
    if part.url is None and part.data and re.fullmatch(plain, part.media_type):
        return address, {}
    return address, {"media_type": part.media_type, **_given(source=part.url)}


def _call(call: ToolCall) -> dict[str, Any]:
    """Return a call; `values` has its arguments where the text of the form's own `arguments` would not give them."""
    text = _plain_arguments(call) if call.name else None
    if text is not None:
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": text}}
    values = _value(dict(call.arguments), f"call of {call.name!r} in the tool_calls")
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(values, ensure_ascii=False)},
        "values": values,
        **_given(invalid=call.invalid),
    }


def _plain_arguments(call: ToolCall) -> str | None:
    """Return the text of a call's arguments, or the model's own where that is invalid; None where that loses some."""
    if call.invalid is not None:
        return call.invalid if not call.arguments and decode_arguments(call.invalid) is None else None
    try:
        text = json.dumps(dict(call.arguments), ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):  # no JSON; said in full where `values` are made
        return None
    return text if decode_arguments(text) == call.arguments else None
