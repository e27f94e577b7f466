"""Answers in Ollama's native chat format: one JSON object each, or one a line. Knows nothing of requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from abstractllm.errors import AbstractLLMError
from abstractllm.types import FinishReason, GenerateResponse, Timings, TokenLogprob, ToolCall, Usage
from abstractllm.wire.failures import stream_failure
from abstractllm.wire.ollama_request import call_body
from abstractllm.wire.toolcalls import call_of

_FINISH: Mapping[str | None, FinishReason] = {"length": "length"}
"""Other reasons, such as "load" for a prompt that was empty, are ends like any other."""


class Function(Struct, gc=False):
    """What a call calls."""

    name: str | None = None
    arguments: Any = None


class Call(Struct, gc=False):
    """One call."""

    function: Function
    id: str | None = None


class Said(Struct, gc=False):
    """What an answer, or a piece of it, says."""

    content: str | None = None
    thinking: str | None = None
    tool_calls: list[Call] | None = None


class Logprob(Struct, gc=False):
    """A token and its alternatives."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[Logprob] | None = None


class Line(Struct, gc=False):
    """A whole answer, or one line of a stream."""

    message: Said | None = None
    done: bool = False
    model: str | None = None
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[Logprob] | None = None
    error: Any = None


# Lines -> answers.


def failed(error: object, provider: str) -> AbstractLLMError:
    """Return the exception for an error that came instead of an answer or in the middle of it."""
    return stream_failure(error if isinstance(error, Mapping) else {"message": str(error)}, provider)


def calls_of(line: Line, first: int = 0) -> tuple[ToolCall, ...]:
    """Return the calls in a line, numbered from `first` where they have no id."""
    found = () if line.message is None else line.message.tool_calls or ()
    return tuple(
        call_of(call.id or f"call_{number}", call.function.name or "", call.function.arguments)
        for number, call in enumerate(found, first)
    )


def last_facts(line: Line, called: bool) -> dict[str, Any]:
    """Return what the last line says of the whole answer: why it ended, the counts if there are any, the model."""
    reason = _FINISH.get(line.done_reason, "stop")
    unknown = line.prompt_eval_count is None and line.eval_count is None
    return {
        "finish_reason": "tool_calls" if called and reason == "stop" else reason,
        "usage": None if unknown else Usage(line.prompt_eval_count or 0, line.eval_count or 0),
        "model": line.model,
    }


def logprobs_of(line: Line) -> tuple[TokenLogprob, ...]:
    """Return the tokens in a line."""
    return tuple(_logprob(one) for one in line.logprobs or ())


def _logprob(one: Logprob) -> TokenLogprob:
    data = one.token.encode("utf-8") if one.bytes is None else bytes(one.bytes)
    return TokenLogprob(one.token, one.logprob, data, tuple(_logprob(other) for other in one.top_logprobs or ()))


# Answers -> lines.


def answer_line(response: GenerateResponse, calls: Sequence[ToolCall], model: str | None) -> dict[str, Any]:
    """Return a line that does not end the answer; `model` is the name where the response has none."""
    message: dict[str, Any] = {"role": "assistant", "content": response.content}
    if response.reasoning:
        message["thinking"] = response.reasoning
    if calls:
        message["tool_calls"] = [call_body(number, call) for number, call in enumerate(calls)]
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {"model": response.model or model or "", "created_at": moment, "message": message, "done": False}
    return line | ({"logprobs": [_token(one) for one in response.logprobs]} if response.logprobs else {})


def _token(one: TokenLogprob) -> dict[str, Any]:
    top = {"top_logprobs": [_token(other) for other in one.top]} if one.top else {}
    return {"token": one.token, "logprob": one.logprob, "bytes": list(one.bytes), **top}


def ending(response: GenerateResponse) -> dict[str, Any]:
    """Return what makes a line the last one."""
    reason = "length" if response.finish_reason == "length" else "stop"
    return {"done": True, "done_reason": reason, **_durations(response.timings), **_counts(response.usage)}


def _counts(usage: Usage | None) -> dict[str, int]:
    if usage is None:
        return {}
    return {"prompt_eval_count": usage.prompt_tokens, "eval_count": usage.completion_tokens}


def _durations(timings: Timings | None) -> dict[str, int]:
    """Return times in nanoseconds."""
    if timings is None:
        return {}
    seconds = {"total": timings.total, "load": timings.queued, "prompt_eval": timings.first_token}
    seconds["eval"] = timings.decode
    return {f"{name}_duration": round(value * 1e9) for name, value in seconds.items()}
