"""Models for benchmarks: the one that ships, and random llamas of a given shape, made on the spot."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from abstractllm import embedded
from abstractllm.providers.mlx.backend import import_mlx


@dataclass(frozen=True)
class Shape:
    """The size of a random llama."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int


LLAMA_28M = Shape(hidden=512, layers=8, heads=8, inner=1376, vocabulary=8192)


def random_model(folder: Path, shape: Shape, *, seed: int = 0) -> Path:
    """Write a random float32 llama with the shipped model's tokenizer into `folder` and return it.

    It says whole words only: a token without text of its own has a logit of 0, never the greatest. So each step of a
    stream shows in its chunks.
    """
    mx = import_mlx()
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    folder.mkdir(parents=True, exist_ok=True)
    config = _config(shape)
    mx.random.seed(seed)
    model = llama.Model(llama.ModelArgs.from_dict(config))
    embedding = model.model.embed_tokens
    embedding.weight = embedding.weight * mx.array(_has_text(shape.vocabulary))[:, None]
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(embedded.PATH / name, folder / name)
    return folder


def _has_text(vocabulary: int) -> list[float]:
    """Return 1 for each token that is text by itself and 0 for special ones, parts of a character and unused ones."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(embedded.PATH / "tokenizer.json"))
    texts = (tokenizer.decode([token]) for token in range(vocabulary))
    return [float(text != "" and "\ufffd" not in text) for text in texts]


def _config(shape: Shape) -> dict[str, object]:
    shipped = json.loads((embedded.PATH / "config.json").read_text())
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "head_dim": shape.hidden // shape.heads,
        "intermediate_size": shape.inner,
        "vocab_size": shape.vocabulary,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "eos_token_id": shipped["eos_token_id"],
    }
