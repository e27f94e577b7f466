"""Answers of LangChain's chat models -> our deltas. Knows no model; the words of integrations are in tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_ai_message_chunks, add_usage

from abstractllm.accumulator import call_deltas
from abstractllm.errors import GenerationError
from abstractllm.integrations.langchain.outgoing import KEPT
from abstractllm.integrations.langchain.reading import REASONING
from abstractllm.text.stops import StopMatcher
from abstractllm.types import FinishReason, GenerateResponse, TokenLogprob, ToolCall, ToolCallDelta, Usage

_REASONS: Mapping[FinishReason, frozenset[str]] = {
    "length": frozenset(
        {"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded", "incomplete"}
    ),
    "tool_calls": frozenset({"tool_calls", "tool_use", "function_call"}),
    "content_filter": frozenset(
        {"content_filter", "content_filtered", "safety", "refusal", "recitation", "blocklist", "prohibited_content"}
        | {"guardrail_intervened", "spii"}
    ),
}
"""Why an answer ended, in the words of OpenAI, Anthropic, Google, Bedrock, Mistral and Ollama; any other is "stop"."""
_REASON_KEYS = ("finish_reason", "stop_reason", "done_reason", "stopReason", "status")
_MODEL_KEYS = ("model_name", "model", "model_id")
_STOP_KEYS = ("stop_string", "stop_sequence")
_SAID_ELSEWHERE = frozenset({REASONING, "tool_calls", "function_call"})
"""Keys of `additional_kwargs` whose contents stand in other fields of ours."""


class AnswerReader:
    """Makes deltas of the messages of one answer, which are chunks or a single whole one.

    `stop` are strings before which the text is cut where the model does not do it itself. With `as_form`, the answer is
    the arguments of the model's first call, and text is the answer only where there is no call.
    """

    def __init__(self, stop: Sequence[str] = (), *, as_form: bool = False) -> None:
        self._matcher = StopMatcher(stop)
        self._as_form = as_form
        self._held: list[str] = []
        self._numbers: dict[object, int] = {}
        self._calls = 0
        self._usage: UsageMetadata | None = None
        self._facts: dict[str, Any] = {}
        self._messages: list[AIMessage] = []
        self._rich = False

    @property
    def cut(self) -> bool:
        """Whether a stop string has been found, so that nothing more is wanted."""
        return self._matcher.matched is not None

    def read(self, message: BaseMessage) -> Iterator[GenerateResponse]:
        """Yield the delta of a message, unless there is nothing in it for the reader of the answer."""
        if not isinstance(message, AIMessage):
            raise GenerationError(f"The chat model answered with a {type(message).__name__}, not with an AIMessage.")
        self._remember(message)
        text, thought = _said(message)
        pieces = self._pieces(message)
        if self._as_form:
            text, pieces = self._formed(text, pieces)
        text = self._matcher.add(text)
        logprobs = tuple(_logprobs(message.response_metadata))
        if text or thought or pieces or logprobs:
            yield GenerateResponse(text, thought, tool_call_deltas=pieces, logprobs=logprobs)

    def end(self) -> GenerateResponse:
        """Return the delta that ends the answer, once all messages are read."""
        if not self._messages:
            raise GenerationError("The chat model answered with nothing at all.")
        held = "".join(self._held) if self._as_form and not self._calls else ""
        text = self._matcher.add(held) + self._matcher.flush()
        return GenerateResponse(
            text,
            finish_reason=self._reason(),
            usage=None if self._usage is None else _usage(self._usage),
            stop_string=self._matcher.matched or _first(self._facts, _STOP_KEYS),
            model=_first(self._facts, _MODEL_KEYS),
            provider_data=self._kept(),
            raw_response=_whole(self._messages),
        )

    def _remember(self, message: AIMessage) -> None:
        self._messages.append(message)
        self._facts |= {key: value for key, value in message.response_metadata.items() if value is not None}
        if message.usage_metadata is not None:
            self._usage = add_usage(self._usage, message.usage_metadata)
        plain = isinstance(message.content, str) and message.additional_kwargs.keys() <= _SAID_ELSEWHERE
        self._rich = self._rich or not plain

    def _reason(self) -> FinishReason:
        if self.cut:
            return "stop"
        word = str(_first(self._facts, _REASON_KEYS) or "").lower()
        found: FinishReason = next((reason for reason, words in _REASONS.items() if word in words), "stop")
        if self._as_form:
            return "stop" if found == "tool_calls" else found
        return "tool_calls" if self._calls and found == "stop" else found

    def _formed(self, text: str, pieces: tuple[ToolCallDelta, ...]) -> tuple[str, tuple[ToolCallDelta, ...]]:
        """Return the arguments of the first call for the text; what is said beside it waits for the end."""
        self._held.append(text)
        return "".join(piece.arguments for piece in pieces if piece.index == 0), ()

    def _pieces(self, message: AIMessage) -> tuple[ToolCallDelta, ...]:
        if isinstance(message, AIMessageChunk) and message.tool_call_chunks:
            return tuple(self._piece(dict(chunk)) for chunk in message.tool_call_chunks)
        if not message.tool_calls and not message.invalid_tool_calls:
            return ()
        calls = [*_whole_calls(message, self._calls)]
        first, self._calls = self._calls, self._calls + len(calls)
        return call_deltas(calls, first=first)

    def _piece(self, chunk: Mapping[str, Any]) -> ToolCallDelta:
        """Return a piece of a call; pieces without an index are calls of their own, as LangChain joins them."""
        key = chunk.get("index")
        number = self._calls if key is None else self._numbers.setdefault(key, self._calls)
        begins = number == self._calls
        self._calls = max(self._calls, number + 1)
        identity = chunk.get("id") or (f"call_{number}" if begins else None)
        return ToolCallDelta(number, identity, chunk.get("name") or None, chunk.get("args") or "")

    def _kept(self) -> Mapping[str, Any] | None:
        """Return what the model wants back with this turn that our messages have no field for."""
        if not self._rich or self.cut or self._as_form:
            return None
        whole = _whole(self._messages)
        more = {key: value for key, value in whole.additional_kwargs.items() if key not in _SAID_ELSEWHERE and value}
        content = whole.content if _beyond_text(whole.content) else None
        kept = {"content": content, "additional_kwargs": more}
        named = {key: value for key, value in kept.items() if value}
        return {KEPT: named} if named else None


def _whole(messages: Sequence[AIMessage]) -> AIMessage:
    chunks = [message for message in messages if isinstance(message, AIMessageChunk)]
    if len(messages) == 1 or len(chunks) != len(messages):
        return messages[-1]
    return add_ai_message_chunks(chunks[0], *chunks[1:])


def _beyond_text(content: str | list[str | dict[Any, Any]]) -> bool:
    return not isinstance(content, str) and any(
        isinstance(block, dict) and block.get("type") != "text" for block in content
    )


def _said(message: AIMessage) -> tuple[str, str]:
    """Return what is said and what is thought in a message; other blocks are in `raw_response` and `provider_data`."""
    thought = message.additional_kwargs.get(REASONING)
    thoughts = [thought] if isinstance(thought, str) else []
    if isinstance(message.content, str):
        return message.content, "".join(thoughts)
    said: list[str] = []
    for block in message.content:
        if isinstance(block, str):
            said.append(block)
        elif block.get("type") == "text":
            said.append(str(block.get("text") or ""))
        elif block.get("type") in ("reasoning", "thinking", "reasoning_content"):
            thoughts.append(_thought(block))
    return "".join(said), "".join(thoughts)


def _thought(block: Mapping[Any, Any]) -> str:
    """Return what a block says of the model's reasoning, in one of the forms of it that integrations have."""
    inner = block.get("reasoning_content")
    text = block.get("reasoning") or block.get("thinking") or (inner.get("text") if isinstance(inner, Mapping) else "")
    if isinstance(text, str) and text:
        return text
    summary = block.get("summary")
    parts = summary if isinstance(summary, list) else []
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))


def _whole_calls(message: AIMessage, first: int) -> Iterator[ToolCall]:
    for number, call in enumerate(message.tool_calls, first):
        yield ToolCall(call["id"] or f"call_{number}", call["name"], call["args"])
    for number, broken in enumerate(message.invalid_tool_calls, first + len(message.tool_calls)):
        text = broken["args"] if isinstance(broken["args"], str) else json.dumps(broken["args"], default=str)
        yield ToolCall(broken["id"] or f"call_{number}", broken["name"] or "", {}, invalid=text)


def _usage(counts: UsageMetadata) -> Usage:
    return Usage(
        counts["input_tokens"],
        counts["output_tokens"],
        cached_tokens=counts.get("input_token_details", {}).get("cache_read") or 0,
        reasoning_tokens=counts.get("output_token_details", {}).get("reasoning") or 0,
    )


def _first(facts: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    return next((facts[key] for key in keys if isinstance(facts.get(key), str) and facts[key]), None)


def _logprobs(metadata: Mapping[str, Any]) -> Iterator[TokenLogprob]:
    """Yield probabilities, which integrations give in OpenAI's form."""
    told = metadata.get("logprobs")
    content = told.get("content") if isinstance(told, Mapping) else None
    for one in content if isinstance(content, list) else ():
        yield TokenLogprob(*_logprob(one), top=tuple(TokenLogprob(*_logprob(other)) for other in one["top_logprobs"]))


def _logprob(one: Mapping[str, Any]) -> tuple[str, float, bytes]:
    told = one.get("bytes")
    return one["token"], one["logprob"], one["token"].encode() if told is None else bytes(told)
