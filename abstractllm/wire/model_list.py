"""The list of models that `GET /models` gives in OpenAI's format, with the limits that some services add to it.

A pure decoder; knows no service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from abstractllm.wire.bodies import read_answer
from abstractllm.wire.failures import stream_failure
from abstractllm.wire.openai_chat_answer import no_answer


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that a service offers.

    `context_window` and `max_output` are tokens, of prompt and answer together and of an answer. `created` is seconds
    since 1970. None and empty text stand for what the service does not say.
    """

    name: str
    context_window: int | None = None
    max_output: int | None = None
    created: int | None = None
    owner: str = ""


class _Limits(msgspec.Struct):
    context_length: int | None = None
    max_completion_tokens: int | None = None


class _Model(_Limits, kw_only=True):
    id: str
    created: int | None = None
    owned_by: str | None = None
    top_provider: _Limits | None = None


class _List(msgspec.Struct):
    data: list[_Model] | None = None
    error: Any = None


def decode_models(body: bytes, provider: str) -> tuple[ListedModel, ...]:
    """Return the models of an answer. Raises GenerationError for what is no list of them, or the error in its place.

    Limits stand beside the id, or in `top_provider`, as OpenRouter and Maritaca write them (Maritaca's
    documentation/api/en/list-models-response.md).
    """
    raw, found = read_answer(body, _List, provider)
    if found.error is not None:
        raise stream_failure(raw, provider)
    if found.data is None:
        raise no_answer(body, provider)
    return tuple(_listed(model) for model in found.data)


def _listed(model: _Model) -> ListedModel:
    inner = model.top_provider or _Limits()
    return ListedModel(
        model.id,
        model.context_length or inner.context_length or None,
        model.max_completion_tokens or inner.max_completion_tokens or None,
        model.created,
        model.owned_by or "",
    )
