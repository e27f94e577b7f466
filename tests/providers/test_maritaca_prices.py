"""What answers cost at Maritaca; the amounts are those of its page of prices."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError
from abstractllm.prices import Cost
from abstractllm.providers.maritaca_prices import BRASILIA, PRICES, Tier
from abstractllm.types import Usage

MILLION = 1_000_000
DAY = datetime(2026, 7, 17, 12, tzinfo=BRASILIA)
NIGHT = datetime(2026, 7, 17, 23, tzinfo=BRASILIA)

PAGE = {
    "sabia-4-thinking": ("5.00", "40.00", "1.25", "3.50", "28.00", "2.50", "20.00"),
    "sabia-4": ("5.00", "20.00", "1.25", "3.50", "14.00", "2.50", "10.00"),
    "sabiazinho-4": ("1.00", "4.00", "0.25", "0.70", "2.80", "0.50", "2.00"),
    "sabia-4-thinking-br-sp": ("6.50", "52.00", "1.63", "4.55", "36.40", "3.25", "26.00"),
    "sabia-4-br-sp": ("6.50", "26.00", "1.63", "4.55", "18.20", "3.25", "13.00"),
    "sabiazinho-4-br-sp": ("1.30", "5.20", "0.33", "0.91", "3.64", "0.65", "2.60"),
}
"""Input, output, cached input, night input, night output, flex and batch input, flex and batch output; in reais."""


def amount(usage, model="sabia-4", **more):
    return PRICES.cost(usage, model, **more).amount


@pytest.mark.parametrize("model", PAGE)
def test_the_amounts_are_those_of_the_page(model):
    read, written = Usage(MILLION, 0), Usage(0, MILLION)
    kept = Usage(MILLION, 0, cached_tokens=MILLION)
    found = [
        *(amount(read, model), amount(written, model), amount(kept, model)),
        *(amount(read, model, at=NIGHT), amount(written, model, at=NIGHT)),
        *(amount(read, model, tier="flex"), amount(written, model, tier="flex")),
    ]
    assert found == [Decimal(text) for text in PAGE[model]]
    assert [amount(usage, model, tier="batch") for usage in (read, written)] == found[5:]


def test_every_model_of_the_table_is_on_the_page():
    assert set(PRICES.models) == set(PAGE)
    assert set(PRICES.aliases.values()) <= set(PAGE)
    assert {price.currency for price in PRICES.models.values()} == {"BRL"}


def test_all_parts_of_an_answer_are_added():
    usage = Usage(1200, 300, cached_tokens=1000)
    assert PRICES.cost(usage, "sabia-4") == Cost(Decimal("0.00825"), "BRL")  # 200 * 5 + 1000 * 1.25 + 300 * 20


def test_cached_tokens_have_no_other_discount():
    kept = Usage(MILLION, 0, cached_tokens=MILLION)
    assert {amount(kept, tier=tier, at=at) for tier in PRICES.shares for at in (DAY, NIGHT)} == {Decimal("1.25")}


def test_of_tier_and_night_the_tier_counts():
    for tier in ("flex", "batch"):
        assert amount(Usage(MILLION, 0), tier=tier, at=NIGHT) == Decimal("2.50")


@pytest.mark.parametrize(
    ("hour", "minute", "price"), [(21, 59, "5"), (22, 0, "3.5"), (0, 0, "3.5"), (5, 59, "3.5"), (6, 0, "5")]
)
def test_the_night_is_from_ten_to_six_in_brasilia_wherever_it_is_said(hour, minute, price):
    at = datetime(2026, 7, 17, hour, minute, tzinfo=BRASILIA)
    assert amount(Usage(MILLION, 0), at=at) == Decimal(price)
    assert amount(Usage(MILLION, 0), at=at.astimezone(UTC)) == Decimal(price)
    assert at.astimezone(UTC) - at.replace(tzinfo=UTC) == timedelta(hours=3)


def test_without_a_time_it_was_day():
    assert amount(Usage(MILLION, 0)) == amount(Usage(MILLION, 0), at=DAY) == 5


@pytest.mark.parametrize("alias", PRICES.aliases)
def test_other_names_cost_the_same(alias):
    assert amount(Usage(7, 9), alias) == amount(Usage(7, 9), PRICES.aliases[alias])


def test_pages_and_tools_are_added_at_their_own_price():
    told = {
        "extraction_details": {"medium_pdf_pages_extracted": 3, "advanced_pdf_pages_extracted": 0},
        "tool_execution_details": {
            "web_search_calls": 2,
            "page_reads": 1,
            "data_ocean_gb_processed": 0.5,
            "code_execution_minutes": 1.2,
        },
    }
    expected = Decimal("0.06") + Decimal("0.033") + Decimal("0.066") + Decimal("0.05") + Decimal("0.032")
    for tier in PRICES.shares:
        assert amount(Usage(), tier=tier, told=told) == expected
    assert amount(Usage(), told={"extraction_details": {"basic_pdf_pages_extracted": 9}}) == 0
    assert amount(Usage(), told={"extraction_details": None, "prompt_tokens_details": {"cached_tokens": 4}}) == 0


@pytest.mark.parametrize(
    "told",
    [
        {"extraction_details": {"golden_pages": 1}},
        {"tool_execution_details": {"video_minutes": 0.1}},
        {"tool_execution_details": {"page_reads": "many"}},
    ],
)
def test_what_has_no_known_price_is_not_guessed(told):
    with pytest.raises(UnsupportedFeatureError, match="No price is known"):
        amount(Usage(1, 1), told=told)


def test_a_model_without_a_known_price_is_told_with_those_that_have_one():
    with pytest.raises(UnsupportedFeatureError, match=r"'sabia-3'.*2026-07-17.*sabiazinho-4"):
        amount(Usage(1, 1), "sabia-3")
    assert PRICES.get("sabia-3") is None


def test_a_tier_that_does_not_exist_and_a_time_without_a_zone():
    with pytest.raises(InvalidParameterError) as caught:
        amount(Usage(1, 1), tier="gold")
    assert caught.value.parameter == "tier"
    with pytest.raises(InvalidParameterError) as caught:
        amount(Usage(1, 1), tier="flex", at=datetime(2026, 7, 17))
    assert caught.value.parameter == "at"


counts = st.integers(0, 10**9)


@given(counts, counts, counts, st.sampled_from(list(PRICES.models)), st.sampled_from(list(Tier.__args__)))
def test_no_discount_makes_an_answer_dearer(prompt, answer, cached, model, tier):
    usage = Usage(prompt, answer, cached_tokens=cached)
    full = amount(Usage(prompt, answer), model)
    assert 0 <= amount(usage, model, tier=tier, at=NIGHT) <= amount(usage, model, at=NIGHT) <= amount(usage, model)
    assert amount(usage, model) <= full
