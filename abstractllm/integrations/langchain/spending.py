"""What answers of a chat model cost, and what they may cost. Prices are the provider's; this knows none."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, TypedDict

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage

from abstractllm.errors import UnsupportedFeatureError
from abstractllm.integrations.langchain.configured import name_of
from abstractllm.integrations.langchain.failing import told_to_langchain
from abstractllm.integrations.langchain.fitting import FittingModel, Tools
from abstractllm.interface import AbstractLLMInterface
from abstractllm.prices import Cost
from abstractllm.providers.base import BaseProvider
from abstractllm.types import GenerateResponse, Usage

COST = "cost"
"""Key of `response_metadata` for what an answer cost, where known: `{"amount": "0.0021", "currency": "BRL"}`."""


class CostEstimate(TypedDict):
    """What one answer may cost, in `currency`; the answer is taken to have `output_tokens`."""

    model: str | None
    currency: str
    input_tokens: int
    output_tokens: int
    input_cost: Decimal
    output_cost: Decimal
    total_cost: Decimal


class BatchCostEstimate(TypedDict):
    """What several answers may cost together, in `currency`."""

    model: str | None
    currency: str
    total_requests: int
    total_input_tokens: int
    total_output_tokens: int
    total_input_cost: Decimal
    total_output_cost: Decimal
    total_cost: Decimal


class PricedModel(FittingModel):
    """A chat model whose answers have a price, where its provider knows one."""

    def estimate_cost(
        self, messages: LanguageModelInput, max_output_tokens: int = 1000, tools: Tools | None = None
    ) -> CostEstimate:
        """Return what an answer may cost by day, without discounts; nothing is asked of a service.

        Raises UnsupportedFeatureError for a model whose price is not known, and where tokens cannot be counted.
        """
        prompt = self.get_num_tokens_from_messages(self._convert_input(messages).to_messages(), tools)
        with told_to_langchain():
            llm = self._backend(None).provider()
            first, second = _cost(llm, Usage(prompt, 0)), _cost(llm, Usage(0, max_output_tokens))
        return CostEstimate(
            model=llm.get_param("model"),
            currency=first.currency,
            input_tokens=prompt,
            output_tokens=max_output_tokens,
            input_cost=first.amount,
            output_cost=second.amount,
            total_cost=first.amount + second.amount,
        )

    async def abatch_estimate_cost(
        self, inputs: Sequence[LanguageModelInput], max_output_tokens: int = 1000, tools: Tools | None = None
    ) -> BatchCostEstimate:
        """Return what answers to all inputs may cost together, without blocking the event loop; see `estimate_cost`."""
        alone = await asyncio.to_thread(self.estimate_cost, "", 0)
        each = await asyncio.to_thread(lambda: [self.estimate_cost(one, max_output_tokens, tools) for one in inputs])
        return BatchCostEstimate(
            model=alone["model"],
            currency=alone["currency"],
            total_requests=len(each),
            total_input_tokens=sum(one["input_tokens"] for one in each),
            total_output_tokens=sum(one["output_tokens"] for one in each),
            total_input_cost=sum((one["input_cost"] for one in each), Decimal()),
            total_output_cost=sum((one["output_cost"] for one in each), Decimal()),
            total_cost=sum((one["total_cost"] for one in each), Decimal()),
        )


def known_cost(llm: AbstractLLMInterface, answer: GenerateResponse) -> Cost | None:
    """Return what an answer cost, None where its provider knows no price for it."""
    return llm.known_cost(answer) if isinstance(llm, BaseProvider) else None


def _cost(llm: AbstractLLMInterface, usage: Usage) -> Cost:
    found = known_cost(llm, GenerateResponse(usage=usage, model=llm.get_param("model")))
    if found is None:
        what = f"No price is known for {llm.get_param('model') or 'this model'!r}."
        raise UnsupportedFeatureError("cost", what, provider=name_of(llm))
    return found


def tell_cost(message: BaseMessage, llm: AbstractLLMInterface, answer: GenerateResponse) -> None:
    """Put into a message what the whole answer cost, where that is known."""
    found = known_cost(llm, answer) if isinstance(message, AIMessage) and answer.usage is not None else None
    if found is not None:
        message.response_metadata[COST] = {"amount": str(found.amount), "currency": found.currency}


def told_cost(metadata: Mapping[str, Any]) -> Cost | None:
    """Return the cost that `tell_cost` has put into the metadata of a message, None where there is none."""
    told = metadata.get(COST)
    return Cost(Decimal(told["amount"]), told["currency"]) if isinstance(told, Mapping) else None
