"""A draft model changes no token, whatever it proposes and whatever a request asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm import embedded
from abstractllm.engine.engine import Engine, Limits
from abstractllm.errors import GenerationError, UnsupportedFeatureError, UnsupportedModelError
from abstractllm.providers.local.constraint import ConstraintCompiler
from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.loading import load_weights
from abstractllm.providers.mlx.masking import Masking
from abstractllm.providers.mlx.paired import PairedModel, check_same_tokens
from abstractllm.providers.mlx.quantised import with_quantised_caches
from abstractllm.providers.mlx.runner import MLXRunner
from abstractllm.providers.mlx.speculative import SpeculativeBatch
from abstractllm.providers.mlx.tokens import load_tokenizer
from abstractllm.providers.mlx.worker import mlx_thread
from abstractllm.schema import to_output_format

from .conftest import write_tiny_model, write_tokenizer
from .test_runner import FAMILIES, LLAMA, VOCABULARY, Recorder, random_network


class Row(Recorder):
    """A row that counts what was proposed, and keeps what was said about its tokens."""

    def __init__(self, prompt: list[int], max_tokens: int = 20, sampling: Sampling | None = None, **more: Any) -> None:
        super().__init__(prompt, max_tokens, sampling, **more)
        self.proposed = self.accepted = 0
        self.extras: list[Any] = []

    def token(self, token: int, extra: Any) -> bool:
        self.extras.append(extra)
        return super().token(token, extra)

    def again(self) -> Row:
        """The same request anew."""
        row = Row(self.prompt, self.max_tokens, self.sampling, full_at=self._full_at, exact=self.exact)
        row.constraint = self.constraint
        return row

    @property
    def story(self) -> tuple[object, ...]:
        return self.tokens, self.ends, [extra and (extra.token, [one for one, _ in extra.top]) for extra in self.extras]


def on_thread(call: Callable[[], Any]) -> Any:
    return mlx_thread().run(call).result()


@cache
def network(name: str) -> Any:
    """The target itself, or a model that often agrees with it, hardly ever does, or knows fewer tokens."""
    mx = import_mlx()
    model = random_network("llama", LLAMA)
    embedding = model.model.embed_tokens
    mx.random.seed(5)
    noise = mx.std(embedding.weight) * mx.random.normal(embedding.weight.shape)
    if name == "similar":
        embedding.weight = embedding.weight + 0.4 * noise
    if name == "other":
        embedding.weight = noise
    if name == "narrow":
        embedding.weight = embedding.weight[:250]
    mx.eval(model.parameters())
    return model


def engine_with(draft: str, most: int = 3, prefix_bytes: int = 0, **limits: Any) -> Engine[Row]:
    """The engine of the target with a draft."""
    model = PairedModel(network("target"), network(draft), most)
    return Engine(MLXRunner(model, prefix_bytes), [], Limits(**limits))


def run(engine: Engine[Row], *rows: Row) -> None:
    for row in rows:
        engine.add(row)
    while engine.busy:
        engine.step()


def alone(row: Row) -> Row:
    """The same request, served without a draft."""
    twin = row.again()
    run(Engine(MLXRunner(network("target")), []), twin)
    return twin


DRAFTS = ("target", "similar", "other", "narrow")
SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.0, 0.7, 1.3]),
    top_k=st.sampled_from([None, None, 5]),
    top_p=st.sampled_from([None, 0.9]),
    min_p=st.sampled_from([None, 0.02]),
    seed=st.integers(0, 2**40),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.3]),
    presence_penalty=st.sampled_from([0.0, 0.5]),
    frequency_penalty=st.sampled_from([0.0, 0.0, 0.8]),
    logit_bias=st.sampled_from([(), ((7, 3.0), (299, 2.0))]),
    logprobs=st.sampled_from([None, 0, 3]),
)
ROWS = st.builds(
    Row,
    st.lists(st.integers(1, VOCABULARY - 1), min_size=1, max_size=20),
    max_tokens=st.integers(1, 16),
    sampling=SAMPLINGS,
    full_at=st.sampled_from([None, None, 3]),
)


@settings(max_examples=30)
@given(row=ROWS, draft=st.sampled_from(DRAFTS), most=st.integers(1, 6))
def test_a_row_gets_the_tokens_that_it_gets_without_a_draft(row: Row, draft: str, most: int) -> None:
    def serve() -> None:
        run(engine_with(draft, most), row)
        assert row.story == alone(row).story
        assert row.accepted <= row.proposed
        if draft == "target" and row.max_tokens > 1:
            assert row.accepted > 0

    on_thread(serve)


def test_a_draft_that_agrees_saves_passes_and_one_that_does_not_is_not_believed() -> None:
    def serve() -> None:
        rows = {name: Row([5, 6, 7], max_tokens=41) for name in DRAFTS}
        for name, row in rows.items():
            run(engine_with(name), row)
        assert len({tuple(row.tokens) for row in rows.values()}) == 1
        assert (rows["target"].proposed, rows["target"].accepted) == (30, 30)
        assert rows["other"].accepted < rows["similar"].accepted < 30 < rows["other"].proposed

    on_thread(serve)


def test_a_draft_that_draws_with_the_same_random_numbers_is_right_without_a_seed_too() -> None:
    def serve() -> None:
        row = Row([5, 6, 7], max_tokens=41, sampling=Sampling(temperature=1.0))
        run(engine_with("target"), row)
        assert row.accepted == 30

    on_thread(serve)


def test_rows_without_a_seed_differ_from_each_other() -> None:
    def serve() -> None:
        rows = [Row([5, 6, 7], sampling=Sampling(temperature=2.0)) for _ in range(3)]
        run(engine_with("target"), *rows)
        assert len({tuple(row.tokens) for row in rows}) == 3

    on_thread(serve)


def test_requests_are_served_one_after_another() -> None:
    def serve() -> None:
        engine = engine_with("similar")
        rows = [Row([3 + i, 4], max_tokens=9, exact=i == 2) for i in range(4)]
        for row in rows:
            engine.add(row)
        most = 0
        while engine.busy:
            engine.step()
            most = max(most, len(engine._active()))
        assert most == 1
        assert [row.story for row in rows] == [alone(row).story for row in rows]

    on_thread(serve)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
def test_a_row_can_be_dropped_between_any_two_tokens_and_what_it_computed_is_kept(steps: int) -> None:
    def serve() -> None:
        engine = engine_with("similar", prefix_bytes=10**8, prefill_step=32)
        left, other = Row([9] * 50, max_tokens=60), Row([4, 5], max_tokens=8)
        engine.add(left)
        for _ in range(steps):
            engine.step()
        engine.drop(left)
        run(engine, other)
        assert [type(end) for end in left.ends] == [GenerationError]
        assert other.tokens == alone(other).tokens
        later = Row([*left.prompt, *left.tokens, 1, 2], max_tokens=12)
        run(engine, later)
        assert later.tokens == alone(later).tokens
        assert later.cached >= min(32 * steps, 48)

    on_thread(serve)


def test_later_turns_compute_only_what_is_new_in_both_models() -> None:
    def serve() -> None:
        engine = engine_with("similar", prefix_bytes=10**8)
        talk = [Random(1).randrange(1, VOCABULARY) for _ in range(40)]
        for turn in range(3):
            row = Row(list(talk), max_tokens=11)
            run(engine, row)
            assert row.tokens == alone(row).tokens
            assert (row.cached >= len(talk) - 8) == (turn > 0)
            talk += [*row.tokens, 3, 1 + turn]

    on_thread(serve)


def test_a_row_that_is_replayed_goes_on_where_it_was() -> None:
    def serve() -> None:
        engine = engine_with("similar")
        row = Row([5, 6, 7], max_tokens=30, sampling=Sampling(temperature=1.0, seed=3, presence_penalty=0.5))
        engine.add(row)
        for _ in range(9):
            engine.step()
        before = len(row.tokens)
        engine._recover(RuntimeError("the step broke"), ended=[Row([1])])
        assert not engine._runner.running
        run(engine)
        assert 0 < before < 30
        assert row.story == alone(row).story

    on_thread(serve)


def test_a_draft_that_breaks_fails_its_row_alone() -> None:
    def serve() -> None:
        class Breaking:
            broken = False

            def __call__(self, tokens: Any, cache: Any) -> Any:
                if self.broken:
                    raise MemoryError("no room")
                return network("similar")(tokens, cache=cache)

            layers = network("similar").layers

        draft = Breaking()
        engine: Engine[Row] = Engine(MLXRunner(PairedModel(network("target"), draft, 3)), [])
        first, second = Row([1, 2]), Row([3, 4])
        engine.add(first)
        engine.step()
        draft.broken = True
        engine.step()
        draft.broken = False
        run(engine, second)
        assert "no room" in str(first.ends[0])
        assert second.tokens == alone(second).tokens

    on_thread(serve)


def test_scores_without_numbers_end_the_row_and_nothing_of_it_is_kept() -> None:
    def serve() -> None:
        mx = import_mlx()
        target = random_network("llama", LLAMA)
        runner: MLXRunner[Row] = MLXRunner(PairedModel(target, network("similar"), 3), 10**8)
        engine: Engine[Row] = Engine(runner, [])
        sound = target.model.embed_tokens.weight
        target.model.embed_tokens.weight = mx.where(mx.arange(VOCABULARY)[:, None] == 7, mx.array(float("nan")), sound)
        row = Row([7] * 40)
        run(engine, row)
        assert "NaN" in str(row.ends[0])
        assert runner.spare_bytes() == 0

    on_thread(serve)


def test_quantised_caches_and_a_draft_go_together() -> None:
    def serve() -> None:
        config = LLAMA | {"head_dim": 32}
        target, draft = random_network("llama", config), random_network("llama", config)
        quantised = with_quantised_caches(target, 8, 32)
        rows = [Row([9] * 50 + [i], max_tokens=25) for i in range(3)]
        engine: Engine[Row] = Engine(MLXRunner(PairedModel(quantised, draft, 3), 10**8), [])
        for row in rows:
            twin = row.again()
            run(engine, row)
            run(Engine(MLXRunner(quantised), []), twin)
            assert row.tokens == twin.tokens
        assert [row.cached for row in rows] == [0, 50, 50]
        assert all(row.accepted for row in rows)

    on_thread(serve)


@pytest.mark.parametrize("name", [name for name, (_, _, kinds) in FAMILIES.items() if kinds != {"KVCache"}])
@pytest.mark.parametrize("part", ["model", "draft model"])
def test_caches_that_cannot_be_cut_are_refused(name: str, part: str) -> None:
    family, config, kinds = FAMILIES[name]

    def pair() -> None:
        plain, other = network("target"), random_network(family, config)
        with pytest.raises(UnsupportedFeatureError, match=f"The {part} keeps") as caught:
            PairedModel(*((other, plain) if part == "model" else (plain, other)), 3)
        assert caught.value.feature == "draft_model"
        assert all(kind in str(caught.value) for kind in kinds - {"KVCache"})

    on_thread(pair)


def test_the_bytes_of_a_row_are_those_of_both_models() -> None:
    def measure() -> None:
        runner = engine_with("similar")._runner
        one = MLXRunner(network("target"))
        assert runner.bytes_for(1, 100) == 2 * one.bytes_for(1, 100)

    on_thread(measure)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("models")
    target = write_tiny_model(folder / "target")
    draft = write_tiny_model(folder / "draft", seed=1)
    return on_thread(lambda: (load_weights(target, "float32"), load_weights(draft, "float32")))


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return load_tokenizer(embedded.PATH, 2)


class TestConstraints:
    """The shipped model's tokenizer, random models of its vocabulary."""

    @pytest.mark.parametrize("agreeing", [True, False])
    @pytest.mark.parametrize(
        "sampling", [Sampling(), Sampling(temperature=1.0, seed=4, frequency_penalty=0.3)], ids=str
    )
    def test_a_form_is_kept_and_nothing_changes(
        self, models: tuple[Any, Any], tokenizer: ChatTokenizer, agreeing: bool, sampling: Sampling
    ) -> None:
        schema = {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 8}, "age": {"enum": [1, 22, 333]}},
            "required": ["name", "age"],
            "additionalProperties": False,
        }
        constraint = ConstraintCompiler(tokenizer, 2048).compile(to_output_format(schema))

        def serve() -> None:
            target, draft = models
            plain = Row([5, 6, 7], 60, sampling)
            plain.constraint = constraint
            row = plain.again()
            run(Engine(MLXRunner(target), tokenizer.stop_tokens), plain)
            pair = PairedModel(target, target if agreeing else draft, 4)
            run(Engine(MLXRunner(pair), tokenizer.stop_tokens), row)
            assert row.story == plain.story
            assert row.ends == ["stop"]
            said = json.loads(b"".join(map(tokenizer.token_bytes, row.tokens)))
            assert set(said) == {"name", "age"}
            assert row.accepted > 0

        on_thread(serve)

    @pytest.mark.parametrize("after", [0, 1, 5])
    def test_a_constraint_that_fails_ends_its_row(self, models: tuple[Any, Any], after: int) -> None:
        class Failing:
            """Allows everything until it fails."""

            def __init__(self, left: int) -> None:
                self.left = left

            def copy(self) -> Failing:
                return Failing(self.left)

            def replay(self, tokens: Any) -> None:
                self.left = after - len(list(tokens))

            def accept(self, token: int) -> None:
                self.left -= 1

            def fill(self, mask: Any) -> None:
                if self.left <= 0:
                    raise ValueError("cannot go on")
                mask[:] = 0xFFFFFFFF

        def serve() -> None:
            target, draft = models
            for one in (target, draft):
                row = Row([5, 6, 7], 20)
                row.constraint = Failing(after)
                run(Engine(MLXRunner(PairedModel(target, one, 3)), []), row)
                assert len(row.tokens) == after
                assert [str(end) for end in row.ends] == ["cannot go on"]

        on_thread(serve)


def test_constraints_move_on_by_themselves_in_a_copy(tokenizer: ChatTokenizer) -> None:
    constraint = ConstraintCompiler(tokenizer, 2048).compile(to_output_format(bool))
    row = Row([1])
    row.constraint = constraint
    masking = Masking()
    masking.join([row])
    before, _ = masking.begin([], 2048).result()
    twin = masking.copy()
    twin.advance(0, next(token for token in range(2048) if before.bits[0, token // 32] >> token % 32 & 1))
    moved, errors = twin.begin([], 2048).result()
    again, _ = masking.begin([], 2048).result()
    assert not errors
    assert (again.bits == before.bits).all()
    assert (moved.bits != before.bits).any()


class TestTokens:
    def test_a_draft_with_the_same_tokens_may_be_another_model(self, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
        check_same_tokens(tokenizer, write_tokenizer(tmp_path / "same"))

    def test_a_draft_with_other_tokens_is_refused(self, tokenizer: ChatTokenizer, tmp_path: Path) -> None:
        file = write_tokenizer(tmp_path / "other") / "tokenizer.json"
        content = json.loads(file.read_text())
        first, second, *_ = [text for text, token in content["model"]["vocab"].items() if token > 2000]
        vocab = content["model"]["vocab"]
        vocab[first], vocab[second] = vocab[second], vocab[first]
        file.write_text(json.dumps(content))
        with pytest.raises(UnsupportedModelError, match=r"2048 and 2048 of them, 2046 the same"):
            check_same_tokens(tokenizer, tmp_path / "other")


def test_a_batch_holds_one_row() -> None:
    def join() -> None:
        batch: SpeculativeBatch[Row] = SpeculativeBatch(PairedModel(network("target"), network("other"), 3))
        with pytest.raises(AssertionError):
            batch.join([Row([1]), Row([2])], None)

    on_thread(join)
