"""The tree of computed prefixes, against a list that is searched from end to end."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from random import Random
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from abstractllm.engine import prefix
from abstractllm.engine.prefix import Match, PrefixTree

# The binary digits after the first are the tokens: few enough sequences that most share a beginning.
TOKENS = st.integers(1, 2**7 - 1).map(
    lambda number: tuple(2**64 - 1 if digit == "1" else 7 for digit in f"{number:b}"[1:])
)


@dataclass(frozen=True)
class Item:
    """What was stored. Its number is its value, so that each can be told from all others."""

    number: int
    tokens: tuple[int, ...]
    size: int
    trimmable: bool

    def serves(self, tokens: tuple[int, ...]) -> int:
        """Return how many of some tokens this can stand for."""
        common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(self.tokens, tokens, strict=False)))
        return common if self.trimmable or common == len(self.tokens) else 0

    def covers(self, tokens: tuple[int, ...]) -> bool:
        return self.trimmable and len(self.tokens) > len(tokens) and self.serves(tokens) == len(tokens)


class AgainstAList(RuleBasedStateMachine):
    """Whatever is done, the tree holds and finds what a list in the order of use would."""

    @initialize(capacity=st.integers(5, 60))
    def new(self, capacity: int) -> None:
        self.heard: list[tuple[int, bool]] = []
        self.tree: PrefixTree[int] = PrefixTree(capacity, lambda value, covered: self.heard.append((value, covered)))
        self.capacity = capacity
        self.items: list[Item] = []  # the least recently used one comes first
        self.stored = 0

    @rule(new=st.lists(st.tuples(TOKENS, st.integers(0, 6), st.booleans()), min_size=3, max_size=8))
    def store_some(self, new: list[tuple[tuple[int, ...], int, bool]]) -> None:
        for tokens, size, trimmable in new:
            self.store(tokens, size, trimmable)

    def store(self, tokens: tuple[int, ...], size: int, trimmable: bool) -> None:
        self.stored += 1
        kept = self.tree.store(tokens, self.stored, size, trimmable=trimmable)
        assert kept == (size <= self.capacity and tokens != ())
        if kept:
            self.put(Item(self.stored, tokens, size, trimmable))

    def put(self, new: Item) -> None:
        covers = [item for item in self.items if item.covers(new.tokens)]
        if len(covers) == 1:
            self.use(covers[0])
        elif covers:
            self.find(new.tokens, None)  # tells which one counts as used, for that is left open
        else:
            ways = [item for item in self.items if item.tokens == new.tokens or new.covers(item.tokens)]
            self.items = [*(item for item in self.items if item not in ways), new]
            assert sorted(self.heard[: len(ways)]) == sorted((item.number, True) for item in ways)
            del self.heard[: len(ways)]
        while sum(item.size for item in self.items) > self.capacity:
            assert self.heard.pop(0) == (self.items.pop(0).number, False)
        assert not self.heard

    def use(self, item: Item) -> None:
        self.items.remove(item)
        self.items.append(item)

    @precondition(lambda self: self.items)
    @rule(wanted=st.lists(st.tuples(TOKENS, st.none() | st.integers(-1, 6)), min_size=3, max_size=8))
    def find_some(self, wanted: list[tuple[tuple[int, ...], int | None]]) -> None:
        for tokens, longest in wanted:
            self.find(tokens, longest)

    def find(self, tokens: tuple[int, ...], longest: int | None) -> None:
        wanted = tokens if longest is None else tokens[: max(longest, 0)]
        usable = max((item.serves(wanted) for item in self.items), default=0)
        found = self.tree.find(tokens, longest=longest)
        if not usable:
            assert found is None
            return
        (chosen,) = [item for item in self.items if item.serves(wanted) == usable and item.number == found.value]
        assert found == Match(chosen.number, usable, len(chosen.tokens))
        self.use(chosen)

    @rule(size=st.integers(-1, 8))
    def evict(self, size: int) -> None:
        freed, gone = 0, []
        while freed < size and self.items:
            freed += self.items[0].size
            gone.append((self.items.pop(0).number, False))
        assert self.tree.evict(size) == freed
        assert self.heard == gone
        self.heard.clear()

    @rule(unwanted=st.lists(TOKENS, min_size=3, max_size=8))
    def drop_some(self, unwanted: list[tuple[int, ...]]) -> None:
        for tokens in unwanted:
            self.tree.drop(tokens)
            self.items = [item for item in self.items if item.tokens != tokens]
        assert not self.heard

    @precondition(lambda self: len(self.items) > 5)
    @rule()
    def clear(self) -> None:
        self.tree.clear()
        self.items.clear()
        assert not self.heard

    @invariant()
    def sizes_agree(self) -> None:
        assert len(self.tree) == len(self.items)
        assert self.tree.nbytes == sum(item.size for item in self.items) <= self.capacity

    def teardown(self) -> None:
        for item in list(self.items):
            self.find(item.tokens, None)


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def test_nothing_is_found_in_an_empty_tree():
    assert PrefixTree(10).find([1, 2]) is None


def test_a_value_that_can_be_cut_serves_as_far_as_it_agrees():
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2, 3, 4], "v", 1, trimmable=True)
    assert tree.find([1, 2, 9, 9, 9]) == Match("v", usable=2, length=4)
    assert tree.find([1, 2]) == Match("v", usable=2, length=4)
    assert tree.find([9]) is None


def test_a_value_that_cannot_be_cut_serves_only_as_a_whole():
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2], "v", 1, trimmable=False)
    assert tree.find([1, 2, 3]) == Match("v", usable=2, length=2)
    assert tree.find([1, 3]) is None
    assert tree.find([1]) is None


@pytest.mark.parametrize(("trimmable", "expected"), [(True, Match("v", 2, 3)), (False, None)])
def test_one_token_can_be_left_to_compute(trimmable, expected):
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2, 3], "v", 1, trimmable=trimmable)
    assert tree.find([1, 2, 3], longest=2) == expected


def test_the_longest_of_several_wins_whatever_its_kind():
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2], "short", 1, trimmable=False)
    tree.store([1, 2, 3, 4], "whole", 1, trimmable=False)
    tree.store([1, 2, 3, 9], "cut", 1, trimmable=True)
    assert tree.find([1, 2, 3, 4, 5]) == Match("whole", 4, 4)
    assert tree.find([1, 2, 3, 5]) == Match("cut", 3, 4)


def test_where_nothing_serves_at_the_end_of_the_path_the_next_above_does():
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2], "whole", 1, trimmable=False)
    tree.store([1, 2, 3, 4, 5], "far", 1, trimmable=False)
    assert tree.find([1, 2, 3, 4, 9]) == Match("whole", 2, 2)
    tree.store([1, 2, 3, 7], "cut", 1, trimmable=True)
    assert tree.find([1, 2, 3, 4, 9]) == Match("cut", 3, 4)


def test_when_a_value_is_gone_its_neighbour_serves():
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2], "old", 1, trimmable=True)
    tree.store([1, 3], "new", 1, trimmable=True)
    tree.store([1, 4], "whole", 1, trimmable=False)
    tree.find([1, 2])
    tree.evict(1)
    assert tree.find([1, 9]) == Match("old", 1, 2)


def test_a_longer_value_that_can_be_cut_takes_the_place_of_shorter_ones():
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1], "first", 1, trimmable=True)
    tree.store([1, 2, 3], "other", 1, trimmable=True)
    tree.store([1, 2, 4], "second", 1, trimmable=False)
    tree.store([1, 2, 4, 5], "third", 1, trimmable=True)
    assert (len(tree), tree.nbytes) == (2, 2)
    assert tree.find([1, 2, 3]) == Match("other", 3, 3)
    assert tree.find([1, 2, 4]) == Match("third", 3, 4)


def test_a_longer_value_that_cannot_be_cut_leaves_shorter_ones():
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2], "first", 1, trimmable=True)
    tree.store([1, 2, 3], "second", 1, trimmable=False)
    assert tree.find([1, 2, 4]) == Match("first", 2, 2)
    assert len(tree) == 2


def test_a_covered_value_is_not_kept_and_renews_the_one_that_covers_it():
    tree: PrefixTree[str] = PrefixTree(2)
    tree.store([1, 2, 3], "long", 1, trimmable=True)
    tree.store([5], "other", 1, trimmable=True)
    assert tree.store([1, 2], "short", 1, trimmable=True)
    tree.store([6], "new", 1, trimmable=True)
    assert tree.find([5]) is None
    assert tree.find([1, 2]) == Match("long", 2, 3)


def test_the_same_tokens_again_replace_the_value():
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2], "old", 4, trimmable=True)
    tree.store([1, 2], "new", 3, trimmable=False)
    assert (len(tree), tree.nbytes) == (1, 3)
    assert tree.find([1, 2]) == Match("new", 2, 2)
    assert tree.find([1]) is None


@pytest.mark.parametrize(("tokens", "size"), [([1, 2], 11), ([], 1)])
def test_what_cannot_be_kept_changes_nothing(tokens, size):
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store([1, 2], "old", 10, trimmable=True)
    assert not tree.store(tokens, "new", size, trimmable=True)
    assert tree.find([1, 2]) == Match("old", 2, 2)
    assert tree.nbytes == 10


def test_what_was_found_stays_longer_than_what_was_stored_after_it():
    tree: PrefixTree[str] = PrefixTree(2)
    tree.store([1], "a", 1, trimmable=True)
    tree.store([2], "b", 1, trimmable=True)
    tree.find([1])
    tree.store([3], "c", 1, trimmable=True)
    assert tree.find([2]) is None
    assert tree.find([1]) == Match("a", 1, 1)


def test_memory_is_freed_on_demand_least_recently_used_first():
    tree: PrefixTree[str] = PrefixTree(100)
    for token, size in enumerate([10, 20, 30]):
        tree.store([token], str(size), size, trimmable=True)
    assert tree.evict(11) == 30
    assert (len(tree), tree.nbytes) == (1, 30)
    assert tree.evict(0) == 0
    assert tree.evict(31) == 30


@pytest.mark.parametrize("token", [-1, 2**64])
def test_a_number_that_is_no_token_is_an_error(token):
    with pytest.raises(OverflowError):
        PrefixTree(10).store([token], "v", 1, trimmable=True)


class Value:
    """Something that tells when it is released."""


GIVE_UP: dict[str, Callable[[PrefixTree[Value]], object]] = {
    "evicted": lambda tree: tree.evict(1),
    "cleared": lambda tree: tree.clear(),
    "replaced": lambda tree: tree.store([1, 2, 3], Value(), 1, trimmable=True),
    "covered": lambda tree: tree.store([1, 2, 3, 4], Value(), 1, trimmable=True),
}


@pytest.mark.parametrize("give_up", GIVE_UP.values(), ids=GIVE_UP.keys())
def test_a_value_that_is_given_up_is_released_at_once(give_up):
    tree: PrefixTree[Value] = PrefixTree(10)
    value = Value()
    watched = weakref.ref(value)
    tree.store([1, 2, 3], value, 1, trimmable=True)
    tree.store([1, 2, 5], Value(), 1, trimmable=False)
    del value
    gc.disable()
    try:
        give_up(tree)
        assert watched() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("trimmable", [True, False])
def test_branches_that_are_gone_leave_no_memory_behind(trimmable):
    """A tree that kept a node for each would hold 1,000 of them, some 300 bytes each."""
    tree: PrefixTree[int] = PrefixTree(10)
    trunk = list(range(1000))
    tree.store(trunk, 0, 1, trimmable=False)
    tracemalloc.start()
    try:
        for cut in range(1000):
            tree.find(trunk)
            tree.store([*trunk[:cut], 9999], cut, 9, trimmable=trimmable)
        tree.evict(9)
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


@contextmanager
def counted_lines() -> Iterator[Callable[[], int]]:
    """Count the lines of the module that run in a block."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        if frame.f_code.co_filename != prefix.__file__:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lambda: count
    finally:
        sys.settrace(before)


def test_a_long_prompt_takes_steps_by_its_branches_not_by_its_tokens():
    length, branches = 100_000, 200
    random = Random(0)
    prompt = [random.randrange(150_000) for _ in range(length)]
    cuts = sorted(random.sample(range(1, length), branches))
    tree: PrefixTree[int] = PrefixTree(branches + 1)
    for cut in cuts:
        tree.store([*prompt[:cut], 200_000, 200_001], cut, 1, trimmable=True)
    with counted_lines() as lines:
        assert tree.find(prompt, longest=length - 1) == Match(cuts[-1], cuts[-1], cuts[-1] + 2)
        assert tree.store(prompt, 0, 1, trimmable=True)
        assert tree.find(prompt) == Match(0, length, length)
        assert tree.find([*prompt[: length // 2], 200_002]).usable == length // 2
        assert 0 < lines() < 100 * branches


@pytest.mark.parametrize("common", [1, 33_333, 99_999])
def test_the_place_where_two_long_prompts_part_is_found_in_few_steps(common):
    prompt = [5] * 100_000
    tree: PrefixTree[str] = PrefixTree(10)
    tree.store(prompt, "v", 1, trimmable=True)
    with counted_lines() as lines:
        assert tree.find([*prompt[:common], *[6] * 1000]) == Match("v", common, 100_000)
        assert 0 < lines() < 200


def test_a_conversation_of_many_turns_keeps_one_value():
    turn = list(range(100))
    tree: PrefixTree[int] = PrefixTree(1000)
    for turns in range(1, 301):
        assert tree.store(turn * turns, turns, 1, trimmable=True)
    assert len(tree) == 1
    assert tree.find(turn * 300) == Match(300, 30_000, 30_000)


def test_states_that_cannot_be_cut_may_form_a_long_chain():
    """One state per token, more than Python could recurse through; the longest first, which is quick to build."""
    depth = 2 * sys.getrecursionlimit()
    tree: PrefixTree[int] = PrefixTree(depth)
    tokens = [1] * depth
    for length in range(depth, 0, -1):
        tree.store(tokens[:length], length, 1, trimmable=False)
    assert tree.find([*tokens[:-1], 2]) == Match(depth - 1, depth - 1, depth - 1)
    tree.store(tokens, 0, 1, trimmable=False)
    assert tree.evict(depth // 2) == depth // 2
    tree.store([*tokens, 1], 1, 1, trimmable=True)
    assert (len(tree), tree.find(tokens)) == (1, Match(1, depth, depth + 1))
    tree.clear()
    assert (len(tree), tree.nbytes, tree.find(tokens)) == (0, 0, None)
