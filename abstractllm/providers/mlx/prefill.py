"""Computes prompts, all tokens but the last, chunk by chunk, several at a time. Knows no text and no sampling."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar

from abstractllm.engine.rows import Row, length
from abstractllm.providers.mlx.caches import RowCaches, empty_caches
from abstractllm.providers.mlx.prefixes import PrefixStore

SHORTEST_CHUNK = 64
"""Prompts that differ by fewer tokens than this are padded to the same length."""


class Prompted(Row, Protocol):
    """What this module needs of a request. `cached` is set to the tokens of its prompt that need no computing.

    An `exact` one takes nothing from earlier requests, which computed it in other pieces.
    """

    cached: int
    exact: bool


R = TypeVar("R", bound=Prompted)


class PrefillBatch(Generic[R]):
    """Prompts of one model that are computed together."""

    def __init__(self, model: Any, prefixes: PrefixStore) -> None:
        self.rows: list[R] = []
        self._model = model
        self._prefixes = prefixes
        self._rest: list[list[int]] = []
        self._caches: RowCaches | None = None
        self._short_turn = False

    def join(self, rows: list[R]) -> None:
        """Take prompts in; what is kept of their beginnings is not computed again."""
        self.rows += rows  # first of all, so that a failure below finds them here
        begun = [self._begin(row) for row in rows]
        self._rest += [rest for rest, _ in begun]
        caches = RowCaches.joined([layers for _, layers in begun])
        if self._caches is None:
            self._caches = caches
        else:
            self._caches.extend(caches)
        for row, (rest, _) in zip(rows, begun, strict=True):
            row.progress(length(row) - 1 - len(rest), length(row))

    def _begin(self, row: R) -> tuple[list[int], list[Any]]:
        """Return the tokens of a row that remain to be computed, all but the last one, and the caches to begin with."""
        tokens = [*row.prompt, *row.generated]
        found = None if row.exact else self._prefixes.find(tokens)
        if found is None:
            return tokens[:-1], empty_caches(self._model)
        layers, usable = found
        if not row.generated:
            row.cached = usable
        return tokens[usable:-1], layers

    def step(self, most: int) -> None:
        """Compute up to `most` further tokens of every prompt. Those that are ready must have been taken out."""
        if not self.rows:
            return
        chunk = self._chunk_length(most)
        chunks = [rest[:chunk] for rest in self._rest]
        self._rest = [rest[chunk:] for rest in self._rest]
        self._compute(chunks)
        for row, rest in zip(self.rows, self._rest, strict=True):
            row.progress(length(row) - 1 - len(rest), length(row))

    def _chunk_length(self, most: int) -> int:
        """Return how many tokens of each prompt come next.

        Every other time the chunk is short enough for the prompt with the least left, so that a short prompt need not
        wait for a long one; the other times the long one gets on.
        """
        assert self._caches is not None
        least = min(len(rest) for rest in self._rest)
        if not self._caches.may_be_padded:
            return min(most, least)
        self._short_turn = not self._short_turn
        return min(most, max(SHORTEST_CHUNK, 2 * least)) if self._short_turn else most

    def _compute(self, chunks: list[list[int]]) -> None:
        import mlx.core as mx

        assert self._caches is not None
        lengths = [len(chunk) for chunk in chunks]
        tokens = mx.array([chunk + [0] * (max(lengths) - len(chunk)) for chunk in chunks])
        with self._caches.padded(lengths):
            self._model(tokens, cache=self._caches.layers)
            self._caches.evaluate()
        self._caches.evaluate()
        mx.clear_cache()

    def take_ready(self) -> tuple[list[R], RowCaches] | None:
        """Take out the prompts that are computed, with their caches; None where there are none."""
        ready = [i for i, rest in enumerate(self._rest) if not rest]
        if not ready or self._caches is None:
            return None
        rows, caches = [self.rows[i] for i in ready], self._caches.take(ready)
        self._keep([i for i, rest in enumerate(self._rest) if rest])
        for row in rows:
            row.progress(length(row), length(row))
        return rows, caches

    def extract(self, row: R) -> tuple[list[Any], int] | None:
        """Return the plain caches of a row, and how many tokens they hold; None where it has none."""
        place = next((i for i, one in enumerate(self.rows) if one is row), None)
        if place is None or self._caches is None:
            return None
        return self._caches.extract(place), length(row) - 1 - len(self._rest[place])

    def drop(self, row: R) -> None:
        """Forget a prompt."""
        self._keep([i for i, one in enumerate(self.rows) if one is not row])

    def _keep(self, indices: list[int]) -> None:
        if self._caches is not None and indices:
            self._caches.keep(indices)
        else:
            self._caches = None
        self.rows = [self.rows[i] for i in indices]
        self._rest = [self._rest[i] for i in indices]
