"""The random tiny model, for what needs the files of one."""

from __future__ import annotations

from ..mlx.conftest import tiny_model

__all__ = ["tiny_model"]
