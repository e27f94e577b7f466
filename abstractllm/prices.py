"""Money: what tokens cost, and what an answer cost by that. Knows no service's prices and does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from abstractllm.types import Usage

_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Cost:
    """An amount of money, exact as computed: it is not rounded to cents."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens of a model cost: of the prompt, of the answer, of the prompt's cached ones."""

    input: Decimal
    output: Decimal
    cached: Decimal
    currency: str

    def cost(self, usage: Usage, share: Decimal = Decimal(1)) -> Cost:
        """Return what these tokens cost; all but the cached ones at this share of their price."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        fresh = (usage.prompt_tokens - cached) * self.input + usage.completion_tokens * self.output
        return Cost((fresh * share + cached * self.cached) / _MILLION, self.currency)
