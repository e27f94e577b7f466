"""Items of OpenAI's Responses API, of which its input and its output are made, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abstractllm.accumulator import call_deltas, decode_arguments
from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.messages import to_messages
from abstractllm.types import DocumentPart, ImagePart, Message, Part, TextPart, ToolCall
from abstractllm.wire.openai_facts import document_url, file_name, image_url, mappings, read_document, string

OWN = "openai_responses"
"""Key of this format in `provider_data`: a list in the order of the service's output.

Items of reasoning stand in it as they came, `{"type": "message"}` and `{"type": "function_call", "call_id": ...}` stand
for what the turn itself says.
"""


def write_items(messages: Sequence[Message], system: str) -> list[dict[str, Any]]:
    """Return turns as input items; `system` is the word for that role.

    Earlier reasoning is sent back as the service gave it, and only then. Raises UnsupportedFeatureError for images and
    documents in turns that cannot have them, and for names; that of a tool's result is said by its call.
    """
    return [item for message in messages for item in _write(message, system)]


def _write(message: Message, system: str) -> Iterator[dict[str, Any]]:
    if message.name is not None and message.role != "tool":
        raise UnsupportedFeatureError("messages", "The Responses API knows no names of speakers; leave name out.")
    if message.role == "assistant":
        yield from _write_answer(message)
    elif message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.tool_call_id or "", "output": _content(message)}
    else:
        role = system if message.role == "system" else message.role
        yield {"type": "message", "role": role, "content": _content(message)}


def _write_answer(message: Message) -> Iterator[dict[str, Any]]:
    """Yield an assistant's turn in the order in which the service gave it, as far as that is known."""
    text = [{"type": "message", "role": "assistant", "content": _content(message)}] if message.content else []
    calls = [call_item(piece.id, piece.name, piece.arguments) for piece in call_deltas(message.tool_calls)]
    for item in (message.provider_data or {}).get(OWN) or ():
        if item.get("type") == "message":
            yield from text
            text = []
        elif item.get("type") == "function_call":
            named = [call for call in calls if call["call_id"] == item.get("call_id")][:1]
            yield from named
            calls = [call for call in calls if call not in named]
        else:
            yield item
    yield from text
    yield from calls


def call_item(call_id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    """Return a call as an item."""
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


def _content(message: Message) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    return [_write_part(part, message.role) for part in message.content]


def _write_part(part: Part, role: str) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part.text}
    if role == "assistant":
        feature = "vision" if isinstance(part, ImagePart) else "documents"
        raise UnsupportedFeatureError(feature, "The Responses API takes no images and documents from the assistant.")
    if isinstance(part, ImagePart):
        return {"type": "input_image", "image_url": image_url(part)}
    if part.url and not part.data:
        return {"type": "input_file", "file_url": part.url}
    return {"type": "input_file", "filename": file_name(part), "file_data": document_url(part)}


# The other direction.


@dataclass(slots=True)
class _Answer:
    """An assistant's turn whose items are being read."""

    content: str | tuple[Part, ...] | None = None
    calls: list[ToolCall] = field(default_factory=list)
    thoughts: list[Mapping[str, Any]] = field(default_factory=list)
    order: list[dict[str, Any]] = field(default_factory=list)

    def message(self) -> Message:
        reasoning = "\n\n".join(text for item in self.thoughts for text in reasoning_texts(item))
        return Message(
            "assistant",
            self.content or "",
            tool_calls=tuple(self.calls),
            reasoning=reasoning or None,
            provider_data=own_data(self.order),
        )


def own_data(order: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return an order of items as `provider_data`, or None if there is nothing in it that must be sent back."""
    return {OWN: order} if any(item.get("type") == "reasoning" for item in order) else None


def returned_item(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what stands for an output item in `provider_data`, None for nothing.

    Reasoning without its encrypted or plain content would refer to what the service does not keep, so it is left out.
    """
    kind = item.get("type")
    if kind == "message":
        return {"type": "message"}
    if kind == "function_call":
        return {"type": "function_call", "call_id": item.get("call_id")}
    if kind == "reasoning" and (item.get("encrypted_content") or item.get("content")):
        return dict(item)
    return None


def reasoning_texts(item: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paragraphs of an item of reasoning that have text: of its summary, then of the reasoning itself."""
    parts = [*mappings(item.get("summary")), *mappings(item.get("content"))]
    yield from filter(None, (string(part.get("text")) for part in parts))


def read_items(given: object) -> tuple[Message, ...]:
    """Return the turns in a client's `input`. Raises InvalidParameterError, which names the item that is wrong."""
    if isinstance(given, str):
        return (Message("user", given),)
    if not isinstance(given, list):
        raise InvalidParameterError("input", "input must be a string or a list of items.")
    turns: list[Message] = []
    answer: _Answer | None = None
    for number, item in enumerate(given):
        if not isinstance(item, Mapping):
            raise InvalidParameterError("input", f"input[{number}] is a {type(item).__name__}; it must be an object.")
        if not _is_answer(item):
            turns += [answer.message()] if answer else []
            answer = None
            turns.append(_read_turn(number, item))
            continue
        if answer and answer.content is not None and _kind(item) == "message":
            turns.append(answer.message())
            answer = None
        answer = answer or _Answer()
        _read_answer(number, item, answer)
    return tuple([*turns, answer.message()] if answer else turns)


def _kind(item: Mapping[str, Any]) -> object:
    return item.get("type", "message")


def _is_answer(item: Mapping[str, Any]) -> bool:
    return _kind(item) in ("function_call", "reasoning") or (
        _kind(item) == "message" and item.get("role") == "assistant"
    )


def _read_answer(number: int, item: Mapping[str, Any], answer: _Answer) -> None:
    """Add an item to the assistant's turn that it belongs to."""
    if _kind(item) == "message":
        answer.content = _turn(number, {"role": "assistant", "content": _read_content(item.get("content"))}).content
    elif _kind(item) == "function_call":
        answer.calls.append(read_call(item))
    else:
        answer.thoughts.append(item)
    back = returned_item({"type": "message"} | dict(item))
    answer.order += [back] if back else []


def read_call(item: Mapping[str, Any]) -> ToolCall:
    """Return the call in an item; one whose arguments cannot be read is marked as invalid."""
    text = arguments_text(item.get("arguments"))
    identity, name = string(item.get("call_id")) or string(item.get("id")), string(item.get("name"))
    arguments = decode_arguments(text)
    if arguments is None or not name:
        return ToolCall(identity, name, {}, invalid=text)
    return ToolCall(identity, name, arguments)


def arguments_text(value: object) -> str:
    """Return arguments as text, which some servers send as an object."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _read_turn(number: int, item: Mapping[str, Any]) -> Message:
    if _kind(item) == "message":
        return _turn(number, {"role": item.get("role"), "content": _read_content(item.get("content"))})
    if _kind(item) == "function_call_output":
        content, call_id = _read_content(item.get("output")), item.get("call_id")
        return _turn(number, {"role": "tool", "content": content, "tool_call_id": call_id})
    raise InvalidParameterError("input", f"input[{number}] has the type {shown(_kind(item))}, which is not known.")


def _turn(number: int, turn: Mapping[str, Any]) -> Message:
    try:
        return to_messages([turn])[0]
    except InvalidParameterError as error:
        raise InvalidParameterError("input", f"input[{number}]: {error.message}") from error


def _read_content(content: object) -> object:
    return [_read_part(part) for part in content] if isinstance(content, list) else content


def _read_part(part: object) -> object:
    """Return a part as `to_messages` takes it."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind is None:
        return part
    if kind in ("input_text", "output_text", "text", "refusal"):
        return {"type": "text", "text": part.get("refusal") if kind == "refusal" else part.get("text")}
    if kind == "input_image":
        return {"type": "image_url", "image_url": part.get("image_url")}
    if kind == "input_file":
        document: DocumentPart = read_document(part.get("filename"), part.get("file_data") or part.get("file_url"))
        return document
    return part
