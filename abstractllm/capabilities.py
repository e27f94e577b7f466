"""What a provider or model can do, and the check of a request against it.

A capability is True, False or None for "unknown"; only a False one refuses a request.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

from abstractllm.errors import UnsupportedFeatureError
from abstractllm.types import DocumentPart, GenerateRequest, ImagePart, Part, given_parameters


class ModelCapability(str, Enum):
    """Names of capabilities; each member equals its string, so both work as keys."""

    STREAMING = "streaming"
    MAX_TOKENS = "max_tokens"
    CONTEXT_WINDOW = "context_window"
    SYSTEM_PROMPT = "supports_system_prompt"
    ASYNC = "supports_async"
    FUNCTION_CALLING = "supports_function_calling"
    TOOL_USE = "supports_tool_use"
    VISION = "supports_vision"
    DOCUMENTS = "supports_documents"
    EMBEDDINGS = "supports_embeddings"
    MULTI_TURN = "supports_multi_turn"
    PARALLEL_INFERENCE = "supports_parallel_inference"
    JSON_MODE = "supports_json_mode"
    STRUCTURED_OUTPUT = "supports_structured_output"
    REASONING = "supports_reasoning"

    def __str__(self) -> str:
        return self.value


Capabilities = Mapping[ModelCapability, bool | int | None]
"""True, False or None (unknown) for each `supports_*` and `streaming`; a count of tokens or None for the rest."""

ALWAYS_SUPPORTED = frozenset({"retries", "timeout"})
"""Parameters that the base class itself carries out, for every provider."""


def check_request(
    request: GenerateRequest,
    capabilities: Capabilities,
    *,
    supported: frozenset[str],
    options: frozenset[str],
    provider: str,
) -> None:
    """Raise UnsupportedFeatureError for the first thing in `request` that the provider cannot do.

    `supported` are the names of the parameters that the provider carries out, `options` the names that it
    declares for `options={...}`.
    """
    for name in given_parameters(request):
        if name not in supported and name not in ALWAYS_SUPPORTED:
            raise _refusal(name, f"does not support the parameter {name!r}; leave it out", provider)
    check_options(request.options, declared=options, provider=provider)
    if request.tools and _lacks(capabilities, ModelCapability.TOOL_USE, ModelCapability.FUNCTION_CALLING):
        raise _refusal("tools", "cannot call tools; use a model that can, or leave tools out", provider)
    if request.stream and capabilities.get(ModelCapability.STREAMING) is False:
        raise _refusal("stream", "cannot stream; use stream=False", provider)
    _check_messages(request, capabilities, provider)


def check_options(given: Iterable[str], *, declared: frozenset[str], provider: str) -> None:
    """Raise UnsupportedFeatureError for the first name for `options={...}` that the provider has not declared."""
    for name in given:
        if name not in declared:
            known = ", ".join(sorted(declared)) or "none"
            raise _refusal(f"options.{name}", f"has no option {name!r}; its options are: {known}", provider)


def _check_messages(request: GenerateRequest, capabilities: Capabilities, provider: str) -> None:
    """Refuse the kinds of turns and parts that the model cannot read."""
    if _lacks(capabilities, ModelCapability.MULTI_TURN) and sum(one.role != "system" for one in request.messages) > 1:
        raise _refusal("messages", "answers single prompts only; leave earlier turns out", provider)
    for message in request.messages:
        if message.role == "system" and capabilities.get(ModelCapability.SYSTEM_PROMPT) is False:
            raise _refusal("system_prompt", "cannot follow a system prompt; leave it out", provider)
        if isinstance(message.content, str):
            continue
        for part in message.content:
            _check_part(part, capabilities, provider)


def _lacks(capabilities: Capabilities, *names: ModelCapability) -> bool:
    return any(capabilities.get(name) is False for name in names)


def _check_part(part: Part, capabilities: Capabilities, provider: str) -> None:
    name = f" ({part.name})" if part.name else ""
    if isinstance(part, ImagePart) and capabilities.get(ModelCapability.VISION) is False:
        raise _refusal("vision", f"cannot see images{name}; use a model with vision", provider)
    if isinstance(part, DocumentPart) and capabilities.get(ModelCapability.DOCUMENTS) is False:
        raise _refusal("documents", f"cannot read {part.media_type} files{name}; convert it to text", provider)


def _refusal(feature: str, what: str, provider: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(feature, f"This provider or model {what}.", provider=provider)
