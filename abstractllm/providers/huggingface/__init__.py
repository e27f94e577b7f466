"""The Hugging Face provider: transformers' models in this process, on PyTorch. Importing it imports neither."""

from abstractllm.providers.huggingface.provider import HuggingFaceProvider

__all__ = ["HuggingFaceProvider"]
