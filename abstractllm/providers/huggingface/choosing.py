"""Scores -> the next token of one answer, with what the answer wants to know about it. In PyTorch.

In this order: the log-probabilities of the raw model, repetition penalty, presence and frequency penalty, bias, mask,
temperature, top_k, top_p, min_p, draw; temperature 0 takes the likeliest after the mask. The same as in
`providers/mlx/adjusting` and `drawing`, on one row; of equally likely tokens the one with the lower id comes first.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abstractllm.errors import GenerationError
from abstractllm.providers.huggingface.backend import NAME
from abstractllm.providers.local.logprobs import ScoredToken
from abstractllm.providers.local.sampling import Sampling, mixed


@dataclass(frozen=True, slots=True)
class Chosen:
    """A token, and its log-probabilities if they are wanted."""

    token: int
    scored: ScoredToken | None = None


class Chooser:
    """Chooses the tokens of one answer, one after another. `prompt` are the token ids before it."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        self._sampling = sampling
        self._prompt = prompt
        self._said: list[int] = []
        self._changes = bool(
            sampling.repetition_penalty != 1
            or sampling.presence_penalty
            or sampling.frequency_penalty
            or sampling.logit_bias
        )

    def choose(self, logits: Any, mask: Any = None) -> Chosen:
        """Return the next token for logits (vocabulary,) as the model gave them, on any device.

        `mask` are uint32 words with one bit for each token that may come, the lowest first. Raises GenerationError
        where no token can be chosen, as the scores are no numbers.
        """
        wish = self._sampling
        if self._changes or mask is not None or wish.temperature > 0 or wish.logprobs is not None:
            chosen = self._choose(logits.float().cpu(), mask)
        else:
            chosen = Chosen(_likeliest(logits))
        self._said.append(chosen.token)
        return chosen

    def _choose(self, raw: Any, mask: Any) -> Chosen:
        scores = self._adjusted(raw.clone()) if self._changes else raw
        if mask is not None:
            scores = scores.masked_fill(~_allowed(mask, len(scores)), -math.inf)
        token = _likeliest(scores)
        if self._sampling.temperature > 0:
            token = draw(scores, self._sampling, self._chance())
        wanted = self._sampling.logprobs
        return Chosen(token, None if wanted is None else scored(raw, token, wanted))

    def _adjusted(self, scores: Any) -> Any:
        """Return scores with penalties and bias; they are changed in place."""
        import torch

        wish = self._sampling
        if wish.repetition_penalty != 1:
            seen = torch.tensor([*self._prompt, *self._said]).unique()
            part = scores[seen]
            scores[seen] = torch.where(part > 0, part / wish.repetition_penalty, part * wish.repetition_penalty)
        if self._said and (wish.presence_penalty or wish.frequency_penalty):
            said, counts = torch.tensor(self._said).unique(return_counts=True)
            scores[said] -= wish.presence_penalty + wish.frequency_penalty * counts
        for token, bias in wish.logit_bias:
            scores[token] += bias
        return scores

    def _chance(self) -> float:
        """Return a number from 0 to below 1: with a seed, one that follows from it and the position alone."""
        seed = self._sampling.seed
        return random.random() if seed is None else (mixed(seed, len(self._said)) >> 11) * 2.0**-53


def _allowed(mask: Any, vocabulary: int) -> Any:
    """Return which tokens may come, (vocabulary,), from the words of a mask."""
    import numpy as np
    import torch

    bits = np.unpackbits(mask.view(np.uint8), count=vocabulary, bitorder="little")
    return torch.from_numpy(bits).bool()


def _likeliest(scores: Any) -> int:
    """Return the token with the highest score. A score that is not a number counts as the highest."""
    token = int(scores.argmax())
    if not math.isfinite(float(scores[token])):
        raise GenerationError(
            "The model gave no usable scores: its numbers have overflowed, or no token may come. Load it with"
            " dtype='float32' or 'bfloat16'.",
            provider=NAME,
        )
    return token


def draw(scores: Any, sampling: Sampling, chance: float) -> int:
    """Return a token drawn from scores (vocabulary,), float32 on the processor, by a number from 0 to below 1."""
    import torch

    tokens, weights = weigh(scores, sampling)
    sums = weights.cumsum(0)
    place = int(torch.searchsorted(sums, chance * sums[-1], right=True))
    if place == len(sums):  # the product was rounded up to the whole sum
        place = int(weights.nonzero()[-1])
    return place if tokens is None else int(tokens[place])


def weigh(scores: Any, sampling: Sampling) -> tuple[Any, Any]:
    """Return tokens and weights, float64: the likeliest weighs 1, one that is left out 0.

    Tokens are None where they did not have to be sorted; weights are those of all, in the order of their ids, then.
    """
    import torch

    depths = (scores - scores.max()) * sampling.inverse_temperature
    weights = depths.double().exp()
    tokens = None
    if sampling.top_k is not None or sampling.top_p is not None:
        tokens = ranked(depths, sampling.top_k, _floor(sampling, len(scores)))
        mass = weights.sum() if sampling.top_k is None else weights[tokens].sum()
        weights = weights[tokens]
        if sampling.top_p is not None:
            above = weights.cumsum(0) - weights
            weights = torch.where(above < sampling.top_p * mass, weights, 0.0)
    if sampling.min_p is not None:
        weights = torch.where(weights >= sampling.min_p, weights, 0.0)
    return tokens, weights


def _floor(sampling: Sampling, vocabulary: int) -> float:
    """Return a depth below which no token is among those that top_p leaves: all such together have too little.

    They weigh at most half of what top_p cuts off. Leaving them out beforehand spares sorting them.
    """
    if sampling.top_p is None or sampling.top_k is not None:
        return -math.inf
    return math.log((1 - sampling.top_p) / 2 / vocabulary)


def ranked(scores: Any, count: int | None, floor: float = -math.inf) -> Any:
    """Return the ids of the `count` tokens with the highest scores, all with None, best first, then by id.

    Those with scores below `floor` are left out.
    """
    import torch

    if count is not None and count < len(scores):
        floor = max(floor, float(torch.topk(scores, count).values[-1]))
    candidates = (scores >= floor).nonzero().squeeze(-1)
    order = torch.sort(scores[candidates], descending=True, stable=True).indices
    return candidates[order[:count]]


def scored(logits: Any, token: int, wanted: int) -> ScoredToken:
    """Return a token's natural-log probability under the raw model, and the `wanted` likeliest tokens with theirs."""
    logprobs = logits.log_softmax(-1)
    top = ranked(logits, wanted).tolist() if wanted else []
    return ScoredToken(token, float(logprobs[token]), tuple((one, float(logprobs[one])) for one in top))
