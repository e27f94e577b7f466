"""Content blocks of Anthropic's Messages format <-> parts, calls and turns. Knows nothing of requests and streams.

What the service wants back unchanged is in `provider_data[KEY]`: for an answer the list of all its blocks, in order,
if any of them is more than plain text or a call (signed or redacted thinking, citations, what the service's own tools
did); for a tool's result the mapping `{"is_error": True}`, if the tool failed.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from abstractllm.errors import InvalidRequestError, UnsupportedFeatureError
from abstractllm.types import DocumentPart, ImagePart, Message, Part, TextPart, ToolCall
from abstractllm.wire.bodies import read_request
from abstractllm.wire.refusals import refusal
from abstractllm.wire.toolcalls import arguments_object, call_of

KEY = "anthropic"
"""Where this format's own data is in `provider_data`."""

Block = Mapping[str, Any]


# Parts -> blocks.


def part_blocks(content: str | tuple[Part, ...], provider: str) -> list[dict[str, Any]]:
    """Return the blocks of a content.

    An empty text has none, and neither have texts of which none is more than white space: the service refuses both.
    """
    parts = (TextPart(content),) if isinstance(content, str) else content
    speaks = any(isinstance(part, TextPart) and part.text.strip() for part in parts)
    return [_block(part, provider) for part in parts if not isinstance(part, TextPart) or (speaks and part.text)]


def _block(part: Part, provider: str) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    if isinstance(part, DocumentPart):
        return _document_block(part, provider)
    if part.data:
        return {"type": "image", "source": _base64_source(part)}
    return {"type": "image", "source": {"type": "url", "url": part.url}}


def _base64_source(part: ImagePart | DocumentPart) -> dict[str, Any]:
    return {"type": "base64", "media_type": part.media_type, "data": base64.b64encode(part.data).decode("ascii")}


def _document_block(part: DocumentPart, provider: str) -> dict[str, Any]:
    title = {} if part.name is None else {"title": part.name}
    if part.url and not part.data:
        return {"type": "document", "source": {"type": "url", "url": part.url}, **title}
    if part.media_type == "application/pdf":
        return {"type": "document", "source": _base64_source(part), **title}
    if part.media_type == "text/plain":
        source = {"type": "text", "media_type": part.media_type, "data": part.data.decode("utf-8")}
        return {"type": "document", "source": source, **title}
    raise refusal("documents", f"knows no documents of type {part.media_type}; convert it to PDF or text", provider)


def call_block(call: ToolCall) -> dict[str, Any]:
    """Return the block of a call."""
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": arguments_object(call)}


def assistant_blocks(message: Message, provider: str) -> list[dict[str, Any]]:
    """Return the blocks of an assistant's turn: those it came in, if it still says the same.

    Where it was changed, thinking goes first. Thinking without signature stays out, and so do texts that are nothing
    but white space, which models like to write before a call: the service refuses them.
    """
    kept = kept_blocks(message.provider_data)
    if kept and says(kept, message):
        return kept if joined_text(kept).strip() else [block for block in kept if block.get("type") != "text"]
    if isinstance(message.content, tuple) and not all(isinstance(part, TextPart) for part in message.content):
        raise refusal(
            "messages", "has images and documents in the user's turns alone, not in the assistant's", provider
        )
    thinking = [block for block in kept if block.get("type") in ("thinking", "redacted_thinking")]
    return [*thinking, *part_blocks(message.content, provider), *map(call_block, message.tool_calls)]


def kept_blocks(provider_data: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the blocks that an answer came in, if they were kept."""
    kept = (provider_data or {}).get(KEY)
    return [dict(block) for block in kept] if isinstance(kept, (list, tuple)) else []


def says(blocks: Sequence[Block], message: Message) -> bool:
    """Whether blocks have a turn's text and calls."""
    calls = tuple(_call(block) for block in blocks if block.get("type") == "tool_use")
    return calls == message.tool_calls and joined_text(blocks) == _whole_text(message.content)


def _whole_text(content: str | tuple[Part, ...]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


# Blocks -> answers. Blocks of an answer are taken as they come: unknown ones are kept, and say nothing.


def joined_text(blocks: Iterable[Block]) -> str:
    """Return what blocks say."""
    return "".join(str(block.get("text") or "") for block in blocks if block.get("type") == "text")


def joined_thinking(blocks: Iterable[Block]) -> str:
    """Return what was thought before it was said."""
    return "".join(str(block.get("thinking") or "") for block in blocks if block.get("type") == "thinking")


def calls_in(blocks: Iterable[Block]) -> tuple[ToolCall, ...]:
    """Return the calls in blocks; those without id are numbered."""
    found = [block for block in blocks if block.get("type") == "tool_use"]
    return tuple(_call(block, f"call_{number}") for number, block in enumerate(found))


def _call(block: Block, identity: str = "") -> ToolCall:
    return call_of(str(block.get("id") or identity), str(block.get("name") or ""), block.get("input"))


def kept_data(blocks: Sequence[Block]) -> dict[str, Any] | None:
    """Return what an answer has to keep of its blocks, as `provider_data`; None where that is nothing."""
    if not any(is_special(block) for block in blocks):
        return None
    return {KEY: [dict(block) for block in blocks if block.get("type") != "text" or block.get("text")]}


def is_special(block: Block) -> bool:
    """Whether a block is more than text, thinking without signature, or a call."""
    kind = block.get("type")
    if kind == "thinking":
        return bool(block.get("signature"))
    return kind != "tool_use" and (kind != "text" or bool(cited(block)))


def cited(block: Block) -> list[Any]:
    """Return the citations of a block."""
    found = block.get("citations")
    return found if isinstance(found, list) else []


# Blocks -> parts, for a server. A block that is none of the format's is an error; so is one that no part can hold.


class _Text(Struct):
    text: str


class _Source(Struct):
    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class _Sourced(Struct):
    source: _Source
    title: str | None = None


class _Result(Struct):
    tool_use_id: str
    content: str | list[dict[str, Any]] | None = ""
    is_error: bool | None = False


def content_of(content: str | Sequence[Block]) -> str | tuple[Part, ...]:
    """Return the content of a turn: text where it is no more than one. Raises InvalidRequestError."""
    if isinstance(content, str):
        return content
    parts = tuple(_part(block) for block in content)
    if not parts:
        return ""
    only = parts[0] if len(parts) == 1 else None
    return only.text if isinstance(only, TextPart) else parts


def _part(block: Block) -> Part:
    kind = block.get("type")
    read = _PARTS.get(kind) if isinstance(kind, str) else None
    if read is None:
        known = ", ".join(_PARTS)
        raise InvalidRequestError(f"A content block has the type {kind!r}, which cannot stand there; known: {known}.")
    return read(block)


def _text_part(block: Block) -> Part:
    return TextPart(read_request(block, _Text).text)


def _image_part(block: Block) -> Part:
    source = read_request(block, _Sourced).source
    if source.type == "url":
        return ImagePart(b"", "", url=source.url)
    return ImagePart(_decoded(source), source.media_type)


def _document_part(block: Block) -> Part:
    found = read_request(block, _Sourced)
    if found.source.type == "url":
        return DocumentPart(b"", "application/pdf", found.title, url=found.source.url)
    if found.source.type == "text":
        return DocumentPart(found.source.data.encode("utf-8"), found.source.media_type or "text/plain", found.title)
    return DocumentPart(_decoded(found.source), found.source.media_type, found.title)


def _decoded(source: _Source) -> bytes:
    if source.type != "base64":
        what = f"A source of type {source.type!r} cannot be read here; send the data itself, in base64."
        raise UnsupportedFeatureError("messages", what)
    try:
        return base64.b64decode(source.data, validate=True)
    except ValueError as error:
        raise InvalidRequestError(f"The data of an image or document is not valid base64: {error}.") from error


_PARTS: Mapping[str, Callable[[Block], Part]] = {
    "text": _text_part,
    "image": _image_part,
    "document": _document_part,
}


def result_of(block: Block) -> Message:
    """Return the turn of a tool's result. Raises InvalidRequestError."""
    found = read_request(block, _Result)
    failed = {KEY: {"is_error": True}} if found.is_error else None
    return Message("tool", content_of(found.content or ""), tool_call_id=found.tool_use_id, provider_data=failed)


def result_block(message: Message, provider: str) -> dict[str, Any]:
    """Return the block of a tool's result."""
    own = (message.provider_data or {}).get(KEY)
    failed = {"is_error": True} if isinstance(own, Mapping) and own.get("is_error") else {}
    told = message.content if isinstance(message.content, str) else part_blocks(message.content, provider)
    return {"type": "tool_result", "tool_use_id": message.tool_call_id, "content": told, **failed}


def answer_of(blocks: Sequence[Block]) -> Message:
    """Return the turn of an assistant. Raises InvalidRequestError for blocks that are none of the format's."""
    kept = kept_data(blocks)
    said = [block for block in blocks if block.get("type") == "text"]
    for block in said:
        read_request(block, _Text)
    return Message(
        "assistant",
        joined_text(said) if kept else content_of(said),
        tool_calls=calls_in(blocks),
        reasoning=joined_thinking(blocks) or None,
        provider_data=kept,
    )
