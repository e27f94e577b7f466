"""What changes scores before a token is chosen: penalties, `logit_bias`, masks.

What a row has had is counted on the device, from tokens that Python has not read yet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx.drawing import column


class SampledRow(Protocol):
    """What is needed of a row, read when it joins. `generated` are the tokens it has got already, if it is replayed."""

    @property
    def sampling(self) -> Sampling:
        """How its tokens are chosen."""

    @property
    def prompt(self) -> list[int]:
        """Token ids."""

    @property
    def generated(self) -> list[int]:
        """Token ids."""


@dataclass(frozen=True, slots=True)
class Masks:
    """The tokens that some rows of a batch may have.

    `bits`, uint32 of shape (len(rows), ceil(vocabulary / 32)), has one bit for each token, the lowest first, as
    llguidance writes them. A token without a bit is forbidden.
    """

    rows: Sequence[int]
    bits: Any


class Adjustments:
    """What the rows of a batch want changed in their scores. Rows that want nothing cost nothing."""

    def __init__(self) -> None:
        self._seen = _TokenCounts(lambda row: [*row.prompt, *row.generated])
        self._said = _TokenCounts(lambda row: row.generated)
        self._samplings: list[Sampling] = []

    def join(self, rows: Sequence[SampledRow]) -> None:
        """Take in rows at the end of the batch."""
        first = len(self._samplings)
        for place, row in enumerate(rows, first):
            wish = row.sampling
            self._samplings.append(wish)
            if wish.repetition_penalty != 1:
                self._seen.join(row, place)
            if wish.presence_penalty or wish.frequency_penalty:
                self._said.join(row, place)

    def keep(self, indices: Sequence[int]) -> None:
        """Keep only these rows of the batch, in this order."""
        self._samplings = [self._samplings[i] for i in indices]
        self._seen.keep(indices)
        self._said.keep(indices)

    def count(self, tokens: Any) -> None:
        """Take note of the tokens, (rows,), that were just chosen from what `apply` returned."""
        self._seen.add(tokens)
        self._said.add(tokens)

    def apply(self, logits: Any, masks: Masks | None) -> Any:
        """Return the scores, (rows, vocabulary), to choose from: float32 ones if anything had to be changed.

        Repetition penalty (Keskar et al. 2019, section 4.1; over prompt and answer), presence and frequency penalty (as
        in OpenAI's API, over the answer), then the bias, then the mask.
        """
        scores = _on_rows(logits, self._seen.places, self._without_repetition)
        scores = _on_rows(scores, self._said.places, self._without_said)
        scores = self._biased(scores)
        return scores if masks is None else _on_rows(scores, masks.rows, lambda part: _masked(part, masks.bits))

    def _without_repetition(self, scores: Any) -> Any:
        import mlx.core as mx

        penalty = column([self._samplings[place].repetition_penalty for place in self._seen.places])
        seen = self._seen.counts(scores.shape[-1]) > 0
        return mx.where(seen, mx.where(scores > 0, scores / penalty, scores * penalty), scores)

    def _without_said(self, scores: Any) -> Any:
        said = self._said.counts(scores.shape[-1])
        rows = [self._samplings[place] for place in self._said.places]
        presence = column([row.presence_penalty for row in rows])
        frequency = column([row.frequency_penalty for row in rows])
        return scores - presence * (said > 0) - frequency * said

    def _biased(self, scores: Any) -> Any:
        import mlx.core as mx

        biases = [(i, token, bias) for i, row in enumerate(self._samplings) for token, bias in row.logit_bias]
        if not biases:
            return scores
        rows, tokens, values = zip(*biases, strict=True)
        return scores.astype(mx.float32).at[mx.array(rows), mx.array(tokens)].add(mx.array(values, dtype=mx.float32))


class _TokenCounts:
    """How often each token has come in some rows of a batch, which stand at `places` in it."""

    def __init__(self, history: Callable[[SampledRow], list[int]]) -> None:
        self.places: list[int] = []
        self._history = history
        self._counts: Any = None  # (rows counted, vocabulary), float32; the first ones of `places`
        self._uncounted: list[list[int]] = []  # the histories of the rest

    def join(self, row: SampledRow, place: int) -> None:
        """Take in a row."""
        self.places.append(place)
        self._uncounted.append(self._history(row))

    def keep(self, indices: Sequence[int]) -> None:
        """Keep only these rows of the batch; their numbers are new then, their order here is as before."""
        import mlx.core as mx

        numbers = {old: new for new, old in enumerate(indices)}
        stays = [place in numbers for place in self.places]
        counted = len(self.places) - len(self._uncounted)
        kept = [i for i in range(counted) if stays[i]]
        if len(kept) < counted:
            self._counts = self._counts[mx.array(kept)] if kept else None
        self._uncounted = [past for past, stay in zip(self._uncounted, stays[counted:], strict=True) if stay]
        self.places = [numbers[place] for place in self.places if place in numbers]

    def counts(self, vocabulary: int) -> Any:
        """Return the counts, (len(places), vocabulary), float32; there must be some."""
        import mlx.core as mx

        if self._uncounted:
            fresh = _counted(self._uncounted, vocabulary)
            self._counts = fresh if self._counts is None else mx.concatenate([self._counts, fresh])
            self._uncounted = []
        return self._counts

    def add(self, tokens: Any) -> None:
        """Count one more token in each row, from `tokens` of all rows of the batch."""
        import mlx.core as mx

        if not self.places:
            return
        self._counts = self._counts.at[mx.arange(len(self.places)), tokens[mx.array(self.places)]].add(1)


def _counted(histories: Sequence[Sequence[int]], vocabulary: int) -> Any:
    """Return how often each token comes in each history, (histories, vocabulary), float32."""
    import mlx.core as mx

    counts = mx.zeros((len(histories), vocabulary))
    rows = [i for i, history in enumerate(histories) for _ in history]
    if not rows:
        return counts
    tokens = [token for history in histories for token in history]
    return counts.at[mx.array(rows), mx.array(tokens)].add(1)


def _on_rows(scores: Any, places: Sequence[int], change: Callable[[Any], Any]) -> Any:
    """Return scores as float32 with `change` applied to those rows; the same array if there are none."""
    import mlx.core as mx

    if not places:
        return scores
    scores = scores.astype(mx.float32)
    if list(places) == list(range(len(scores))):
        return change(scores)
    index = mx.array(list(places))
    scores[index] = change(scores[index])
    return scores


def _masked(scores: Any, bits: Any) -> Any:
    """Return scores, minus infinity where the token's bit is not set."""
    import mlx.core as mx

    rows, vocabulary = scores.shape
    allowed = ((bits[:, :, None] >> mx.arange(32, dtype=mx.uint32)) & 1).reshape(rows, -1)[:, :vocabulary]
    missing = vocabulary - allowed.shape[-1]
    if missing:
        allowed = mx.pad(allowed, [(0, 0), (0, missing)])
    return mx.where(allowed.astype(mx.bool_), scores, -mx.inf)
