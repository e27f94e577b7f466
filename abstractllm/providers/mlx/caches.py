"""The KV caches of the rows of a batch, by the public operations of mlx-lm's caches. Knows no tokens.

A row that is alone keeps the plain caches of its model, which need neither padding nor a mask; two or more are merged.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SHORT = 512
"""Tokens up to which a cache counts as short: it then grows by `SMALL_STEP` tokens, and not by mlx-lm's 256.

Growing copies it all, but the zeros of a large step take longer to make than many short rows to compute.
"""

SMALL_STEP = 64


def can_be_merged(model: Any) -> bool:
    """Whether requests of this model can share a batch: every one of its caches must know how to be merged.

    Of mlx-lm's caches, a rotating one that keeps its first tokens (`keep`) forgets to when it is merged.
    """
    from mlx_lm.models.cache import make_prompt_cache

    return all(
        hasattr(part, "merge") and not getattr(part, "keep", 0)
        for layer in make_prompt_cache(model)
        for part in parts_of(layer)
    )


@dataclass(frozen=True, slots=True)
class KVSize:
    """What the caches of one row take: for each of them the bytes of a token, and the most tokens that it holds.

    A cache that does not grow has the bytes of a row and one token.
    """

    parts: tuple[tuple[float, int | None], ...]

    def of_row(self, tokens: int) -> int:
        """Return the bytes of a row with so many tokens."""
        return round(sum(size * min(tokens, most or tokens) for size, most in self.parts))


def measured(model: Any) -> KVSize:
    """Run a model on one token, and return what its caches take."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    layers = make_prompt_cache(model)
    mx.eval(model(mx.array([[0]]), cache=layers))
    return sizes(layers)


def sizes(layers: list[Any]) -> KVSize:
    """Return what the caches of one row take that have seen a token."""
    return KVSize(tuple(_size_of(part) for layer in layers for part in parts_of(layer)))


def _size_of(part: Any) -> tuple[float, int | None]:
    keys = getattr(part, "keys", None)
    if keys is None:
        return float(part.nbytes), 1
    tokens = keys[0].shape[2] if isinstance(keys, (tuple, list)) else keys.shape[2]  # quantised ones have scales too
    return part.nbytes / tokens, getattr(part, "max_size", None)


def empty_caches(model: Any) -> list[Any]:
    """Return the caches of one row of a model, one per layer."""
    from mlx_lm.models.cache import make_prompt_cache

    layers: list[Any] = make_prompt_cache(model)
    return layers


def can_be_cut(layers: list[Any]) -> bool:
    """Whether every cache can give up its last tokens: recurrent states cannot, nor windows that have wrapped."""
    return all(part.is_trimmable() for layer in layers for part in parts_of(layer))


class RowCaches:
    """One cache per layer, each for all rows. `layers` is what a model takes as its `cache`.

    `may_be_padded` is False where padding would run through a recurrent state: not all models of mlx-lm leave it out.
    """

    def __init__(self, layers: list[Any], rows: int, merged: bool) -> None:
        self.layers = layers
        self.may_be_padded = not any(_recurrent(layer) for layer in layers)
        self._rows = rows
        self._merged = merged
        self._set_steps()

    def _set_steps(self) -> None:
        """Choose by how much the caches grow, which changes with their lengths."""
        from mlx_lm.models.cache import BatchKVCache

        for layer in self.layers:
            for part in parts_of(layer):
                if type(part) is BatchKVCache:
                    part.step = SMALL_STEP if part.size() < SHORT else BatchKVCache.step

    @classmethod
    def new(cls, model: Any, rows: int) -> RowCaches:
        """Return the empty caches of so many rows of a model."""
        return cls.joined([empty_caches(model) for _ in range(rows)])

    @classmethod
    def joined(cls, plain: list[list[Any]]) -> RowCaches:
        """Return the caches of several rows, given the plain ones of each; these must not be used afterwards."""
        if len(plain) == 1:
            return cls(plain[0], 1, merged=False)
        layers = [layer.merge([row[i] for row in plain]) for i, layer in enumerate(plain[0])]
        return cls(layers, len(plain), merged=True)

    def __len__(self) -> int:
        return self._rows

    def extend(self, other: RowCaches) -> None:
        """Append the rows of `other`, which must not be used afterwards."""
        self._merge()
        other._merge()
        for layer, added in zip(self.layers, other.layers, strict=True):
            layer.extend(added)
        self._rows += len(other)
        self._set_steps()

    def take(self, rows: Sequence[int]) -> RowCaches:
        """Return copies of some rows, of one several times if so asked; they stay here too, until `keep` drops them."""
        if list(rows) == list(range(self._rows)):
            return RowCaches(self.layers, self._rows, self._merged)
        taken = RowCaches(copy.deepcopy(self.layers), self._rows, self._merged)
        taken._merge()
        taken.keep(rows)
        return taken

    def keep(self, rows: Sequence[int]) -> None:
        """Leave out all rows but these; at least one must stay."""
        if list(rows) == list(range(self._rows)):
            return
        for layer in self.layers:
            layer.filter(list(rows))
        self._rows = len(rows)
        if self._rows == 1 and all(_can_be_plain(layer) for layer in self.layers):
            self.layers = [layer.extract(0) for layer in self.layers]
            self._merged = False

    @contextmanager
    def padded(self, lengths: Sequence[int]) -> Iterator[None]:
        """Run the model on a chunk in which row i has `lengths[i]` tokens, with padding to the right of them."""
        longest = max(lengths)
        uneven = min(lengths) < longest
        if uneven:
            for layer in self.layers:
                layer.prepare(lengths=list(lengths), right_padding=[longest - length for length in lengths])
        yield
        if uneven:
            for layer in self.layers:
                layer.finalize()

    @property
    def can_be_cut(self) -> bool:
        """Whether every cache can give up its last tokens."""
        return can_be_cut(self.layers)

    def extract(self, row: int) -> list[Any]:
        """Return the plain caches of one row, which stays here too."""
        if self._merged:
            return [layer.extract(row) for layer in self.layers]
        return copy.deepcopy(self.layers)  # shares its buffers until something is written

    def evaluate(self) -> None:
        """Compute everything that is still pending in the caches."""
        import mlx.core as mx

        mx.eval([layer.state for layer in self.layers])
        self._set_steps()

    def _merge(self) -> None:
        if not self._merged:
            self.layers = [layer.merge([layer]) for layer in self.layers]
            self._merged = True
            self._set_steps()


def parts_of(layer: Any) -> Iterator[Any]:
    """Yield the caches of one layer, which may be several."""
    from mlx_lm.models.cache import CacheList

    if not isinstance(layer, CacheList):
        yield layer
        return
    for part in layer.caches:
        yield from parts_of(part)


def _recurrent(layer: Any) -> bool:
    """Whether a cache is a state that every token changes, or holds one."""
    from mlx_lm.models.cache import ArraysCache

    return any(isinstance(part, ArraysCache) for part in parts_of(layer))


def _can_be_plain(layer: Any) -> bool:
    """Whether the only row of a merged cache can be taken out; what other kinds hold may not be there yet."""
    from mlx_lm.models.cache import BatchKVCache, BatchRotatingKVCache

    return isinstance(layer, (BatchKVCache, BatchRotatingKVCache)) and not layer.empty()
