"""Computes prompts, all tokens but the last, chunk by chunk, several at a time. Knows no text and no sampling."""

from __future__ import annotations

from collections.abc import Iterator
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
    """Prompts of one model that are computed together. Rows that enter together with the same prompt share its work."""

    def __init__(self, model: Any, prefixes: PrefixStore) -> None:
        self._groups: list[list[R]] = []  # the rows of each prompt that is computed
        self._model = model
        self._prefixes = prefixes
        self._rest: list[list[int]] = []
        self._caches: RowCaches | None = None
        self._short_turn = False

    @property
    def rows(self) -> list[R]:
        """The rows whose prompts are being computed."""
        return [row for group in self._groups for row in group]

    def join(self, rows: list[R]) -> None:
        """Take prompts in; what is kept of their beginnings is not computed again."""
        groups = list(_by_prompt(rows))
        self._groups += groups  # first of all, so that a failure below finds the rows here
        begun = [self._begin(group) for group in groups]
        self._rest += [rest for rest, _ in begun]
        caches = RowCaches.joined([layers for _, layers in begun])
        if self._caches is None:
            self._caches = caches
        else:
            self._caches.extend(caches)
        self._report()

    def _begin(self, group: list[R]) -> tuple[list[int], list[Any]]:
        """Return the tokens of a prompt that remain to be computed, all but the last, and the caches to begin with."""
        tokens = [*group[0].prompt, *group[0].generated]
        found = None if group[0].exact else self._prefixes.find(tokens)
        if found is None:
            return tokens[:-1], empty_caches(self._model)
        layers, usable = found
        for row in group:
            if not row.generated:
                row.cached = usable
        return tokens[usable:-1], layers

    def step(self, most: int) -> None:
        """Compute up to `most` further tokens of every prompt. Those that are ready must have been taken out."""
        if not self._groups:
            return
        chunk = self._chunk_length(most)
        chunks = [rest[:chunk] for rest in self._rest]
        self._rest = [rest[chunk:] for rest in self._rest]
        self._compute(chunks)
        self._report()

    def _report(self) -> None:
        for group, rest in zip(self._groups, self._rest, strict=True):
            for row in group:
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
        """Take out the rows whose prompts are computed, with their caches; None where there are none."""
        ready = [i for i, rest in enumerate(self._rest) if not rest]
        if not ready or self._caches is None:
            return None
        rows = [row for i in ready for row in self._groups[i]]
        caches = self._caches.take([i for i in ready for _ in self._groups[i]])
        self._keep([i for i, rest in enumerate(self._rest) if rest])
        for row in rows:
            row.progress(length(row), length(row))
        return rows, caches

    def extract(self, row: R) -> tuple[list[Any], int] | None:
        """Return the plain caches of a row, and how many tokens they hold; None where it has none."""
        place = self._place(row)
        if place is None or self._caches is None:
            return None
        return self._caches.extract(place), length(row) - 1 - len(self._rest[place])

    def drop(self, row: R) -> None:
        """Forget a row, and its prompt unless others share it."""
        place = self._place(row)
        if place is None:
            return
        self._groups[place] = [one for one in self._groups[place] if one is not row]
        self._keep([i for i, group in enumerate(self._groups) if group])

    def _place(self, row: R) -> int | None:
        return next((i for i, group in enumerate(self._groups) if any(one is row for one in group)), None)

    def _keep(self, indices: list[int]) -> None:
        if self._caches is not None and indices:
            self._caches.keep(indices)
        else:
            self._caches = None
        self._groups = [self._groups[i] for i in indices]
        self._rest = [self._rest[i] for i in indices]


def _by_prompt(rows: list[R]) -> Iterator[list[R]]:
    """Yield the rows with equal prompts together; an exact one stays alone."""
    groups: dict[tuple[int, ...], list[R]] = {}
    for row in rows:
        if row.exact:
            yield [row]
        else:
            groups.setdefault((*row.prompt, *row.generated), []).append(row)
    yield from groups.values()
