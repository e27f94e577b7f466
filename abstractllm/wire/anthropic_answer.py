"""Whole answers in Anthropic's Messages format, their counts and errors. Knows nothing of requests and streams."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    InvalidRequestError,
    ModelNotFoundError,
    QueueFullError,
    QuotaExceededError,
    RequestTimeoutError,
    UnsupportedFeatureError,
)
from abstractllm.types import FinishReason, GenerateResponse, Usage
from abstractllm.wire.anthropic_blocks import KEY, assistant_blocks, calls_in, joined_text, joined_thinking, kept_data
from abstractllm.wire.bodies import malformed, read_answer
from abstractllm.wire.failures import stream_failure

_FINISH: Mapping[str | None, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""`pause_turn` is an answer that goes on when it is sent back; no request of ours leads there by itself."""

_STOP_REASONS: Mapping[FinishReason | None, str] = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}

_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "authentication_error"),
    (QuotaExceededError, "rate_limit_error"),
    (ModelNotFoundError, "not_found_error"),
    (InvalidRequestError, "invalid_request_error"),
    (UnsupportedFeatureError, "invalid_request_error"),
    (RequestTimeoutError, "timeout_error"),
    (QueueFullError, "overloaded_error"),
)


class OutputDetails(Struct, gc=False):
    """What answers' tokens are made of."""

    thinking_tokens: int = 0


class Counts(Struct, gc=False):
    """Tokens, as this format counts them: `input_tokens` are neither read from the cache nor written to it."""

    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None

    def after(self, earlier: Counts | None) -> Counts:
        """Return these counts with earlier ones for those that are not given; counts are cumulative."""
        if earlier is None:
            return self
        names = self.__struct_fields__
        return Counts(*(getattr(earlier if getattr(self, name) is None else self, name) for name in names))


class _Answer(Struct):
    content: list[dict[str, Any]] | None = None
    model: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Counts | None = None
    error: dict[str, Any] | None = None


def usage_of(counts: Counts | None) -> Usage | None:
    """Return counts as we count: the prompt is all of it."""
    if counts is None:
        return None
    cached = counts.cache_read_input_tokens or 0
    details = counts.output_tokens_details
    return Usage(
        prompt_tokens=(counts.input_tokens or 0) + cached + (counts.cache_creation_input_tokens or 0),
        completion_tokens=counts.output_tokens or 0,
        cached_tokens=cached,
        reasoning_tokens=0 if details is None else details.thinking_tokens,
    )


def usage_body(usage: Usage | None) -> dict[str, Any]:
    """Return counts as this format counts; zeros where they are not known, as it must have some."""
    usage = usage or Usage()
    details = {"output_tokens_details": {"thinking_tokens": usage.reasoning_tokens}} if usage.reasoning_tokens else {}
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        **details,
    }


def finish_of(stop_reason: str | None, called: bool) -> FinishReason:
    """Return why an answer ended; the reason "stop" is "tool_calls" where calls came."""
    reason = _FINISH.get(stop_reason, "stop")
    return "tool_calls" if called and reason == "stop" else reason


def stop_reason_of(response: GenerateResponse) -> str:
    """Return why an answer ended, in this format's words."""
    reason = _STOP_REASONS.get(response.finish_reason)
    return reason or ("stop_sequence" if response.stop_string is not None else "end_turn")


def message_body(model: str | None) -> dict[str, Any]:
    """Return an answer without content, under a new id."""
    identity = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "model": model or ""}
    return {**identity, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage_body(None)}


def error_body(error: Exception) -> dict[str, Any]:
    """Return an error as this format reports it. The texts of errors that are not ours stay inside."""
    kind = next((name for known, name in _ERRORS if isinstance(error, known)), "api_error")
    message = error.message if isinstance(error, AbstractLLMError) else "The server failed at this request."
    return {"type": "error", "error": {"type": kind, "message": message}}


def decode_response(body: bytes, provider: str) -> GenerateResponse:
    """Return a whole answer. Raises GenerationError for what is none, or the error that it reports."""
    raw, answer = read_answer(body, _Answer, provider)
    if answer.error is not None:
        raise stream_failure(answer.error, provider)
    if answer.content is None:
        raise malformed(body, "no content", provider)
    calls = calls_in(answer.content)
    return GenerateResponse(
        content=joined_text(answer.content),
        reasoning=joined_thinking(answer.content),
        tool_calls=calls,
        finish_reason=finish_of(answer.stop_reason, bool(calls)),
        usage=usage_of(answer.usage),
        stop_string=answer.stop_sequence,
        model=answer.model,
        provider_data=kept_data(answer.content),
        raw_response=raw,
    )


def encode_response(response: GenerateResponse) -> dict[str, Any]:
    """Return a whole answer as JSON values. Raises UnsupportedFeatureError for several answers in one."""
    if len(response.choices) > 1:
        raise UnsupportedFeatureError("n", "This wire format has one answer to a request.")
    return {
        **message_body(response.model),
        "content": answer_blocks(response),
        "stop_reason": stop_reason_of(response),
        "stop_sequence": response.stop_string,
        "usage": usage_body(response.usage),
    }


def answer_blocks(response: GenerateResponse) -> list[dict[str, Any]]:
    """Return the blocks of an answer; reasoning that no service has signed has an empty signature."""
    blocks = assistant_blocks(response.to_message(), KEY)
    thought = response.reasoning and not any(block.get("type") == "thinking" for block in blocks)
    return [{"type": "thinking", "thinking": response.reasoning, "signature": ""}, *blocks] if thought else blocks
