"""Makes every answer as long as it may be, so that contestants do equal work."""

from __future__ import annotations

from pathlib import Path

from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.pool import model_key, model_pool


def never_end(llm: MLXProvider, folder: Path) -> None:
    """Load the provider's model and have the engine treat no token as the end."""
    loaded = model_pool().get(model_key(str(folder), "auto"), llm).result()
    loaded._engine._stop_tokens = []
