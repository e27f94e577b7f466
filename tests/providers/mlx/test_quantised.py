"""KV caches in 4 or 8 bits: what they take, what they give, and which models can have them."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from abstractllm.engine.engine import Engine, Limits
from abstractllm.errors import InvalidParameterError, MemoryLimitError, UnsupportedFeatureError
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.prefixes import PrefixStore
from abstractllm.providers.mlx.quantised import QuantisedModel, with_quantised_caches
from abstractllm.providers.mlx.runner import MLXRunner
from abstractllm.providers.mlx.worker import mlx_thread

from .test_runner import FAMILIES, LLAMA, Recorder, random_network

HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
WIDE = LLAMA | {"head_dim": 64}


def on_thread(call: Callable[[], Any]) -> Any:
    return mlx_thread().run(call).result()


def model_with_heads(size: int, **changes: Any) -> Any:
    return random_network("llama", LLAMA | {"head_dim": size} | changes)


def run(engine: Engine[Recorder], *rows: Recorder) -> None:
    for row in rows:
        engine.add(row)
    while engine.busy:
        engine.step()


def engine_of(model: Any, prefix_bytes: int = 0, **limits: Any) -> Engine[Recorder]:
    return Engine(MLXRunner(model, prefix_bytes), [], Limits(**limits))


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.02), (4, 0.3)])
def test_scores_are_nearly_those_of_full_caches(bits: int, tolerance: float) -> None:
    def compare() -> None:
        mx = import_mlx()
        from mlx_lm.models.cache import make_prompt_cache

        model = model_with_heads(64)
        quantised = with_quantised_caches(model, bits, None)
        for network in (model, quantised):
            layers = make_prompt_cache(network)
            found = [network(mx.array([[5, 6, 7, 8, 9]]), cache=layers), network(mx.array([[3]]), cache=layers)]
            if network is model:
                exact = found
        for one, other in zip(exact, found, strict=True):
            spread = mx.std(one).item()
            assert 0 < mx.max(mx.abs(one - other)).item() < tolerance * spread * 4
            assert mx.mean(mx.abs(one - other)).item() < tolerance * spread

    on_thread(compare)


@pytest.mark.parametrize(("bits", "size", "group"), [(8, 64, 64), (4, 64, 64), (8, 32, 32), (4, 128, 128)])
def test_the_bytes_of_a_token_are_counted_as_they_are(bits: int, size: int, group: int) -> None:
    """A token has keys and values, 2 heads each, in 3 layers; each group has a scale and an offset in float32."""

    def measure() -> None:
        runner: MLXRunner[Recorder] = MLXRunner(with_quantised_caches(model_with_heads(size), bits, group))
        numbers = 2 * 2 * 3 * size
        assert runner.bytes_for(1, 100) == 100 * (numbers * bits // 8 + numbers // group * 8)

    on_thread(measure)


def test_requests_are_served_one_after_another_and_alike_whatever_was_before() -> None:
    def serve() -> None:
        quantised = with_quantised_caches(model_with_heads(64), 8, None)
        rows = [Recorder([i + 1] * (30 * i + 5), max_tokens=12) for i in range(4)]
        engine = engine_of(quantised, prefill_step=16)
        for row in rows:
            engine.add(row)
        while engine.busy:
            engine.step()
            assert len(engine._active()) <= 1
        for row in rows:
            alone = Recorder(row.prompt, max_tokens=12)
            run(engine_of(quantised, prefill_step=16), alone)
            assert (row.tokens, row.ends) == (alone.tokens, ["length"])

    on_thread(serve)


def test_kept_prefixes_are_quantised_too_and_serve_as_if_computed() -> None:
    def serve() -> None:
        quantised = with_quantised_caches(model_with_heads(64), 8, None)
        engine = engine_of(quantised, 10**8)
        first, other = Recorder([5] * 300 + [1], max_tokens=9), Recorder([5] * 290 + [2, 3], max_tokens=9)
        again = Recorder(first.prompt, max_tokens=9)
        for row in (first, other, again):
            run(engine, row)
        fresh = Recorder(other.prompt, max_tokens=9)
        run(engine_of(quantised), fresh)
        assert [row.cached for row in (first, other, again)] == [0, 290, 300]
        assert again.tokens == first.tokens
        assert other.tokens == fresh.tokens

    on_thread(serve)


def test_what_is_kept_is_not_changed_by_those_who_use_it() -> None:
    def keep() -> None:
        mx = import_mlx()
        quantised = with_quantised_caches(model_with_heads(64), 4, None)
        store, layers = PrefixStore(10**8), quantised.make_cache()
        mx.eval(quantised(mx.array([[7] * 40]), cache=layers))
        store.store([7] * 40, layers, 0)
        before = [mx.array(part) for part in layers[0].keys]
        taken, usable = store.find([7] * 30 + [8] * 5) or ([], 0)
        mx.eval(quantised(mx.array([[9] * 20]), cache=taken))
        assert usable == 30
        assert (layers[0].offset, taken[0].offset) == (40, 50)
        assert all(mx.array_equal(old, new) for old, new in zip(before, layers[0].keys, strict=True))

    on_thread(keep)


def test_a_budget_holds_more_of_them() -> None:
    def serve() -> None:
        model = model_with_heads(64)
        budget = MLXRunner(model).bytes_for(1, 100)
        plain, small = Recorder([3] * 150, max_tokens=5), Recorder([3] * 150, max_tokens=5)
        run(engine_of(model, kv_bytes=budget), plain)
        run(engine_of(with_quantised_caches(model, 4, None), kv_bytes=budget), small)
        assert [type(end) for end in plain.ends] == [MemoryLimitError]
        assert small.ends == ["length"]

    on_thread(serve)


@pytest.mark.parametrize(("size", "given", "used"), [(64, None, 64), (32, None, 32), (96, None, 32), (128, 128, 128)])
def test_the_group_is_the_one_that_was_given_or_one_that_fits(size: int, given: int | None, used: int) -> None:
    model = on_thread(lambda: with_quantised_caches(model_with_heads(size), 8, given))
    assert isinstance(model, QuantisedModel)
    assert model.group_size == used


def test_a_group_that_does_not_divide_the_heads_is_refused_with_those_that_do() -> None:
    with pytest.raises(InvalidParameterError, match=r"keep 64 numbers of a token. Use 32 or 64") as caught:
        on_thread(lambda: with_quantised_caches(model_with_heads(64), 8, 128))
    assert caught.value.parameter == "kv_group_size"


@pytest.mark.parametrize("given", [None, 32])
def test_heads_that_no_group_divides_are_refused(given: int | None) -> None:
    with pytest.raises(UnsupportedFeatureError, match="no group of 32, 64, 128 divides") as caught:
        on_thread(lambda: with_quantised_caches(model_with_heads(16), 8, given))
    assert caught.value.feature == "kv_bits"


@pytest.mark.parametrize("name", ["sliding windows", "sliding windows, other order", "state space"])
def test_models_whose_caches_cannot_be_quantised_are_refused(name: str) -> None:
    family, config, kinds = FAMILIES[name]
    with pytest.raises(UnsupportedFeatureError) as caught:
        on_thread(lambda: with_quantised_caches(random_network(family, config), 8, None))
    assert ("RotatingKVCache" if "RotatingKVCache" in kinds else "no keys and values") in str(caught.value)


def test_a_model_that_cannot_compute_with_them_is_refused() -> None:
    class Own:
        """Attention of a model's own, which expects plain keys."""

        def make_cache(self) -> list[Any]:
            from mlx_lm.models.cache import KVCache

            return [KVCache()]

        def __call__(self, tokens: Any, cache: Any) -> Any:
            mx = import_mlx()
            ones = mx.ones((1, 1, tokens.shape[1], 64))
            keys, _ = cache[0].update_and_fetch(ones, ones)
            return keys + 1

    with pytest.raises(UnsupportedFeatureError, match="TypeError") as caught:
        on_thread(lambda: with_quantised_caches(Own(), 8, None))
    assert isinstance(caught.value.__cause__, TypeError)


def test_states_of_fixed_size_stay_as_they_are_beside_quantised_caches() -> None:
    """The attention of this family has heads of its hidden size over their number: 256 / 4."""

    def serve() -> None:
        family, config, _ = FAMILIES["convolution and attention"]
        model = random_network(family, config | {"hidden_size": 256, "block_dim": 256, "block_ff_dim": 256})
        quantised = with_quantised_caches(model, 8, None)
        kinds = [type(layer).__name__ for layer in quantised.make_cache()]
        assert kinds == ["ArraysCache", "QuantizedKVCache", "ArraysCache"]
        engine = engine_of(quantised, 10**8)
        talk = [7] * 40
        for turn in range(3):
            row, fresh = Recorder(list(talk), max_tokens=6), Recorder(list(talk), max_tokens=6)
            run(engine, row)
            run(engine_of(quantised), fresh)
            assert row.tokens == fresh.tokens
            assert (row.cached > 0) == (turn > 0)
            talk += [*row.tokens, 4, 5]

    on_thread(serve)


def test_caches_in_a_list_are_quantised_each() -> None:
    from mlx_lm.models.cache import ArraysCache, CacheList, KVCache

    model = SimpleNamespace(make_cache=lambda: [CacheList(KVCache(), ArraysCache(1))])
    (layer,) = QuantisedModel(model, 8, 64).make_cache()
    assert [type(part).__name__ for part in layer.caches] == ["QuantizedKVCache", "ArraysCache"]
