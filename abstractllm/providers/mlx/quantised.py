"""KV caches in 4 or 8 bits: a model whose keys and values are quantised as they are computed.

They are from the first token on, not converted after the prompt. So the memory that quantising saves is never needed
for a moment, and what is kept for later prompts is the same wherever a prompt ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError
from abstractllm.providers.mlx.caches import parts_of
from abstractllm.providers.mlx.exclusive import KV_GROUP_SIZES

PREFERRED_GROUP_SIZES = (64, 32)
"""The first that fits the model is taken where nobody says how many numbers share a scale."""


class QuantisedModel:
    """A model of mlx-lm, called as one, whose caches are quantised. Made by `with_quantised_caches`."""

    def __init__(self, model: Any, bits: int, group_size: int) -> None:
        self.group_size = group_size
        self._model = model
        self._bits = bits

    def __call__(self, tokens: Any, cache: Any) -> Any:
        """Return the logits of the tokens, (rows, length, vocabulary)."""
        return self._model(tokens, cache=cache)

    def make_cache(self) -> list[Any]:
        """Return the empty caches of one row; `mlx_lm.models.cache.make_prompt_cache` asks for them here."""
        from mlx_lm.models.cache import make_prompt_cache

        return [self._quantised(layer) for layer in make_prompt_cache(self._model)]

    def _quantised(self, layer: Any) -> Any:
        """Return the quantised form of a layer's empty cache; a state of fixed size stays as it is."""
        from mlx_lm.models.cache import CacheList, KVCache

        if isinstance(layer, CacheList):
            return CacheList(*(self._quantised(part) for part in layer.caches))
        if not isinstance(layer, KVCache):
            return layer
        return layer.to_quantized(group_size=self.group_size, bits=self._bits)


def with_quantised_caches(model: Any, bits: int, group_size: int | None) -> QuantisedModel:
    """Return a model with caches of so many bits. Runs it on a few tokens, on the MLX thread.

    Raises UnsupportedFeatureError for a model with caches that mlx-lm cannot quantise or that does not take such ones,
    InvalidParameterError for a group size that does not divide its heads.
    """
    quantised = QuantisedModel(model, bits, _fitting(group_size, set(_head_sizes(model))))
    try:
        _try_out(quantised)
    except Exception as error:  # models do with their caches what they like
        raise _unsupported(f"it cannot compute with quantised caches ({type(error).__name__}: {error})") from error
    return quantised


def _head_sizes(model: Any) -> Iterator[int]:
    """Yield how many numbers each head keeps of a token. Nothing is computed for it."""
    import mlx.core as mx
    from mlx_lm.models.cache import ArraysCache, KVCache, make_prompt_cache

    layers = make_prompt_cache(model)
    parts = [part for layer in layers for part in parts_of(layer)]
    others = {type(part).__name__ for part in parts if not isinstance(part, (KVCache, ArraysCache))}
    if others:
        raise _unsupported(f"mlx-lm cannot quantise its caches of the kind {', '.join(sorted(others))}")
    growing = [part for part in parts if isinstance(part, KVCache)]
    if not growing:
        raise _unsupported("it keeps no keys and values")
    model(mx.array([[0]]), cache=layers)
    for part in growing:
        yield from (part.keys.shape[-1], part.values.shape[-1])


def _fitting(group_size: int | None, heads: set[int]) -> int:
    """Return the group size to use for heads of these sizes."""
    for size in PREFERRED_GROUP_SIZES if group_size is None else (group_size,):
        if _divides(size, heads):
            return size
    fitting = [str(size) for size in KV_GROUP_SIZES if _divides(size, heads)]
    keeps = f"its heads keep {' and '.join(map(str, sorted(heads)))} numbers of a token"
    if not fitting:
        raise _unsupported(f"{keeps}, which no group of {', '.join(map(str, KV_GROUP_SIZES))} divides")
    raise InvalidParameterError(
        "kv_group_size",
        f"kv_group_size={group_size} does not fit this model: {keeps}. Use {' or '.join(fitting)}, or leave it out.",
        provider="mlx",
    )


def _divides(size: int, heads: Sequence[int] | set[int]) -> bool:
    return all(head % size == 0 for head in heads)


def _try_out(model: QuantisedModel) -> None:
    """Compute a piece of a prompt and a token after it."""
    import mlx.core as mx

    layers = model.make_cache()
    for tokens in ([[0, 0]], [[0]]):
        mx.eval(model(mx.array(tokens), cache=layers))


def _unsupported(why: str) -> UnsupportedFeatureError:
    return UnsupportedFeatureError(
        "kv_bits", f"The KV caches of this model cannot be quantised: {why}. Leave kv_bits out.", provider="mlx"
    )
