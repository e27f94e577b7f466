"""Requests that a provider must refuse, made from what it declares. Asks nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from abstractllm.capabilities import ModelCapability
from abstractllm.interface import AbstractLLMInterface
from abstractllm.types import DocumentPart, ImagePart, Message

_SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "max_tokens": {"max_tokens": 5},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.5},
    "top_k": {"top_k": 5},
    "min_p": {"min_p": 0.1},
    "seed": {"seed": 7},
    "stop": {"stop": ["#"]},
    "n": {"n": 2},
    "logprobs": {"logprobs": True},
    "top_logprobs": {"logprobs": True, "top_logprobs": 2},
    "logit_bias": {"logit_bias": {1: 1.0}},
    "presence_penalty": {"presence_penalty": 0.5},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "repetition_penalty": {"repetition_penalty": 1.5},
    "tool_choice": {"tool_choice": "auto"},
    "response_format": {"response_format": {"type": "object"}},
    "reasoning": {"reasoning": "high"},
    "priority": {"priority": 1},
    "deterministic": {"deterministic": True},
}
"""A call's arguments that ask for each parameter."""

_TOOL: Mapping[str, Any] = {
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}

_REFUSALS: Mapping[ModelCapability, Mapping[str, Any]] = {
    ModelCapability.SYSTEM_PROMPT: {"system_prompt": "Be brief."},
    ModelCapability.TOOL_USE: {"tools": [_TOOL]},
    ModelCapability.VISION: {"messages": [Message("user", (ImagePart(b"\x89PNG", "image/png"),))]},
    ModelCapability.DOCUMENTS: {"messages": [Message("user", (DocumentPart(b"x", "application/x-unknown"),))]},
}
"""A call's arguments that each capability is needed for."""

IMPOSSIBLE: Sequence[Mapping[str, Any]] = (
    {"prompt": None},
    {"prompt": ""},
    {"temperature": -1},
    {"max_tokens": 0},
    {"timeout": 0},
    {"messages": [{"role": "nobody", "content": "Hello"}]},
)
"""Requests that no provider can serve."""


def lacking(llm: AbstractLLMInterface) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments of calls that ask for something which the provider declares that it lacks."""
    able = llm.get_capabilities()
    for capability, arguments in _REFUSALS.items():
        if able.get(capability) is False:
            yield arguments
    supported = getattr(llm, "parameters", None)
    if supported is None:
        return
    for name, arguments in _SAMPLES.items():
        if name not in supported:
            yield arguments
    yield {"options": {"no_such_option": 1}}


_WITH_RULES = {"max_tokens", "stop", "n", "logprobs", "top_logprobs", "tool_choice", "response_format"}
"""Parameters whose effect is looked at by a rule of their own."""


def declared(llm: AbstractLLMInterface) -> Iterator[Mapping[str, Any]]:
    """Yield the arguments of calls with each parameter that the provider declares, and of which only that is known."""
    for name, arguments in _SAMPLES.items():
        if name in getattr(llm, "parameters", ()) and name not in _WITH_RULES:
            yield arguments
