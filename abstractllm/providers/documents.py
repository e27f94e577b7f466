"""Documents of a request as text, where the model reads no documents. Knows no provider."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeGuard

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.types import DocumentPart, GenerateRequest, Message, Part, TextPart

if TYPE_CHECKING:
    from abstractllm.interface import AbstractLLMInterface


def must_become_text(request: GenerateRequest, llm: AbstractLLMInterface) -> bool:
    """Whether there is a document in a request that the model cannot read, and its text it can."""
    parts = parts_of(request)
    return bool(parts) and any(map(_readable, parts)) and _reads_none(llm.get_capabilities())


def with_documents_as_text(request: GenerateRequest, llm: AbstractLLMInterface) -> GenerateRequest:
    """Return a request with its documents as text where the model cannot read them. Blocks, and takes time.

    Raises FileProcessingError, and MissingDependencyError without pypdf.
    """
    from abstractllm.files import document_text

    if not must_become_text(request, llm):
        return request
    return with_parts(request, lambda part: document_text(part) if _readable(part) else part)


def with_stand_ins(request: GenerateRequest, llm: AbstractLLMInterface) -> GenerateRequest:
    """Return a request with an empty text for each document that will become text, for checks that must be quick."""
    if not must_become_text(request, llm):
        return request
    return with_parts(request, lambda part: TextPart("", part.name) if _readable(part) else part)


def parts_of(request: GenerateRequest) -> list[Part]:
    """Return the parts of all turns."""
    parts: list[Part] = []
    for message in request.messages:
        if not isinstance(message.content, str):
            parts.extend(message.content)
    return parts


def with_parts(request: GenerateRequest, change: Callable[[Part], Part]) -> GenerateRequest:
    """Return a request with each part replaced by what `change` makes of it."""
    return replace(request, messages=tuple(_changed(message, change) for message in request.messages))


def _changed(message: Message, change: Callable[[Part], Part]) -> Message:
    if isinstance(message.content, str):
        return message
    return replace(message, content=tuple(change(part) for part in message.content))


def _readable(part: Part) -> TypeGuard[DocumentPart]:
    if not isinstance(part, DocumentPart):
        return False
    from abstractllm.files.documents import becomes_text

    return becomes_text(part)


def _reads_none(capabilities: Capabilities) -> bool:
    return capabilities.get(ModelCapability.DOCUMENTS) is False
