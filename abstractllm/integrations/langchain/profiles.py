"""What a provider can do, in the words of LangChain's model profiles."""

from __future__ import annotations

from langchain_core.language_models import ModelProfile

from abstractllm.capabilities import ModelCapability
from abstractllm.interface import AbstractLLMInterface


def profile_of(llm: AbstractLLMInterface) -> ModelProfile:
    """Return the profile of a provider; what is not known is left out. Raises what `get_capabilities` raises."""
    able = llm.get_capabilities()
    profile = ModelProfile(text_inputs=True, text_outputs=True, audio_inputs=False, video_inputs=False)
    parameters: frozenset[str] = getattr(llm, "parameters", frozenset())
    for key, capability in _FLAGS.items():
        known = able.get(capability)
        if isinstance(known, bool):
            profile[key] = known  # type: ignore[literal-required]
    if able.get(ModelCapability.TOOL_USE) is not False and "tool_choice" in parameters:
        profile["tool_choice"] = True
    if parameters:
        profile["temperature"] = "temperature" in parameters
    for key, capability in _COUNTS.items():
        count = able.get(capability)
        if isinstance(count, int) and not isinstance(count, bool):
            profile[key] = count  # type: ignore[literal-required]
    return profile


_FLAGS = {
    "image_inputs": ModelCapability.VISION,
    "pdf_inputs": ModelCapability.DOCUMENTS,
    "reasoning_output": ModelCapability.REASONING,
    "tool_calling": ModelCapability.TOOL_USE,
    "structured_output": ModelCapability.STRUCTURED_OUTPUT,
}
_COUNTS = {
    "max_input_tokens": ModelCapability.CONTEXT_WINDOW,
    "max_output_tokens": ModelCapability.MAX_TOKENS,
}
