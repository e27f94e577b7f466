"""Conversations that get too long for a chat model: what they take, a warning in time, and what is left out.

Knows no provider by name. What goes, and that calls keep their results, are rules of `history`.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import Field

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import InvalidParameterError
from abstractllm.history import trimmed
from abstractllm.integrations.langchain.configured import ConfiguredModel
from abstractllm.integrations.langchain.counting import Counter, estimated
from abstractllm.integrations.langchain.failing import told_to_langchain
from abstractllm.integrations.langchain.outgoing import from_messages
from abstractllm.integrations.langchain.reading import to_messages
from abstractllm.interface import AbstractLLMInterface
from abstractllm.types import Message

Tools = Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool]


class ContextUsageWarning(UserWarning):
    """A prompt takes more of the context than `context_warning_threshold` says, or more than there is."""


class ContextUsage(TypedDict):
    """How much of the context a prompt takes: tokens, percents, and whether that is too much. None is unknown."""

    tokens: int
    limit: int | None
    usage_percent: float | None
    exceeds_limit: bool
    exceeds_threshold: bool


class FittingModel(ConfiguredModel):
    """A chat model that looks at the length of its prompts where it is told to.

    `max_context_tokens` is how many tokens a prompt may have, the model's context window where it is not given. With
    that or `auto_truncate`, each prompt is counted; one with more than the part `context_warning_threshold` of them
    warns with a ContextUsageWarning. With `auto_truncate` the oldest turns of one that is too long are left out; system
    messages and the last turn stay.

    `token_counter` counts: the provider's own count, which is the default where there is one; "estimate", by characters
    and rather too high; or a function of messages and tools.
    """

    max_context_tokens: int | None = Field(default=None, ge=1)
    auto_truncate: bool = False
    context_warning_threshold: float = Field(default=0.9, gt=0, le=1)
    token_counter: Literal["provider", "estimate"] | Counter = "provider"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        told = super()._identifying_params
        if not self.auto_truncate:
            return told
        counter = self.token_counter if isinstance(self.token_counter, str) else repr(self.token_counter)
        fitted = {"max_context_tokens": self.max_context_tokens, "token_counter": counter}
        return {**told, "auto_truncate": True, **fitted}

    # Counting.

    def get_num_tokens(self, text: str) -> int:
        """Return the tokens that a text takes as the only turn, as `custom_get_token_ids` or `token_counter` says."""
        if self.token_counter == "provider" or self.custom_get_token_ids is not None:
            return super().get_num_tokens(text)
        return self.get_num_tokens_from_messages([HumanMessage(text)])

    def get_num_tokens_from_messages(self, messages: Sequence[BaseMessage], tools: Tools | None = None) -> int:
        """Return the tokens of a conversation as a prompt, tools included, as `token_counter` says."""
        if self.token_counter == "provider":
            return super().get_num_tokens_from_messages(messages, tools)
        return self._counter()(messages, [convert_to_openai_tool(tool) for tool in tools or ()])

    def _counter(self) -> Counter:
        return estimated if isinstance(self.token_counter, str) else self.token_counter

    def _count(self, llm: AbstractLLMInterface, messages: Sequence[Message], tools: Sequence[Any]) -> int:
        if self.token_counter == "provider":
            return llm.count_tokens(messages, tools or None)
        return self._counter()(from_messages(messages), tools)

    # The limit.

    def get_context_limit(self) -> int | None:
        """Return how many tokens a prompt may have, None where nobody knows."""
        with told_to_langchain():
            return self.max_context_tokens or self._window(self._backend(None).provider())

    def _window(self, llm: AbstractLLMInterface) -> int | None:
        """Return the model's context window."""
        told = llm.get_capabilities().get(ModelCapability.CONTEXT_WINDOW)
        return told if isinstance(told, int) else None

    def check_context_usage(
        self, messages: Sequence[BaseMessage], warn: bool = True, tools: Tools | None = None
    ) -> ContextUsage:
        """Return how much of the context a conversation takes; with `warn`, warn where that is too much."""
        usage = self._usage(self.get_num_tokens_from_messages(messages, tools), self.get_context_limit())
        if warn:
            self._warn(usage)
        return usage

    def _usage(self, tokens: int, limit: int | None) -> ContextUsage:
        part = 0.0 if limit is None else tokens / limit
        return ContextUsage(
            tokens=tokens,
            limit=limit,
            usage_percent=None if limit is None else 100 * part,
            exceeds_limit=part > 1,
            exceeds_threshold=part > self.context_warning_threshold,
        )

    def _warn(self, usage: ContextUsage, left_out: int = 0) -> None:
        if not usage["exceeds_threshold"] and not left_out:
            return
        what = f"The prompt has {usage['tokens']} tokens of {usage['limit']} that it may have"
        done = f"; {left_out} messages were left out" if left_out else ""
        more = ", and what must stay is still too long" if left_out and usage["exceeds_limit"] else ""
        warnings.warn(f"{what}{done}{more}.", ContextUsageWarning, stacklevel=3)

    # Leaving out.

    def truncate_messages(
        self, messages: Sequence[BaseMessage], max_tokens: int | None = None, tools: Tools | None = None
    ) -> list[BaseMessage]:
        """Return the newest whole turns that fit into `max_tokens`, or else the limit, as `history.trimmed` does.

        Messages that stay are the same objects; each call of a tool has its result. Raises InvalidParameterError where
        no limit is known.
        """
        limit = max_tokens or self._limit(self.get_context_limit())
        formatted = [convert_to_openai_tool(tool) for tool in tools or ()]
        with told_to_langchain():
            llm = self._backend(None).provider()
            own = to_messages(messages)
            origin = _origins(own, messages)
            kept = trimmed(own, limit, lambda some: self._count(llm, some, formatted))
        found = [origin.get(id(one)) or from_messages([one])[0] for one in kept]
        return [one for number, one in enumerate(found) if number == 0 or one is not found[number - 1]]

    def _limit(self, limit: int | None) -> int:
        if limit is None:
            what = "The model's context window is not known; pass max_context_tokens."
            raise InvalidParameterError("max_context_tokens", what)
        return limit

    def _fitted(self, llm: AbstractLLMInterface, call: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call with a prompt that fits, as far as this model is to see to that."""
        if not self._looks:
            return call
        limit = self._limit(self.max_context_tokens or self._window(llm))
        messages, tools = call["messages"], call.get("tools") or ()
        usage = self._usage(self._count(llm, messages, tools), limit)
        if not (self.auto_truncate and usage["exceeds_limit"]):
            self._warn(usage)
            return call
        kept = trimmed(messages, limit, lambda some: self._count(llm, some, tools))
        usage = self._usage(self._count(llm, kept, tools), limit)
        self._warn(usage, max(0, len(messages) - len(kept)))
        return {**call, "messages": kept}

    async def _afitted(self, llm: AbstractLLMInterface, call: dict[str, Any]) -> dict[str, Any]:
        """Do what `_fitted` does; counting may load a vocabulary, so it is done in a thread."""
        return await asyncio.to_thread(self._fitted, llm, call) if self._looks else call

    @property
    def _looks(self) -> bool:
        return self.auto_truncate or self.max_context_tokens is not None


def _origins(own: Sequence[Message], messages: Sequence[BaseMessage]) -> Mapping[int, BaseMessage]:
    """Return the message of LangChain's for each of ours, by identity; one of theirs may be several of ours."""
    counts = [len(to_messages([message])) for message in messages]
    sources = [message for message, count in zip(messages, counts, strict=True) for _ in range(count)]
    return {id(one): source for one, source in zip(own, sources, strict=True)}
