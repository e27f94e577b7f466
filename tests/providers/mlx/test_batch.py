"""The batch of one model: joining, leaving, failing alone and failing together."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from abstractllm.errors import GenerationError
from abstractllm.providers.mlx.batch import BatchEngine
from abstractllm.providers.mlx.loading import load_weights
from abstractllm.providers.mlx.worker import mlx_thread


class Recorder:
    """A row that writes down what happens to it."""

    def __init__(self, prompt: list[int], max_tokens: int = 4, sampler: Any = None, full_at: int | None = None) -> None:
        self.prompt = prompt
        self.max_tokens = max_tokens
        self.sampler = sampler
        self.cancelled = False
        self.tokens: list[int] = []
        self.ends: list[str | Exception] = []
        self._full_at = full_at

    def progress(self, done: int, total: int) -> None:
        assert 0 <= done <= total

    def token(self, token: int) -> bool:
        self.tokens.append(token)
        return len(self.tokens) == self._full_at

    def end(self, reason: Literal["stop", "length"]) -> None:
        self.ends.append(reason)

    def fail(self, error: Exception) -> None:
        self.ends.append(error)


class Clumsy(Recorder):
    """A row whose reading fails."""

    def token(self, token: int) -> bool:
        raise ValueError("cannot read this")


class Bench:
    """An engine that is stepped by hand, on the MLX thread."""

    def __init__(self, folder: Path) -> None:
        self._thread = mlx_thread()
        self.engine = self.on_thread(lambda: BatchEngine(load_weights(folder, "float32"), []))

    def on_thread(self, call: Any) -> Any:
        return self._thread.run(call).result()

    def add(self, *rows: Recorder) -> None:
        for row in rows:
            self.on_thread(lambda row=row: self.engine.add(row))

    def run(self, steps: int = 10_000) -> None:
        for _ in range(steps):
            if not self.engine.busy:
                return
            self.on_thread(self.engine.step)


@pytest.fixture(scope="module")
def bench(tiny_model: Path) -> Bench:
    return Bench(tiny_model)


def test_rows_run_to_their_own_lengths(bench: Bench) -> None:
    rows = [Recorder([5, 6, 7], max_tokens=length) for length in (1, 3, 9)]
    bench.add(*rows)
    bench.run()

    assert [len(row.tokens) for row in rows] == [1, 3, 9]
    assert [row.ends for row in rows] == [["length"]] * 3


def test_a_row_that_joins_later_gets_the_tokens_it_would_get_alone(bench: Bench) -> None:
    alone = Recorder([9, 8, 7, 6], max_tokens=12)
    bench.add(alone)
    bench.run()
    first, late = Recorder([1, 2], max_tokens=20), Recorder([9, 8, 7, 6], max_tokens=12)
    bench.add(first)
    bench.run(steps=6)
    bench.add(late)
    bench.run()

    assert late.tokens == alone.tokens
    assert len(first.tokens) == 20


def test_a_row_that_wants_no_more_leaves_the_others_alone(bench: Bench) -> None:
    alone = Recorder([4, 4, 4], max_tokens=10)
    bench.add(alone)
    bench.run()
    sated, other = Recorder([1, 2, 3], max_tokens=10, full_at=2), Recorder([4, 4, 4], max_tokens=10)
    bench.add(sated, other)
    bench.run()

    assert len(sated.tokens) == 2
    assert sated.ends == ["stop"]
    assert other.tokens == alone.tokens


def test_a_row_whose_reading_fails_fails_alone(bench: Bench) -> None:
    clumsy, other = Clumsy([1, 2, 3]), Recorder([4, 5], max_tokens=6)
    bench.add(clumsy, other)
    bench.run()

    (error,) = clumsy.ends
    assert isinstance(error, GenerationError)
    assert isinstance(error.__cause__, ValueError)
    assert other.ends == ["length"]


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
def test_dropping_a_row_at_any_stage_frees_it(bench: Bench, steps: int) -> None:
    row, other = Recorder([3] * 700, max_tokens=50), Recorder([4, 5], max_tokens=8)
    bench.add(row, other)
    bench.run(steps=steps)
    bench.on_thread(lambda: bench.engine.drop(row))
    bench.on_thread(lambda: bench.engine.drop(row))
    bench.run()

    assert [type(end) for end in row.ends] == [GenerationError]
    assert other.ends == ["length"]
    assert len(other.tokens) == 8


def test_dropping_the_last_row_leaves_an_idle_engine(bench: Bench) -> None:
    row = Recorder([1, 2, 3], max_tokens=50)
    bench.add(row)
    bench.run(steps=3)
    bench.on_thread(lambda: bench.engine.drop(row))

    assert not bench.engine.busy


def test_a_cancelled_row_never_starts(bench: Bench) -> None:
    row = Recorder([1, 2, 3])
    row.cancelled = True
    bench.add(row)

    assert [type(end) for end in row.ends] == [GenerationError]
    assert not bench.engine.busy


def test_an_empty_prompt_fails_alone(bench: Bench) -> None:
    row = Recorder([])
    bench.add(row)

    assert [type(end) for end in row.ends] == [GenerationError]


def test_a_failure_of_the_batch_ends_every_request_and_the_next_one_works(bench: Bench) -> None:
    def broken(logprobs: Any) -> Any:
        raise RuntimeError("sampler is broken")

    rows = [Recorder([1, 2, 3], max_tokens=50), Recorder([4, 5], sampler=broken)]
    bench.add(*rows)
    bench.run(steps=20)

    assert [type(row.ends[-1]) for row in rows] == [GenerationError, GenerationError]
    assert all("sampler is broken" in str(row.ends[-1]) for row in rows)
    after = Recorder([1, 2, 3])
    bench.add(after)
    bench.run()
    assert after.ends == ["length"]


def test_an_idle_engine_waits_for_those_on_their_way_but_not_for_long(bench: Bench) -> None:
    row = Recorder([1, 2, 3])
    bench.engine.expect(1)
    bench.add(row)
    waiting = bench.on_thread(lambda: bench.engine.patience)
    bench.on_thread(bench.engine.step)
    after_first_step = bench.on_thread(lambda: bench.engine.patience)
    bench.engine.expect(-1)
    bench.run()

    assert 0 <= waiting <= 0.01
    assert after_first_step == 0
