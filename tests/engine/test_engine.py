"""The engine's policy with a scripted runner: who runs when, and that nobody is lost, starved or mixed up."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from abstractllm.engine.engine import Engine, Limits
from abstractllm.engine.rows import Step, length
from abstractllm.errors import GenerationError, MemoryLimitError, QueueFullError, RequestTimeoutError

STOP = 0


class Script:
    """A row whose tokens are known beforehand: they depend on its prompt and their position alone."""

    def __init__(self, prompt: list[int], max_tokens: int = 4, **settings: Any) -> None:
        self.prompt = prompt
        self.generated: list[int] = []
        self.max_tokens = max_tokens
        self.priority: int = settings.pop("priority", 0)
        self.deadline: float | None = settings.pop("deadline", None)
        self.poison: bool = settings.pop("poison", False)
        self.stops_at: int | None = settings.pop("stops_at", None)
        self.cancelled = False
        self.heard: list[int] = []
        self.ends: list[str | Exception] = []
        assert not settings

    def expected(self, position: int) -> int:
        return STOP if position == self.stops_at else 1 + (sum(self.prompt) * 31 + position * 7) % 1000

    def progress(self, done: int, total: int) -> None:
        assert 0 <= done <= total

    def token(self, token: int, extra: Any) -> bool:
        assert not self.ends
        assert token == self.expected(len(self.heard))
        self.heard.append(token)
        return False

    def end(self, reason: str) -> None:
        self.ends.append(reason)

    def fail(self, error: Exception) -> None:
        self.ends.append(error)


class ScriptedRunner:
    """Computes nothing. Breaks when told to, and whenever a poisonous row is decoded; remembers how full it was."""

    def __init__(self, most_rows: int = 32, bytes_per_token: int = 1) -> None:
        self.most_rows = most_rows
        self.entered: list[Script] = []
        self.running: list[Script] = []
        self.left: dict[int, int] = {}
        self.breaks = 0
        self.drops_break = 0
        self.kept = 0
        self.largest = 0
        self.budget: int | None = None
        self._bytes_per_token = bytes_per_token

    def enter(self, rows: list[Script]) -> None:
        self.entered += rows[:1]
        self.left |= {id(row): length(row) - 1 for row in rows}
        self.break_if_told()
        self.entered += rows[1:]

    def break_if_told(self) -> None:
        if self.breaks:
            self.breaks -= 1
            raise RuntimeError("told to")

    def prefill(self, tokens: int) -> None:
        for row in self.entered:
            self.left[id(row)] -= tokens
            row.progress(length(row) - max(0, self.left[id(row)]), length(row))
        self.break_if_told()
        self.running += [row for row in self.entered if self.left[id(row)] <= 0]
        self.entered = [row for row in self.entered if self.left[id(row)] > 0]

    def decode(self) -> list[Step[Script]]:
        self.largest = max(self.largest, len(self.running))
        assert self.budget is None or len(self.running) * (max(map(length, self.running)) + 1) <= self.budget
        self.break_if_told()
        if any(row.poison and row.generated for row in self.running):
            raise RuntimeError("poison")
        return [Step(row, row.expected(len(row.generated))) for row in self.running]

    def drop(self, rows: list[Script]) -> None:
        if self.drops_break:
            self.drops_break -= 1
            raise RuntimeError("cannot drop")
        gone = {id(row) for row in rows}
        self.entered = [row for row in self.entered if id(row) not in gone]
        self.running = [row for row in self.running if id(row) not in gone]

    def reset(self) -> None:
        self.entered, self.running = [], []

    def rest(self) -> None:
        assert not self.entered
        assert not self.running

    def bytes_for(self, rows: int, longest: int) -> int:
        return rows * longest * self._bytes_per_token

    def spare_bytes(self) -> int:
        return self.kept

    def evict(self, size: int) -> None:
        self.kept = max(0, self.kept - size)


def engine_of(runner: ScriptedRunner | None = None, **limits: Any) -> Engine[Script]:
    return Engine(runner or ScriptedRunner(), [STOP], Limits(**limits))


def run(engine: Engine[Script], most: int = 10_000) -> None:
    for _ in range(most):
        if not engine.busy:
            return
        engine.step()
    raise AssertionError("the engine does not come to rest")


def test_rows_get_their_tokens_and_their_ends() -> None:
    engine = engine_of()
    rows = [Script([1, 2], 3), Script([5], 9, stops_at=4), Script([7] * 2000, 1)]
    for row in rows:
        engine.add(row)
    run(engine)

    assert [row.ends for row in rows] == [["length"], ["stop"], ["length"]]
    assert [len(row.heard) for row in rows] == [3, 4, 1]


def test_no_more_rows_run_than_there_are_places() -> None:
    runner = ScriptedRunner()
    engine = engine_of(runner, rows=3)
    rows = [Script([i + 1], 5) for i in range(10)]
    for row in rows:
        engine.add(row)
    assert [engine.position(row) for row in rows] == list(range(10))
    run(engine)

    assert runner.largest == 3
    assert all(row.ends == ["length"] for row in rows)


def test_a_higher_priority_goes_first_and_equal_ones_in_order() -> None:
    engine = engine_of(rows=1)
    rows = [Script([1], 1), Script([2], 1), Script([3], 1, priority=5), Script([4], 1, priority=-1)]
    for row in rows:
        engine.add(row)

    assert [engine.position(row) for row in rows] == [1, 2, 0, 3]
    order: list[Script] = []
    while engine.busy:
        engine.step()
        order += [row for row in rows if row.ends and row not in order]
    assert order == [rows[2], rows[0], rows[1], rows[3]]


def test_a_full_line_refuses_only_where_a_limit_is_set() -> None:
    engine = engine_of(rows=1)
    rows = [Script([1]), Script([2]), Script([3]), Script([4])]
    for row, most in zip(rows, (1, 1, 1, None), strict=True):
        engine.add(row, max_queue=most)
    run(engine)

    assert [type(row.ends[0]) for row in rows] == [str, str, QueueFullError, str]


def test_a_deadline_ends_a_row_that_waits_and_one_that_runs() -> None:
    engine = engine_of(rows=1)
    soon = time.monotonic() + 1000
    running, waiting, other = Script([1], 100, deadline=soon), Script([2], deadline=soon), Script([3])
    for row in (running, waiting, other):
        engine.add(row)
    for _ in range(5):
        engine.step()
    running.deadline = waiting.deadline = time.monotonic()
    run(engine)

    assert [type(row.ends[0]) for row in (running, waiting)] == [RequestTimeoutError] * 2
    assert 0 < len(running.heard) < 100
    assert other.ends == ["length"]


@pytest.mark.parametrize("place", [0, 3, 7])
def test_a_row_that_breaks_every_step_ends_alone(place: int) -> None:
    engine = engine_of()
    rows = [Script([i + 1], 6, poison=i == place) for i in range(8)]
    for row in rows:
        engine.add(row)
    run(engine)

    poison = rows.pop(place)
    assert [type(end) for end in poison.ends] == [GenerationError]
    assert isinstance(poison.ends[0].__cause__, RuntimeError)  # type: ignore[union-attr]
    assert [row.ends for row in rows] == [["length"]] * 7


def test_after_a_failure_that_passes_everybody_goes_on_where_he_was() -> None:
    runner = ScriptedRunner()
    engine = engine_of(runner)
    rows = [Script([i + 1], 10) for i in range(6)]
    for row in rows:
        engine.add(row)
    for _ in range(5):
        engine.step()
    runner.breaks = 1
    run(engine)

    assert [row.ends for row in rows] == [["length"]] * 6
    assert engine._most_rows == 32


def test_a_batch_that_outgrows_its_bytes_sends_the_last_comer_back() -> None:
    runner = ScriptedRunner()
    engine = engine_of(runner, kv_bytes=100)
    runner.budget = 100
    rows = [Script([1] * 10, 35), Script([2] * 10, 35), Script([3] * 10, 35)]
    for row in rows:
        engine.add(row)
    while not rows[0].ends:
        engine.step()
    assert runner.largest == 3
    assert len(rows[0].heard) >= len(rows[1].heard) > len(rows[2].heard) > 0
    run(engine)

    assert [row.ends for row in rows] == [["length"]] * 3


def test_a_request_that_can_never_fit_is_refused_and_one_that_grows_too_long_ends() -> None:
    engine = engine_of(kv_bytes=50)
    huge, growing, small = Script([1] * 50), Script([2] * 40, 100), Script([3], 3)
    for row in (huge, growing, small):
        engine.add(row)
    run(engine)

    assert [type(row.ends[0]) for row in (huge, growing)] == [MemoryLimitError] * 2
    assert len(growing.heard) == 10
    assert small.ends == ["length"]


@pytest.mark.parametrize(("size", "together"), [(10, 12), (170, 12), (171, 11), (2000, 8)])
def test_short_prompts_are_computed_together_in_larger_numbers(size: int, together: int) -> None:
    runner = ScriptedRunner()
    engine = engine_of(runner)
    for number in range(12):
        engine.add(Script([number] * size, 2))
    engine.step()

    assert len(engine._active()) == together
    run(engine)


def test_many_prompts_at_once_get_on_beside_a_running_row() -> None:
    engine = engine_of(rows=1000)
    running, rows = Script([1], 100), [Script([number] * 3, 2) for number in range(900)]
    engine.add(running)
    engine.step()
    for row in rows:
        engine.add(row)
    run(engine, most=120)


def test_kept_prefixes_make_room_before_anybody_waits() -> None:
    runner = ScriptedRunner()
    engine = engine_of(runner, kv_bytes=100)
    runner.kept = 90
    rows = [Script([1] * 9, 2), Script([2] * 9, 2)]
    for row in rows:
        engine.add(row)
    engine.step()

    assert len(engine._active()) == 2
    assert runner.kept == 60
    run(engine)


@pytest.mark.parametrize("others", [0, 1, 5])
def test_a_failure_while_an_ended_row_is_dropped_does_not_end_it_twice(others: int) -> None:
    runner = ScriptedRunner()
    engine = engine_of(runner)
    short, rows = Script([9], 2), [Script([i + 1], 8) for i in range(others)]
    for row in (short, *rows):
        engine.add(row)
    runner.drops_break = 1
    run(engine)

    assert [row.ends for row in (short, *rows)] == [["length"]] * (others + 1)
    assert not engine._waiting._numbers


class Clumsy(Script):
    def token(self, token: int, extra: Any) -> bool:
        raise ValueError("cannot read this")


def test_a_row_whose_reading_fails_fails_alone() -> None:
    engine = engine_of()
    clumsy, other = Clumsy([1]), Script([2])
    engine.add(clumsy)
    engine.add(other)
    run(engine)

    assert isinstance(clumsy.ends[0], GenerationError)
    assert isinstance(clumsy.ends[0].__cause__, ValueError)
    assert other.ends == ["length"]


def test_an_idle_engine_waits_for_a_burst_but_not_for_long() -> None:
    engine = engine_of(burst=100)
    assert engine.patience == 0
    engine.expect(1)
    engine.add(Script([1]))
    assert 0 < engine.patience <= 100
    engine.expect(-1)
    assert engine.patience == 0
    run(engine)


def test_closing_ends_everybody_and_the_idle_call_comes_once_all_are_gone() -> None:
    engine = engine_of(rows=1)
    idle: list[bool] = []
    engine.on_idle = lambda: idle.append(engine.busy)
    rows = [Script([1]), Script([2])]
    for row in rows:
        engine.add(row)
    engine.step()
    engine.close(GenerationError("over"))

    assert [str(row.ends[0]) for row in rows] == ["over", "over"]
    assert idle == [False]


class Crowd(RuleBasedStateMachine):
    """Rows of all kinds come and go while the runner breaks now and then: each gets its own tokens and one end."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = ScriptedRunner()
        self.engine = engine_of(self.runner, rows=4, prefill_rows=2, prefill_tokens=20, prefill_step=8, kv_bytes=400)
        self.rows: list[Script] = []

    @rule(
        size=st.integers(1, 30),
        most=st.integers(1, 12),
        priority=st.integers(-1, 1),
        poison=st.booleans(),
        stops_at=st.none() | st.integers(0, 5),
    )
    def come(self, size: int, most: int, priority: int, poison: bool, stops_at: int | None) -> None:
        row = Script([len(self.rows) + 1] * size, most, priority=priority, poison=poison, stops_at=stops_at)
        self.rows.append(row)
        self.engine.add(row)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        row = data.draw(st.sampled_from(self.rows))
        self.engine.drop(row)
        assert row.ends

    @rule(steps=st.integers(1, 5))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.engine.step()

    @rule()
    def break_soon(self) -> None:
        self.runner.breaks += 1

    @rule()
    def break_a_drop_soon(self) -> None:
        self.runner.drops_break += 1

    @rule(size=st.integers(0, 200))
    def keep_prefixes(self, size: int) -> None:
        self.runner.kept = size

    @invariant()
    def each_row_is_in_one_place(self) -> None:
        places = [*self.engine._waiting, *self.runner.entered, *self.runner.running]
        assert len({id(row) for row in places}) == len(places)
        assert all(bool(row.ends) != any(one is row for one in places) for row in self.rows)
        assert all(len(row.ends) <= 1 for row in self.rows)
        entered = [length(row) for row in self.runner.entered]
        assert len(entered) <= 2 or len(entered) * max(entered) <= 20
        assert len(self.engine._active()) <= 4

    @invariant()
    def positions_count_those_who_wait_before(self) -> None:
        waiting = sorted(self.engine._waiting, key=lambda row: (-row.priority, self.rows.index(row)))
        assert [self.engine.position(row) for row in waiting] == list(range(len(waiting)))
        assert all(self.engine.position(row) is None for row in [*self.engine._active(), *self.ended()])

    def ended(self) -> list[Script]:
        return [row for row in self.rows if row.ends]

    def teardown(self) -> None:
        self.runner.breaks = self.runner.drops_break = 0
        run(self.engine)
        assert not self.engine._waiting._numbers
        for row in self.rows:
            if row.ends == ["length"]:
                assert len(row.heard) == row.max_tokens


TestCrowd = Crowd.TestCase
TestCrowd.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
