"""Scores -> tokens at random, exactly after temperature, top_k, top_p and min_p. Knows rows that want the same kind of
filters, no batch.

Filters work one after another, each on the distribution that the one before left, as in transformers'
`generation/utils.py`; of equally likely tokens the one with the lower id comes first. A token is drawn as the winner
of a race: with E exponentially distributed, `argmax(weight / E)` takes each token in proportion to its weight. The race
is run between blocks of tokens first and then within the block that won, so a vocabulary of 128,000 takes about 1,100
random numbers instead of 128,000. MLX's `random.categorical` would not do: it adds noise that ends at 16.6 in
steps that get coarse before, so that tokens with a probability of 1e-8 never come.

How much less likely a token is than the likeliest is counted in bits, its depth: a power of two takes less than half as
long as an exponential on the CPU, where MLX has the latter written out and the former from the C library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abstractllm.providers.local.sampling import Sampling, mixed

BLOCK = 128
"""Tokens that race as one at first."""


@dataclass(frozen=True, slots=True)
class Filters:
    """The filters of rows of one `kind`, as columns (rows, 1); None where no row has one that needs a column.

    A score that is lower by 1 makes a token `bits` deeper: the temperature. `most` is the largest `top_k`, 0 without
    any; `top_k` is there when it is not that of all rows. A token deeper than `max_depth` has too little for its
    `min_p`. Tokens deeper than `tail` + log2(vocabulary) are never among those that a `top_p` leaves: all together,
    they have at most half of the probability that it cuts off. Telling them apart beforehand makes sorting four times
    faster on the CPU, where most tokens are such.
    """

    bits: Any
    most: int = 0
    top_k: Any = None
    top_p: Any = None
    max_depth: Any = None
    tail: Any = None

    @classmethod
    def of(cls, rows: Sequence[Sampling]) -> Filters:
        """Return the filters of some rows of one `kind`."""
        limits = [row.top_k for row in rows if row.top_k is not None]
        by_mass = any(row.top_p is not None for row in rows)
        return cls(
            bits=column([row.inverse_temperature * math.log2(math.e) for row in rows]),
            most=max(limits, default=0),
            top_k=column(limits) if len(set(limits)) > 1 else None,
            top_p=column([row.top_p or math.inf for row in rows]) if by_mass else None,
            max_depth=column([_depth(row.min_p) for row in rows]) if any(row.min_p for row in rows) else None,
            tail=column([_depth((1 - (row.top_p or 1)) / 2) for row in rows]) if by_mass and not limits else None,
        )

    @property
    def need_order(self) -> bool:
        """Whether tokens have to be sorted."""
        return self.most > 0 or self.top_p is not None


def kind(sampling: Sampling) -> int:
    """Return a number that is the same for rows that can share `Filters`."""
    if sampling.top_k is not None:
        return 2
    return 0 if sampling.top_p is None else 1


def column(values: Sequence[float]) -> Any:
    """Return one number per row as float32, (rows, 1)."""
    import mlx.core as mx

    return mx.array(list(values), dtype=mx.float32)[:, None]


def _depth(ratio: float | None) -> float:
    """Return the depth of a token whose weight is `ratio` of that of the likeliest."""
    return -math.log2(ratio) if ratio else math.inf


def noise(seeds: Sequence[int | None], positions: Sequence[int], vocabulary: int) -> Any:
    """Return exponentially distributed numbers for one token of each row, (rows, blocks of the vocabulary + BLOCK).

    Those of a row with a seed depend on that and its position alone. They are fine near 0, where races are won.
    """
    import mlx.core as mx

    width = math.ceil(vocabulary / BLOCK) + BLOCK
    if all(seed is None for seed in seeds):
        uniform = mx.random.uniform(shape=(len(seeds), width))
    else:
        uniform = mx.vmap(lambda key: mx.random.uniform(shape=(width,), key=key))(_keys(seeds, positions))
    return -mx.log1p(-mx.maximum(uniform, 2**-33))


def random_key(seed: int, position: int) -> list[int]:
    """Return the MLX random key, two numbers of 32 bits, for what is drawn at a position with a seed."""
    bits = mixed(seed, position)
    return [bits >> 32, bits & 0xFFFFFFFF]


def _keys(seeds: Sequence[int | None], positions: Sequence[int]) -> Any:
    """Return random keys, (rows, 2), from MLX's own random state for rows without a seed."""
    import mlx.core as mx

    pairs = zip(seeds, positions, strict=True)
    keys = mx.array([[0, 0] if seed is None else random_key(seed, at) for seed, at in pairs], dtype=mx.uint32)
    if None not in seeds:
        return keys
    unseeded = mx.array([seed is None for seed in seeds])[:, None]
    return mx.where(unseeded, mx.random.uniform(shape=keys.shape).view(mx.uint32), keys)


def draw(scores: Any, filters: Filters, noise: Any) -> Any:
    """Return one token per row, (rows,), for scores (rows, vocabulary) and what `noise` gave for them.

    A row with a NaN, or with no token that may come, gets some token.
    """
    import mlx.core as mx

    tokens, weights = weigh(scores, filters)
    winner = _race(weights, noise)
    return winner if tokens is None else mx.take_along_axis(tokens, winner[:, None], axis=-1).squeeze(-1)


def weigh(scores: Any, filters: Filters) -> tuple[Any, Any]:
    """Return tokens and weights, (rows, as many as may come): the likeliest weighs 1, one that is left out 0.

    Tokens are None if they were not sorted; weights are those of all tokens then, in the order of their ids.
    """
    import mlx.core as mx

    depths = _depths(scores, filters.bits)
    if not filters.need_order:
        return None, mx.power(2.0, -_within(depths, filters.max_depth))
    tokens, depths, weights = _ranked_weights(depths, filters)
    if filters.max_depth is not None:
        weights = mx.where(depths <= filters.max_depth, weights, 0)
    return tokens, weights


def _depths(scores: Any, bits: Any) -> Any:
    """Return how many bits each score lies below the highest of its row, after the temperature: never less than 0."""
    import mlx.core as mx

    scores = scores.astype(mx.float32)
    return (mx.max(scores, axis=-1, keepdims=True) - scores) * bits


def _within(depths: Any, limit: Any) -> Any:
    """Return depths, infinite where they are beyond the row's limit."""
    import mlx.core as mx

    return depths if limit is None else mx.where(depths <= limit, depths, mx.inf)


def _ranked_weights(depths: Any, filters: Filters) -> tuple[Any, Any, Any]:
    """Return the likeliest tokens, best first, their depths, and their weights after top_k and top_p."""
    import mlx.core as mx

    vocabulary, mass = depths.shape[-1], None
    if filters.tail is not None:
        mass = mx.sum(mx.power(2.0, -depths), axis=-1, keepdims=True)
        depths = _within(depths, filters.tail + math.log2(vocabulary))
    tokens, depths = ranked(depths, min(filters.most or vocabulary, vocabulary))
    weights = mx.power(2.0, -depths)
    if filters.top_k is not None:
        weights = mx.where(mx.arange(weights.shape[-1]) < filters.top_k, weights, 0)
    if filters.top_p is not None:
        above = mx.cumsum(weights, axis=-1, inclusive=False)
        mass = above[:, -1:] + weights[:, -1:] if mass is None else mass
        weights = mx.where(above < filters.top_p * mass, weights, 0)
    return tokens, depths, weights


def ranked(depths: Any, count: int) -> tuple[Any, Any]:
    """Return the ids of the `count` tokens with the smallest depths, smallest first, and their depths, sorted.

    What is sorted are 64-bit numbers, the bits of a depth before the token's id: floats that are not negative are
    ordered as their bits are, once -0.0 is 0.0. That needs no gathering afterwards and is twice as fast as `argsort` on
    the CPU.
    """
    import mlx.core as mx

    vocabulary = depths.shape[-1]
    keys = (mx.abs(depths).view(mx.uint32).astype(mx.uint64) << 32) | mx.arange(vocabulary, dtype=mx.uint64)
    if count < vocabulary:
        keys = mx.partition(keys, count - 1, axis=-1)[:, :count]
    keys = mx.sort(keys, axis=-1)
    return (keys & 0xFFFFFFFF).astype(mx.uint32), (keys >> 32).astype(mx.uint32).view(mx.float32)


def _race(weights: Any, noise: Any) -> Any:
    """Return the index of one weight per row, drawn in proportion to them."""
    import mlx.core as mx

    width, within = weights.shape[-1], noise[:, -BLOCK:]
    if width <= BLOCK:
        return mx.argmax(weights / within[:, :width], axis=-1)
    blocks = math.ceil(width / BLOCK)
    if blocks * BLOCK > width:
        weights = mx.pad(weights, [(0, 0), (0, blocks * BLOCK - width)])
    parts = weights.reshape(-1, blocks, BLOCK)
    block = mx.argmax(mx.sum(parts, axis=-1) / noise[:, :blocks], axis=-1)
    part = mx.take_along_axis(parts, block[:, None, None], axis=1).squeeze(1)
    return block * BLOCK + mx.argmax(part / within, axis=-1)
