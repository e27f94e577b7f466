"""What a provider reports of a chosen token: its log-probability under the raw model, and those of the likeliest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A token, its natural-log probability, and the likeliest tokens with theirs, best first, then by id."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
