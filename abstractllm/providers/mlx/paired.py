"""A model and the small draft model that proposes tokens to it, as one model with the caches of both.

Whatever computes prompts, measures, keeps or cuts caches treats the pair as any other model. Knows no requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from abstractllm.errors import UnsupportedFeatureError, UnsupportedModelError
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.providers.mlx.caches import parts_of
from abstractllm.providers.mlx.tokens import load_tokenizer


class PairedModel:
    """Two models with the same tokens. Called as a model it computes both, and answers with the target's logits.

    `most` is how many tokens the draft proposes at a time, `vocabulary` how many logits the target has for a token.
    Models of one family may differ in unused ids at the end of their vocabularies.
    """

    def __init__(self, target: Any, draft: Any, most: int) -> None:
        from mlx_lm.models.cache import make_prompt_cache

        self.most = most
        self.vocabulary, self.layers = _shape(target)
        self._target = target
        self._draft = draft
        self._draft_vocabulary, _ = _shape(draft)
        _check_caches("model", make_prompt_cache(target))
        _check_caches("draft model", make_prompt_cache(draft))

    def __call__(self, tokens: Any, cache: Any) -> Any:
        """Return the target's logits, (rows, length, vocabulary), of tokens (rows, length) that the draft reads too."""
        self.draft(tokens, cache)
        return self.target(tokens, cache)

    def target(self, tokens: Any, cache: Any) -> Any:
        """Return the target's logits, (rows, length, vocabulary); `cache` are the caches of both."""
        return self._target(tokens, cache=cache[: self.layers])

    def draft(self, tokens: Any, cache: Any) -> Any:
        """Return what the draft says about the token after the last one, (rows, vocabulary) of the target's width."""
        import mlx.core as mx

        surplus = self.vocabulary - self._draft_vocabulary
        if surplus > 0:
            tokens = mx.minimum(tokens, self._draft_vocabulary - 1)
        logits = self._draft(tokens, cache=cache[self.layers :])[:, -1, : self.vocabulary]
        return logits if surplus <= 0 else mx.pad(logits, [(0, 0), (0, surplus)], constant_values=-mx.inf)

    def make_cache(self) -> list[Any]:
        """Return the empty caches of one row, the target's first."""
        from mlx_lm.models.cache import make_prompt_cache

        return [*make_prompt_cache(self._target), *make_prompt_cache(self._draft)]

    def cut(self, layers: list[Any], target: int, draft: int) -> None:
        """Take so many of the last tokens out of the target's caches, and out of the draft's."""
        for number, layer in enumerate(layers):
            surplus = target if number < self.layers else draft
            if surplus:
                layer.trim(surplus)


def check_same_tokens(tokenizer: ChatTokenizer, draft: Path) -> None:
    """Raise UnsupportedModelError unless the draft model in a folder has the same tokens under the same ids."""
    theirs = load_tokenizer(draft, None).wrapper.get_vocab()
    ours = tokenizer.wrapper.get_vocab()
    if ours == theirs:
        return
    raise UnsupportedModelError(
        f"The draft model in {draft} has other tokens than the model ({len(theirs)} and {len(ours)} of them,"
        f" {len(ours.items() & theirs.items())} the same), so it cannot propose any. Use one of its own family.",
        provider="mlx",
    )


def _shape(model: Any) -> tuple[int, int]:
    """Return how many logits a model has for a token, and how many layers of caches. Nothing is computed for it."""
    import mlx.core as mx
    from mlx_lm.models.cache import make_prompt_cache

    layers = make_prompt_cache(model)
    return model(mx.array([[0]]), cache=layers).shape[-1], len(layers)


def _check_caches(which: str, layers: list[Any]) -> None:
    """Refuse caches that cannot always give up their last tokens, as they must when a proposal is not taken.

    Those of windows could until they wrap, which would be in the middle of an answer.
    """
    found = sorted(set(_that_keep_everything(layers)))
    if found:
        raise UnsupportedFeatureError(
            "draft_model",
            f"The {which} keeps {', '.join(found)}, which cannot give back the tokens of a proposal that is not taken"
            " (recurrent layers and sliding windows are such). Leave draft_model out, or use other models.",
            provider="mlx",
        )


def _that_keep_everything(layers: list[Any]) -> Iterator[str]:
    from mlx_lm.models.cache import ConcatenateKVCache, KVCache, QuantizedKVCache

    for layer in layers:
        for part in parts_of(layer):
            if not isinstance(part, (KVCache, QuantizedKVCache, ConcatenateKVCache)):
                yield type(part).__name__
