"""Random tiny models, written on the spot with the shipped model's tokenizer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from abstractllm import embedded
from abstractllm.providers.mlx.backend import import_mlx

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def tiny_config(**changes: Any) -> dict[str, Any]:
    """The config of a llama with about 300,000 weights, and `changes` to it; a change to None leaves a key out."""
    shipped = json.loads((embedded.PATH / "config.json").read_text())
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "vocab_size": shipped["vocab_size"],
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": shipped["eos_token_id"],
        **changes,
    }
    return {key: value for key, value in config.items() if value is not None}


def write_tokenizer(folder: Path) -> Path:
    """Copy the shipped model's tokenizer and chat template into `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copy(embedded.PATH / name, folder / name)
    return folder


def write_tiny_model(folder: Path, *, seed: int = 0, **changes: Any) -> Path:
    """Write a random llama into `folder` and return it. `changes` are made to its config, as in `tiny_config`.

    The weights are spread wide, so that greedy answers do not hang on near-ties.
    """
    mx = import_mlx()
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    write_tokenizer(folder)
    config = tiny_config(**changes)
    mx.random.seed(seed)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    weights = {name: weight * 4 for name, weight in tree_flatten(model.parameters())}
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random tiny llama. Read only: tests that change a model copy it, or write one of their own."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def make_model() -> Any:
    """The function that writes a random tiny llama into a folder, with changes to its config."""
    return write_tiny_model
