"""KV caches of earlier prompts, kept in a tree over their tokens for later ones that begin alike."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from abstractllm.engine.prefix import PrefixTree
from abstractllm.providers.mlx.caches import can_be_cut

SHORTEST = 16
"""Fewer tokens than these are computed faster than they are looked up and joined."""


class PrefixStore:
    """The kept caches of one model, of at most `capacity` bytes; those least recently used go first.

    Plain KV caches serve any prompt that shares their beginning. States that cannot be cut, such as those of recurrent
    layers or of windows that have wrapped, serve only prompts that go on after their last token.
    """

    def __init__(self, capacity: int) -> None:
        self._tree: PrefixTree[list[Any]] = PrefixTree(capacity)

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        return self._tree.nbytes

    def find(self, tokens: Sequence[int]) -> tuple[list[Any], int] | None:
        """Return caches for the beginning of a prompt, and of how many of its tokens; the last is always left out.

        The caches are the caller's: what he adds to them changes nothing here.
        """
        match = self._tree.find(tokens, longest=len(tokens) - 1)
        if match is None or match.usable < SHORTEST:
            return None
        layers = copy.deepcopy(match.value)  # shares its buffers until something is written
        if match.usable < match.length:
            for layer in layers:
                layer.trim(match.length - match.usable)
        return layers, match.usable

    def wants(self, tokens: int) -> bool:
        """Whether a row with so many tokens is worth keeping."""
        return self._tree.capacity > 0 and tokens >= SHORTEST

    def store(self, tokens: Sequence[int], layers: list[Any], surplus: int) -> None:
        """Keep the caches of one row, which hold these tokens and `surplus` others after them.

        The caller must not use them any more. Those that would have to be cut and cannot be are not kept.
        """
        import mlx.core as mx

        trimmable = can_be_cut(layers)
        if surplus and not trimmable:
            return
        for layer in layers:
            if surplus:
                layer.trim(surplus)
        mx.eval([layer.state for layer in layers])
        self._tree.store(tokens, layers, sum(layer.nbytes for layer in layers), trimmable=trimmable)

    def evict(self, size: int) -> None:
        """Forget about so many bytes."""
        self._tree.evict(size)

    def clear(self) -> None:
        """Forget everything."""
        self._tree.clear()
