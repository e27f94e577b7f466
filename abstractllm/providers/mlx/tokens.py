"""The tokenizer of one model as mlx-lm loads it, for `ChatTokenizer`."""

from __future__ import annotations

from pathlib import Path

from abstractllm.errors import ModelLoadingError
from abstractllm.providers.local.tokenizer import ChatTokenizer


def load_tokenizer(path: Path, stop_tokens: object) -> ChatTokenizer:
    """Load the tokenizer in a model's folder. `stop_tokens` are the ids that its config names, or None.

    Raises ModelLoadingError.
    """
    from mlx_lm.tokenizer_utils import load

    try:
        return ChatTokenizer(load(path, {"trust_remote_code": False}, eos_token_ids=stop_tokens))
    except Exception as error:
        raise ModelLoadingError(
            f"The tokenizer in {path} cannot be loaded ({type(error).__name__}: {error}). Fetch the model again.",
            provider="mlx",
        ) from error
