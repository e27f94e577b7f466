"""Prices as users give them for their metrics. Knows no service and computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation

from abstractllm.errors import InvalidParameterError, shown
from abstractllm.prices import Price

PriceLike = Price | Mapping[str, str | float | int | Decimal]

_NAMES = ("input", "output", "cached", "currency")
_EXAMPLE = '{"input": 1.25, "output": 10, "cached": 0.125, "currency": "USD"}'


def to_price(model: str, given: PriceLike) -> Price:
    """Return the price that is meant for a model, per million tokens; without `cached`, those cost as all input does.

    Raises InvalidParameterError where a price is missing, unknown, negative or no number.
    """
    if isinstance(given, Price):
        return given
    if not isinstance(given, Mapping) or not {"input", "output", "currency"} <= given.keys() <= set(_NAMES):
        raise _wrong(model, given)
    return Price(
        input=_amount(model, given, given["input"]),
        output=_amount(model, given, given["output"]),
        cached=_amount(model, given, given.get("cached", given["input"])),
        currency=str(given["currency"]),
    )


def _amount(model: str, given: object, value: object) -> Decimal:
    try:
        amount = Decimal(str(value))
    except InvalidOperation as error:
        raise _wrong(model, given) from error
    if not amount.is_finite() or amount < 0:
        raise _wrong(model, given)
    return amount


def _wrong(model: str, given: object) -> InvalidParameterError:
    what = f"The price of {model!r} is {shown(given)}; give it per million tokens, such as {_EXAMPLE}."
    return InvalidParameterError("prices", what)
