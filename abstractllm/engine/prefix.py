"""The prompts that one model has read, and what it computed for them, least recently used first out.

Knows token ids and sizes. Not what the remembered values are (KV caches), nor how one is copied or cut.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Match(Generic[V]):
    """Where to start from: `value` is the state after `length` tokens, of which the first `usable` are the prompt's.

    `usable` is at least 1. Where it is less than `length`, the value must be cut to it, which it allows.
    """

    value: V
    usable: int
    length: int


class PrefixTree(Generic[V]):
    """A radix tree over tokens, holding values of at most `capacity` bytes in all, by the sizes that came with them.

    Whether a value can be cut to fewer tokens is said when it is stored, not when one is looked for: a plain KV cache
    can be, a recurrent state cannot, a rotating cache only until it wraps, so values of one model may differ.
    One that can be cut covers what is stored for beginnings of its tokens; these are dropped, as it serves for them.

    Tokens are copied; they are ids from 0 to 2**64 - 1 (OverflowError for others), so that a hash can stand for a
    picture. Every operation takes time linear in the length of prompts, and Python's steps are per branch, not per
    token. A value that is given up is released at once; `clear` a tree that is done with, for it refers to itself.
    Belongs to one thread.

    `on_release` hears of each value that makes room or makes way, with True where one that is held serves instead of
    it; it must not change the tree. It does not hear of those that `drop` and `clear` give up, or that `store` refuses.
    """

    def __init__(self, capacity: int, on_release: Callable[[V, bool], None] | None = None) -> None:
        self.capacity = capacity
        self._on_release = on_release
        self._root: _Node[V] = _Node(_packed(()), 0)
        self._recent: OrderedDict[_Entry[V], None] = OrderedDict()
        self._nbytes = 0

    def __len__(self) -> int:
        """Return how many values are held."""
        return len(self._recent)

    @property
    def nbytes(self) -> int:
        """The sizes of all values that are held, in bytes; the tree itself (8 bytes a token) is not counted."""
        return self._nbytes

    def store(self, tokens: Sequence[int], value: V, size: int, *, trimmable: bool) -> bool:
        """Remember `value`, the state after exactly `tokens`, which nobody may change from now on.

        It takes the place of what was stored for the same tokens, and makes room by giving up others. `size` is in
        bytes, at least 0. `trimmable` says whether the value can be cut to any smaller number of tokens.
        Returns False, and changes nothing, if the value is larger than the capacity or there are no tokens; after True
        `tokens` can be found. A value covered by one that is held is not kept: the one `find` returns counts as used.
        """
        if size > self.capacity or not tokens:
            return False
        key = _packed(tokens)
        node, common = self._descend(key)
        cover = node.cuttable
        if cover is not None and common == len(key) < cover.node.end:
            self._recent.move_to_end(cover)
            return True
        self._put(_Entry(value, size, trimmable, self._node_for(key, node, common)))
        self.evict(self._nbytes - self.capacity)
        return True

    def find(self, tokens: Sequence[int], *, longest: int | None = None) -> Match[V] | None:
        """Return the value that serves for most of the first `longest` tokens (all, if None), or None if none does.

        A value serves for as many tokens as it has in common with these, if it can be cut; else it must be the state
        after a beginning of them. Which of several equals is returned is left open; it counts as just used.
        An engine that must compute at least one token of a prompt asks with `longest=len(prompt) - 1`.
        """
        key = _packed(tokens if longest is None else tokens[: max(longest, 0)])
        node, common = self._descend(key)
        for place in _upwards(node):
            usable = min(place.end, common)
            entry = place.cuttable or (place.entry if usable == place.end else None)
            if entry is not None and usable:
                self._recent.move_to_end(entry)
                return Match(entry.value, usable, entry.node.end)
        return None

    def evict(self, size: int) -> int:
        """Give up least recently used values until `size` bytes are free or none is left; return the bytes freed."""
        freed = 0
        while freed < size and self._recent:
            entry = next(iter(self._recent))
            freed += self._remove(entry)
            self._tell(entry, covered=False)
        return freed

    def drop(self, tokens: Sequence[int]) -> None:
        """Give up the value that was stored for exactly these tokens, if it is held."""
        key = _packed(tokens)
        node, common = self._descend(key)
        if common == len(key) == node.end and node.entry is not None:
            self._remove(node.entry)

    def clear(self) -> None:
        """Give up everything."""
        nodes = [self._root]
        while nodes:
            node = nodes.pop()
            nodes.extend(node.children.values())
            node.children.clear()
            node.parent = node.entry = node.cuttable = None
        self._recent.clear()
        self._nbytes = 0

    def _descend(self, key: array[int]) -> tuple[_Node[V], int]:
        """Return how many tokens the tree has in common with `key`, and the node in or at the end of which they end."""
        node, common = self._root, 0
        while common == node.end and common < len(key):
            child = node.children.get(key[common])
            if child is None:
                break
            node, common = child, common + _in_common(child.run, key, common)
        return node, common

    def _node_for(self, key: array[int], node: _Node[V], common: int) -> _Node[V]:
        """Return the node for exactly `key`, given where it leaves the tree."""
        if common < node.end:
            node = _split(node, common)
        if common == len(key):
            return node
        leaf = _Node(key[common:], len(key), node)
        node.children[key[common]] = leaf
        return leaf

    def _put(self, entry: _Entry[V]) -> None:
        """Add an entry that nothing covers, and drop those that it replaces or covers."""
        replaced = entry.node.entry
        if replaced is not None:
            self._forget(replaced)
            self._tell(replaced, covered=True)
        entry.node.entry = entry
        self._recent[entry] = None
        self._nbytes += entry.size
        if not entry.trimmable:
            return
        above = list(_upwards(entry.node))
        for node in above:
            node.cuttable = entry
        for node in above[1:]:
            if node.entry is not None:
                covered = node.entry
                self._remove(covered)
                self._tell(covered, covered=True)

    def _tell(self, entry: _Entry[V], *, covered: bool) -> None:
        if self._on_release is not None:
            self._on_release(entry.value, covered)

    def _remove(self, entry: _Entry[V]) -> int:
        """Take an entry out of the tree; return its size."""
        self._forget(entry)
        _prune(entry.node)
        return entry.size

    def _forget(self, entry: _Entry[V]) -> None:
        """Take an entry out of its node, which stays, and off the account."""
        entry.node.entry = None
        del self._recent[entry]
        self._nbytes -= entry.size
        for node in _upwards(entry.node):
            if node.cuttable is not entry:
                break  # and then no node above has it
            node.cuttable = next((child.cuttable for child in node.children.values() if child.cuttable), None)


@dataclass(frozen=True, slots=True, eq=False)
class _Entry(Generic[V]):
    """A value, and the node whose path from the root spells its tokens."""

    value: V
    size: int
    trimmable: bool
    node: _Node[V]


@dataclass(slots=True, eq=False)
class _Node(Generic[V]):
    """The end of a run of tokens; `end` counts the tokens from the root to here, children go by their first token.

    `cuttable` is an entry at or below this node that can be cut, the one stored last or what is left when that one is
    gone: so if a node has it, all nodes between the two have it as well. Nodes have two children or more, except
    the root and those with an entry.
    """

    run: array[int]
    end: int
    parent: _Node[V] | None = None
    children: dict[int, _Node[V]] = field(default_factory=dict)
    entry: _Entry[V] | None = None
    cuttable: _Entry[V] | None = None


def _packed(tokens: Sequence[int]) -> array[int]:
    """Return tokens in a form whose slices are copied and compared as memory."""
    return array("Q", tokens)


def _in_common(run: array[int], key: array[int], start: int) -> int:
    """Return how many tokens `run` has in common with `key` from `start` on."""
    high = min(len(run), len(key) - start)
    if run[:high] == key[start : start + high]:
        return high
    low = 0  # the first `low` tokens are the same, the first `high` are not
    while high - low > 1:
        middle = (low + high) // 2
        if run[low:middle] == key[start + low : start + middle]:
            low = middle
        else:
            high = middle
    return low


def _upwards(node: _Node[V]) -> Iterator[_Node[V]]:
    """Yield a node, its parent and so on to the root."""
    place: _Node[V] | None = node
    while place is not None:
        yield place
        place = place.parent


def _split(node: _Node[V], end: int) -> _Node[V]:
    """Return a new node in the middle of the run of `node`, so many tokens from the root."""
    cut = end - node.end  # counted from the end of the run
    upper = _Node(node.run[:cut], end, node.parent, {node.run[cut]: node}, cuttable=node.cuttable)
    if node.parent is not None:
        node.parent.children[upper.run[0]] = upper
    node.parent, node.run = upper, node.run[cut:]
    return upper


def _prune(node: _Node[V]) -> None:
    """Take away what a node without an entry no longer needs: itself, and its parent if that only led to two."""
    parent = node.parent
    if parent is not None and not node.children:
        del parent.children[node.run[0]]
        node = parent
    if node.parent is not None and node.entry is None and len(node.children) == 1:
        _join(node, node.parent)


def _join(node: _Node[V], parent: _Node[V]) -> None:
    """Let the only child of a node take its place below `parent`."""
    (child,) = node.children.values()
    child.run, child.parent = node.run + child.run, parent
    parent.children[child.run[0]] = child
