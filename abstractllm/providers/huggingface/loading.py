"""A model's folder -> its network in memory, in the number format that is asked for. Safetensors only, no foreign code.

Knows PyTorch and transformers, no requests.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from abstractllm.errors import AbstractLLMError, ModelLoadingError, UnsupportedModelError
from abstractllm.providers.huggingface.backend import NAME, find_device, import_torch
from abstractllm.providers.local.hub import read_config
from abstractllm.providers.local.memory import available_memory

logger = logging.getLogger("abstractllm.huggingface")

_FOREIGN = ("Unrecognized configuration class", "does not recognize this architecture", "custom code", "model type")
"""What transformers says of models that it has no network for."""


def load_network(path: Path, dtype: str, device: str) -> Any:
    """Return the network in a folder, ready to compute. `dtype` and `device` are the settings.

    With `dtype="auto"` the weights stay as they are on a GPU, and become float32 on the processor if that takes at most
    half of the available memory: there other formats are slow. Raises ModelLoadingError, UnsupportedModelError, or
    InvalidParameterError for a device that is not here.
    """
    place = find_device(device)
    config = read_config(path)
    _check_format(path, config)
    try:
        network, report = _read(path, _number_format(path, config, dtype, place))
        _check_complete(path, report)
        network.requires_grad_(False)
        return network.to(place).eval()
    except AbstractLLMError:
        raise
    except Exception as error:
        raise _loading_error(path, error) from error


def _read(path: Path, dtype: str) -> tuple[Any, Mapping[str, Any]]:
    from transformers import AutoModelForCausalLM

    with _without_bars():
        network, report = AutoModelForCausalLM.from_pretrained(
            str(path),
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    return network, report


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers from drawing a progress bar into the user's output."""
    from transformers.utils import logging as library

    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bar()


def _check_format(path: Path, config: Mapping[str, Any]) -> None:
    quantised = config.get("quantization")
    if isinstance(quantised, Mapping) and "quant_method" not in quantised:
        raise UnsupportedModelError(
            f"The weights in {path} are quantised for MLX. Use the original model, or the provider 'mlx'.",
            provider=NAME,
        )


def _check_complete(path: Path, report: Mapping[str, Any]) -> None:
    """Refuse weights that are not all there: transformers would put random ones in their place."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise ModelLoadingError(
            f"The weights in {path} lack {len(missing)} of the network's, such as {missing[0]!r}. Fetch the model"
            " again, or use one that was made for generating text.",
            provider=NAME,
        )


def _number_format(path: Path, config: Mapping[str, Any], dtype: str, device: Any) -> str:
    """Return the name of the format to load weights in; "auto" leaves them as they are."""
    if dtype != "auto" or device.type != "cpu":
        return dtype
    free, needed = available_memory(), _float32_bytes(path, config)
    if free is None or needed <= free // 2:
        return "float32"
    logger.warning(
        "The weights stay in their own number format: as float32 they would need %.1f GB of %.1f GB that are free.",
        needed / 1e9,
        free / 1e9,
    )
    return "auto"


def _float32_bytes(path: Path, config: Mapping[str, Any]) -> int:
    """Return about how many bytes the weights take as float32, from the size of their files."""
    torch = import_torch()
    stored = getattr(torch, str(config.get("dtype") or config.get("torch_dtype")), torch.float32)
    numbers = sum(file.stat().st_size for file in path.glob("*.safetensors")) // int(stored.itemsize)
    return 4 * numbers


def _loading_error(path: Path, error: Exception) -> AbstractLLMError:
    what = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    if any(text in str(error) for text in _FOREIGN):
        return UnsupportedModelError(
            f"The model in {path} cannot run here ({what}). transformers must know its architecture: code that comes"
            " with a model is never run.",
            provider=NAME,
        )
    return ModelLoadingError(
        f"The model in {path} cannot be loaded ({what}). If its files are incomplete, fetch it again.", provider=NAME
    )
