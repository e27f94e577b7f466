"""Penalties, bias and masks against plain float64 arithmetic, with counts that are kept on the device."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx.adjusting import Adjustments, Masks
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.worker import mlx_thread

mx = import_mlx()

T = TypeVar("T")
VOCABULARY = 70
TOKENS = st.integers(0, VOCABULARY - 1)


def on_thread(call: Callable[[], T]) -> T:
    return mlx_thread().run(call).result()


@dataclass(eq=False)
class Row:
    sampling: Sampling
    prompt: list[int] = field(default_factory=lambda: [0])
    generated: list[int] = field(default_factory=list)
    since: list[int] = field(default_factory=list)
    allowed: frozenset[int] | None = None


def reference(logits: np.ndarray, row: Row) -> np.ndarray:
    """What one row's scores should be, token by token."""
    wishes, said = row.sampling, Counter([*row.generated, *row.since])
    scores = logits.astype(np.float64)
    for token in {*row.prompt, *said}:
        penalty = wishes.repetition_penalty
        scores[token] = scores[token] / penalty if scores[token] > 0 else scores[token] * penalty
    for token, times in said.items():
        scores[token] -= wishes.presence_penalty + times * wishes.frequency_penalty
    for token, bias in wishes.logit_bias:
        scores[token] += bias
    if row.allowed is not None:
        scores[[token for token in range(len(scores)) if token not in row.allowed]] = -np.inf
    return scores


def masks_of(rows: Sequence[Row]) -> Masks | None:
    constrained = [i for i, row in enumerate(rows) if row.allowed is not None]
    if not constrained:
        return None
    flags = np.zeros((len(constrained), 96), dtype=np.uint8)
    for line, i in zip(flags, constrained, strict=True):
        line[list(rows[i].allowed or ())] = 1
    return Masks(constrained, mx.array(np.packbits(flags, axis=-1, bitorder="little").view("<u4")))


WISHES = st.builds(
    Sampling,
    repetition_penalty=st.just(1.0) | st.floats(0.1, 10),
    presence_penalty=st.just(0.0) | st.floats(-2, 2),
    frequency_penalty=st.just(0.0) | st.floats(-2, 2),
    logit_bias=st.dictionaries(TOKENS, st.floats(-100, 100), max_size=4).map(lambda bias: tuple(bias.items())),
)
ROWS = st.builds(
    Row,
    WISHES,
    prompt=st.lists(TOKENS, min_size=1, max_size=8),
    generated=st.lists(TOKENS, max_size=4),
    allowed=st.none() | st.frozensets(TOKENS, min_size=1, max_size=60),
)
ACTS = st.tuples(st.lists(ROWS, max_size=3), st.integers(0, 3), st.randoms(use_true_random=False))
"""Rows that join, how many tokens come then, and who leaves and in what order the others go on."""


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTS, min_size=1, max_size=4), st.sampled_from(["float32", "float16", "bfloat16"]))
def test_scores_are_right_whoever_joins_leaves_or_changes_places(script, dtype):
    def play() -> None:
        adjustments, rows = Adjustments(), []
        for joining, tokens, random in script:
            adjustments.join(joining)
            rows += joining
            for _ in range(tokens if rows else 0):
                check(adjustments, rows, random.getrandbits(32), dtype)
                new = [random.randrange(VOCABULARY) for _ in rows]
                adjustments.count(mx.array(new, dtype=mx.uint32))
                for row, token in zip(rows, new, strict=True):
                    row.since.append(token)
            kept = random.sample(range(len(rows)), random.randint(0, len(rows)))
            adjustments.keep(kept)
            rows = [rows[i] for i in kept]
        for row in rows:
            row.since.clear()

    on_thread(play)


def check(adjustments: Adjustments, rows: Sequence[Row], seed: int, dtype: str) -> None:
    """Compare the scores of all rows, for logits of a seed."""
    raw = mx.array(np.random.default_rng(seed).normal(size=(len(rows), VOCABULARY)) * 5).astype(getattr(mx, dtype))
    logits = np.array(raw.astype(mx.float32))
    found = np.array(adjustments.apply(raw, masks_of(rows)).astype(mx.float32))
    for line, row, plain in zip(found, rows, logits, strict=True):
        np.testing.assert_allclose(line, reference(plain, row), rtol=1e-5, atol=1e-4)


def test_rows_that_want_nothing_get_the_models_own_array():
    def play() -> bool:
        adjustments = Adjustments()
        adjustments.join([Row(Sampling()), Row(Sampling(0.7, top_p=0.9, logprobs=3))])
        logits = mx.zeros((2, 5), dtype=mx.float16)
        return adjustments.apply(logits, None) is logits

    assert on_thread(play)


@pytest.mark.parametrize(("penalty", "expected"), [(2.0, [2.0, -4.0, 0.0, 4.0]), (0.5, [8.0, -1.0, 0.0, 4.0])])
def test_the_repetition_penalty_divides_what_is_positive_and_multiplies_what_is_not(penalty, expected):
    assert scores_of(Sampling(repetition_penalty=penalty), [4.0, -2.0, 0.0, 4.0], prompt=[0, 1, 2]) == expected


def test_presence_counts_once_and_frequency_each_time_and_neither_counts_the_prompt():
    wishes = Sampling(presence_penalty=0.5, frequency_penalty=0.25)
    assert scores_of(wishes, [1.0, 1.0, 1.0], prompt=[0, 0], generated=[1, 1, 2]) == [1.0, 0.0, 0.25]


def test_the_bias_comes_after_the_penalties():
    wishes = Sampling(repetition_penalty=2.0, logit_bias=((0, 3.0),))
    assert scores_of(wishes, [-4.0, 1.0], prompt=[0]) == [-5.0, 1.0]


def test_a_forbidden_token_stays_forbidden_whatever_its_bias():
    wishes = Sampling(logit_bias=((0, 100.0),))
    assert scores_of(wishes, [1.0, 2.0], allowed=frozenset({1})) == [-np.inf, 2.0]


def scores_of(wishes: Sampling, logits: list[float], **history: object) -> list[float]:
    """The scores of one row."""

    def play() -> list[float]:
        row = Row(wishes, **history)
        adjustments = Adjustments()
        adjustments.join([row])
        return list(adjustments.apply(mx.array([logits]), masks_of([row])).tolist()[0])

    return on_thread(play)
