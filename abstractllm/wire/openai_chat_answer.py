"""Whole answers as OpenAI's Chat Completions writes them, both ways; and the pieces that streams share with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from abstractllm.accumulator import join_calls
from abstractllm.errors import GenerationError, ProviderAPIError, shown
from abstractllm.types import FinishReason, GenerateResponse, ToolCall, ToolCallDelta, Usage
from abstractllm.wire.call_pieces import CallPieces
from abstractllm.wire.failures import stream_failure
from abstractllm.wire.openai_chat_messages import OWN, own_data, with_calls
from abstractllm.wire.openai_facts import Logprob, read_logprobs, string, write_logprobs

_FINISHES: Mapping[str, FinishReason] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "abort": "cancelled",
    "cancelled": "cancelled",
}
"""What services say at the end; every other word is a normal end."""

_BROKEN = {"error", "insufficient_system_resource"}


class Function(msgspec.Struct, gc=False):
    """The inside of a call or of a piece of one. `arguments` should be text."""

    name: str | None = None
    arguments: Any = None


class Call(msgspec.Struct, gc=False):
    """A call or a piece of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None
    extra_content: Any = None


class Said(msgspec.Struct, gc=False):
    """What a message or a piece of one says. `content` may be a list of parts, as Mistral writes it."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Call] | None = None
    refusal: str | None = None
    reasoning_details: list[Any] | None = None


class Logprobs(msgspec.Struct, gc=False):
    """Log probabilities of an answer's tokens."""

    content: list[Logprob] | None = None
    refusal: list[Logprob] | None = None


class PromptDetails(msgspec.Struct, gc=False):
    """Of which the prompt's tokens are made."""

    cached_tokens: int | None = None


class CompletionDetails(msgspec.Struct, gc=False):
    """Of which the answer's tokens are made."""

    reasoning_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class Counts(msgspec.Struct, gc=False):
    """Token counts; `prompt_cache_hit_tokens` is DeepSeek's name for cached ones."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None


class WholeChoice(msgspec.Struct, gc=False):
    """One of the answers."""

    index: int | None = None
    message: Said | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    logprobs: Logprobs | None = None


class Whole(msgspec.Struct, gc=False):
    """A whole answer."""

    choices: list[WholeChoice] | None = None
    usage: Counts | None = None
    model: str | None = None


def read_usage(counts: Counts) -> Usage:
    """Return token counts; those that a service leaves out are 0."""
    prompt, answer = counts.prompt_tokens_details, counts.completion_tokens_details
    cached = prompt.cached_tokens if prompt and prompt.cached_tokens else counts.prompt_cache_hit_tokens
    accepted = (answer.accepted_prediction_tokens if answer else 0) or 0
    return Usage(
        counts.prompt_tokens or 0,
        counts.completion_tokens or 0,
        cached or 0,
        (answer.reasoning_tokens if answer else 0) or 0,
        accepted + ((answer.rejected_prediction_tokens if answer else 0) or 0),
        accepted,
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Return token counts in this format."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "accepted_prediction_tokens": usage.accepted_tokens,
            "rejected_prediction_tokens": max(0, usage.proposed_tokens - usage.accepted_tokens),
        },
    }


def read_finish(word: str | None, provider: str | None, *, refused: bool, calls: int) -> FinishReason:
    """Return why an answer ended; its `calls` say more than the service's word. Raises where generating failed."""
    word = (word or "").lower()
    if word in _BROKEN:
        raise ProviderAPIError(f"The service gave up in the middle of its answer ({word}).", provider=provider)
    reason: FinishReason = "content_filter" if refused else _FINISHES.get(word, "stop")
    return "tool_calls" if reason == "stop" and calls else reason


class Ending:
    """What is known of one answer's end while its pieces come: it is told in the last delta."""

    __slots__ = ("calls", "choice", "details", "extras", "finish", "refused", "stop")

    def __init__(self, choice: int) -> None:
        self.choice = choice
        self.calls = CallPieces()
        self.finish: str | None = None
        self.stop: str | None = None
        self.refused = False
        self.details: list[Any] = []
        self.extras: dict[int, Any] = {}

    def add_calls(self, calls: Sequence[Call]) -> tuple[ToolCallDelta, ...]:
        """Return what is new in pieces of calls."""
        found = []
        for call in calls:
            inner = call.function
            name, arguments = (inner.name or "", inner.arguments) if inner else ("", None)
            piece = self.calls.add(call.index, call.id or "", name, arguments)
            if piece is not None:
                found.append(piece)
            if call.extra_content is not None:
                self.extras[self.calls.index(call.index, call.id or "")] = call.extra_content
        return tuple(found)

    def finish_reason(self, provider: str | None) -> FinishReason:
        """Return why the answer ended. Raises where generating failed."""
        return read_finish(self.finish, provider, refused=self.refused, calls=len(self.calls))

    def provider_data(self) -> dict[str, Any] | None:
        """Return what the service wants back."""
        extras = [self.extras.get(index) for index in range(len(self.calls))] if self.extras else []
        return own_data(self.details, extras)


def said_texts(said: Said) -> tuple[str, str]:
    """Return content and reasoning. Where both fields for reasoning are there, they say the same."""
    content, reasoning = said.content or "", said.reasoning_content or said.reasoning or ""
    if not isinstance(content, str):
        content, thought = _parts_texts(content)
        reasoning += thought
    return content, reasoning


def _parts_texts(parts: list[Any]) -> tuple[str, str]:
    """Return the text and the thinking in content that is a list."""
    content, thought = "", ""
    for part in parts:
        if not isinstance(part, dict):
            content += string(part)
        elif part.get("type") == "thinking":
            inner = part.get("thinking")
            thought += _parts_texts(inner)[0] if isinstance(inner, list) else string(inner)
        else:
            content += string(part.get("text"))
    return content, thought


_decode_any = msgspec.json.Decoder().decode


def read_response(body: bytes, provider: str | None) -> GenerateResponse:
    """Return a whole answer. Raises GenerationError for what is none, and the error that it holds instead."""
    try:
        raw = _decode_any(body)
        if isinstance(raw, dict) and raw.get("error") and not raw.get("choices"):
            raise stream_failure(raw, provider)
        whole = msgspec.convert(raw, Whole)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise no_answer(body, provider) from error
    if not whole.choices:
        raise no_answer(body, provider)
    shared = {"usage": read_usage(whole.usage) if whole.usage else None, "raw_response": raw}
    model, choices = whole.model or None, whole.choices
    if len(choices) == 1:
        return _read_choice(choices[0], 0, provider, model=model, **shared)
    answers = [_read_choice(choice, number, provider, model=model) for number, choice in enumerate(choices)]
    answers.sort(key=lambda answer: answer.choice)
    answers[0] = replace(answers[0], **shared)  # what is of all answers stands in the first one
    return replace(answers[0], choices=tuple(answers))


def no_answer(data: bytes, provider: str | None) -> GenerationError:
    """Return the error for bytes that are no answer."""
    seen = shown(data[:80].decode("utf-8", "replace"))
    return GenerationError(
        f"The service sent something that is no answer: {seen}. Check that the base URL is one of this API.",
        provider=provider,
    )


def _read_choice(choice: WholeChoice, number: int, provider: str | None, **more: Any) -> GenerateResponse:
    said = choice.message or Said()
    content, reasoning = said_texts(said)
    calls, provider_data = _read_calls(said) if said.tool_calls or said.reasoning_details else ((), None)
    return GenerateResponse(
        content + (said.refusal or ""),
        reasoning,
        calls,
        finish_reason=read_finish(choice.finish_reason, provider, refused=bool(said.refusal), calls=len(calls)),
        stop_string=choice.stop_reason if isinstance(choice.stop_reason, str) else None,
        logprobs=choice_logprobs(choice.logprobs),
        choice=choice.index if choice.index is not None else number,
        provider_data=provider_data,
        **more,
    )


def _read_calls(said: Said) -> tuple[tuple[ToolCall, ...], dict[str, Any] | None]:
    """Return the calls of a whole answer, and what the service wants back."""
    ending = Ending(0)
    ending.details = said.reasoning_details or []
    calls = said.tool_calls or []
    for place, call in enumerate(calls):
        call.index = place  # each is whole, whatever it is numbered
    return join_calls(ending.add_calls(calls)), ending.provider_data()


def choice_logprobs(found: Logprobs | None) -> tuple[Any, ...]:
    """Return the tokens of a choice or of a piece of one."""
    return read_logprobs(found.content or found.refusal) if found else ()


# The other direction.


def write_response(
    response: GenerateResponse, *, identity: str, created: int, reasoning: Literal["reasoning_content", "reasoning"]
) -> dict[str, Any]:
    """Return a whole answer as JSON values. `reasoning` is the field for that."""
    choices = response.choices or (response,)
    usage = response.usage or choices[0].usage
    return {
        "id": identity,
        "object": "chat.completion",
        "created": created,
        "model": response.model or "",
        "choices": [_write_choice(choice, reasoning) for choice in choices],
        **({"usage": write_usage(usage)} if usage else {}),
    }


def _write_choice(choice: GenerateResponse, reasoning: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": choice.content}
    if choice.reasoning:
        message[reasoning] = choice.reasoning
    return {
        "index": choice.choice,
        "message": with_calls(message, choice.tool_calls, choice.provider_data),
        "logprobs": {"content": write_logprobs(choice.logprobs)} if choice.logprobs else None,
        **write_finish(choice),
    }


def write_finish(delta: GenerateResponse) -> dict[str, Any]:
    """Return why an answer ended, None where it has not; vLLM's field says which string of `stop` it was."""
    reason = "abort" if delta.finish_reason == "cancelled" else delta.finish_reason
    stopped = {"stop_reason": delta.stop_string} if delta.stop_string is not None else {}
    return {"finish_reason": reason, **stopped}


def own_fields(provider_data: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return this format's part of `provider_data`."""
    return (provider_data or {}).get(OWN) or {}
