"""PyTorch and transformers: whether they are there, on what they compute, and what they are called in errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from typing import Any

from abstractllm.errors import AbstractLLMError, InvalidParameterError, MissingDependencyError, install_command

NAME = "huggingface"
"""The provider's name."""

LIBRARIES = ("torch", "transformers", "llguidance", "numpy")
"""What has to be installed."""

_DEVICE = re.compile(r"auto|cpu|mps|(cuda|xpu)(:[0-9]+)?")


def missing_libraries() -> str | None:
    """Return what to install, with the command for it, or None when all is there; imports nothing."""
    missing = [name for name in LIBRARIES if find_spec(name) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} cannot be found. Install with: {install_command(NAME)}"


def check_installed() -> None:
    """Raise MissingDependencyError, which names the install command, when a library is not installed."""
    missing = missing_libraries()
    if missing is not None:
        raise MissingDependencyError(missing, provider=NAME)


def import_torch() -> Any:
    """Return the module `torch`. Raises MissingDependencyError."""
    try:
        import torch
    except (ImportError, OSError) as error:  # a wheel for another system lacks its shared libraries
        raise MissingDependencyError(
            f"PyTorch cannot be imported ({error}). Install it with: {install_command(NAME)}", provider=NAME
        ) from error
    return torch


def version(library: str) -> str | None:
    """Return the version of an installed library, or None."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def check_device(device: object) -> str:
    """Return the `device` setting, without a look at the machine. Raises InvalidParameterError."""
    if not isinstance(device, str) or not _DEVICE.fullmatch(device):
        raise InvalidParameterError(
            "device", f"device={device!r} is not valid: use auto, cpu, cuda, cuda:1 and so on, mps or xpu."
        )
    return device


def find_device(name: str) -> Any:
    """Return the `torch.device` of this name, for "auto" the first GPU where there is one, else the processor.

    Raises InvalidParameterError for one that cannot be used here.
    """
    torch = import_torch()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise InvalidParameterError(
            "device", f"device={name!r} cannot be used here ({reason}). Use 'auto' or 'cpu'.", provider=NAME
        ) from error


@contextmanager
def own_errors() -> Iterator[None]:
    """Put this provider's name on the errors of modules that it shares with another one."""
    try:
        yield
    except AbstractLLMError as error:
        error.provider = NAME
        raise
