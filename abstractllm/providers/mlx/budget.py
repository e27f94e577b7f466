"""What MLX may use in this process: models, bytes for KV caches, time. From the environment, or measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from abstractllm.errors import ConfigurationError
from abstractllm.providers.local.memory import available_memory
from abstractllm.providers.mlx.backend import on_cpu

MOST_PREFIX_BYTES = 2**30
"""Prefixes are kept in at most so many bytes where nothing else is said."""

MOST_DISK_BYTES = 2**32
"""And in at most so many of the folder for them, if there is one."""


def most_models() -> int:
    """Return how many idle models stay loaded. Raises ConfigurationError."""
    return _number("ABSTRACTLLM_MLX_MAX_MODELS", least=1) or 2


def step_timeout() -> float | None:
    """Return after how many seconds one step counts as hung; None is never. Raises ConfigurationError."""
    return _number("ABSTRACTLLM_MLX_STEP_TIMEOUT", least=1)


def kv_bytes(mx: Any) -> int | None:
    """Return the bytes that the KV caches of one model may take: half of what is free now; None where nobody knows.

    On a GPU, what is free is what the system recommends to use, less what MLX holds. Raises ConfigurationError.
    """
    given = _number("ABSTRACTLLM_MLX_KV_BYTES", least=1)
    if given is not None:
        return given
    free = available_memory() if on_cpu(mx) else _free_on_gpu(mx)
    return None if free is None else max(free, 0) // 2


def prefix_bytes(kv_bytes: int | None) -> int:
    """Return how many bytes of them may be kept for later prompts: a quarter, at most 1 GiB.

    Raises ConfigurationError.
    """
    given = _number("ABSTRACTLLM_MLX_PREFIX_BYTES", least=0)
    if given is not None:
        return given
    return MOST_PREFIX_BYTES if kv_bytes is None else min(kv_bytes // 4, MOST_PREFIX_BYTES)


def prefix_folder() -> Path | None:
    """Return the folder in which prefixes outlive the process, or None for nowhere. Raises ConfigurationError."""
    text = os.environ.get("ABSTRACTLLM_MLX_PREFIX_DIR")
    if text is None:
        return None
    if not text.strip():
        raise ConfigurationError("ABSTRACTLLM_MLX_PREFIX_DIR is empty: name a folder, or unset it.")
    return Path(text).expanduser().absolute()


def prefix_disk_bytes() -> int:
    """Return how many bytes the files in that folder may take: 4 GiB. Raises ConfigurationError."""
    return _number("ABSTRACTLLM_MLX_PREFIX_DISK_BYTES", least=1) or MOST_DISK_BYTES


def _free_on_gpu(mx: Any) -> int | None:
    info = mx.device_info()
    size = info.get("max_recommended_working_set_size") or info.get("memory_size") or info.get("total_memory")
    return None if size is None else int(size) - int(mx.get_active_memory())


def _number(variable: str, *, least: int) -> int | None:
    text = os.environ.get(variable)
    if text is None:
        return None
    if not text.isdigit() or int(text) < least:
        raise ConfigurationError(f"{variable}={text!r} is not valid: it must be a number from {least} on.")
    return int(text)
