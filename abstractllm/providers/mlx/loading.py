"""A model's folder -> weights in memory, in the number format and the layout that are fastest here."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from abstractllm.errors import AbstractLLMError, ModelLoadingError, UnsupportedModelError
from abstractllm.providers.local.hub import context_window
from abstractllm.providers.local.memory import available_memory
from abstractllm.providers.mlx.backend import Blas, import_mlx, load_blas, on_cpu

logger = logging.getLogger("abstractllm.mlx")

_loaded: WeakValueDictionary[tuple[object, ...], Any] = WeakValueDictionary()


def shared_weights(path: Path, dtype: str) -> Any:
    """Return the model in a folder, the one in memory if it is there already and its files have not changed since.

    Call on the MLX thread. Raises what `load_weights` raises.
    """
    key = (os.path.realpath(path), dtype, *_versions(path))
    model = _loaded.get(key)
    if model is None:
        model = _loaded[key] = load_weights(path, dtype)
    return model


def _versions(path: Path) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of the files that weights come from."""
    files = sorted([*path.glob("*.safetensors"), *path.glob("*.json")])
    return [(file.name, found.st_size, found.st_mtime_ns) for file in files if (found := _status(file))]


def _status(file: Path) -> os.stat_result | None:
    """Return what the system knows of a file; None for a link that leads nowhere, which loading will tell."""
    return file.stat() if file.exists() else None


def load_weights(path: Path, dtype: str) -> Any:
    """Load and evaluate the model in a folder. Call on the MLX thread.

    With `dtype="auto"` the weights stay as they are on a GPU, and become float32 on the CPU when that takes at most
    half of the available memory: only float32 products go through an optimised BLAS. Raises ModelLoadingError, or
    UnsupportedModelError for an architecture that mlx-lm does not know.
    """
    mx = import_mlx()
    from mlx_lm.utils import load_model

    try:
        model, config = load_model(path, lazy=True)
        convert(model, dtype)
        if on_cpu(mx):
            lay_out_for_blas(model, load_blas())
            quicken(model, context_window(config))
        mx.eval(model.parameters())
        _keep_wired(mx)
    except AbstractLLMError:
        raise
    except Exception as error:
        raise _loading_error(path, error) from error
    return model


def quicken(model: Any, window: int | None) -> None:
    """Replace what MLX computes in many small operations on the CPU, in models with a context of `window` tokens."""
    from abstractllm.providers.mlx.gating import quicken_gating
    from abstractllm.providers.mlx.llamas import quicken_llamas
    from abstractllm.providers.mlx.rotation import tabulate_rotations

    tabulate_rotations(model, window)
    quicken_gating(model)
    quicken_llamas(model)


def _keep_wired(mx: Any) -> None:
    """On Metal, let as much memory stay wired as the system recommends, so that weights are never paged out.

    mlx-lm's generation loops do the same, each time anew (`maybe_set_recommended_wired_limit`).
    """
    recommended = mx.device_info().get("max_recommended_working_set_size")
    if recommended is not None:
        mx.set_wired_limit(recommended)


def _loading_error(path: Path, error: Exception) -> AbstractLLMError:
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, ValueError) and ("not supported" in str(error) or "custom module" in str(error)):
        return UnsupportedModelError(f"The model in {path} cannot run here ({what}).", provider="mlx")
    return ModelLoadingError(
        f"The model in {path} cannot be loaded ({what}). If its files are incomplete, fetch it again.", provider="mlx"
    )


def convert(model: Any, dtype: str) -> None:
    """Bring the weights, not yet evaluated, into the number format that is asked for."""
    import mlx.core as mx

    if dtype == "auto":
        if not on_cpu(mx) or not _fits(model):
            return
        dtype = "float32"
    from mlx_lm.utils import dequantize_model

    dequantize_model(model)
    model.set_dtype(getattr(mx, dtype))


def lay_out_for_blas(model: Any, blas: Blas) -> None:
    """Store the matrices of linear layers as BLAS reads them fastest; their shapes and values stay as they are.

    A linear layer multiplies by its transposed matrix. For the few rows of a decoding step, most shapes are
    faster when BLAS finds that product's matrix row by row, large ones in blocks (see `blocked`): it need not pack them
    first. `tests/benchmarks/matrix_layout.py` measures it.
    """
    from abstractllm.providers.mlx.blocked import cut_into_blocks, store_by_columns

    if blas.reads_small_matrices_in_place:
        cut_into_blocks(model)
    store_by_columns(model)


def _fits(model: Any) -> bool:
    """Whether float32 weights take at most half of the memory that is free."""
    from mlx_lm.utils import get_total_parameters

    free = available_memory()
    needed = 4 * int(get_total_parameters(model))
    if free is None or needed <= free // 2:
        return True
    logger.warning(
        "The weights stay in their own number format: as float32 they would need %.1f GB of %.1f GB that are free.",
        needed / 1e9,
        free / 1e9,
    )
    return False
