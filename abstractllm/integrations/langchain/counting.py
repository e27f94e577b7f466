"""How many tokens messages of LangChain's have: by a chat model's own count, or by an estimate. Asks no service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models.base import BaseLanguageModel
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.messages.utils import count_tokens_approximately

from abstractllm.errors import UnsupportedFeatureError

CHARACTERS = 3.0
"""Characters that the estimate takes for a token: few, so that it is rather too high for Portuguese and English."""

Counter = Callable[[Sequence[BaseMessage], Sequence[dict[str, Any]]], int]
"""Messages and tools, which are in OpenAI's form -> their tokens as a prompt."""


def estimated(messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]] = ()) -> int:
    """Return how many tokens a prompt has, at a guess: by its characters, with tools, calls and a share per message."""
    return count_tokens_approximately(messages, chars_per_token=CHARACTERS, tools=list(tools) or None)


def count_of(chat: BaseChatModel, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]]) -> int:
    """Return a chat model's own count of a prompt.

    Raises UnsupportedFeatureError for one that has only the count that LangChain gives to all, which downloads the
    vocabulary of GPT-2 and is of no other model.
    """
    kind = type(chat)
    own = (
        kind.get_num_tokens_from_messages is not BaseLanguageModel.get_num_tokens_from_messages
        or kind.get_num_tokens is not BaseLanguageModel.get_num_tokens
        or kind.get_token_ids is not BaseLanguageModel.get_token_ids
        or chat.custom_get_token_ids is not None
    )
    if not own:
        raise UnsupportedFeatureError("count_tokens", f"{kind.__name__} does not count tokens by itself.")
    if tools:
        return chat.get_num_tokens_from_messages(list(messages), tools=list(tools))
    return chat.get_num_tokens_from_messages(list(messages))
