"""The MLX provider: models in this process, on Apple silicon, CUDA and Linux CPU. Importing it does not import MLX."""

from abstractllm.providers.mlx.provider import MLXProvider

__all__ = ["MLXProvider"]
