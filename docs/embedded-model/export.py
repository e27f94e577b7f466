"""Write a checkpoint as the folder that ships: ``python export.py RUN/last.pt``.

The averaged weights are stored in float16 under transformers' names; each file is replaced at once, never half written.
"""

import argparse
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from model import ModelConfig
from safetensors.torch import save_file
from tokenizer import tokenizer_config
from tokenizers import Tokenizer

SHIPPED = Path(__file__).parents[2] / "abstractllm" / "embedded"


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented JSON with a newline at the end."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_model(checkpoint: Path, tokenizer: Tokenizer, folder: Path, averaged: bool) -> int:
    """Weights and configurations into ``folder``; returns the number of parameters."""
    state = torch.load(checkpoint, map_location="cpu")
    config = ModelConfig(**state["config"])
    weights = {name: tensor.to(torch.float16).contiguous() for name, tensor in state["average" if averaged else "net"].items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    start = tokenizer.token_to_id("<|im_start|>")
    write_json(folder / "config.json", config.to_json(bos=start, eos=end, pad=pad))
    write_json(folder / "generation_config.json", {"bos_token_id": start, "eos_token_id": [end, pad], "pad_token_id": pad, "do_sample": False})
    write_json(folder / "tokenizer_config.json", tokenizer_config(config.max_position_embeddings))
    return sum(tensor.numel() for tensor in weights.values())


def main() -> None:
    """Export the checkpoint given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--to", type=Path, default=SHIPPED)
    parser.add_argument("--raw", action="store_true", help="the last weights instead of their running average")
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.to / "tokenizer.json"))
    with TemporaryDirectory(dir=options.to.parent) as name:
        count = write_model(options.checkpoint, tokenizer, Path(name), not options.raw)
        for file in Path(name).iterdir():
            file.chmod(0o644)
            os.replace(file, options.to / file.name)
    size = (options.to / "model.safetensors").stat().st_size
    print(f"{count:,} parameters, {size:,} bytes, in {options.to}")


if __name__ == "__main__":
    main()
