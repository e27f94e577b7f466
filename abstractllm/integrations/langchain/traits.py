"""What a chat model of LangChain's can do, and where it takes what. Asks no model."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.integrations.langchain.chat import ChatAbstractLLM
from abstractllm.interface import AbstractLLMInterface
from abstractllm.types import GenerateRequest, given_parameters

FIELDS: Mapping[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "max_tokens": ("max_tokens", "max_output_tokens", "max_completion_tokens", "num_predict", "max_new_tokens"),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "seed": ("seed",),
    "logprobs": ("logprobs",),
    "top_logprobs": ("top_logprobs",),
    "logit_bias": ("logit_bias",),
    "presence_penalty": ("presence_penalty",),
    "frequency_penalty": ("frequency_penalty",),
    "repetition_penalty": ("repetition_penalty", "repeat_penalty"),
    "reasoning": ("reasoning_effort",),
}
"""Parameters, and the fields that integrations have for them; a model without one of these cannot be told of it."""

PARAMETERS = frozenset(FIELDS) | {"stop", "tool_choice", "response_format", "priority", "deterministic"}
"""Every parameter that some chat model takes; `priority` and `deterministic` are for those of this package."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Facts of one chat model.

    `parameters` are those that it takes, `fields` the field for each that is one. `streams` and `answers` say whether
    it does so on an event loop by itself. `calls` says whether it can be given tools, `chooses` whether with a choice
    among them, `formed` whether it holds answers to a schema when asked by `response_format`; None is unknown.
    """

    parameters: frozenset[str]
    fields: Mapping[str, str]
    streams: bool
    answers: bool
    calls: bool | None
    chooses: bool
    formed: bool | None


def traits_of(chat: BaseChatModel) -> Traits:
    """Return the facts of a chat model."""
    kind = type(chat)
    fields = {} if isinstance(chat, ChatAbstractLLM) else _fields(kind)
    bindable = kind.bind_tools is not BaseChatModel.bind_tools
    chooses = bindable and "tool_choice" in inspect.signature(kind.bind_tools).parameters
    profile = profile_of(chat)
    own = {"stop", "response_format"} | ({"tool_choice"} if chooses else set())
    return Traits(
        parameters=_of_ours(chat) if isinstance(chat, ChatAbstractLLM) else frozenset(own | set(fields)),
        fields=fields,
        streams=kind._astream is not BaseChatModel._astream,
        answers=kind._agenerate is not BaseChatModel._agenerate,
        calls=_flag(profile, "tool_calling") if bindable else False,
        chooses=chooses,
        formed=_flag(profile, "structured_output"),
    )


def capabilities_of(chat: BaseChatModel, traits: Traits) -> Capabilities:
    """Return what a chat model can do, by its profile; what that does not say is unknown."""
    if isinstance(chat, ChatAbstractLLM):
        return provider_of(chat).get_capabilities()
    profile = profile_of(chat)
    return {
        ModelCapability.STREAMING: True,
        ModelCapability.ASYNC: True,
        ModelCapability.MULTI_TURN: True,
        ModelCapability.PARALLEL_INFERENCE: True,
        ModelCapability.EMBEDDINGS: False,
        ModelCapability.SYSTEM_PROMPT: None,
        ModelCapability.TOOL_USE: traits.calls,
        ModelCapability.FUNCTION_CALLING: traits.calls,
        ModelCapability.STRUCTURED_OUTPUT: traits.formed,
        ModelCapability.VISION: _flag(profile, "image_inputs"),
        ModelCapability.DOCUMENTS: _flag(profile, "pdf_inputs"),
        ModelCapability.REASONING: _flag(profile, "reasoning_output"),
        ModelCapability.CONTEXT_WINDOW: _count(profile, "max_input_tokens"),
        ModelCapability.MAX_TOKENS: _count(profile, "max_output_tokens"),
    }


def with_parameters(
    chat: BaseChatModel, traits: Traits, request: GenerateRequest
) -> tuple[BaseChatModel, dict[str, Any]]:
    """Return the model with the parameters of a request in its fields, and those that go with the call.

    Fields are set in a copy, which shares connections: integrations read them at each call, whereas names of arguments
    differ between them.
    """
    named = {name: getattr(request, name) for name in given_parameters(request)}
    call = {name: named[name] for name in named if name in _OF_OURS and isinstance(chat, ChatAbstractLLM)}
    fields = {traits.fields[name]: named[name] for name in named if name in traits.fields}
    if request.stop:
        call["stop"] = list(request.stop)
    return (chat.model_copy(update=fields) if fields else chat), call


def profile_of(chat: BaseChatModel) -> Mapping[str, Any]:
    """Return the profile of a model, empty where it has none."""
    return chat.profile or {}


def provider_of(chat: ChatAbstractLLM) -> AbstractLLMInterface:
    """Return the provider behind a chat model of this package. Raises what making it raises."""
    return chat._backend(None).provider()


def model_name(chat: BaseChatModel) -> str:
    """Return what a chat model says that it asks, or the name of its class."""
    told = chat._get_ls_params().get("ls_model_name")
    return told if isinstance(told, str) and told else type(chat).__name__


_OF_OURS = frozenset(FIELDS) | {"priority", "deterministic"}


def _of_ours(chat: ChatAbstractLLM) -> frozenset[str]:
    return frozenset(getattr(provider_of(chat), "parameters", frozenset())) & PARAMETERS


def _fields(kind: type[BaseChatModel]) -> dict[str, str]:
    found = {
        name: next((field for field in fields if field in kind.model_fields), None) for name, fields in FIELDS.items()
    }
    return {name: field for name, field in found.items() if field is not None}


def _flag(profile: Mapping[str, Any], key: str) -> bool | None:
    value = profile.get(key)
    return value if isinstance(value, bool) else None


def _count(profile: Mapping[str, Any], key: str) -> int | None:
    value = profile.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
