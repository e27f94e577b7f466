"""The engine on MLX: joining, leaving, starting again after a failure, with every kind of cache."""

from __future__ import annotations

import gc
import importlib
import weakref
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from abstractllm.engine.engine import Engine, Limits
from abstractllm.errors import GenerationError
from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.caches import KVSize, RowCaches, can_be_merged, sizes
from abstractllm.providers.mlx.loading import load_weights
from abstractllm.providers.mlx.runner import TRIM_EVERY, MLXRunner
from abstractllm.providers.mlx.worker import mlx_thread


class Recorder:
    """A row that writes down what happens to it."""

    priority = 0
    deadline: float | None = None

    def __init__(
        self,
        prompt: list[int],
        max_tokens: int = 4,
        sampling: Any = None,
        full_at: int | None = None,
        exact: bool = False,
    ) -> None:
        self.prompt = prompt
        self.generated: list[int] = []
        self.exact = exact
        self.cached = 0
        self.constraint: Any = None
        self.max_tokens = max_tokens
        self.sampling = sampling or Sampling()
        self.cancelled = False
        self.tokens: list[int] = []
        self.ends: list[str | Exception] = []
        self._full_at = full_at

    def progress(self, done: int, total: int) -> None:
        assert 0 <= done <= total

    def token(self, token: int, extra: Any) -> bool:
        self.tokens.append(token)
        return len(self.tokens) == self._full_at

    def end(self, reason: Literal["stop", "length"]) -> None:
        self.ends.append(reason)

    def fail(self, error: Exception) -> None:
        self.ends.append(error)


class Broken(Sampling):
    """Settings that break the step."""

    @property
    def inverse_temperature(self) -> float:
        raise RuntimeError("sampler is broken")


class Clumsy(Recorder):
    """A row whose reading fails."""

    def token(self, token: int, extra: Any) -> bool:
        raise ValueError("cannot read this")


def engine_of(model: Any, **limits: Any) -> Engine[Recorder]:
    """The engine of a model, without stop tokens."""
    return Engine(MLXRunner(model), [], Limits(**limits))


class Bench:
    """An engine that is stepped by hand, on the MLX thread."""

    def __init__(self, folder: Path) -> None:
        self._thread = mlx_thread()
        self.engine = self.on_thread(lambda: engine_of(load_weights(folder, "float32")))

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


PROMPTS = st.lists(st.integers(1, 300), min_size=1, max_size=150)
VISITS = st.tuples(PROMPTS, st.integers(1, 12), st.integers(0, 4), st.booleans())
"""A prompt, its `max_tokens`, steps until the next one comes, and whether somebody leaves then."""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(script=st.lists(VISITS, min_size=1, max_size=7))
def test_whoever_comes_and_goes_each_row_gets_the_tokens_it_would_get_alone(bench: Bench, script: Any) -> None:
    rows, dropped = [], []
    for prompt, length, steps, leaves in script:
        rows.append(Recorder(prompt, max_tokens=length))
        bench.add(rows[-1])
        bench.run(steps)
        if leaves:
            dropped.append(rows.pop(len(rows) // 2))
            bench.on_thread(lambda: bench.engine.drop(dropped[-1]))
    bench.run()

    assert not bench.engine.busy
    for row in rows:
        alone = Recorder(row.prompt, max_tokens=row.max_tokens)
        bench.add(alone)
        bench.run()
        assert (row.tokens, row.ends) == (alone.tokens, ["length"])


def test_prompts_of_one_token_start_at_once(bench: Bench) -> None:
    rows = [Recorder([7], max_tokens=3), Recorder([7, 8, 9], max_tokens=3), Recorder([7], max_tokens=3)]
    bench.add(*rows)
    bench.run()

    assert [len(row.tokens) for row in rows] == [3, 3, 3]
    assert rows[0].tokens == rows[2].tokens


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


def test_a_row_that_breaks_the_step_ends_alone_and_the_others_get_their_tokens(bench: Bench) -> None:
    prompts = [[1, 2, 3], [4], [5] * 90, [6, 7], [8, 9, 9]]
    alone = [Recorder(prompt, max_tokens=30) for prompt in prompts]
    for row in alone:
        bench.add(row)
        bench.run()
    rows, poison = [Recorder(prompt, max_tokens=30) for prompt in prompts], Recorder([4, 5], 30, sampling=Broken(1.0))
    bench.add(*rows[:3], poison, *rows[3:])
    bench.run()

    assert [type(end) for end in poison.ends] == [GenerationError]
    assert "sampler is broken" in str(poison.ends[0])
    assert [(row.tokens, row.ends) for row in rows] == [(row.tokens, ["length"]) for row in alone]


class Failing:
    """A constraint that lets everything pass, and fails the so manieth time that it is asked."""

    def __init__(self, times: int) -> None:
        self._times = times

    def copy(self) -> Failing:
        return Failing(self._times)

    def replay(self, tokens: Any) -> None:
        for token in tokens:
            self.accept(token)

    def accept(self, token: int) -> None:
        self._count()

    def fill(self, mask: Any) -> None:
        self._count()
        mask[:] = 0xFFFFFFFF

    def _count(self) -> None:
        self._times -= 1
        if self._times < 0:
            raise ValueError("the constraint is broken")


def test_an_idle_runner_has_given_free_memory_back_after_some_steps(bench: Bench) -> None:
    bench.add(Recorder([1, 2, 3], max_tokens=TRIM_EVERY + 5))
    bench.run(TRIM_EVERY)
    assert bench.engine._runner._untrimmed > 0
    bench.run()
    assert bench.engine._runner._untrimmed == 0


def full_house(bad: Recorder) -> list[Recorder]:
    """32 rows, among which there is a bad one."""
    sampled = Sampling(temperature=0.9, seed=3)
    rows = [Recorder([i + 1] * (i % 5 + 1), 10, sampled if i % 2 else None, exact=i % 4 == 0) for i in range(31)]
    rows.insert(17, bad)
    return rows


@pytest.fixture(scope="module")
def solo(bench: Bench) -> list[list[int]]:
    """What the good ones get alone."""
    rows = full_house(Recorder([1]))
    for row in rows:
        bench.add(row)
        bench.run()
    return [row.tokens for row in rows[:17] + rows[18:]]


@pytest.mark.parametrize("times", [0, 1, 2, 5, "reader", "sampler"])
def test_one_that_fails_at_any_moment_takes_nothing_from_the_31_others(
    bench: Bench, solo: list[list[int]], times: int | str
) -> None:
    bad = (Clumsy if times == "reader" else Recorder)([4, 5], 10, Broken(1.0) if times == "sampler" else None)
    bad.constraint = Failing(times) if isinstance(times, int) else None
    rows = full_house(bad)
    bench.add(*rows)
    bench.run()

    assert [type(end) for end in bad.ends] == [GenerationError if isinstance(times, str) else ValueError]
    assert [(row.tokens, row.ends) for row in rows if row is not bad] == [(tokens, ["length"]) for tokens in solo]


class Leader(Recorder):
    """A row during whose third token somebody else's request is given up."""

    def __init__(self, give_up: Any) -> None:
        super().__init__([1, 2], max_tokens=12)
        self._give_up = give_up

    def token(self, token: int, extra: Any) -> bool:
        if len(self.tokens) == 2:
            self._give_up()
        return super().token(token, extra)


class Heir(Recorder):
    """A row that waits for a place, and remembers after which step of its leader it got one."""

    def follow(self, leader: Recorder) -> None:
        self._leader = leader

    def progress(self, done: int, total: int) -> None:
        if not hasattr(self, "step"):
            self.step = len(self._leader.tokens)


def test_a_place_is_free_and_taken_one_step_after_its_request_is_given_up_in_a_step(tiny_model: Path) -> None:
    thread = mlx_thread()
    engine = thread.run(lambda: engine_of(load_weights(tiny_model, "float32"), rows=2)).result()
    victim, heir = Recorder([3, 4], max_tokens=12), Heir([5, 6, 7], max_tokens=1)
    leader = Leader(lambda: thread.post(lambda: engine.drop(victim)))
    heir.follow(leader)

    def begin() -> None:
        for row in (leader, victim, heir):
            engine.add(row)
        thread.add_engine(engine)

    thread.run(begin).result()
    while thread.run(lambda: engine.busy).result():
        pass
    thread.run(lambda: thread.remove_engine(engine)).result()
    assert [type(end) for end in victim.ends] == [GenerationError]
    assert len(victim.tokens) <= 3
    assert heir.ends == ["length"]
    assert heir.step - 3 <= 1


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


VOCABULARY = 300
LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": VOCABULARY,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 2048,
    "rope_theta": 10000.0,
}
SLIDING = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 32}
GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 32, "sliding_window_pattern": 2, "num_hidden_layers": 4}
MAMBA = {
    "num_heads": 4,
    "head_dim": 16,
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "layer_norm_epsilon": 1e-5,
    "conv_kernel": 4,
    "n_groups": 1,
    "use_bias": False,
    "use_conv_bias": True,
    "tie_word_embeddings": True,
    "time_step_limit": (0.0, 100.0),
    "time_step_rank": "auto",
    "state_size": 16,
    "ssm_state_size": 16,
    "max_position_embeddings": 2048,
}
MAMBA_1 = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "state_size": 16,
    "num_hidden_layers": 2,
    "conv_kernel": 4,
    "use_bias": False,
    "use_conv_bias": True,
    "time_step_rank": 2,
    "tie_word_embeddings": True,
}
HYBRID = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 2048,
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 64,
    "block_ff_dim": 128,
    "block_multiple_of": 32,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "full_attn_idxs": [1],
    "rope_theta": 10000.0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "attention": ("llama", LLAMA, {"KVCache"}),
    "sliding windows": ("llama", LLAMA | SLIDING, {"KVCache", "RotatingKVCache"}),
    "sliding windows, other order": ("gemma3_text", LLAMA | GEMMA, {"KVCache", "RotatingKVCache"}),
    "state space": ("mamba2", MAMBA, {"ArraysCache"}),
    "state space that knows no padding": ("mamba", MAMBA_1, {"ArraysCache"}),
    "convolution and attention": ("lfm2", HYBRID, {"KVCache", "ArraysCache"}),
}


def random_network(family: str, config: dict[str, Any]) -> Any:
    """A model of one of mlx-lm's architectures; its weights are spread wide, against near-ties."""
    mx = import_mlx()
    from mlx.utils import tree_map

    architecture = importlib.import_module(f"mlx_lm.models.{family}")
    mx.random.seed(1)
    model = architecture.Model(architecture.ModelArgs.from_dict({"model_type": family, **config}))
    model.set_dtype(mx.float32)
    model.update(tree_map(lambda weight: weight * 3 if weight.ndim > 1 else weight, model.parameters()))
    mx.eval(model.parameters())
    return model


def tokens_alone(model: Any, row: Recorder) -> list[int]:
    """What mlx-lm's own loop for one request makes of a row."""
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    return [int(token) for token, _ in generate_step(mx.array(row.prompt), model, max_tokens=row.max_tokens)]


def run_together(model: Any, rows: list[Recorder]) -> None:
    """Serve the rows in one engine, into which they come one by one."""
    engine = engine_of(model)
    for number, row in enumerate(rows):
        engine.add(row)
        for _ in range(number % 3):
            engine.step()
    while engine.busy:
        engine.step()


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_in_company_get_the_tokens_that_mlx_lm_gives_them_alone(name: str) -> None:
    from mlx_lm.models.cache import make_prompt_cache

    family, config, caches = FAMILIES[name]
    random = Random(name)
    rows = [
        Recorder([random.randrange(VOCABULARY) for _ in range(length)], max_tokens=random.choice([3, 20, 50]))
        for length in (90, 1, 2, 150, 40, 5)
    ]

    def compare() -> None:
        model = random_network(family, config)
        assert {type(cache).__name__ for cache in make_prompt_cache(model)} == caches
        run_together(model, rows)
        for row in rows:
            assert (row.tokens, row.ends) == (tokens_alone(model, row), ["length"])

    mlx_thread().run(compare).result()


class Unmergeable:
    """A cache without `merge`, as some of mlx-lm's are, around one that has it."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        if name == "merge":
            raise AttributeError(name)
        return getattr(self._inner, name)


def test_a_model_whose_caches_cannot_be_merged_serves_one_request_after_another() -> None:
    from mlx_lm.models.cache import KVCache

    rows = [Recorder([5, 6, 7], max_tokens=4), Recorder([8, 9], max_tokens=4)]

    def serve() -> None:
        model = random_network("llama", LLAMA)
        alone = [tokens_alone(model, row) for row in rows]
        model.make_cache = lambda: [Unmergeable(KVCache()) for _ in range(3)]
        engine = engine_of(model)
        for row in rows:
            engine.add(row)
        while engine.busy:
            assert len(engine._runner.running) <= 1
            engine.step()
        assert [row.tokens for row in rows] == alone

    mlx_thread().run(serve).result()


def test_only_models_whose_every_cache_survives_a_merge_are_batched() -> None:
    from mlx_lm.models.cache import ArraysCache, CacheList, ChunkedKVCache, KVCache, RotatingKVCache

    def judged(*caches: Any) -> bool:
        return can_be_merged(SimpleNamespace(make_cache=lambda: list(caches)))

    def judge() -> None:
        assert judged(KVCache(), CacheList(RotatingKVCache(8), ArraysCache(2)))
        assert not judged(KVCache(), RotatingKVCache(8, keep=4))
        assert not judged(KVCache(), CacheList(KVCache(), RotatingKVCache(8, keep=4)))
        assert not judged(CacheList(KVCache(), CacheList(ChunkedKVCache(4))))

    mlx_thread().run(judge).result()


def test_the_last_row_of_caches_in_a_list_stays_merged() -> None:
    """Only parts that hold something can be taken out of a batch, and a list tells that of its first part alone."""
    import mlx.core as mx
    from mlx_lm.models.cache import ArraysCache, CacheList, KVCache

    def leave() -> None:
        model = SimpleNamespace(make_cache=lambda: [CacheList(KVCache(), ArraysCache(1))])
        caches = RowCaches.new(model, 2)
        caches.layers[0][0].update_and_fetch(mx.ones((2, 1, 3, 4)), mx.ones((2, 1, 3, 4)))
        caches.keep([1])
        assert len(caches) == 1
        caches.extend(RowCaches.new(model, 1))
        assert len(caches) == 2

    mlx_thread().run(leave).result()


@pytest.mark.parametrize(("tokens", "room", "next_step"), [(40, 64, 64), (65, 128, 64), (600, 640, 256)])
def test_the_caches_of_a_short_batch_have_little_room_to_spare(tokens: int, room: int, next_step: int) -> None:
    """A step of mlx-lm's 256 tokens would be mostly zeros for many short rows; long ones grow by it all the same."""
    import mlx.core as mx

    def grow() -> None:
        model = random_network("llama", LLAMA)
        caches, others = RowCaches.new(model, 2), RowCaches.new(model, 2)
        model(mx.ones((2, tokens), dtype=mx.int32), cache=caches.layers)
        model(mx.ones((2, 3), dtype=mx.int32), cache=others.layers)
        assert {layer.keys.shape[2] for layer in caches.layers} == {room}
        caches.extend(others)
        assert {layer.step for layer in caches.layers} == {next_step}
        model(mx.ones((4, 600), dtype=mx.int32), cache=caches.layers)
        caches.evaluate()
        assert {layer.step for layer in caches.layers} == {256}

    mlx_thread().run(grow).result()


def frail_cache() -> Any:
    """A kind of cache to which nothing can be added any more once `broken` is set."""
    from mlx_lm.models.cache import BatchKVCache, KVCache

    class Frail(KVCache):
        broken = False

        @classmethod
        def merge(cls, caches: Any) -> Any:
            check()
            return FrailBatch.merge(caches)

    class FrailBatch(BatchKVCache):
        def extend(self, other: Any) -> None:
            check()
            super().extend(other)

    def check() -> None:
        if Frail.broken:
            raise MemoryError("no room")

    return Frail


@pytest.mark.parametrize("steps", [0, 1])
def test_rows_that_cannot_join_run_one_after_another(steps: int) -> None:
    """With 0 steps the second row breaks the batch as it enters, with 1 as it goes on to its first token."""

    def serve() -> None:
        model, cache = random_network("llama", LLAMA), frail_cache()
        rows = [Recorder([1, 2, 3], max_tokens=50), Recorder([4] * 700, max_tokens=5), Recorder([5, 6], max_tokens=5)]
        alone = [tokens_alone(model, row) for row in rows]
        model.make_cache = lambda: [cache() for _ in range(3)]
        engine = engine_of(model)
        engine.add(rows[0])
        engine.step()
        engine.step()
        for row in rows[1:]:
            engine.add(row)
        for _ in range(steps):
            engine.step()
        cache.broken = True
        while engine.busy:
            engine.step()
        assert [(row.tokens, row.ends) for row in rows] == [(tokens, ["length"]) for tokens in alone]

    mlx_thread().run(serve).result()


def test_exact_rows_are_never_computed_with_others(bench: Bench) -> None:
    rows = [Recorder([i + 1] * 5, max_tokens=8, exact=i % 2 == 0) for i in range(5)]
    bench.add(*rows)
    bench.run(steps=2)
    lanes = bench.engine._runner._alone
    assert [lane.decode.rows for lane in lanes] == [[row] for row in rows if row.exact]
    bench.run()

    assert all(row.ends == ["length"] for row in rows)
    assert not bench.engine._runner._alone


@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_budget_of_bytes_makes_rows_wait_or_start_again_but_changes_no_token(name: str) -> None:
    family, config, _ = FAMILIES[name]

    def serve() -> None:
        model = random_network(family, config)
        rows = [Recorder([i + 1] * (20 * i + 5), max_tokens=60) for i in range(5)]
        runner: MLXRunner[Recorder] = MLXRunner(model)
        one = runner.bytes_for(1, 200)
        assert 0 < one <= runner.bytes_for(1, 400) < runner.bytes_for(3, 400)
        engine, together = engine_of(model, kv_bytes=2 * one), []
        for row in rows:
            engine.add(row)
        while engine.busy:
            engine.step()
            together.append(len(engine._active()))
        assert [(row.tokens, row.ends) for row in rows] == [(tokens_alone(model, row), ["length"]) for row in rows]
        assert 1 <= max(together) < 5

    mlx_thread().run(serve).result()


def test_whoever_keeps_the_error_of_a_batch_keeps_none_of_its_caches(bench: Bench) -> None:
    row = Recorder([1, 2, 3], sampling=Broken(1.0))
    bench.add(row)
    batch = weakref.ref(bench.engine._runner._together.decode)
    bench.run()
    gc.collect()

    assert isinstance(row.ends[0], GenerationError)
    assert batch() is None


class Watched(Recorder):
    """A row that remembers how far its prompt was after each piece."""

    def progress(self, done: int, total: int) -> None:
        self.pieces = [*getattr(self, "pieces", []), done]


@pytest.mark.parametrize("length", [1, 20])
def test_a_long_prompt_gets_on_while_short_ones_keep_coming(bench: Bench, length: int) -> None:
    long = Watched([3] * 2000, max_tokens=1)
    bench.add(long)
    for _ in range(16):
        bench.add(Recorder([4] * length, max_tokens=2))
        bench.on_thread(bench.engine.step)
    assert long.pieces[-1] >= 1500
    bench.run()
    assert long.ends == ["length"]


def test_a_short_prompt_does_not_wait_for_a_long_one(bench: Bench) -> None:
    long, short = Watched([3] * 2000, max_tokens=1), Recorder([4] * 20, max_tokens=1)
    bench.add(long, short)
    bench.run(steps=4)

    assert short.ends == ["length"]
    assert not long.ends
    bench.run()


def served(engine: Engine[Recorder], *rows: Recorder) -> None:
    """Run rows to their ends."""
    for row in rows:
        engine.add(row)
    while engine.busy:
        engine.step()


@pytest.mark.parametrize("name", FAMILIES)
def test_later_turns_compute_only_what_is_new_and_get_the_same_tokens(name: str) -> None:
    family, config, _ = FAMILIES[name]

    def serve() -> None:
        model = random_network(family, config)
        engine: Engine[Recorder] = Engine(MLXRunner(model, prefix_bytes=10**8), [])
        random = Random(name)
        talks = [[random.randrange(1, VOCABULARY) for _ in range(length)] for length in (20, 60, 33)]
        for turn in range(3):
            rows = [Recorder(list(talk), max_tokens=9) for talk in talks]
            served(engine, *rows)
            for row, talk in zip(rows, talks, strict=True):
                assert row.tokens == tokens_alone(model, row)
                assert (row.cached >= len(talk) - 15) == (turn > 0)
                talk += [*row.tokens, *(random.randrange(1, VOCABULARY) for _ in range(5))]

    mlx_thread().run(serve).result()


@pytest.mark.parametrize("name", FAMILIES)
def test_prompts_that_share_a_beginning_or_were_left_early_are_reused_without_harm(name: str) -> None:
    family, config, _ = FAMILIES[name]

    def serve() -> None:
        model = random_network(family, config)
        engine: Engine[Recorder] = Engine(MLXRunner(model, prefix_bytes=10**8), [], Limits(prefill_step=64))
        shared = [7] * 30 + [8] * 100
        left = [Recorder([*shared, 1], max_tokens=50), Recorder([*shared, *range(1, 200)], max_tokens=50)]
        for row in left:
            engine.add(row)
        for _ in range(6):
            engine.step()
        for row in left:
            engine.drop(row)
        rows = [Recorder([*shared, i, i + 1, i + 2], max_tokens=20) for i in range(4)]
        served(engine, *rows, Recorder([9] * 40))
        for row in rows:
            assert row.tokens == tokens_alone(model, row)

    mlx_thread().run(serve).result()


def test_a_second_prompt_with_the_same_beginning_computes_only_the_rest() -> None:
    def serve() -> None:
        model = random_network("llama", LLAMA)
        engine: Engine[Recorder] = Engine(MLXRunner(model, prefix_bytes=10**8), [])
        first, other, same = Recorder([5] * 100 + [1]), Recorder([5] * 100 + [2, 3]), Recorder([5] * 100 + [1])
        exact = Recorder([5] * 100 + [1], exact=True)
        for row in (first, other, same, exact):
            served(engine, row)
        assert [row.cached for row in (first, other, same, exact)] == [0, 100, 100, 0]
        assert same.tokens == first.tokens == exact.tokens

    mlx_thread().run(serve).result()


def test_kept_prefixes_stay_within_their_bytes_and_none_are_kept_without_any() -> None:
    def serve() -> None:
        model = random_network("llama", LLAMA)
        for capacity in (0, 200_000):
            runner: MLXRunner[Recorder] = MLXRunner(model, prefix_bytes=capacity)
            engine: Engine[Recorder] = Engine(runner, [])
            kept = []
            for i in range(8):
                served(engine, Recorder([i + 1] * 60))
                kept.append(runner.spare_bytes())
            assert max(kept) <= capacity
            assert (kept[0] > 0) == (capacity > 0)
            runner.evict(10**9)
            assert runner.spare_bytes() == 0

    mlx_thread().run(serve).result()


@pytest.mark.parametrize("name", FAMILIES)
def test_equal_prompts_that_come_together_are_computed_once(name: str) -> None:
    family, config, _ = FAMILIES[name]

    def serve() -> None:
        model = random_network(family, config)
        engine = engine_of(model)
        rows = [Recorder([4] * 70 + [i // 3], max_tokens=5 + i) for i in range(6)]
        for row in rows:
            engine.add(row)
        prefill = engine._runner._together.prefill
        prefill.join([Recorder([1] * 9), Recorder([1] * 9), Recorder([2] * 9)])
        assert [len(group) for group in prefill._groups] == [2, 1]
        engine._runner.reset()
        engine.step()
        assert len(engine._active()) == 6
        engine.drop(rows[0])
        engine.drop(rows[5])
        while engine.busy:
            engine.step()
        assert all(row.tokens == tokens_alone(model, row) for row in rows[1:5])

    mlx_thread().run(serve).result()


def test_the_bytes_of_a_row_follow_from_the_kinds_of_its_caches() -> None:
    from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, QuantizedKVCache, RotatingKVCache

    def measure() -> None:
        mx = import_mlx()
        plain, window, quantised, state = KVCache(), RotatingKVCache(8), QuantizedKVCache(64, 8), ArraysCache(1)
        for cache in (plain, window, quantised):
            cache.update_and_fetch(mx.ones((1, 2, 1, 64)), mx.ones((1, 2, 1, 64)))
        state[0] = mx.ones((1, 10))
        a_token = 2 * 2 * 64 * 4
        assert [size_of(layer).of_row(100) for layer in (plain, window, CacheList(plain, state), state)] == [
            100 * a_token,
            8 * a_token,
            100 * a_token + 40,
            40,
        ]
        assert 100 * a_token / 4 <= size_of(quantised).of_row(100) < 100 * a_token / 3

    def size_of(layer: Any) -> KVSize:
        return sizes([layer])

    mlx_thread().run(measure).result()


def test_what_a_row_without_numbers_computed_is_not_kept() -> None:
    def serve() -> None:
        mx = import_mlx()
        model = random_network("llama", LLAMA)
        runner: MLXRunner[Recorder] = MLXRunner(model, prefix_bytes=10**8)
        engine: Engine[Recorder] = Engine(runner, [])
        sound = model.model.embed_tokens.weight
        model.model.embed_tokens.weight = mx.where(mx.arange(VOCABULARY)[:, None] == 7, mx.array(float("nan")), sound)
        spoilt = Recorder([7] * 40)
        served(engine, spoilt)
        assert [type(end) for end in spoilt.ends] == [GenerationError]
        assert runner.spare_bytes() == 0
        model.model.embed_tokens.weight = sound
        again = Recorder([7] * 40)
        served(engine, again)
        assert (again.cached, again.ends) == (0, ["length"])
        assert runner.spare_bytes() > 0

    mlx_thread().run(serve).result()
