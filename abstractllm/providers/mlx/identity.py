"""What tells the loaded models of different processes apart, as far as their KV caches go."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from abstractllm.providers.mlx.backend import version
from abstractllm.providers.mlx.caches import empty_caches
from abstractllm.providers.mlx.prefixfiles import FORM

SAMPLES = 16
SAMPLE_BYTES = 4096
"""Read of each file: so many pieces of so many bytes, from its beginning to its end."""


def files_of(path: Path) -> list[Any]:
    """Return JSON data that tells the model in a folder from others; take it before the model is loaded.

    It is the config, and the name, size, time of change and 64 KiB of samples of every file of weights or code. Whole
    files are not read, as this would take as long as loading them. A copy with new times counts as another model,
    which costs one computation. Raises OSError where the folder cannot be read.
    """
    config = (path / "config.json").read_bytes().hex()
    return [config, [_facts_of(file) for kind in ("*.safetensors", "*.py") for file in sorted(path.glob(kind))]]


def identity(files: list[Any], model: Any) -> str:
    """Return 32 hexadecimal digits: two models that have the same ones compute the same for the same tokens.

    They follow from what `files_of` said before the model was loaded, and from the names, shapes and number formats of
    its weights, the kinds of its caches, the versions of mlx and mlx-lm, the device, and the form of our files. Call
    on the MLX thread.
    """
    import mlx.core as mx
    from mlx.utils import tree_flatten

    facts = {
        "form": FORM,
        "versions": [version("mlx"), version("mlx-lm")],
        "device": str(mx.default_device()),
        "files": files,
        "weights": [(name, list(part.shape), str(part.dtype)) for name, part in tree_flatten(model.parameters())],
        "caches": [_kind_of(layer) for layer in empty_caches(model)],
    }
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _facts_of(path: Path) -> list[Any]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.sha256()
        for number in range(SAMPLES):
            file.seek(max(0, number * (status.st_size - SAMPLE_BYTES) // (SAMPLES - 1)))
            digest.update(file.read(SAMPLE_BYTES))
    return [path.name, status.st_size, status.st_mtime_ns, digest.hexdigest()]


def _kind_of(layer: Any) -> list[Any]:
    """Return the class of a cache, and what it was made with; of one that holds others, theirs too."""
    kind = type(layer)
    parts = [_kind_of(part) for part in getattr(layer, "caches", ())]
    window = [getattr(layer, name, None) for name in ("max_size", "keep")]
    return [f"{kind.__module__}.{kind.__qualname__}", window, parts]
