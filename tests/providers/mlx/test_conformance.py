"""The rules for all providers, kept by MLX on real models, with all that it can do."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.worker import mlx_thread
from abstractllm.testing import ProviderConformance
from abstractllm.testing.requests import declared

SWITCH = {
    "name": "switch",
    "description": "Switch the light.",
    "parameters": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]},
}
WEATHER = {
    "name": "get_weather",
    "description": "Get the current weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class Held(MLXProvider):
    """Waits for a gate on the MLX thread, where all waiting is done."""

    gate: threading.Event

    def _submit(self, *args: Any) -> None:
        mlx_thread().run(self.gate.wait)
        super()._submit(*args)


class TestGreedy(ProviderConformance):
    """A random model, whose answers are long enough to cut."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24}
    tools = (WEATHER, SWITCH)

    @pytest.fixture(autouse=True)
    def _model(self, tiny_model: Path, tmp_path: Path) -> None:
        self.folder = str(tiny_model)
        self.copy = tmp_path / "truncated"

    def make(self) -> MLXProvider:
        return MLXProvider(model=self.folder)

    def make_failing(self) -> MLXProvider:
        """A model whose weights are cut off."""
        shutil.copytree(self.folder, self.copy)
        weights = self.copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        return MLXProvider(model=str(self.copy))

    def make_waiting(self, gate: threading.Event) -> MLXProvider:
        llm = Held(model=self.folder)
        llm.gate = gate
        llm.load()
        return llm


class TestSeeded(TestGreedy):
    """The same, sampled."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24, "temperature": 0.9, "top_k": 40, "seed": 3}


class TestDraft(TestSeeded):
    """The same, with a draft model."""

    def make(self) -> MLXProvider:
        return MLXProvider(model=self.folder, draft_model=self.folder)


class TestQuantised(ProviderConformance):
    """The model that ships, with KV caches of 8 bits."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24}

    def make(self) -> MLXProvider:
        return MLXProvider(kv_bits=8)


class TestShipped(ProviderConformance):
    """The model that ships, which calls tools of its own accord."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 60}
    tool_prompt = "What is the weather in Paris?"
    tools = (SWITCH, WEATHER)

    def make(self) -> MLXProvider:
        return MLXProvider()


def test_no_rule_about_a_parameter_is_left_out(tiny_model: Path) -> None:
    """What MLX declares is taken by a call of its own, or has a rule of its own; what it does not is refused."""
    with MLXProvider(model=str(tiny_model)) as llm:
        taken = {name for arguments in declared(llm) for name in arguments}
    assert taken | {"max_tokens", "stop", "n", "logprobs", "top_logprobs", "tool_choice", "response_format"} == set(
        MLXProvider.parameters
    )
