"""A batch of rows with settings of all kinds: each gets what it would get alone, in whatever company."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.providers.local.logprobs import ScoredToken
from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx.adjusting import Masks
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.choosing import BatchSampler
from abstractllm.providers.mlx.worker import mlx_thread

mx = import_mlx()

T = TypeVar("T")
VOCABULARY = 150
TOKENS = st.integers(0, VOCABULARY - 1)


def on_thread(call: Callable[[], T]) -> T:
    return mlx_thread().run(call).result()


@dataclass(eq=False)
class Row:
    """A row, and what has come out for it."""

    sampling: Sampling
    prompt: list[int] = field(default_factory=lambda: [1, 2, 2])
    generated: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    scored: list[ScoredToken | None] = field(default_factory=list)

    def logits(self) -> np.ndarray:
        """What the model says: it depends on what the row has had so far."""
        had = [*self.prompt, *self.generated, *self.tokens]
        return np.random.default_rng(had).normal(size=VOCABULARY).astype(np.float32) * 2


def step(sampler: BatchSampler, rows: Sequence[Row], masks: Masks | None = None) -> None:
    """Choose a token for each row, with its own logits."""
    chosen = sampler.choose(mx.array(np.stack([row.logits() for row in rows])), masks)
    for i, (row, token) in enumerate(zip(rows, chosen.tokens.tolist(), strict=True)):
        row.tokens.append(token)
        row.scored.append(chosen.scored(i))


def run_alone(row: Row, steps: int) -> Row:
    """The same row without company."""
    alone = replace(row, tokens=[], scored=[])
    sampler = BatchSampler()
    sampler.join([alone])
    for _ in range(steps):
        step(sampler, [alone])
    return alone


SETTINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.7, 1.5]),
    top_k=st.none() | st.integers(1, 200),
    top_p=st.none() | st.floats(0.1, 0.99),
    min_p=st.none() | st.floats(0.001, 0.5),
    seed=st.integers(-(2**63), 2**64 - 1),
    repetition_penalty=st.sampled_from([1.0, 0.8, 1.3]),
    presence_penalty=st.sampled_from([0.0, -2.0, 1.0]),
    frequency_penalty=st.sampled_from([0.0, 0.5, 2.0]),
    logit_bias=st.dictionaries(TOKENS, st.floats(-100, 100), max_size=3).map(lambda bias: tuple(bias.items())),
    logprobs=st.none() | st.integers(0, 5),
)
ROWS = st.builds(Row, SETTINGS, st.lists(TOKENS, min_size=1, max_size=5), st.lists(TOKENS, max_size=3))
VISITS = st.tuples(st.lists(ROWS, max_size=3), st.integers(0, 3), st.randoms(use_true_random=False))
"""Rows that join, steps after that, and who then leaves and in what order the others go on."""


@settings(max_examples=60, deadline=None)
@given(st.lists(VISITS, min_size=1, max_size=4))
def test_whoever_comes_and_goes_each_row_gets_what_it_would_get_alone(script):
    def play() -> None:
        sampler, rows, everyone = BatchSampler(), [], []
        for joining, steps, random in script:
            sampler.join(joining)
            rows += joining
            everyone += joining
            for _ in range(steps if rows else 0):
                step(sampler, rows)
            kept = random.sample(range(len(rows)), random.randint(0, len(rows)))
            sampler.keep(kept)
            rows = [rows[i] for i in kept]
        for row in everyone:
            alone = run_alone(row, len(row.tokens))
            assert alone.tokens == row.tokens
            assert alone.scored == row.scored

    on_thread(play)


@settings(max_examples=30, deadline=None)
@given(ROWS, st.integers(1, 4), st.integers(1, 4))
def test_a_replayed_row_goes_on_as_it_would_have(row, before, after):
    def play() -> None:
        whole = run_alone(row, before + after)
        replayed = replace(row, generated=[*row.generated, *whole.tokens[:before]])
        assert run_alone(replayed, after).tokens == whole.tokens[before:]

    on_thread(play)


def test_greedy_rows_take_the_likeliest_whatever_their_filters():
    rows = [Row(Sampling()), Row(Sampling(0.0, top_k=3, top_p=0.5, seed=1)), Row(Sampling(1.0, seed=2))]

    def play() -> None:
        sampler = BatchSampler()
        sampler.join(rows)
        step(sampler, rows)

    on_thread(play)
    assert [row.tokens for row in rows[:2]] == [[row.logits().argmax()] for row in map(started, rows[:2])]


def started(row: Row) -> Row:
    """The row as it was before its first step."""
    return replace(row, tokens=[])


def many(sampling: Callable[[int], Sampling], rows: int = 3000) -> list[int]:
    """The first tokens of many rows with the same logits."""

    def play() -> list[int]:
        sampler = BatchSampler()
        sampler.join([Row(sampling(i)) for i in range(rows)])
        return list(sampler.choose(mx.broadcast_to(mx.array(FLAT), (rows, len(FLAT)))).tokens.tolist())

    return on_thread(play)


FLAT = np.log(np.array([4, 3, 2, 1], dtype=np.float32))


@pytest.mark.parametrize("sampling", [lambda i: Sampling(1.0, seed=i), lambda i: Sampling(1.0)], ids=["seeded", "not"])
def test_rows_are_independent_of_each_other(sampling):
    tokens = np.array(many(sampling))
    for distance in (1, 2, 7):
        pairs = np.bincount(tokens[distance:] * 4 + tokens[:-distance], minlength=16)
        shares = np.outer([0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]).ravel() * pairs.sum()
        assert ((pairs - shares) ** 2 / shares).sum() < 50  # 15 degrees of freedom


def test_rows_without_a_seed_differ_each_time():
    assert many(lambda i: Sampling(1.0), rows=100) != many(lambda i: Sampling(1.0), rows=100)


def test_positions_of_one_seed_are_independent_of_each_other():
    def play() -> list[int]:
        sampler = BatchSampler()
        sampler.join([Row(Sampling(1.0, seed=7))])
        return [sampler.choose(mx.array(FLAT[None])).tokens.item() for _ in range(1500)]

    tokens = np.array(on_thread(play))
    pairs = np.bincount(tokens[1:] * 4 + tokens[:-1], minlength=16)
    shares = np.outer([0.4, 0.3, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]).ravel() * pairs.sum()
    assert ((pairs - shares) ** 2 / shares).sum() < 50


def bits(allowed: Sequence[int], words: int) -> list[int]:
    """A mask as llguidance writes it."""
    return [sum(1 << (token - 32 * word) for token in allowed if token // 32 == word) for word in range(words)]


@pytest.mark.parametrize("words", [1, 5, 6])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_masked_rows_get_allowed_tokens_only_and_the_others_what_they_would_get(temperature, words):
    allowed = [0, 5, 31] if words == 1 else [3, 31, 32, 64, 149]
    rows = [Row(Sampling(temperature, seed=i, top_k=2 if i == 1 else None)) for i in range(4)]

    def play() -> None:
        sampler = BatchSampler()
        sampler.join(rows)
        for _ in range(8):
            step(sampler, rows, Masks([3, 1], mx.array([bits(allowed, words)] * 2, dtype=mx.uint32)))
        for row in (rows[0], rows[2]):
            assert run_alone(row, 8).tokens == row.tokens

    on_thread(play)
    for row in (rows[1], rows[3]):
        assert set(row.tokens) <= set(allowed)
        assert len(set(row.tokens)) > 1
    if temperature == 0:
        first = started(rows[1]).logits()
        assert rows[1].tokens[0] == max(allowed, key=lambda token: first[token])


def test_of_one_allowed_token_nothing_can_take_a_row_away():
    row = Row(Sampling(1.0, top_p=0.5, logit_bias=((9, -100.0),), presence_penalty=2.0))

    def play() -> None:
        sampler = BatchSampler()
        sampler.join([row])
        for _ in range(5):
            step(sampler, [row], Masks([0], mx.array([bits([9], 5)], dtype=mx.uint32)))

    on_thread(play)
    assert row.tokens == [9] * 5


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(1.0, seed=1), Sampling(1.0, seed=1, top_p=0.9)], ids=str)
def test_a_row_of_nonsense_leaves_the_others_alone(sampling):
    wishes = replace(sampling, presence_penalty=1.0, repetition_penalty=1.2, logprobs=2)
    rows = [Row(wishes), Row(wishes, prompt=[5])]

    def play() -> None:
        sampler = BatchSampler()
        sampler.join(rows)
        for _ in range(3):
            logits = np.stack([row.logits() for row in rows])
            logits[0, 3:] = np.nan
            tokens = sampler.choose(mx.array(logits)).tokens.tolist()
            rows[1].tokens.append(tokens[1])
            assert 0 <= tokens[0] < VOCABULARY
        assert run_alone(rows[1], 3).tokens == rows[1].tokens

    on_thread(play)


def test_the_models_logits_stay_as_they_are():
    rows = [Row(Sampling(presence_penalty=1.0), generated=[3]), Row(Sampling(logit_bias=((2, 9.0),))), Row(Sampling())]

    def play() -> Any:
        sampler = BatchSampler()
        sampler.join(rows)
        logits = mx.array(np.stack([row.logits() for row in rows]))
        before = np.array(logits)
        sampler.choose(logits, Masks([2], mx.array([bits([1], 5)], dtype=mx.uint32)))
        return before, np.array(logits)

    np.testing.assert_array_equal(*on_thread(play))


def test_steps_can_be_started_before_the_tokens_of_the_last_one_are_read():
    rows = [Row(Sampling(1.0, seed=i, presence_penalty=0.5, logprobs=1), prompt=[i]) for i in range(3)]

    def play() -> tuple[list[int], list[int]]:
        logits = [mx.array(np.random.default_rng(i).normal(size=(3, VOCABULARY))) for i in range(4)]
        lazy, eager = BatchSampler(), BatchSampler()
        lazy.join(rows)
        eager.join(rows)
        late = [lazy.choose(part) for part in logits]
        early = [eager.choose(part).tokens.tolist() for part in logits]
        return [chosen.tokens.tolist() for chosen in late], early

    late, early = on_thread(play)
    assert late == early


@pytest.mark.parametrize("count", [0, 1, 5])
def test_log_probabilities_are_those_of_the_raw_model(count):
    wishes = Sampling(0.7, top_k=3, seed=4, presence_penalty=2.0, logit_bias=((8, 20.0),), logprobs=count)
    row = run_on_thread(Row(wishes), 4)
    for i, scored in enumerate(row.scored):
        assert scored is not None
        raw = replace(row, tokens=row.tokens[:i]).logits().astype(np.float64)
        logprobs = raw - raw.max() - np.log(np.exp(raw - raw.max()).sum())
        best = np.argsort(-raw, kind="stable")[:count]
        assert scored.token == row.tokens[i]
        assert [token for token, _ in scored.top] == best.tolist()
        found = [scored.logprob, *(value for _, value in scored.top)]
        np.testing.assert_allclose(found, logprobs[[row.tokens[i], *best]], atol=2e-6)


def run_on_thread(row: Row, steps: int) -> Row:
    return on_thread(lambda: run_alone(row, steps))


def test_log_probabilities_of_all_tokens_sum_up_to_one():
    (scored,) = run_on_thread(Row(Sampling(logprobs=VOCABULARY + 7)), 1).scored
    assert scored is not None
    assert len(scored.top) == VOCABULARY
    assert sum(np.exp(value) for _, value in scored.top) == pytest.approx(1, abs=1e-5)
    assert [value for _, value in scored.top] == sorted((value for _, value in scored.top), reverse=True)


def test_rows_can_be_numbered_anew_before_their_log_probabilities_are_read():
    rows = [Row(Sampling(seed=i, logprobs=i)) if i else Row(Sampling()) for i in range(4)]

    def play() -> list[ScoredToken | None]:
        sampler = BatchSampler()
        sampler.join(rows)
        chosen = sampler.choose(mx.array(np.stack([row.logits() for row in rows])))
        return [chosen.renumbered([3, 0, 2]).scored(i) for i in range(4)]

    found = on_thread(play)
    assert [None if one is None else len(one.top) for one in found] == [3, None, 2, None]
