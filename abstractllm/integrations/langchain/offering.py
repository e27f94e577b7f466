"""Models that a service offers, as it says so now, and which of them is for what. Knows no service by name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol, TypedDict, get_args, runtime_checkable

from abstractllm.errors import ContextWindowExceededError, InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.integrations.langchain.chat import ChatAbstractLLM
from abstractllm.integrations.langchain.configured import name_of
from abstractllm.integrations.langchain.failing import told_to_langchain
from abstractllm.interface import AbstractLLMInterface
from abstractllm.prices import Price

Complexity = Literal["simple", "medium", "complex"]
Priority = Literal["cost", "speed", "quality"]

_NEEDS: Mapping[Priority, Mapping[Complexity, str]] = {
    "cost": {"simple": "speed", "medium": "speed", "complex": "balance"},
    "speed": {"simple": "speed", "medium": "speed", "complex": "balance"},
    "quality": {"simple": "balance", "medium": "balance", "complex": "reasoning"},
}
"""What a task needs, in the words of the service's own advice: speed, balance or reasoning."""


class ModelSpec(TypedDict):
    """A model as its service tells of it: limits in tokens, prices per million tokens. None is unknown."""

    name: str
    context_limit: int | None
    max_output_tokens: int | None
    input_cost_per_1m: Decimal | None
    output_cost_per_1m: Decimal | None
    currency: str | None


class Recommendation(TypedDict):
    """The `model` to use, why, what it is, and the others that would do, cheapest first."""

    model: str
    reason: str
    specs: ModelSpec
    alternatives: list[ModelSpec]


class _Offered(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def context_window(self) -> int | None: ...
    @property
    def max_output(self) -> int | None: ...
    @property
    def price(self) -> Price | None: ...


@runtime_checkable
class Offering(Protocol):
    """A provider whose service says which models it offers, and which it recommends."""

    def models(self) -> Sequence[_Offered]:
        """Ask the service for its models."""

    def recommended_model(self, need: Any, *, in_brazil: bool = False) -> str:
        """Return the model for a need."""


class ChoosingModel(ChatAbstractLLM):
    """A chat model of a service that tells what it offers, and the limits of that."""

    def list_available_models(self) -> dict[str, ModelSpec]:
        """Return the models that the service says it offers, by name. Raises AuthenticationError, ProviderAPIError."""
        with told_to_langchain():
            return {one.name: _spec(one) for one in _offering(self._backend(None).provider()).models()}

    async def alist_available_models(self) -> dict[str, ModelSpec]:
        """Do what `list_available_models` does, without blocking the event loop."""
        return await asyncio.to_thread(self.list_available_models)

    def recommend_model(
        self,
        task_complexity: Complexity = "medium",
        input_length: int | None = None,
        priority: Priority = "quality",
        *,
        in_brazil: bool = False,
    ) -> Recommendation:
        """Return the model for a task, of those that the service offers now.

        It is the one that the service recommends, if a prompt of `input_length` tokens fits; else, the cheapest that
        is long enough, and with "quality" the dearest. `in_brazil` asks for models that compute nowhere else.

        Raises InvalidParameterError for other words, ContextWindowExceededError where no model is long enough, and what
        `list_available_models` raises.
        """
        for name, word, known in (("task_complexity", task_complexity, Complexity), ("priority", priority, Priority)):
            if word not in get_args(known):
                words = ", ".join(get_args(known))
                raise InvalidParameterError(name, f"{name}={shown(word)} is not valid; it is one of: {words}.")
        offered = self.list_available_models()
        with told_to_langchain():
            llm = _offering(self._backend(None).provider())
            fitting = _fitting(offered, input_length)
            wanted = llm.recommended_model(_NEEDS[priority][task_complexity], in_brazil=in_brazil)
        chosen = wanted if wanted in fitting else _ranked(fitting, dearest=priority == "quality")[0]
        others = [fitting[name] for name in _ranked(fitting) if name != chosen]
        reason = _reason(chosen, wanted, task_complexity, priority, offered, input_length)
        return Recommendation(model=chosen, reason=reason, specs=fitting[chosen], alternatives=others)

    async def arecommend_model(
        self,
        task_complexity: Complexity = "medium",
        input_length: int | None = None,
        priority: Priority = "quality",
        *,
        in_brazil: bool = False,
    ) -> Recommendation:
        """Do what `recommend_model` does, without blocking the event loop."""
        return await asyncio.to_thread(
            self.recommend_model, task_complexity, input_length, priority, in_brazil=in_brazil
        )

    def _window(self, llm: AbstractLLMInterface) -> int | None:
        """Return the model's context window, for which the service is asked once."""
        known = super()._window(llm)
        if known is None:
            _offering(llm).models()
            known = super()._window(llm)
        return known


def _offering(llm: AbstractLLMInterface) -> Offering:
    if isinstance(llm, Offering):
        return llm
    raise UnsupportedFeatureError("models", "This service does not say which models it offers.", provider=name_of(llm))


def _spec(one: _Offered) -> ModelSpec:
    price = one.price
    return ModelSpec(
        name=one.name,
        context_limit=one.context_window,
        max_output_tokens=one.max_output,
        input_cost_per_1m=None if price is None else price.input,
        output_cost_per_1m=None if price is None else price.output,
        currency=None if price is None else price.currency,
    )


def _fitting(offered: Mapping[str, ModelSpec], length: int | None) -> dict[str, ModelSpec]:
    """Return the models with a context that is long enough, or not known."""
    found = {name: one for name, one in offered.items() if (one["context_limit"] or length or 0) >= (length or 0)}
    if found:
        return found
    longest = max((one["context_limit"] or 0 for one in offered.values()), default=0)
    what = f"No model has room for {length} tokens; the longest context has {longest}. Send less."
    raise ContextWindowExceededError(what, context_window=longest, prompt_tokens=length or 0)


def _ranked(specs: Mapping[str, ModelSpec], *, dearest: bool = False) -> list[str]:
    """Return the names of models by what they charge for an answer; those without a price come last."""

    def key(name: str) -> tuple[bool, Decimal, str]:
        price = specs[name]["output_cost_per_1m"]
        amount = price or Decimal()
        return price is None, -amount if dearest else amount, name

    return sorted(specs, key=key)


def _reason(
    chosen: str,
    wanted: str,
    complexity: Complexity,
    priority: Priority,
    offered: Mapping[str, ModelSpec],
    length: int | None,
) -> str:
    limit = offered[chosen]["context_limit"]
    room = f" It has room for {limit} tokens." if length is not None and limit is not None else ""
    task = f"a {complexity} task where {priority} counts most"
    if chosen == wanted:
        return f"The service recommends {chosen} for {task}.{room}"
    why = "is not offered now" if wanted not in offered else "is too short"
    return f"The service recommends {wanted} for {task}, which {why}; {chosen} comes next.{room}"
