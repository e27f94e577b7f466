"""KV caches of earlier prompts, kept in a tree over their tokens for later ones that begin alike."""

from __future__ import annotations

import copy
from array import array
from collections.abc import Sequence
from typing import Any

from abstractllm.engine.prefix import Match, PrefixTree
from abstractllm.providers.mlx.caches import can_be_cut
from abstractllm.providers.mlx.prefixdisk import SHORTEST_FILE, Kept, PrefixDisk
from abstractllm.providers.mlx.worker import mlx_thread

SHORTEST = 16
"""Fewer tokens than these are computed faster than they are looked up and joined."""


class PrefixStore:
    """The kept caches of one model, of at most `capacity` bytes; those least recently used go first.

    Plain KV caches serve any prompt that shares their beginning. States that cannot be cut, such as those of recurrent
    layers or of windows that have wrapped, serve only prompts that go on after their last token.

    With a `disk`, what is long enough is written there: when the engine becomes idle, once the answers are on their
    way; when it is given up here, at the latest when the model is unloaded; and when the interpreter ends. Only to hand
    it to the writer takes time of the MLX thread, some microseconds for each array.
    """

    def __init__(self, capacity: int, disk: PrefixDisk | None = None) -> None:
        self._disk = disk
        self._tree: PrefixTree[list[Any]] = PrefixTree(capacity, None if disk is None else self._released)
        self._unsaved: dict[int, Kept] = {}  # by the identity of the layers

    @property
    def nbytes(self) -> int:
        """Bytes of all that is kept."""
        return self._tree.nbytes

    def find(self, tokens: Sequence[int]) -> tuple[list[Any], int] | None:
        """Return caches for the beginning of a prompt, and of how many of its tokens; the last is always left out.

        The caches are the caller's: what he adds to them changes nothing here.
        """
        match = self._tree.find(tokens, longest=len(tokens) - 1)
        if self._disk is not None and len(tokens) > SHORTEST_FILE:
            match = self._with_disk(self._disk, tokens, match)
        if match is None or match.usable < SHORTEST:
            return None
        layers = copy.deepcopy(match.value)  # shares its buffers until something is written
        if match.usable < match.length:
            for layer in layers:
                layer.trim(match.length - match.usable)
        return layers, match.usable

    def _with_disk(
        self, disk: PrefixDisk, tokens: Sequence[int], match: Match[list[Any]] | None
    ) -> Match[list[Any]] | None:
        """Return what memory has found, or what the disk has if that is much more; this is in memory from then on."""
        found = disk.find(tokens, match.usable if match else 0)
        if found is None:
            return match
        kept = found.value
        self._tree.store(kept.tokens, kept.layers, kept.nbytes, trimmable=kept.trimmable)
        return Match(kept.layers, found.usable, found.length)

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
        stored = self._tree.store(tokens, layers, sum(layer.nbytes for layer in layers), trimmable=trimmable)
        if stored and self._disk is not None and len(tokens) >= SHORTEST_FILE:
            self._note(Kept(array("Q", tokens), layers, trimmable))

    def _note(self, kept: Kept) -> None:
        """Remember to write what has been stored, unless something else serves instead of it."""
        found = self._tree.find(kept.tokens)
        if found is not None and found.value is kept.layers:
            self._unsaved[id(kept.layers)] = kept

    def _released(self, layers: list[Any], covered: bool) -> None:
        kept = self._unsaved.pop(id(layers), None)
        if kept is not None and self._disk is not None and not covered:
            self._disk.offer(kept, last=True)

    def save_soon(self) -> None:
        """Have what is new written to the disk, if there is one, after what the MLX thread is doing now."""
        if self._disk is None:
            return
        thread = mlx_thread()
        if thread.alive:
            thread.post(lambda: self.save(last=False))
        else:
            self.save(last=True)

    def save(self, *, last: bool) -> None:
        """Have what is new written to the disk, the newest first, as `PrefixDisk.offer` sees fit."""
        for key, kept in reversed(list(self._unsaved.items())):
            if self._disk is not None and self._disk.offer(kept, last=last):
                del self._unsaved[key]

    def evict(self, size: int) -> None:
        """Forget about so many bytes."""
        self._tree.evict(size)

    def clear(self) -> None:
        """Forget everything in memory."""
        self._tree.clear()
        self._unsaved.clear()
