"""What Maritaca charges, in reais, and what an answer costs by that. Knows prices and no service; does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import ROUND_CEILING, Decimal
from typing import Any, Literal

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.prices import Cost, Price
from abstractllm.types import Usage

Tier = Literal["standard", "flex", "batch"]

BRASILIA = timezone(timedelta(hours=-3), "BRT")
"""The time by which the night is told; Brazil has had no summer time since 2019."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What one unit costs, in reais, of something that is not tokens; `rounded_up` where only whole ones are sold."""

    price: Decimal
    rounded_up: bool = False

    def of(self, units: Decimal) -> Decimal:
        """Return what so many units cost."""
        return self.price * (units.to_integral_value(ROUND_CEILING) if self.rounded_up else units)


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices of models by name, by day, as `source` had them on the day `as_of`.

    - `aliases`: other names of models.
    - `shares`: what is left of the price of a tier, or of the night, which begins and ends at these hours in Brasília.
    - `charges`: what costs money beside tokens, by its place in the service's usage.
    """

    source: str
    as_of: date
    models: Mapping[str, Price]
    aliases: Mapping[str, str]
    shares: Mapping[Tier, Decimal]
    night: tuple[int, int]
    night_share: Decimal
    charges: Mapping[str, Mapping[str, Charge]]

    def named(self, model: str) -> str:
        """Return a model's own name for one of its names."""
        return self.aliases.get(model, model)

    def get(self, model: str) -> Price | None:
        """Return the price of a model, None where it is not known."""
        return self.models.get(self.named(model))

    def cost(
        self,
        usage: Usage,
        model: str,
        *,
        tier: Tier = "standard",
        at: datetime | None = None,
        told: Mapping[str, Any] | None = None,
    ) -> Cost:
        """Return what an answer costs; `told` is its usage as the service wrote it, for what is not tokens.

        Cached tokens cost what they cost, whatever the tier and the hour. Of tier and night, the tier counts. Without
        `at`, it was day. Raises UnsupportedFeatureError for whatever has no known price, InvalidParameterError for a
        tier that does not exist and for a time without its zone.
        """
        price = self.get(model)
        if price is None:
            known = ", ".join(self.models)
            what = f"No price is known for the model {shown(model)}; those of {self.as_of} are of: {known}."
            raise UnsupportedFeatureError("cost", what)
        tokens = price.cost(usage, self._share(tier, at))
        return Cost(tokens.amount + self._beside(told or {}), price.currency)

    def _share(self, tier: Tier, at: datetime | None) -> Decimal:
        if tier not in self.shares:
            known = ", ".join(self.shares)
            raise InvalidParameterError("tier", f"tier={shown(tier)} is not valid; the tiers are: {known}.")
        if at is not None and at.utcoffset() is None:
            raise InvalidParameterError("at", "The time has no zone; pass one such as datetime.now(timezone.utc).")
        if tier != "standard" or at is None:
            return self.shares[tier]
        begins, ends = self.night
        hour = at.astimezone(BRASILIA).hour
        return self.night_share if hour >= begins or hour < ends else self.shares[tier]

    def _beside(self, told: Mapping[str, Any]) -> Decimal:
        """Return what is charged beside tokens."""
        total = Decimal(0)
        for place, charges in self.charges.items():
            found = told.get(place)
            for name, units in (found if isinstance(found, Mapping) else {}).items():
                if not units:
                    continue
                if name not in charges or not isinstance(units, (int, float)):
                    raise UnsupportedFeatureError("cost", f"No price is known for {name!r:.80}, which was used.")
                total += charges[name].of(Decimal(str(units)))
        return total


def _reais(prompt: str, answer: str, cached: str) -> Price:
    return Price(Decimal(prompt), Decimal(answer), Decimal(cached), "BRL")


PRICES = PriceList(
    source=(
        "github.com/maritaca-ai/maritalk-api, documentation/docs: en/precos.md (models, tiers, night, tools),"
        " en/models.md (other names), pt/cache-de-prompt.md (how discounts combine),"
        " en/files_in_completions_api_en.md (pages)"
    ),
    as_of=date(2026, 7, 17),
    models={
        "sabia-4-thinking": _reais("5.00", "40.00", "1.25"),
        "sabia-4": _reais("5.00", "20.00", "1.25"),
        "sabiazinho-4": _reais("1.00", "4.00", "0.25"),
        "sabia-4-thinking-br-sp": _reais("6.50", "52.00", "1.63"),
        "sabia-4-br-sp": _reais("6.50", "26.00", "1.63"),
        "sabiazinho-4-br-sp": _reais("1.30", "5.20", "0.33"),
    },
    aliases={
        "sabia-4-2026-01-06": "sabia-4",
        "sabiazinho-4-2026-01-06": "sabiazinho-4",
        "sabia-4-small": "sabiazinho-4",
        "sabiazim-4": "sabiazinho-4",
    },
    shares={"standard": Decimal(1), "flex": Decimal("0.5"), "batch": Decimal("0.5")},
    night=(22, 6),
    night_share=Decimal("0.7"),
    charges={
        "extraction_details": {
            "basic_pdf_pages_extracted": Charge(Decimal(0)),
            "medium_pdf_pages_extracted": Charge(Decimal("0.02")),
            "advanced_pdf_pages_extracted": Charge(Decimal("0.045")),
        },
        "tool_execution_details": {
            "web_search_calls": Charge(Decimal("0.0165")),
            "page_reads": Charge(Decimal("0.066")),
            "data_ocean_gb_processed": Charge(Decimal("0.10")),
            "code_execution_minutes": Charge(Decimal("0.016"), rounded_up=True),
        },
    },
)
"""The one table of Maritaca's prices."""
