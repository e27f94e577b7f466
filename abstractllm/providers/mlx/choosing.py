"""The next token of each row of a batch, whatever the rows want, in few operations.

From the model's raw logits, first, the log-probabilities that rows ask for. Then, row by row: repetition penalty,
presence and frequency penalty, bias, mask, temperature, top_k, top_p, min_p, draw; temperature 0 takes the likeliest
after the mask. Rows share operations where they can, and nothing is computed that nobody asked for. Nothing here waits
for a result. Use it on the MLX thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from abstractllm.providers.local.logprobs import ScoredToken
from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx.adjusting import Adjustments, Masks, SampledRow
from abstractllm.providers.mlx.drawing import Filters, draw, kind, noise
from abstractllm.providers.mlx.logprobs import Scored, scored


class Chosen:
    """What was chosen for the rows of a batch: `tokens`, (rows,), and what rows wanted to know about them.

    These are arrays that need not be computed yet; `arrays` are all of them.
    """

    def __init__(self, tokens: Any, places: Sequence[int] = (), scored: Scored | None = None) -> None:
        self.tokens = tokens
        self._places = {place: i for i, place in enumerate(places)}
        self._scored = scored
        self._read: list[ScoredToken] | None = None

    @property
    def arrays(self) -> list[Any]:
        """What a step has to compute."""
        return [self.tokens, *(self._scored.arrays if self._scored else ())]

    def renumbered(self, kept: Sequence[int]) -> Chosen:
        """Return the same for a batch in which only these rows have stayed; `tokens` are still those of all."""
        numbers = {old: new for new, old in enumerate(kept)}
        left = Chosen(self.tokens, scored=self._scored)
        left._places = {numbers[row]: i for row, i in self._places.items() if row in numbers}
        left._read = self._read
        return left

    def scored(self, row: int) -> ScoredToken | None:
        """Return the log-probabilities of a row's token, None if it wanted none. The first call waits for the arrays.

        Rows are numbered as they were when their tokens were chosen.
        """
        place = self._places.get(row)
        if place is None or self._scored is None:
            return None
        if self._read is None:
            self._read = self._scored.read()
        return self._read[place]


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows whose tokens are drawn in the same operations."""

    rows: list[int]
    filters: Filters


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who wants what, for as long as the rows of the batch stay the same."""

    groups: list[_Group] = field(default_factory=list)
    drawn: list[int] = field(default_factory=list)  # the rows of all groups, in their order
    reported: list[int] = field(default_factory=list)  # the rows that want log-probabilities

    @classmethod
    def of(cls, samplings: Sequence[Sampling]) -> _Plan:
        kinds: dict[int, list[int]] = {}
        for i, sampling in enumerate(samplings):
            if sampling.temperature > 0:
                kinds.setdefault(kind(sampling), []).append(i)
        groups = [_Group(rows, Filters.of([samplings[i] for i in rows])) for rows in kinds.values()]
        reported = [i for i, sampling in enumerate(samplings) if sampling.logprobs is not None]
        return cls(groups, [i for rows in kinds.values() for i in rows], reported)


class BatchSampler:
    """Chooses tokens for the rows of a batch, which come and go. A row's tokens never depend on its company."""

    def __init__(self) -> None:
        self._samplings: list[Sampling] = []
        self._positions: list[int] = []  # of the next token, counted from the end of the prompt
        self._adjustments = Adjustments()
        self._plan = _Plan()

    def join(self, rows: Sequence[SampledRow]) -> None:
        """Take in rows at the end of the batch."""
        self._adjustments.join(rows)
        self._samplings += [row.sampling for row in rows]
        self._positions += [len(row.generated) for row in rows]
        self._plan = _Plan.of(self._samplings)

    def keep(self, indices: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self._adjustments.keep(indices)
        self._samplings = [self._samplings[i] for i in indices]
        self._positions = [self._positions[i] for i in indices]
        self._plan = _Plan.of(self._samplings)

    def choose(self, logits: Any, masks: Masks | None = None) -> Chosen:
        """Return the next token of each row, for logits (rows, vocabulary) as the model gave them.

        `masks` say which tokens constrained rows may have: at least one. Every call counts as one token per row.
        """
        scores = self._adjustments.apply(logits, masks)
        tokens = self._tokens(scores)
        self._adjustments.count(tokens)
        self._positions = [position + 1 for position in self._positions]
        return self._with_logprobs(logits, tokens)

    def _tokens(self, scores: Any) -> Any:
        """Return one token per row, (rows,)."""
        import mlx.core as mx

        drawn = self._plan.drawn
        if not drawn:
            return mx.argmax(scores, axis=-1)
        drawn_tokens = self._draw(scores)
        if drawn == list(range(len(self._samplings))):
            return drawn_tokens
        greedy = len(drawn) < len(self._samplings)
        tokens = mx.argmax(scores, axis=-1) if greedy else mx.zeros(len(drawn), dtype=mx.uint32)
        tokens[mx.array(drawn)] = drawn_tokens
        return tokens

    def _draw(self, scores: Any) -> Any:
        """Return one token for each row of the plan's groups, in their order."""
        import mlx.core as mx

        drawn = self._plan.drawn
        seeds = [self._samplings[i].seed for i in drawn]
        chance = noise(seeds, [self._positions[i] for i in drawn], scores.shape[-1])
        tokens, first = [], 0
        for group in self._plan.groups:
            last = first + len(group.rows)
            tokens.append(draw(_rows(scores, group.rows), group.filters, chance[first:last]))
            first = last
        return tokens[0] if len(tokens) == 1 else mx.concatenate(tokens)

    def _with_logprobs(self, logits: Any, tokens: Any) -> Chosen:
        places = self._plan.reported
        if not places:
            return Chosen(tokens)
        wanted = [self._samplings[i].logprobs or 0 for i in places]
        return Chosen(tokens, places, scored(_rows(logits, places), _rows(tokens, places), wanted))


def _rows(array: Any, places: Sequence[int]) -> Any:
    """Return some rows of an array, itself if they are all of them."""
    import mlx.core as mx

    return array if len(places) == len(array) else array[mx.array(list(places))]
