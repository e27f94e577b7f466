"""Maritaca's Sabiá models: their limits, as the service tells them, and what an answer costs in reais.

The wire format is known to `wire` alone, what the service takes to `compatible`, prices to `maritaca_prices`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import AuthenticationError, InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.portal import portal
from abstractllm.prices import Cost, Price
from abstractllm.providers.base import ModelInfo
from abstractllm.providers.compatible import CompatibleProvider
from abstractllm.providers.http.errands import ErrandProvider
from abstractllm.providers.maritaca_prices import PRICES, Tier
from abstractllm.providers.services import SERVICES
from abstractllm.types import GenerateRequest, GenerateResponse, Usage

Need = Literal["speed", "balance", "reasoning"]

_RECOMMENDED: Mapping[Need, str] = {
    "speed": "sabiazinho-4",
    "balance": "sabia-4",
    "reasoning": "sabia-4-thinking",
}
_BUILT_IN = ("web_search", "code_execution", "data_ocean")
_TIERS: Mapping[str, Tier] = {"flex": "flex", "standard": "standard", "default": "standard", "auto": "standard"}
"""Words for tiers; only "flex" is documented, the others are OpenAI's for "none in particular"."""


@dataclass(frozen=True, slots=True)
class MaritacaModel:
    """A model that the service offers.

    `context_window` and `max_output` are tokens, `price` is of `PRICES.models`, in reais; `created` is seconds since
    1970. None is unknown.
    """

    name: str
    context_window: int | None = None
    max_output: int | None = None
    price: Price | None = None
    created: int | None = None


class MaritacaProvider(CompatibleProvider, ErrandProvider, service=SERVICES["maritaca"]):
    """Asks Maritaca's Chat Completions; the key is `api_key` or the environment variable MARITACA_API_KEY.

    Options: `service_tier="flex"` for half the price, which may wait five minutes and then fail with
    QuotaExceededError after its retries; `extraction_effort` ("basic", "medium", "advanced") for PDFs; `web_search`
    with `web_search_filters`, `code_execution` and `data_ocean`, which the service runs itself, never in a stream.
    What the service adds to an answer, such as `generated_files`, is in `raw_response`.

    Limits of models are unknown until `models` has asked for them; constructing and answering never ask.
    """

    def __init__(self, config: Mapping[str | Any, Any] | None = None, **settings: Any) -> None:
        self._models: dict[str, Mapping[str, MaritacaModel]] = {}  # address -> name -> model
        super().__init__(config, **settings)

    def get_capabilities(self) -> Capabilities:
        """Return what is known; limits of the model are those that the last `models` told, None before it."""
        model = self.get_param("model")
        known = self._known(model) or MaritacaModel(model)
        return {
            **super().get_capabilities(),
            ModelCapability.REASONING: None if PRICES.get(model) is None else "-thinking" in PRICES.named(model),
            ModelCapability.MAX_TOKENS: known.max_output,
            ModelCapability.CONTEXT_WINDOW: known.context_window,
        }

    def _known(self, model: str) -> MaritacaModel | None:
        """Return what the service has told of a model, by this or its own name."""
        listed = self._models.get(self._endpoint.base_url, {})
        return listed.get(model) or listed.get(PRICES.named(model))

    # The service's models.

    def models(self) -> tuple[MaritacaModel, ...]:
        """Return the models that the service offers, with limits and prices, and remember the limits.

        Raises AuthenticationError without a key, and ProviderAPIError and its like.
        """
        return portal().run(self.models_async)

    async def models_async(self) -> tuple[MaritacaModel, ...]:
        """Do what `models` does, for async code."""
        from abstractllm.wire.model_list import decode_models

        problem = self.missing()
        if problem is not None:
            raise AuthenticationError(problem, provider=self.name)
        place = self._endpoint.base_url
        with self._telling():
            listed = decode_models(await self._fetched("GET", "/models"), self.name)
        found = tuple(
            MaritacaModel(one.name, one.context_window, one.max_output, PRICES.get(one.name), one.created)
            for one in listed
        )
        self._models[place] = {model.name: model for model in found}
        return found

    @classmethod
    def list_models(cls) -> list[ModelInfo]:
        """Return the models of the service that the environment names; an instance's own are `models()`."""
        with cls() as llm:
            return [ModelInfo(model.name, modified=model.created) for model in llm.models()]

    @staticmethod
    def recommended_model(need: Need = "balance", *, in_brazil: bool = False) -> str:
        """Return the model that Maritaca recommends for a need; `in_brazil`, one that computes nowhere else.

        Source: documentation/docs/en/models.md of Maritaca. Raises InvalidParameterError for another need.
        """
        if need not in _RECOMMENDED:
            known = ", ".join(_RECOMMENDED)
            raise InvalidParameterError("need", f"need={shown(need)} is not valid; it is one of: {known}.")
        return _RECOMMENDED[need] + ("-br-sp" if in_brazil else "")

    # Money.

    def cost(
        self,
        answer: GenerateResponse | Usage,
        *,
        model: str | None = None,
        tier: Tier | None = None,
        at: datetime | None = None,
    ) -> Cost:
        """Return what an answer costs by the prices of `PRICES.as_of`; an estimate, as prices change.

        For an answer, what is not given is what the service says of it: its model, tier and time, and what it charges
        beside tokens (pages of PDFs, built-in tools). For a `Usage`, which says none of that, and where the service is
        silent, model and tier are this instance's, and the time is by day. `at` must have a time zone.

        Raises UnsupportedFeatureError where a price is not known, InvalidParameterError for an answer without usage.
        """
        whole = GenerateResponse(usage=answer) if isinstance(answer, Usage) else answer
        told = _mapping(whole.raw_response)
        return PRICES.cost(
            _usage_of(whole),
            model or whole.model or self.get_param("model"),
            tier=tier or self._tier(told),
            at=at or _time(told),
            told=_mapping(told.get("usage")),
        )

    def known_cost(self, answer: GenerateResponse) -> Cost | None:
        """Return what `cost` does, None where it raises."""
        try:
            return self.cost(answer)
        except (InvalidParameterError, UnsupportedFeatureError):
            return None

    def _tier(self, told: Mapping[str, Any]) -> Tier:
        """Return the tier that the service says, or that this instance asks for."""
        word = told.get("service_tier") or self.get_param("options", {}).get("service_tier") or "standard"
        if not isinstance(word, str) or word not in _TIERS:
            raise UnsupportedFeatureError("cost", f"No price is known for the service tier {shown(word)}; pass tier=.")
        return _TIERS[word]

    # One request.

    def _check(self, request: GenerateRequest) -> None:
        super()._check(request)
        used = next((name for name in _BUILT_IN if request.options.get(name)), None)
        if request.stream and used is not None:
            what = f"Maritaca streams no answer for which it uses {used!r}; use stream=False."
            raise UnsupportedFeatureError("stream", what, provider=self.name)


def _usage_of(answer: GenerateResponse) -> Usage:
    """Return the token counts of an answer; of several choices, the first has them for all."""
    usage = answer.usage or next((choice.usage for choice in answer.choices if choice.usage), None)
    if usage is None:
        raise InvalidParameterError("answer", "The answer has no usage, so that its cost is not known; was it cut off?")
    return usage


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _time(told: Mapping[str, Any]) -> datetime | None:
    """Return when the service says that it answered, None for what is no time."""
    created = told.get("created")
    return datetime.fromtimestamp(created, UTC) if isinstance(created, int) and 0 < created < 2**37 else None
