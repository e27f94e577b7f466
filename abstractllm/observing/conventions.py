"""OpenTelemetry's names for what language models and agents do, and our data under these names.

Source: the GenAI semantic conventions, status Development, as of November 2026: the repository
open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md and gen-ai-agent-spans.md. Names of our own, for
what has none there, begin with "abstractllm.". Knows no spans and no library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from abstractllm.observing.conversation import conversation_id
from abstractllm.types import GenerateRequest, GenerateResponse, Usage

OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
CONVERSATION: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
REQUEST_CHOICES: Final = "gen_ai.request.choice.count"
REQUEST_STOP: Final = "gen_ai.request.stop_sequences"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
AGENT_NAME: Final = "gen_ai.agent.name"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_TYPE: Final = "gen_ai.tool.type"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_RESULT: Final = "gen_ai.tool.call.result"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
ERROR_TYPE: Final = "error.type"

RUN_ID: Final = "abstractllm.run.id"
RUN_STOP: Final = "abstractllm.run.stop"
RUN_TURNS: Final = "abstractllm.run.turns"
TOOL_OUTCOME: Final = "abstractllm.tool.outcome"

CHAT: Final = "chat"
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"

_REQUEST: Mapping[str, str] = {
    name: f"gen_ai.request.{name}"
    for name in ("max_tokens", "temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "seed")
}
"""Parameters whose names are the same."""

_PROVIDERS: Mapping[str, str] = {
    "azure": "azure.ai.openai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Well-known names that differ from ours; every other provider goes by its own."""

Value = str | bool | int | float | Sequence[str]
Attributes = dict[str, Value]


def operation(name: str, provider: str, model: str | None) -> Attributes:
    """Return what every span of a model or an agent begins with."""
    found: Attributes = {OPERATION: name, PROVIDER: _PROVIDERS.get(provider, provider)}
    if model:
        found[REQUEST_MODEL] = model
    if (id := conversation_id()) is not None:
        found[CONVERSATION] = id
    return found


def of_request(provider: str, model: str | None, request: GenerateRequest) -> Attributes:
    """Return what is known of a request when it starts, without its content."""
    found = operation(CHAT, provider, model)
    for name, attribute in _REQUEST.items():
        value = getattr(request, name)
        if value is not None:
            found[attribute] = value
    if request.stop:
        found[REQUEST_STOP] = request.stop
    if request.n != 1:
        found[REQUEST_CHOICES] = request.n
    if request.stream:
        found[REQUEST_STREAM] = True
    if request.response_format is not None:
        found[OUTPUT_TYPE] = "json" if request.response_format.kind == "json" else "text"
    return found


def of_response(request: GenerateRequest, response: GenerateResponse) -> Attributes:
    """Return what is known of an answer, as far as it has come, without its content."""
    found: Attributes = {}
    if response.model:
        found[RESPONSE_MODEL] = response.model
    reasons = [one.finish_reason for one in response.choices or (response,) if one.finish_reason]
    if reasons:
        found[FINISH_REASONS] = reasons
    raw = response.raw_response
    if isinstance(raw, Mapping) and isinstance(raw.get("id"), str):
        found[RESPONSE_ID] = raw["id"]
    if request.stream and response.timings is not None:
        found[FIRST_CHUNK] = response.timings.queued + response.timings.first_token
    return found | of_usage(response.usage)


def of_usage(usage: Usage | None) -> Attributes:
    """Return token counts; those that may just not be told are left out where they are 0."""
    if usage is None:
        return {}
    found: Attributes = {INPUT_TOKENS: usage.prompt_tokens, OUTPUT_TOKENS: usage.completion_tokens}
    if usage.cached_tokens:
        found[CACHED_TOKENS] = usage.cached_tokens
    if usage.reasoning_tokens:
        found[REASONING_TOKENS] = usage.reasoning_tokens
    return found


def of_error(error: BaseException) -> Attributes:
    """Return the class of an error; never its message, which may hold content."""
    return {ERROR_TYPE: type(error).__qualname__}
