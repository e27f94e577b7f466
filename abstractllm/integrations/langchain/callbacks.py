"""Callbacks that count what LangChain's chat models cost. They work with any chat model; times are told by `latency`.

Whole answers and streams count alike, and any number may run at the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from abstractllm.integrations.langchain.latency import KEPT, CountingCallback, LatencyTrackingCallback, Token
from abstractllm.integrations.langchain.spending import told_cost
from abstractllm.observing.pricing import PriceLike, to_price
from abstractllm.prices import Cost
from abstractllm.types import Usage


@dataclass(frozen=True, slots=True)
class CostRecord:
    """One call: its tokens, and what it cost; `cost` is None where no price is known."""

    run_id: str
    model: str | None
    input_tokens: int
    output_tokens: int
    cost: Cost | None


class CostTrackingCallback(CountingCallback):
    """Counts tokens and money.

    An answer costs what `prices` says for its model, per million tokens and in the form that `Metrics` takes; else what
    its provider said that it cost, as chat models of this package tell. Answers from LangChain's cache cost nothing and
    are not counted. `total_cost` is in `currency`; `costs` has all currencies; `unpriced_calls` have no known price.
    """

    def __init__(self, prices: Mapping[str, PriceLike] | None = None, *, currency: str = "BRL") -> None:
        self._prices = {model: to_price(model, price) for model, price in (prices or {}).items()}
        self.currency = currency
        super().__init__()

    def reset(self) -> None:
        """Forget everything that was counted."""
        with self._lock:
            self.costs: dict[str, Decimal] = {}
            self.total_input_tokens = self.total_output_tokens = 0
            self.call_count = self.unpriced_calls = self.failed_calls = 0
            self._calls: deque[CostRecord] = deque(maxlen=KEPT)

    @property
    def total_cost(self) -> Decimal:
        """What all calls cost, in `currency`."""
        return self.costs.get(self.currency, Decimal())

    @property
    def total_tokens(self) -> int:
        """Tokens of all prompts and answers."""
        return self.total_input_tokens + self.total_output_tokens

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> Any:
        """Count an answer."""
        messages = [message for message in _messages(response) if not _from_cache(message)]
        if messages:
            record = self._record(str(run_id), messages)
            with self._lock:
                self._add(record)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Any:
        """Count a failure; what it cost nobody says."""
        with self._lock:
            self.failed_calls += 1

    def _record(self, run_id: str, messages: Sequence[AIMessage]) -> CostRecord:
        counts = [message.usage_metadata for message in messages if message.usage_metadata is not None]
        prompt = sum(one["input_tokens"] for one in counts)
        made = sum(one["output_tokens"] for one in counts)
        cached = sum(one.get("input_token_details", {}).get("cache_read") or 0 for one in counts)
        told = messages[0].response_metadata
        model = told.get("model_name") or told.get("model")
        price = self._prices.get(str(model))
        cost = told_cost(told) if price is None else price.cost(Usage(prompt, made, cached_tokens=cached))
        return CostRecord(run_id, model, prompt, made, cost if counts else None)

    def _add(self, record: CostRecord) -> None:
        self.call_count += 1
        self.total_input_tokens += record.input_tokens
        self.total_output_tokens += record.output_tokens
        self._calls.append(record)
        if record.cost is None:
            self.unpriced_calls += 1
        else:
            cost = record.cost
            self.costs[cost.currency] = self.costs.get(cost.currency, Decimal()) + cost.amount

    def get_summary(self) -> dict[str, Any]:
        """Return the totals, and the latest 10,000 calls as `CostRecord`s, oldest first."""
        with self._lock:
            return {
                "total_cost": self.total_cost,
                "currency": self.currency,
                "costs": dict(self.costs),
                "total_input_tokens": self.total_input_tokens,
                "total_output_tokens": self.total_output_tokens,
                "total_tokens": self.total_tokens,
                "call_count": self.call_count,
                "unpriced_calls": self.unpriced_calls,
                "failed_calls": self.failed_calls,
                "average_cost_per_call": self.total_cost / self.call_count if self.call_count else Decimal(),
                "calls": list(self._calls),
            }


class CombinedCallback(CountingCallback):
    """Costs and latencies in one callback: `cost` is a CostTrackingCallback, `latency` a LatencyTrackingCallback."""

    def __init__(self, prices: Mapping[str, PriceLike] | None = None, *, currency: str = "BRL") -> None:
        self.cost = CostTrackingCallback(prices, currency=currency)
        self.latency = LatencyTrackingCallback()
        super().__init__()

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> Any:
        """Tell both."""
        self.latency.on_chat_model_start(serialized, messages, run_id=run_id)

    def on_llm_new_token(self, token: Token, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> Any:
        """Tell both."""
        self.latency.on_llm_new_token(token, chunk=chunk, run_id=run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> Any:
        """Tell both."""
        self.cost.on_llm_end(response, run_id=run_id)
        self.latency.on_llm_end(response, run_id=run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Any:
        """Tell both."""
        self.cost.on_llm_error(error, run_id=run_id)
        self.latency.on_llm_error(error, run_id=run_id)

    def reset(self) -> None:
        """Forget everything that was counted."""
        self.cost.reset()
        self.latency.reset()

    def get_summary(self) -> dict[str, Any]:
        """Return `{"cost": ..., "latency": ...}`."""
        return {"cost": self.cost.get_summary(), "latency": self.latency.get_summary()}


def _messages(response: LLMResult) -> Iterable[AIMessage]:
    for generations in response.generations:
        for one in generations:
            if isinstance(one, ChatGeneration) and isinstance(one.message, AIMessage):
                yield one.message


def _from_cache(message: AIMessage) -> bool:
    """Whether LangChain has taken a message from its cache; it writes a cost of nothing into the usage of those."""
    usage: Mapping[str, Any] = dict(message.usage_metadata or {})
    return usage.get("total_cost") == 0
