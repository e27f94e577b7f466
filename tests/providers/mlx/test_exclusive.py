"""Settings that rule a batch out: their values, and a provider that has them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from abstractllm import (
    InvalidParameterError,
    ModelCapability,
    ModelNotFoundError,
    RequestTimeoutError,
    UnsupportedFeatureError,
    UnsupportedModelError,
    embedded,
)
from abstractllm.factory import parse_config_string
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.exclusive import Exclusive
from abstractllm.providers.mlx.loading import shared_weights
from abstractllm.providers.mlx.pool import model_key, model_pool
from abstractllm.providers.mlx.worker import mlx_thread
from abstractllm.types import GenerateResponse

from .conftest import write_tiny_model


class TestSettings:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("draft_model", [3, "", True, ["a"]]),
            ("draft_tokens", [0, -1, 33, 1.5, True, "3"]),
            ("kv_bits", [0, 2, 16, True, 8.0, "8"]),
            ("kv_group_size", [0, 16, 48, 256, True, "64"]),
        ],
    )
    def test_wrong_values_are_refused_at_construction(self, name: str, values: list[object]) -> None:
        for value in values:
            config = {"draft_model": "x", "kv_bits": 8} | {name: value}
            with pytest.raises(InvalidParameterError, match=name) as caught:
                MLXProvider(**config)
            assert caught.value.parameter == name

    @pytest.mark.parametrize(
        ("name", "value", "partner"), [("draft_tokens", 3, "draft_model"), ("kv_group_size", 64, "kv_bits")]
    )
    def test_one_that_says_more_about_another_needs_that(self, name: str, value: int, partner: str) -> None:
        with pytest.raises(InvalidParameterError, match=f"nothing without {partner}"):
            MLXProvider(**{name: value})

    def test_what_is_left_out_has_its_default(self) -> None:
        assert Exclusive.of({}) == Exclusive()
        assert Exclusive.of({"draft_model": Path("a", "b"), "kv_bits": 4}) == Exclusive(str(Path("a", "b")), 3, 4, None)

    def test_they_can_stand_in_a_config_string_and_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        parsed = parse_config_string("mlx?draft_model=some/draft&draft_tokens=5&kv_bits=4&kv_group_size=32")
        monkeypatch.setenv("ABSTRACTLLM_MLX_KV_BITS", "8")
        for provider, bits in ((MLXProvider(parsed.settings), 4), (MLXProvider(), 8)):
            assert provider._exclusive.kv_bits == bits
        assert Exclusive.of(parsed.settings) == Exclusive("some/draft", 5, 4, 32)

    def test_they_can_be_changed(self) -> None:
        llm = MLXProvider()
        llm.set_config(kv_bits=8)
        assert llm._key(None).exclusive.kv_bits == 8
        with pytest.raises(InvalidParameterError):
            llm.set_config(kv_bits=9)
        assert llm._key(None).exclusive.kv_bits == 8

    def test_they_are_part_of_the_model_s_key(self, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tiny_model.parent)
        plain = model_key(None, "auto")
        assert plain == model_key(None, "auto", Exclusive())
        assert plain != model_key(None, "auto", Exclusive(kv_bits=8))
        written = [model_key(None, "auto", Exclusive(draft_model=one)) for one in (tiny_model.name, str(tiny_model))]
        assert written[0] == written[1] != plain


def truncated(folder: Path, layers: int) -> Path:
    """The shipped model with only its first layers."""
    mx = import_mlx()
    shutil.copytree(embedded.PATH, folder)
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(config))
    weights = mx.load(str(embedded.PATH / "model.safetensors"))
    kept = {name: one for name, one in weights.items() if not any(f"layers.{n}." in name for n in range(layers, 5))}
    mx.save_safetensors(str(folder / "model.safetensors"), kept)
    return folder


@pytest.fixture(scope="module")
def plain() -> Iterator[MLXProvider]:
    with MLXProvider(max_tokens=24) as llm:
        yield llm


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return truncated(tmp_path_factory.mktemp("drafts") / "draft", 4)


@pytest.fixture(scope="module")
def drafted(draft: Path) -> Iterator[MLXProvider]:
    with MLXProvider(draft_model=draft, draft_tokens=4, max_tokens=24) as llm:
        yield llm


class Person(BaseModel):
    name: str
    age: int


def get_weather(city: str) -> str:
    """Current weather in a city."""
    return city


REQUESTS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "seeded": {"temperature": 0.9, "top_p": 0.95, "seed": 7},
    "penalised": {"repetition_penalty": 1.2, "frequency_penalty": 0.4, "presence_penalty": 0.3},
    "biased": {"logit_bias": {70: 4.0, 71: -100}},
    "stopped": {"stop": ["e"]},
    "short": {"max_tokens": 1},
    "even": {"max_tokens": 5},
    "in a form": {"response_format": Person, "max_tokens": 200},
    "in a form, sampled": {"response_format": Person, "max_tokens": 200, "temperature": 1.0, "seed": 2},
    "with tools": {"tools": [get_weather], "tool_choice": "required", "max_tokens": 100},
    "several": {"n": 3, "temperature": 1.0, "seed": 4},
    "exact": {"deterministic": True},
}


def facts(answer: GenerateResponse) -> tuple[object, ...]:
    assert answer.usage is not None
    counts = answer.usage.prompt_tokens, answer.usage.completion_tokens
    calls = [(call.name, call.arguments) for call in answer.tool_calls]
    said = [choice.content for choice in answer.choices]
    return answer.content, calls, answer.finish_reason, answer.stop_string, answer.parsed, said, counts


class TestDraft:
    @pytest.mark.parametrize("name", REQUESTS)
    def test_an_answer_is_the_one_without_a_draft(self, plain: MLXProvider, drafted: MLXProvider, name: str) -> None:
        expected = plain.generate("Tell me about Ana, who is 7.", **REQUESTS[name])
        answer = drafted.generate("Tell me about Ana, who is 7.", **REQUESTS[name])
        assert facts(answer) == facts(expected)

    def test_logprobs_are_those_of_the_model(self, plain: MLXProvider, drafted: MLXProvider) -> None:
        answers = [llm.generate("Hello", logprobs=True, top_logprobs=2) for llm in (plain, drafted)]
        first, second = ([(one.token, round(one.logprob, 3)) for one in answer.logprobs] for answer in answers)
        assert first == second

    def test_usage_tells_how_many_proposals_were_taken(self, plain: MLXProvider, drafted: MLXProvider) -> None:
        usage, without = drafted.generate("Hello").usage, plain.generate("Hello").usage
        assert usage is not None
        assert without is not None
        assert 0 < usage.accepted_tokens <= usage.proposed_tokens
        assert usage.accepted_tokens < usage.completion_tokens
        assert (without.proposed_tokens, without.accepted_tokens) == (0, 0)

    async def test_leaving_a_stream_makes_place_for_the_next(self, drafted: MLXProvider) -> None:
        for _ in range(3):
            async with drafted.generate_async("Count to a thousand", stream=True, max_tokens=2000) as stream:
                await anext(stream)
        assert (await drafted.generate_async("Hello")).content

    def test_a_deadline_ends_it(self, drafted: MLXProvider, tiny_model: Path) -> None:
        with MLXProvider(model=str(tiny_model), draft_model=tiny_model, max_tokens=400) as endless:
            with pytest.raises(RequestTimeoutError):
                endless.generate("Tell me", timeout=0.001)
            assert endless.generate("Tell me", max_tokens=3).usage is not None

    def test_the_context_is_that_of_the_smaller_window(self, draft: Path, tmp_path: Path) -> None:
        short = shutil.copytree(draft, tmp_path / "short")
        config = json.loads((short / "config.json").read_text()) | {"max_position_embeddings": 64}
        (short / "config.json").write_text(json.dumps(config))
        with MLXProvider(draft_model=short, max_tokens=1000) as llm:
            usage = llm.generate("Hello").usage
            assert llm.get_capabilities()[ModelCapability.CONTEXT_WINDOW] == 64
            assert usage is not None
            assert usage.total_tokens <= 64

    def test_a_draft_that_is_not_there_leaves_the_window_unknown(self) -> None:
        capabilities = MLXProvider(draft_model="nobody/not-cached").get_capabilities()
        assert capabilities[ModelCapability.CONTEXT_WINDOW] is None
        assert capabilities[ModelCapability.TOOL_USE] is True

    def test_a_draft_that_cannot_be_found_or_used_is_refused_at_load(self, draft: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError):
            MLXProvider(draft_model="./no-such-model").load()
        other = shutil.copytree(draft, tmp_path / "other")
        content = json.loads((other / "tokenizer.json").read_text())
        content["added_tokens"].append(content["added_tokens"][0] | {"id": 2048, "content": "<new>"})
        (other / "tokenizer.json").write_text(json.dumps(content))
        with pytest.raises(UnsupportedModelError, match="other tokens"):
            MLXProvider(draft_model=other).load()

    def test_a_model_with_windows_is_refused_at_load(self, make_model: Any, tmp_path: Path) -> None:
        windows = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 32}
        folder = make_model(tmp_path / "windows", **windows)
        for config in ({"model": str(folder), "draft_model": str(embedded.PATH)}, {"draft_model": str(folder)}):
            with pytest.raises(UnsupportedFeatureError, match="RotatingKVCache"):
                MLXProvider(**config).load()
        with pytest.raises(UnsupportedFeatureError, match="RotatingKVCache"):
            MLXProvider(model=str(folder), kv_bits=8).load()


class TestQuantisedCaches:
    @pytest.mark.parametrize("bits", [4, 8])
    def test_the_shipped_model_answers_with_them(self, bits: int) -> None:
        with MLXProvider(kv_bits=bits, max_tokens=200) as llm:
            answer = llm.generate("Ana is 7 years old.", response_format=Person)
            again = llm.generate("Ana is 7 years old.", response_format=Person)
        assert isinstance(answer.parsed, Person)
        assert again.content == answer.content
        assert again.usage is not None
        assert again.usage.cached_tokens > 0

    def test_a_group_that_does_not_fit_is_refused_at_load(self) -> None:
        with pytest.raises(InvalidParameterError, match="Use 32"):
            MLXProvider(kv_bits=8, kv_group_size=64).load()

    async def test_requests_of_both_kinds_of_provider_do_not_mix(self, plain: MLXProvider) -> None:
        async with MLXProvider(kv_bits=8, max_tokens=4) as llm:
            await llm.generate_async("Hello")
            loaded = model_pool().loaded()
            assert {key.exclusive.kv_bits for key in loaded} >= {8}
            engine = model_pool().get(llm._key(None), llm).result()._engine
            assert engine._cap == 1


class TestSharedWeights:
    def test_providers_that_differ_in_these_settings_alone_share_them(self, draft: Path) -> None:
        with (
            MLXProvider(model=str(draft)) as one,
            MLXProvider(draft_model=draft) as two,
            MLXProvider(kv_bits=8) as three,
        ):
            models = [llm._loading(None if llm is not one else str(draft)).result() for llm in (one, two, three)]
            plain, paired, quantised = (loaded._engine._runner._model for loaded in models)
            assert paired._draft is plain
            assert paired._target is quantised._model is not plain

    def test_files_that_have_changed_are_read_anew(self, tmp_path: Path) -> None:
        folder = write_tiny_model(tmp_path / "model")

        def load() -> Any:
            return shared_weights(folder, "float32")

        first = mlx_thread().run(load).result()
        assert mlx_thread().run(load).result() is first
        write_tiny_model(folder, seed=1)
        assert mlx_thread().run(load).result() is not first

    def test_nobody_else_keeps_them(self, tmp_path: Path) -> None:
        import gc
        import weakref

        folder = write_tiny_model(tmp_path / "model")

        def load() -> Any:
            return weakref.ref(shared_weights(folder, "float32"))

        seen = mlx_thread().run(load).result()
        mlx_thread().run(gc.collect).result()
        assert seen() is None
