"""The rules for all providers, kept by transformers' models on PyTorch."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from abstractllm.providers.call import Call
from abstractllm.providers.huggingface import HuggingFaceProvider
from abstractllm.testing import ProviderConformance
from abstractllm.testing.requests import declared
from abstractllm.types import GenerateRequest, GenerateResponse

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


class Held(HuggingFaceProvider):
    """Waits for a gate in the model's thread, where all computing is done."""

    gate: threading.Event

    def _stream(self, request: GenerateRequest, call: Call) -> Iterator[GenerateResponse]:
        self._loaded(request.model).threads.submit(self.gate.wait)
        yield from super()._stream(request, call)


class TestGreedy(ProviderConformance):
    """A random model, whose answers are long enough to cut."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24}
    tools = (WEATHER, SWITCH)

    @pytest.fixture(autouse=True)
    def _model(self, tiny_model: Path, tmp_path: Path) -> None:
        self.folder = str(tiny_model)
        self.copy = tmp_path / "truncated"

    def make(self) -> HuggingFaceProvider:
        return HuggingFaceProvider(model=self.folder)

    def make_failing(self) -> HuggingFaceProvider:
        """A model whose weights are cut off."""
        shutil.copytree(self.folder, self.copy)
        weights = self.copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        return HuggingFaceProvider(model=str(self.copy))

    def make_waiting(self, gate: threading.Event) -> HuggingFaceProvider:
        llm = Held(model=self.folder)
        llm.gate = gate
        llm.load()
        return llm


class TestSeeded(TestGreedy):
    """The same, sampled."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24, "temperature": 0.9, "top_k": 40, "seed": 3}


class TestShipped(ProviderConformance):
    """The model that ships, which calls tools of its own accord."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 60}
    tool_prompt = "What is the weather in Paris?"
    tools = (SWITCH, WEATHER)

    def make(self) -> HuggingFaceProvider:
        return HuggingFaceProvider()


def test_no_rule_about_a_parameter_is_left_out(tiny_model: Path) -> None:
    """What is declared is taken by a call of its own, or has a rule of its own; what is not is refused."""
    with HuggingFaceProvider(model=str(tiny_model)) as llm:
        taken: set[Any] = {name for arguments in declared(llm) for name in arguments}
    with_rules = {"max_tokens", "stop", "n", "logprobs", "top_logprobs", "tool_choice", "response_format"}
    assert taken | with_rules == set(HuggingFaceProvider.parameters)
