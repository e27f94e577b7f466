"""What a request says about the choice of tokens, and the seeds of its draws. Plain data.

How tokens are chosen is in each provider's `choosing`, which says in what order these settings work.
"""

from __future__ import annotations

from dataclasses import dataclass

from abstractllm.types import GenerateRequest

COLDEST = 1e-30
"""Temperatures below count as this one, which float32 can still divide by; it takes the likeliest token."""

BITS = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose the tokens of one row.

    `temperature` 0 takes the likeliest; None leaves a filter out. Without a `seed`, draws follow from nothing that
    the caller knows. `logprobs` is how many of the likeliest tokens to report at each position beside the chosen one;
    with None nothing is reported. `logit_bias` has pairs of a token id and what to add to its score.
    """

    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None

    @classmethod
    def of(cls, request: GenerateRequest) -> Sampling:
        """Return what a request asks for: greedy, unless it names a temperature, a filter or a seed.

        What changes nothing counts as not given.
        """
        chosen = (request.top_k, request.top_p, request.min_p, request.seed)
        default = 0.0 if all(value is None for value in chosen) else 1.0
        return cls(
            temperature=default if request.temperature is None else request.temperature,
            top_k=request.top_k,
            top_p=None if request.top_p == 1 else request.top_p,  # leaves nothing out, but rounded sums would
            min_p=request.min_p or None,
            seed=request.seed,
            repetition_penalty=1.0 if request.repetition_penalty is None else request.repetition_penalty,
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            logit_bias=tuple(sorted((request.logit_bias or {}).items())),
            logprobs=(request.top_logprobs or 0) if request.logprobs else None,
        )

    @property
    def inverse_temperature(self) -> float:
        """What scores are multiplied with before a token is drawn."""
        return 1 / max(self.temperature, COLDEST)


def mixed(seed: int, position: int) -> int:
    """Return 64 well-mixed bits for a seed and a position (SplitMix64, Steele et al. 2014)."""
    bits = (seed + (position + 1) * 0x9E3779B97F4A7C15) & BITS
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & BITS
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & BITS
    return bits ^ (bits >> 31)
