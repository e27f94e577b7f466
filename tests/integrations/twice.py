"""A prompt that is asked a second time, when its tokens are known."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage

PROMPT = "Say hello. " * 30


def asked_twice(model: BaseChatModel, *, stream: bool) -> AIMessage:
    """Return the second answer, whose prompt came from the cache."""
    model.invoke(PROMPT)
    if stream:
        first, *rest = model.stream(PROMPT)
        for chunk in rest:
            first = first + chunk
        answer: AIMessage = first
    else:
        answer = model.invoke(PROMPT)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["input_token_details"]["cache_read"] > 50
    return answer
