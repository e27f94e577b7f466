"""Samplers against plain float64 arithmetic: which tokens can come, and how often."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.sampling import Sampling, draw, make_sampler, mixed, shared_sampler
from abstractllm.types import GenerateRequest, Message

mx = import_mlx()

ROWS = 20_000
FILTERS = [
    Sampling(temperature, top_k, top_p, min_p)
    for temperature, top_k, top_p, min_p in product(
        (0.5, 1.0, 2.0), (None, 1, 3, 50), (None, 0.35, 0.9), (None, 0.0, 0.2)
    )
]


def logprobs_of(scores: list[float]) -> np.ndarray:
    """Log-probabilities in float64."""
    array = np.asarray(scores, dtype=np.float64)
    return array - np.log(np.exp(array - array.max()).sum()) - array.max()


def reference(logprobs: np.ndarray, sampling: Sampling) -> np.ndarray:
    """The probability of each token, computed the plain way."""
    scaled = logprobs / sampling.temperature
    shares = np.exp(scaled - scaled.max())
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
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


def counts(logprobs: np.ndarray, sampling: Sampling, seed: int = 0, rows: int = ROWS) -> np.ndarray:
    """How often each token is drawn with a fixed key."""
    batch = mx.broadcast_to(mx.array(logprobs.astype(np.float32)), (rows, len(logprobs)))
    tokens = np.array(draw(batch, sampling, mx.random.key(seed)))
    return np.bincount(tokens, minlength=len(logprobs))


def assert_drawn_from(found: np.ndarray, shares: np.ndarray) -> None:
    """Chi-square: far below the bound for the right distribution, far above it for one that is a little off."""
    assert not found[shares == 0].any()
    likely = shares > 0
    expected = shares[likely] * found.sum()
    statistic = ((found[likely] - expected) ** 2 / expected).sum()
    freedom = likely.sum() - 1
    assert statistic <= freedom + 6 * np.sqrt(2 * freedom) + 20


SCORES = logprobs_of([2.0, 1.7, 1.1, 0.9, 0.2, -0.3, -0.4, -1.0, -1.5, -2.0])
MIXED_UP = [3, 7, 0, 9, 5, 1, 8, 2, 6, 4]


@pytest.mark.parametrize("sampling", FILTERS, ids=str)
def test_every_combination_draws_from_the_right_distribution(sampling):
    assert_drawn_from(counts(SCORES[MIXED_UP], sampling), reference(SCORES, sampling)[MIXED_UP])


def test_the_check_itself_notices_a_wrong_distribution():
    with pytest.raises(AssertionError):
        assert_drawn_from(counts(SCORES, Sampling(1.1)), reference(SCORES, Sampling(1.0)))


@settings(max_examples=50)
@given(
    st.lists(st.floats(-8, 8), min_size=1, max_size=30),
    st.builds(
        Sampling,
        st.floats(0.05, 5),
        st.none() | st.integers(30, 40),
        st.none() | st.floats(0.01, 0.99),
        st.none() | st.floats(0, 1),
    ),
)
def test_only_tokens_that_the_filters_leave_are_drawn(scores, sampling):
    logprobs = logprobs_of(scores)
    found = counts(logprobs, sampling, rows=64)
    assert not found[reference(logprobs, loosened(sampling)) == 0].any()


def loosened(sampling: Sampling) -> Sampling:
    """The same filters, a little weaker: a token on the edge may fall either way within float32's precision."""
    return replace(
        sampling,
        top_p=None if sampling.top_p is None else sampling.top_p + 1e-5,
        min_p=None if sampling.min_p is None else sampling.min_p * (1 - 1e-4),
    )


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_of_equal_tokens_top_k_takes_the_first(top_k):
    found = counts(logprobs_of([0.0, 1.0, 1.0, 1.0, 0.0]), Sampling(1.0, top_k=top_k))
    assert_drawn_from(found, np.array([0, 1, 1, 1, 0]) * (np.arange(5) <= top_k) / top_k)


def test_equal_tokens_are_equally_likely():
    assert_drawn_from(counts(np.zeros(7), Sampling(0.3, top_p=0.99, min_p=1.0)), np.full(7, 1 / 7))


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0, top_k=1), Sampling(1.0, top_p=1e-9), Sampling(1.0, min_p=1.0)], ids=str
)
def test_the_strictest_filters_leave_the_likeliest(sampling):
    assert counts(SCORES, sampling)[0] == ROWS


@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-12, 1e-30, 1e-45, 5e-324])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("top_p", [None, 0.5])
def test_a_tiny_temperature_takes_the_likeliest(temperature, dtype, top_p):
    logprobs = mx.array([[-9.0, -3.0, -20.0, -5.0], [-40.0, -9.0, -8.5, -30.0]]).astype(getattr(mx, dtype))
    assert draw(logprobs, Sampling(temperature, top_p=top_p), mx.random.key(1)).tolist() == [1, 2]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_draws_as_finely_as_float32(dtype):
    logprobs = mx.zeros((ROWS, 1000), dtype=getattr(mx, dtype))
    found = np.bincount(np.array(draw(logprobs, Sampling(1.0, top_p=0.999999), mx.random.key(3))), minlength=1000)
    assert_drawn_from(found, np.full(1000, 1 / 1000))


def test_forbidden_tokens_are_never_drawn():
    logprobs = SCORES.copy()
    logprobs[0] = -np.inf
    for sampling in (Sampling(1.0), Sampling(1.0, top_k=20, top_p=0.999, min_p=0.001)):
        assert counts(logprobs, sampling)[0] == 0


def test_top_p_of_one_leaves_nothing_out():
    request = GenerateRequest((Message("user", "Hi"),), temperature=1.0, top_p=1.0)
    assert Sampling.of(request) == Sampling(1.0)


@pytest.mark.parametrize(
    ("given", "temperature"),
    [
        ({}, 0.0),
        ({"top_k": 3}, 1.0),
        ({"top_p": 0.9}, 1.0),
        ({"min_p": 0.1}, 1.0),
        ({"seed": 0}, 1.0),
        ({"temperature": 0.0, "top_p": 0.9, "seed": 1}, 0.0),
        ({"temperature": 0.3}, 0.3),
    ],
)
def test_what_a_request_asks_for(given, temperature):
    assert Sampling.of(GenerateRequest((Message("user", "Hi"),), **given)).temperature == temperature


def test_greedy_requests_have_no_sampler():
    assert make_sampler(Sampling(0.0, top_k=5), seed=1) is None


def test_unseeded_requests_with_the_same_settings_share_a_sampler():
    assert make_sampler(Sampling(0.7), None) is make_sampler(Sampling(0.7), None) is shared_sampler(Sampling(0.7))
    assert make_sampler(Sampling(0.7), None) is not make_sampler(Sampling(0.8), None)


def test_unseeded_draws_differ():
    sampler = shared_sampler(Sampling(1.0))
    rows = mx.zeros((1, 100_000))
    assert len({sampler(rows).item() for _ in range(5)}) > 1


def tokens_of(seed: int, rows: list[object], position: int = 0) -> list[int]:
    sampler = make_sampler(Sampling(1.0, top_p=0.95), seed, position)
    return [sampler(row).item() for row in rows]


@given(st.integers(-(2**63), 2**64 - 1))
def test_seeded_tokens_depend_on_seed_position_and_scores_alone(seed):
    rows = [mx.array(SCORES.astype(np.float32))[None]] * 6
    whole = tokens_of(seed, rows)
    mx.random.seed(seed % 1000)
    tokens_of(seed + 1, rows)
    assert tokens_of(seed, rows) == whole
    assert tokens_of(seed, rows[4:], position=4) == whole[4:]


def test_seeds_and_positions_give_independent_draws():
    row = mx.array(SCORES.astype(np.float32))[None]
    by_seed = [make_sampler(Sampling(1.0), seed)(row).item() for seed in range(3000)]
    by_position = tokens_of(7, [row] * 3000)
    assert_drawn_from(np.bincount(by_seed, minlength=10), reference(SCORES, Sampling(1.0)))
    assert_drawn_from(np.bincount(by_position, minlength=10), reference(SCORES, Sampling(1.0, top_p=0.95)))


def test_mixed_is_splitmix64():
    assert [mixed(1234567, position) for position in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


@given(st.integers(-(2**63), 2**64 - 1), st.integers(0, 2**31))
def test_mixed_gives_64_bits(seed, position):
    assert 0 <= mixed(seed, position) < 2**64
