"""Draws against plain float64 arithmetic: which tokens can come, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.providers.local.sampling import Sampling, mixed
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.drawing import BLOCK, Filters, draw, kind, noise, random_key, ranked, weigh
from abstractllm.providers.mlx.worker import mlx_thread

mx = import_mlx()

T = TypeVar("T")
ROWS = 8000
COMBINATIONS = [
    Sampling(temperature, top_k, top_p, min_p)
    for temperature, top_k, top_p, min_p in product((0.5, 1.0, 2.0), (None, 1, 3, 50), (None, 0.35, 0.9), (None, 0.2))
]


def on_thread(call: Callable[[], T]) -> T:
    return mlx_thread().run(call).result()


def reference(scores: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The probability of each token, computed the plain way."""
    scaled = np.asarray(scores, dtype=np.float64) / sampling.temperature
    shares = np.exp(scaled - scaled.max())
    shares /= shares.sum()
    order = np.argsort(-scaled, kind="stable")
    if sampling.top_k is not None:
        shares[order[sampling.top_k :]] = 0
        shares /= shares.sum()
    if sampling.top_p is not None:
        above = np.cumsum(shares[order]) - shares[order]
        shares[order[above >= sampling.top_p]] = 0
        shares /= shares.sum()
    if sampling.min_p:
        shares[shares < sampling.min_p * shares.max()] = 0
        shares /= shares.sum()
    return shares


def distributions(scores: np.ndarray, *rows: Sampling) -> np.ndarray:
    """The probabilities from which tokens are drawn, for rows of one kind with the same scores."""

    def compute() -> np.ndarray:
        batch = mx.array(np.tile(np.asarray(scores, dtype=np.float32), (len(rows), 1)))
        tokens, weights = weigh(batch, Filters.of(rows))
        shares = np.array(weights, dtype=np.float64)
        if tokens is not None:
            found = np.zeros((len(rows), len(scores)))
            np.put_along_axis(found, np.array(tokens).astype(int), shares, axis=-1)
            shares = found
        return shares / shares.sum(axis=-1, keepdims=True)

    return on_thread(compute)


def counts(scores: np.ndarray, sampling: Sampling, rows: int = ROWS, seed: int = 0, dtype: Any = None) -> np.ndarray:
    """How often each token is drawn at the first positions after a prompt."""

    def compute() -> np.ndarray:
        row = mx.array(np.asarray(scores, dtype=np.float32)).astype(dtype or mx.float32)
        chance = noise([seed] * rows, range(rows), len(scores))
        drawn = draw(mx.broadcast_to(row, (rows, len(scores))), Filters.of([sampling] * rows), chance)
        return np.bincount(np.array(drawn), minlength=len(scores))

    return on_thread(compute)


def assert_drawn_from(found: np.ndarray, shares: np.ndarray) -> None:
    """Chi-square: far below the bound for the right distribution, far above it for one that is a little off."""
    assert not found[shares == 0].any()
    likely = shares > 0
    expected = shares[likely] * found.sum()
    statistic = ((found[likely] - expected) ** 2 / expected).sum()
    freedom = likely.sum() - 1
    assert statistic <= freedom + 6 * np.sqrt(2 * freedom) + 20


SCORES = np.array([0.9, -1.0, 2.0, -2.0, -0.3, 1.7, -1.5, 1.1, -0.4, 0.2])


@pytest.mark.parametrize("sampling", COMBINATIONS, ids=str)
def test_every_combination_leaves_the_right_distribution(sampling):
    np.testing.assert_allclose(distributions(SCORES, sampling)[0], reference(SCORES, sampling), atol=1e-6)


@pytest.mark.parametrize("sampling", COMBINATIONS[::7], ids=str)
def test_draws_are_from_the_right_distribution(sampling):
    assert_drawn_from(counts(SCORES, sampling), reference(SCORES, sampling))


def test_the_check_itself_notices_a_wrong_distribution():
    with pytest.raises(AssertionError):
        assert_drawn_from(counts(SCORES, Sampling(1.15)), reference(SCORES, Sampling(1.0)))


SETTINGS = st.builds(
    Sampling,
    st.floats(0.05, 5),
    st.none() | st.integers(1, 40),
    st.none() | st.floats(0.01, 0.9999),
    st.none() | st.floats(0.001, 1),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32) | st.integers(-2, 2), min_size=1, max_size=300),
    st.lists(SETTINGS, min_size=1, max_size=6),
)
def test_random_settings_side_by_side_leave_what_they_should(scores, rows):
    for same in {kind(row): [one for one in rows if kind(one) == kind(row)] for row in rows}.values():
        for found, sampling in zip(distributions(scores, *same), same, strict=True):
            assert not found[reference(scores, loosened(sampling, 1)) == 0].any()
            assert found[reference(scores, loosened(sampling, -1)) > 1e-30].all()
            kept = found > 0
            whole = np.where(kept, reference(scores, Sampling(sampling.temperature)), 0)
            np.testing.assert_allclose(found, whole / whole.sum(), rtol=1e-4, atol=1e-7)


def loosened(sampling: Sampling, sign: int) -> Sampling:
    """The same filters, a little weaker or stronger: a token on the edge may fall either way with float32."""
    return replace(
        sampling,
        top_p=None if sampling.top_p is None else sampling.top_p + sign * 1e-5,
        min_p=None if sampling.min_p is None else min(1.0, sampling.min_p * (1 - sign * 1e-4)),
    )


@pytest.mark.parametrize("filters", [{}, {"top_k": 600}, {"top_p": 0.97}, {"min_p": 0.001}], ids=str)
@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 1500])
def test_large_vocabularies_are_drawn_from_in_proportion(size, filters):
    scores = np.random.default_rng(1).normal(size=size) * 2
    sampling = Sampling(1.0, **filters)
    shares = reference(scores, sampling)
    np.testing.assert_allclose(distributions(scores, sampling)[0], shares, atol=1e-6)
    found = counts(scores, sampling, rows=1500)
    assert not found[shares == 0].any()
    bins = np.argsort(np.argsort(-shares)) * 20 // size
    assert_drawn_from(np.bincount(bins, found), np.bincount(bins, shares))


def test_noise_is_fine_where_races_are_won():
    """Numbers that end at 2**-24, as -log(u) has them, would lose tokens with a probability of 1e-8."""
    chance = on_thread(lambda: np.array(noise([3] * 40, range(40), 10_000_000))).astype(np.float64)
    smallest = np.sort(chance.ravel())[:20]
    assert 0 < smallest[0] * chance.size < 10
    assert 10 < smallest[-1] * chance.size < 40
    assert (np.abs(smallest * 2**24 - np.round(smallest * 2**24)) > 0.01).any()


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_of_equal_tokens_top_k_takes_the_first(top_k):
    found = distributions(np.array([0.0, 1.0, 1.0, 1.0, 0.0]), Sampling(1.0, top_k=top_k))[0]
    np.testing.assert_allclose(found, np.array([0, 1, 1, 1, 0]) * (np.arange(5) <= top_k) / top_k)


def test_equal_tokens_are_equally_likely():
    assert_drawn_from(counts(np.zeros(7), Sampling(0.3, top_p=0.99, min_p=1.0)), np.full(7, 1 / 7))


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0, top_k=1), Sampling(1.0, top_p=1e-9), Sampling(1.0, min_p=1.0)], ids=str
)
def test_the_strictest_filters_leave_the_likeliest(sampling):
    assert counts(SCORES, sampling, rows=1000)[2] == 1000


@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-12, 1e-30, 1e-45, 5e-324])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("top_p", [None, 0.5])
def test_a_tiny_temperature_takes_the_likeliest(temperature, dtype, top_p):
    scores = np.array([-9.0, -40.0, -3.0, -20.0, -5.0])
    found = counts(scores, Sampling(temperature, top_p=top_p), rows=20, dtype=getattr(mx, dtype))
    assert found.tolist() == [0, 0, 20, 0, 0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_draws_as_finely_as_float32(dtype):
    found = counts(np.zeros(1000), Sampling(1.0, top_p=0.999999), dtype=getattr(mx, dtype))
    assert_drawn_from(found, np.full(1000, 1 / 1000))


@pytest.mark.parametrize("filters", [{}, {"top_k": 20, "top_p": 0.999, "min_p": 0.001}, {"top_p": 0.999}], ids=str)
def test_forbidden_tokens_are_never_drawn(filters):
    scores = SCORES.copy()
    scores[[2, 5]] = -np.inf
    assert_drawn_from(counts(scores, Sampling(1.0)), reference(scores, Sampling(1.0, **filters)))


@pytest.mark.parametrize("filters", [{}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}], ids=str)
@pytest.mark.parametrize("bad", [[np.nan], [np.nan, 1.0], [-np.inf]], ids=str)
def test_a_row_without_a_usable_score_gets_a_token_and_leaves_the_others_alone(filters, bad):
    sampling = Sampling(1.0, **filters)

    def tokens(first: Any) -> list[int]:
        scores = mx.array(np.stack([first, np.tile(SCORES, 20)]).astype(np.float32))
        return list(draw(scores, Filters.of([sampling] * 2), noise([1, 2], [0, 0], 200)).tolist())

    spoilt = on_thread(lambda: tokens(np.resize(bad, 200)))
    whole = on_thread(lambda: tokens(np.tile(SCORES, 20)))
    assert spoilt[1] == whole[1]
    assert 0 <= spoilt[0] < 200


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, width=32) | st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 40))
def test_ranked_sorts_by_depth_and_then_by_id(depths, count):
    count = min(count, len(depths))
    array = np.array(depths, dtype=np.float32)
    tokens, sorted_depths = on_thread(lambda: [part.tolist() for part in ranked(mx.array(array[None]), count)])
    expected = np.argsort(array, kind="stable")[:count]
    assert tokens == [expected.tolist()]
    assert sorted_depths == [array[expected].tolist()]


def test_noise_of_seeds_and_positions_is_independent():
    """No two of many neighbouring seeds and positions give noise that goes together."""
    rows = [(seed, position) for seed in range(20) for position in range(20)]
    seeds, positions = zip(*rows, strict=True)
    chance = on_thread(lambda: np.array(noise(seeds, positions, 100)))[:, :100]
    together = np.corrcoef(np.exp(-chance))
    assert np.abs(together - np.eye(len(rows))).max() < 0.6
    assert np.abs(chance.mean() - 1) < 0.02


def test_noise_without_seeds_differs_from_row_to_row_and_from_time_to_time():
    for seeds in ([None, None], [None, 5, None]):
        first, second = on_thread(lambda seeds=seeds: [np.array(noise(seeds, [0] * len(seeds), 50)) for _ in range(2)])
        assert (first[0] != first[-1]).all()
        assert (first[0] != second[0]).mean() > 0.99
        assert np.array_equal(first[1], second[1]) == (seeds[1] is not None)


@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 2**31))
def test_a_random_key_holds_the_64_mixed_bits(seed, position):
    high, low = random_key(seed, position)
    assert 0 <= high < 2**32
    assert 0 <= low < 2**32
    assert (high << 32) + low == mixed(seed, position)
