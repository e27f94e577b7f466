"""Our answers -> LangChain's messages and chunks. Knows no provider and no call."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, InvalidToolCall
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.messages.tool import (
    ToolCall as LangChainToolCall,
    ToolCallChunk,
    invalid_tool_call,
    tool_call,
    tool_call_chunk,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.json import parse_partial_json

from abstractllm.accumulator import call_deltas
from abstractllm.integrations.langchain.reading import PROVIDER_DATA, REASONING
from abstractllm.types import GenerateResponse, TokenLogprob, ToolCall, Usage


def to_result(response: GenerateResponse, provider: str, model: str | None) -> ChatResult:
    """Return a whole answer, with all its choices; `model` is the one that was asked, where the answer names none."""
    choices = response.choices or (response,)
    generations = [
        ChatGeneration(message=to_message(choice, provider, response.model or model), generation_info=None)
        for choice in choices
    ]
    told: dict[str, Any] = {"model_name": response.model or model}
    if response.usage is not None:
        told["token_usage"] = _token_usage(response.usage)
    return ChatResult(generations=generations, llm_output=told)


def to_message(response: GenerateResponse, provider: str, model: str | None) -> AIMessage:
    """Return one answer as a message."""
    return AIMessage(
        content=response.content,
        additional_kwargs=_more(response.reasoning, response.provider_data),
        response_metadata=_metadata(response, provider, model),
        tool_calls=[_whole(call) for call in response.tool_calls if call.invalid is None],
        invalid_tool_calls=[_broken(call) for call in response.tool_calls if call.invalid is not None],
        usage_metadata=None if response.usage is None else to_usage(response.usage),
    )


def to_usage(usage: Usage) -> UsageMetadata:
    """Return token counts; those from the cache are said even where they are none, others only where there are any."""
    counts = UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        input_token_details=InputTokenDetails(cache_read=usage.cached_tokens),
    )
    if usage.reasoning_tokens:
        counts["output_token_details"] = OutputTokenDetails(reasoning=usage.reasoning_tokens)
    return counts


class ChunkWriter:
    """Makes chunks of the deltas of one stream. What is told once comes in the chunk that ends it.

    `index` of a call is its place in the answer, also where a delta holds whole calls.
    """

    def __init__(self, provider: str, model: str | None) -> None:
        self._provider = provider
        self._model = model
        self._calls = 0
        self._data: dict[str, Any] = {}
        self._written = [0, 0]
        self._arguments: dict[int, str] = {}

    def write(self, delta: GenerateResponse) -> ChatGenerationChunk:
        """Return the chunk of a delta, which may be without text."""
        pieces = delta.tool_call_deltas or delta.tool_calls
        self._written[0] += len(delta.content)
        self._written[1] += len(delta.reasoning)
        if delta.finish_reason is None and not (pieces or delta.reasoning or delta.provider_data or delta.model):
            return _plain(delta)
        self._model = delta.model or self._model
        if delta.provider_data:
            self._data.update(delta.provider_data)
        last = delta.finish_reason is not None
        message = AIMessageChunk(
            content=delta.content,
            additional_kwargs=_more(delta.reasoning, self._data if last else None),
            response_metadata=_metadata(delta, self._provider, self._model) if last else _logprobs(delta),
            tool_call_chunks=[*(self._chunks(delta) if pieces else []), *(self._spoiled() if last else [])],
            usage_metadata=None if delta.usage is None else to_usage(delta.usage),
            chunk_position="last" if last else None,
        )
        return ChatGenerationChunk(message=message)

    def rest(self, answer: GenerateResponse) -> ChatGenerationChunk:
        """Return the chunk that ends the stream, with what the whole answer has beyond the deltas so far."""
        text, thought = self._written
        missing = replace(answer, content=answer.content[text:], reasoning=answer.reasoning[thought:])
        return self.write(replace(missing, tool_calls=(), logprobs=(), choices=()))

    def _chunks(self, delta: GenerateResponse) -> list[ToolCallChunk]:
        first = max((self._calls, *(piece.index + 1 for piece in delta.tool_call_deltas)))
        pieces = (*delta.tool_call_deltas, *call_deltas(delta.tool_calls, first=first))
        self._calls = max((self._calls, *(piece.index + 1 for piece in pieces)))
        for piece in pieces:
            self._arguments[piece.index] = self._arguments.get(piece.index, "") + piece.arguments
        return [tool_call_chunk(name=one.name, args=one.arguments, id=one.id, index=one.index) for one in pieces]

    def _spoiled(self) -> list[ToolCallChunk]:
        """Return what ends calls that broke off, so that they are invalid once joined, as in a whole answer."""
        tails = {index: _tail(text) for index, text in self._arguments.items()}
        return [tool_call_chunk(name=None, args=tail, id=None, index=index) for index, tail in tails.items() if tail]


def _tail(arguments: str) -> str:
    """Return what makes arguments that broke off unreadable; "" for those that are whole, or unreadable already.

    LangChain joins chunks with `parse_partial_json`, which closes what is open: `{"days": 2` of `{"days": 25}` would
    be a call that is run. A bracket that closes nothing keeps it from that.
    """
    try:
        json.loads(arguments or "{}")
        return ""
    except ValueError:
        return next((tail for tail in _TAILS if not _reads(arguments + tail)), "")


_TAILS = ("", "]", "}", '"]', '"}', '""]', '""}')
"""For text that broke off in an object, in a list, in a string of either, and in an escape of either."""


def _reads(text: str) -> bool:
    try:
        return isinstance(parse_partial_json(text), dict)
    except ValueError:
        return False


def _plain(delta: GenerateResponse) -> ChatGenerationChunk:
    """Return the chunk of a delta of text, which most are."""
    if delta.usage is None and not delta.logprobs:
        return ChatGenerationChunk(message=AIMessageChunk(content=delta.content))
    usage = None if delta.usage is None else to_usage(delta.usage)
    message = AIMessageChunk(content=delta.content, usage_metadata=usage, response_metadata=_logprobs(delta))
    return ChatGenerationChunk(message=message)


def _more(reasoning: str, data: Mapping[str, Any] | None) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if reasoning:
        more[REASONING] = reasoning
    if data:
        more[PROVIDER_DATA] = dict(data)
    return more


def _metadata(response: GenerateResponse, provider: str, model: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"model_name": model, "model_provider": provider, "finish_reason": response.finish_reason}
    if response.stop_string is not None:
        told["stop_string"] = response.stop_string
    return told | _logprobs(response) if response.logprobs else told


def _logprobs(response: GenerateResponse) -> dict[str, Any]:
    """Return probabilities in OpenAI's form, which tools for LangChain read; lists are joined from chunk to chunk."""
    if not response.logprobs:
        return {}
    return {"logprobs": {"content": [_logprob(one) | _alternatives(one) for one in response.logprobs]}}


def _alternatives(one: TokenLogprob) -> dict[str, Any]:
    return {"top_logprobs": [_logprob(other) for other in one.top]}


def _logprob(one: TokenLogprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": one.logprob, "bytes": list(one.bytes)}


def _token_usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }


def _whole(call: ToolCall) -> LangChainToolCall:
    return tool_call(name=call.name, args=dict(call.arguments), id=call.id)


def _broken(call: ToolCall) -> InvalidToolCall:
    return invalid_tool_call(
        name=call.name or None, args=call.invalid, id=call.id, error="The arguments are not a JSON object."
    )
