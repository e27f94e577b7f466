"""One thread for PyTorch, as small models gain nothing from more; and random tiny models of any architecture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when PyTorch is imported, which the tests do

from abstractllm import embedded

LLAMA = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 128,
    "vocab_size": 2048,
    "max_position_embeddings": 4096,
    "bos_token_id": 1,
    "eos_token_id": [2, 0],
    "pad_token_id": 0,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")

WriteModel = Callable[..., Path]


def write_model(folder: Path, kind: str = "llama", **changes: Any) -> Path:
    """Write a random model with the shipped tokenizer into `folder`, and return it.

    Its config has `changes`; a change to None leaves a key out. The layers' weights are spread wide, so that greedy
    answers do not hang on near-ties.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = {name: value for name, value in {**LLAMA, **changes}.items() if value is not None}
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config), dtype=torch.float32)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.dim() > 1 and "embed" not in name:
                weight.mul_(6)
    network.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copy(embedded.PATH / name, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random tiny llama. Read only: tests that change a model write one of their own."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def make_model() -> WriteModel:
    """The function that writes a random model."""
    return write_model
