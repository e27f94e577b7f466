"""Samplers: log-probabilities -> tokens, with plain MLX operations, exact for every parameter.

Order: temperature, then top_k, then top_p, then min_p, each on the distribution that the one before left, as in
transformers' `generation/utils.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from abstractllm.types import GenerateRequest

COLDEST = 1e-30
"""Temperatures below count as this one, which float32 can still divide by; it takes the likeliest token."""

Sampler = Callable[[Any], Any]
"""Takes log-probabilities of shape (rows, vocabulary) and returns token ids of shape (rows,)."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens. `temperature` 0 takes the likeliest; None leaves a filter out."""

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    @classmethod
    def of(cls, request: GenerateRequest) -> Sampling:
        """Return what a request asks for: greedy, unless it names a temperature, a filter or a seed."""
        chosen = (request.top_k, request.top_p, request.min_p, request.seed)
        default = 0.0 if all(value is None for value in chosen) else 1.0
        temperature = default if request.temperature is None else request.temperature
        top_p = None if request.top_p == 1 else request.top_p  # leaves nothing out, but rounded sums would
        return cls(temperature, request.top_k, top_p, request.min_p)


def make_sampler(sampling: Sampling, seed: int | None, position: int = 0) -> Sampler | None:
    """Return the sampler of one request, or None for the engine's greedy one.

    With a `seed`, the token at each position depends on the seed, the position and the log-probabilities alone.
    `position` is that of the first token to be sampled, in tokens after the prompt.
    """
    if sampling.temperature == 0:
        return None
    if seed is None:
        return shared_sampler(sampling)
    return _SeededSampler(sampling, seed, position)


@lru_cache(maxsize=256)
def shared_sampler(sampling: Sampling) -> Sampler:
    """Return the unseeded sampler for these settings: one object, so that rows which share it are sampled together."""

    def sample(logprobs: Any) -> Any:
        return draw(logprobs, sampling, None)

    return sample


class _SeededSampler:
    """Draws with a random key of its own for each position."""

    def __init__(self, sampling: Sampling, seed: int, position: int) -> None:
        self._sampling = sampling
        self._seed = seed
        self._position = position

    def __call__(self, logprobs: Any) -> Any:
        import mlx.core as mx

        key = mx.random.key(mixed(self._seed, self._position))
        self._position += 1
        return draw(logprobs, self._sampling, key)


def mixed(seed: int, position: int) -> int:
    """Return 64 well-mixed bits for a seed and a position (SplitMix64, Steele et al. 2014)."""
    bits = (seed + (position + 1) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return bits ^ (bits >> 31)


def draw(logprobs: Any, sampling: Sampling, key: Any) -> Any:
    """Return one token per row. `key` is an MLX random key, or None for the thread's own random state."""
    import mlx.core as mx

    scores = logprobs.astype(mx.float32) * (1 / max(sampling.temperature, COLDEST))
    if not (sampling.top_k or sampling.top_p or sampling.min_p):
        return mx.random.categorical(scores, key=key)
    order = mx.argsort(-scores, axis=-1)
    ranked = mx.take_along_axis(scores, order, axis=-1)
    chosen = mx.random.categorical(_filtered(ranked, sampling), key=key)
    return mx.take_along_axis(order, chosen[:, None], axis=-1).squeeze(-1)


def _filtered(ranked: Any, sampling: Sampling) -> Any:
    """Return scores, sorted from the highest, with minus infinity for what the filters leave out."""
    import mlx.core as mx

    if sampling.top_k is not None:
        ranked = ranked[..., : sampling.top_k]
    if sampling.top_p is not None:
        shares = mx.softmax(ranked, axis=-1, precise=True)
        above = mx.cumsum(shares, axis=-1) - shares
        ranked = mx.where(above < sampling.top_p, ranked, -mx.inf)
    if sampling.min_p:
        ranked = mx.where(ranked >= ranked[..., :1] + math.log(sampling.min_p), ranked, -mx.inf)
    return ranked
