"""Encodes a request at the call, only to see whether it can be said. Knows no wire format."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from abstractllm.types import DocumentPart, GenerateRequest, ImagePart, Message, Part

if TYPE_CHECKING:
    from abstractllm.wire.codec import Codec

_STAND_IN = b"x"


def rehearse(codec: Codec, request: GenerateRequest) -> None:
    """Raise what encoding the request would raise. Files are not encoded: a byte stands for each."""
    codec.encode_request(replace(request, messages=tuple(_light(message) for message in request.messages)))


def _light(message: Message) -> Message:
    if isinstance(message.content, str):
        return message
    return replace(message, content=tuple(_stand_in(part) for part in message.content))


def _stand_in(part: Part) -> Part:
    return replace(part, data=_STAND_IN) if isinstance(part, (ImagePart, DocumentPart)) and part.data else part
