"""Models that cannot run on PyTorch, or not as they are: each is refused with a typed error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from abstractllm import (
    GenerationError,
    InvalidParameterError,
    ModelLoadingError,
    ModelNotFoundError,
    UnsupportedModelError,
)
from abstractllm.providers.huggingface import HuggingFaceProvider

SAMPLED = {"temperature": 0.8, "top_p": 0.95, "seed": 7}


def test_a_missing_folder_says_where_it_looked() -> None:
    with pytest.raises(ModelNotFoundError, match="no such folder") as caught:
        HuggingFaceProvider(model="./no-such-model").generate("Hello")
    assert caught.value.provider == "huggingface"


def test_truncated_weights_are_refused_and_can_be_mended(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with HuggingFaceProvider(model=folder) as llm:
        with pytest.raises(ModelLoadingError, match="fetch it again"):
            llm.generate("Hello")
        weights.write_bytes(whole)
        assert llm.generate("Hello", max_tokens=2).content


def test_weights_that_are_missing_are_not_made_up(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy(tiny_model, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelLoadingError, match=r"lack 1 .*layers\.1\.mlp\.up_proj"):
        HuggingFaceProvider(model=folder).load()


def test_pickles_are_not_read(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = copy(tiny_model, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelLoadingError, match="safetensors"):
        HuggingFaceProvider(model=folder).load()


def test_code_that_comes_with_a_model_is_not_run(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(
        tiny_model, tmp_path, model_type="odd", auto_map={"AutoModelForCausalLM": "odd.Odd", "AutoConfig": "odd.C"}
    )
    (folder / "odd.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UnsupportedModelError, match="never run"):
        HuggingFaceProvider(model=folder).load()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["bert", "no-such-kind"])
def test_what_is_no_language_model_is_refused(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    folder = copy(tiny_model, tmp_path, model_type=kind)
    with pytest.raises((UnsupportedModelError, ModelLoadingError)):
        HuggingFaceProvider(model=folder).load()


def test_weights_that_were_quantised_for_mlx_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path, quantization={"group_size": 64, "bits": 4})
    with pytest.raises(UnsupportedModelError, match="quantised for MLX"):
        HuggingFaceProvider(model=folder).load()


def test_a_model_without_chat_template_is_refused_at_the_call(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UnsupportedModelError, match="chat template"):
        HuggingFaceProvider(model=folder).generate_async("Hello")


def test_a_device_that_is_not_here_is_refused() -> None:
    import torch

    absent = "cuda:77" if torch.cuda.is_available() else "cuda"
    with pytest.raises(InvalidParameterError, match=absent) as caught:
        HuggingFaceProvider(device=absent).load()
    assert caught.value.parameter == "device"


def test_numbers_that_overflow_are_an_error_and_no_text(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copy(tiny_model, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with HuggingFaceProvider(model=folder) as llm:
        for options in ({}, SAMPLED, {"logprobs": True}):
            with pytest.raises(GenerationError, match="overflowed"):
                llm.generate("Hello", **options)


def copy(model: Path, folder: Path, **config: object) -> Path:
    """Copy a model, with some of its config changed."""
    target = folder / "model"
    shutil.copytree(model, target)
    settings = json.loads((target / "config.json").read_text()) | config
    (target / "config.json").write_text(json.dumps(settings))
    return target
