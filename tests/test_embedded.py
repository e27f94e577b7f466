"""The model that ships: its files, its tokenizer, and the tokens that it must give."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm import create_llm, embedded
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.worker import mlx_thread

GOLDEN = Path(__file__).parents[1] / "docs" / "embedded-model" / "golden.json"
"""Prompts and their greedy tokens; `python docs/embedded-model/golden.py` makes it."""


@cache
def loaded() -> tuple[Any, Any]:
    """The model and its tokenizer, as mlx-lm loads them, in float32."""

    def load() -> tuple[Any, Any]:
        mx = import_mlx()
        from mlx_lm import load as load_model

        model, tokenizer = load_model(str(embedded.PATH))[:2]
        model.set_dtype(mx.float32)
        mx.eval(model.parameters())
        return model, tokenizer

    return mlx_thread().run(load).result()


def test_the_weights_are_small_and_half_precision() -> None:
    weights = embedded.PATH / "model.safetensors"
    with weights.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))

    assert weights.stat().st_size <= 8_000_000
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"F16"}


def test_the_config_is_a_standard_architecture() -> None:
    config = json.loads((embedded.PATH / "config.json").read_text())

    assert config["model_type"] in ("llama", "qwen3")
    assert config["max_position_embeddings"] >= 4096
    assert "auto_map" not in config


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_survives_the_tokenizer(text: str) -> None:
    _, tokenizer = loaded()
    tokens = tokenizer.encode(text, add_special_tokens=False)

    assert tokenizer.decode(tokens, skip_special_tokens=False) == text


@given(st.integers(min_value=0, max_value=10**12))
def test_digits_are_split_one_by_one(number: int) -> None:
    _, tokenizer = loaded()

    assert len(tokenizer.encode(str(number), add_special_tokens=False)) == len(str(number))


def test_mlx_lm_recognises_its_tool_calls() -> None:
    _, tokenizer = loaded()

    assert tokenizer.has_tool_calling
    assert (tokenizer.tool_call_start, tokenizer.tool_call_end) == ("<tool_call>", "</tool_call>")
    call = {"name": "add", "arguments": {"a": 1, "b": [2, "x"]}}
    assert tokenizer.tool_parser(json.dumps(call), None) == call


def test_loading_and_answering_need_no_torch() -> None:
    code = (
        "import sys; from abstractllm import create_llm; create_llm('mlx').generate('Hello', max_tokens=2);"
        " sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


@pytest.mark.parametrize("part", range(5))
def test_greedy_tokens_are_the_golden_ones(part: int) -> None:
    cases = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert len(cases) >= 50
    for case in cases[part::5]:
        assert greedy(case["prompt_tokens"], len(case["tokens"])) == case["tokens"]


def test_the_chat_template_renders_the_golden_prompts() -> None:
    _, tokenizer = loaded()
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        prompt = tokenizer.apply_chat_template(
            case["messages"], tools=case["tools"] or None, add_generation_prompt=True
        )
        assert list(prompt) == case["prompt_tokens"]


def test_the_chat_template_leaves_out_an_empty_description() -> None:
    """The package always gives one, and the model has never seen an empty one."""
    _, tokenizer = loaded()
    parameters = {"type": "object", "properties": {}}
    without = {"name": "reset", "strict": True, "parameters": parameters}
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "Hi"}], tools=[{"type": "function", "function": function}]
        )
        for function in (without, {**without, "description": ""}, {**without, "description": "Start anew."})
    ]
    assert prompts[0] == prompts[1] != prompts[2]


def greedy(prompt: list[int], length: int) -> list[int]:
    """The model's likeliest tokens, by mlx-lm."""

    def generate() -> list[int]:
        import mlx.core as mx
        from mlx_lm.generate import generate_step

        model, _ = loaded()
        steps = generate_step(mx.array(prompt), model, max_tokens=length)
        return [int(token) for token, _ in steps]

    loaded()
    return mlx_thread().run(generate).result()


def test_the_tool_of_the_readme_is_called() -> None:
    def get_weather(city: str) -> str:
        """Get the weather in a city.

        Args:
            city: Name of the city.
        """
        return "sunny"

    with create_llm("mlx") as llm:
        response = llm.generate("What is the weather in Paris?", tools=[get_weather])

        assert [(call.name, dict(call.arguments)) for call in response.tool_calls] == [
            ("get_weather", {"city": "Paris"})
        ]
        assert response.finish_reason == "tool_calls"
        assert response.content == ""
