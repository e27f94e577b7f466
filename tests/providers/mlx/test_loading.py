"""Weights in memory, and every way in which a model's folder can be broken. Loaded here on the test's own thread."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest

from abstractllm.errors import InvalidParameterError, ModelLoadingError, UnsupportedModelError
from abstractllm.providers.local.dtypes import check_dtype
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.loading import convert, load_weights

mx = import_mlx()


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    """A tiny model that the test may break."""
    return shutil.copytree(tiny_model, tmp_path / "model")


@pytest.fixture(autouse=True)
def on_the_processor():
    """What `dtype="auto"` does depends on the device."""
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(before)


@pytest.fixture(scope="session")
def four_bits(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with 4-bit weights, as mlx-lm writes them."""
    from mlx_lm.utils import load_model, quantize_model, save_config, save_model

    folder = tmp_path_factory.mktemp("models") / "tiny-4bit"
    model, config = quantize_model(*load_model(tiny_model), group_size=32, bits=4)
    save_model(folder, model)
    save_config(config, folder / "config.json")
    return folder


def change_config(folder: Path, **changes: object) -> None:
    """Write a model's config anew, with changes."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def dtypes(model: object) -> set[object]:
    """The number formats of a model's weights."""
    from mlx.utils import tree_flatten

    return {weight.dtype for _, weight in tree_flatten(model.parameters())}


def answer(model: object) -> object:
    """What the model makes of two tokens."""
    return model(mx.array([[5, 6]]))


@pytest.mark.parametrize("dtype", ["auto", "float32", "float16", "bfloat16"])
def test_the_weights_get_the_format_that_is_asked_for(dtype, tiny_model):
    expected = getattr(mx, "float32" if dtype == "auto" else dtype)
    assert dtypes(load_weights(tiny_model, dtype)) == {expected}


@pytest.mark.parametrize(("dtype", "expected"), [("auto", mx.float32), ("float16", mx.float16)])
def test_half_precision_becomes_float32_on_the_processor_unless_it_is_asked_for(dtype, expected, model):
    weights = {name: weight.astype(mx.float16) for name, weight in mx.load(str(model / "model.safetensors")).items()}
    mx.save_safetensors(str(model / "model.safetensors"), weights)
    assert dtypes(load_weights(model, dtype)) == {expected}


@pytest.mark.parametrize(("dtype", "expected"), [("auto", mx.float32), ("float16", mx.float16)])
def test_four_bits_are_unpacked_on_the_processor(dtype, expected, four_bits, tiny_model):
    from mlx_lm.utils import load_model

    packed, _ = load_model(four_bits)
    assert mx.uint32 in dtypes(packed)
    loaded = load_weights(four_bits, dtype)
    assert dtypes(loaded) == {expected}
    assert mx.allclose(answer(loaded), answer(packed), rtol=5e-2, atol=5e-2)


def test_the_layout_for_blas_changes_no_value(tiny_model):
    from mlx_lm.utils import load_model

    stored, _ = load_model(tiny_model)
    loaded = load_weights(tiny_model, "float32")
    weights = {name: module.weight for name, module in stored.named_modules() if hasattr(module, "weight")}
    laid_out = {name: module.weight for name, module in loaded.named_modules() if hasattr(module, "weight")}
    assert laid_out.keys() == weights.keys()
    for name, ours in laid_out.items():
        assert mx.array_equal(ours, weights[name]), name
    assert mx.allclose(answer(loaded), answer(stored), rtol=1e-4, atol=1e-4)


def test_weights_that_would_fill_the_memory_stay_as_they_are(caplog):
    """A model of some 10^13 weights, of which none is ever computed."""
    from mlx import nn

    class Huge(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Embedding(1, 1)
            self.layer.weight = mx.zeros((2**22, 2**22), dtype=mx.bfloat16)

    model = Huge()
    with caplog.at_level(logging.WARNING, "abstractllm.mlx"):
        convert(model, "auto")
    assert model.layer.weight.dtype == mx.bfloat16
    assert "stay in their own number format" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"model_type": "llama"}'])
def test_a_broken_config(text, model):
    (model / "config.json").write_text(text)
    with pytest.raises(ModelLoadingError, match="fetch it again"):
        load_weights(model, "auto")


def test_an_unknown_architecture(model):
    change_config(model, model_type="nobody_knows")
    with pytest.raises(UnsupportedModelError, match="nobody_knows not supported"):
        load_weights(model, "auto")


def test_no_weights(model):
    (model / "model.safetensors").unlink()
    with pytest.raises(ModelLoadingError, match="No safetensors"):
        load_weights(model, "auto")


@pytest.mark.parametrize("size", [0, 4, 100, 5000, -1000])
def test_truncated_weights(size, model):
    file = model / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:size])
    with pytest.raises(ModelLoadingError, match="fetch it again"):
        load_weights(model, "auto")


def test_weights_that_are_no_safetensors(model):
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n" * 10)
    with pytest.raises(ModelLoadingError, match="fetch it again"):
        load_weights(model, "auto")


def test_weights_of_another_shape(model):
    change_config(model, hidden_size=32, head_dim=8)
    with pytest.raises(ModelLoadingError, match="shape"):
        load_weights(model, "auto")


def test_weights_that_are_left_out(model):
    change_config(model, num_hidden_layers=3)
    with pytest.raises(ModelLoadingError, match="Missing"):
        load_weights(model, "auto")


def test_code_of_the_model_is_never_run(model):
    (model / "mine.py").write_text("raise SystemExit")
    change_config(model, model_file="mine.py")
    with pytest.raises(UnsupportedModelError, match=r"mine\.py"):
        load_weights(model, "auto")


def test_the_settings_that_there_are():
    assert check_dtype("auto") == "auto"
    for wrong in ("int8", "", None, 16, ["auto"]):
        with pytest.raises(InvalidParameterError, match="float32"):
            check_dtype(wrong)
