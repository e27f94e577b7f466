"""Whole answers as OpenAI's Responses API writes them, both ways; and the pieces that streams share with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from abstractllm.accumulator import call_deltas
from abstractllm.errors import GenerationError, UnsupportedFeatureError
from abstractllm.types import FinishReason, GenerateResponse, TokenLogprob, Usage
from abstractllm.wire.failures import stream_failure
from abstractllm.wire.openai_chat_answer import no_answer
from abstractllm.wire.openai_facts import Logprob, mappings, read_logprobs, string, write_logprobs
from abstractllm.wire.openai_responses_items import OWN, call_item, own_data, read_call, reasoning_texts, returned_item


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Counts(msgspec.Struct, gc=False):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(msgspec.Struct, gc=False):
    reason: str | None = None


class Ended(msgspec.Struct, gc=False):
    """A response, whole or at the end of its stream."""

    status: str | None = None
    output: list[dict[str, Any]] | None = None
    usage: _Counts | None = None
    model: str | None = None
    incomplete_details: _Incomplete | None = None
    error: Any = None


_decode_any = msgspec.json.Decoder().decode


def read_response(body: bytes, provider: str | None) -> GenerateResponse:
    """Return a whole answer. Raises GenerationError for what is none, and the error that it holds instead."""
    try:
        raw = _decode_any(body)
        ended = msgspec.convert(raw, Ended)
        if ended.error:
            raise stream_failure(raw, provider)
        if ended.output is None:
            raise no_answer(body, provider)
        said = read_output(ended.output)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise no_answer(body, provider) from error
    return replace(said, **read_end(ended, said, provider), raw_response=raw)


def read_output(output: Sequence[Mapping[str, Any]]) -> GenerateResponse:
    """Return what items say. `finish_reason` is only set where the model refused. Raises ValidationError."""
    parts = [part for item in output if item.get("type") == "message" for part in mappings(item.get("content"))]
    logprobs = [one for part in parts for one in msgspec.convert(part.get("logprobs") or [], list[Logprob])]
    back = [returned_item(item) for item in output]
    calls = [read_call(item) for item in output if item.get("type") == "function_call"]
    return GenerateResponse(
        "".join(string(part.get("text")) or string(part.get("refusal")) for part in parts),
        "\n\n".join(text for item in output if item.get("type") == "reasoning" for text in reasoning_texts(item)),
        tuple(replace(call, id=call.id or f"call_{number}") for number, call in enumerate(calls)),
        finish_reason="content_filter" if any(part.get("type") == "refusal" for part in parts) else None,
        logprobs=read_logprobs(logprobs),
        provider_data=own_data([item for item in back if item]),
    )


def read_end(ended: Ended, said: GenerateResponse, provider: str | None) -> dict[str, Any]:
    """Return the fields of an answer that are known at its end. Raises where there is no good one."""
    return {
        "finish_reason": _finish_reason(ended, said, provider),
        "usage": None if ended.usage is None else _read_usage(ended.usage),
        "model": ended.model or None,
    }


def _finish_reason(ended: Ended, said: GenerateResponse, provider: str | None) -> FinishReason:
    if ended.status == "failed":
        raise stream_failure(ended.error or "The response failed", provider)
    if ended.status in ("queued", "in_progress"):
        raise GenerationError(
            "The service has not finished this answer: it runs in the background. Leave that option out.",
            provider=provider,
        )
    if said.finish_reason is not None:
        return said.finish_reason
    if ended.status == "cancelled":
        return "cancelled"
    if ended.status == "incomplete":
        reason = ended.incomplete_details.reason if ended.incomplete_details else None
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if said.tool_calls else "stop"


def _read_usage(counts: _Counts) -> Usage:
    prompt, answer = counts.input_tokens_details, counts.output_tokens_details
    return Usage(
        counts.input_tokens or 0,
        counts.output_tokens or 0,
        (prompt.cached_tokens if prompt else 0) or 0,
        (answer.reasoning_tokens if answer else 0) or 0,
    )


# The other direction.


def write_response(response: GenerateResponse, *, identity: str, created: int) -> dict[str, Any]:
    """Return a whole answer as JSON values. Raises UnsupportedFeatureError for several answers."""
    if response.choices:
        raise several()
    return envelope(response, _write_output(response, identity), identity=identity, created=created)


def several() -> UnsupportedFeatureError:
    """Return the error for more answers than one."""
    return UnsupportedFeatureError("n", "The Responses API has one answer to a request; use n=1.")


def _write_output(response: GenerateResponse, identity: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if response.reasoning:
        items.append(reasoning_item(f"rs_{identity}", response.reasoning))
    if response.content or response.logprobs:
        items.append(message_item(f"msg_{identity}", response.content, response.logprobs))
    for piece in call_deltas(response.tool_calls):
        call = call_item(piece.id, piece.name, piece.arguments)
        items.append(call | {"id": f"fc_{identity}_{piece.index}", "status": "completed"})
    return in_own_order(items, response.provider_data)


def in_own_order(items: list[dict[str, Any]], provider_data: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return output items in the order that `provider_data` gives, with its items of reasoning instead of ours."""
    order = (provider_data or {}).get(OWN)
    if not order:
        return items
    left = [item for item in items if item["type"] != "reasoning"]
    ordered: list[dict[str, Any]] = []
    for entry in order:
        if entry.get("type") == "reasoning":
            ordered.append(entry)
            continue
        same = (one for one in left if all(one.get(key) == value for key, value in entry.items()))
        found = next(same, None)
        if found is not None:
            left.remove(found)
            ordered.append(found)
    return ordered + left


def message_item(identity: str, text: str, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
    """Return an answer's text as an item."""
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": write_logprobs(logprobs)}
    return {"type": "message", "id": identity, "status": "completed", "role": "assistant", "content": [part]}


def reasoning_item(identity: str, text: str) -> dict[str, Any]:
    """Return reasoning as an item: as a summary, which is where clients look for it."""
    return {"type": "reasoning", "id": identity, "summary": [{"type": "summary_text", "text": text}]}


def envelope(
    response: GenerateResponse, output: list[dict[str, Any]], *, identity: str, created: int, status: str | None = None
) -> dict[str, Any]:
    """Return a response around its output; `status` is what its end says, unless it is given."""
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    reason = reasons.get(response.finish_reason or "")
    ended = "cancelled" if response.finish_reason == "cancelled" else "incomplete" if reason else "completed"
    return {
        "id": f"resp_{identity}",
        "object": "response",
        "created_at": created,
        "status": status or ended,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": response.model or "",
        "output": output,
        "usage": None if response.usage is None else _write_usage(response.usage),
    }


def _write_usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }
