"""Attention of one new token per row, for llamas on the CPU.

There `mx.softmax` takes some 12 ns for each score, most of it in an exponential that is not vectorised outside Apple's
processors, and is the dearest part of attention in a batch. `mx.power` calls the C library, which takes less than half.
"""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models import llama


class DecodingAttention(llama.Attention):  # type: ignore[misc]
    """Llama's attention, which computes one token in fewer and cheaper operations, and more tokens as ever."""

    def __call__(self, x: mx.array, mask: Any = None, cache: Any = None) -> mx.array:
        """Return what llama's attention returns, (rows, tokens, dimensions), up to the last bits."""
        if x.shape[1] != 1 or x.dtype != mx.float32 or cache is None or hasattr(cache, "bits"):
            several: mx.array = super().__call__(x, mask, cache)
            return several
        heads = (x.shape[0], -1, 1, self.head_dim)
        queries = self.rope(self.q_proj(x).reshape(heads), offset=cache.offset)
        keys = self.rope(self.k_proj(x).reshape(heads), offset=cache.offset)
        keys, values = cache.update_and_fetch(keys, self.v_proj(x).reshape(heads))
        found = attend(queries, keys, values, self.scale, mask)
        one: mx.array = self.o_proj(found.reshape(x.shape[0], 1, -1))
        return one


def quicken_attention(model: nn.Module) -> None:
    """Make the attention layers of mlx-lm's llamas, and of the models that it runs as llamas, the ones above."""
    for module in model.modules():
        if type(module) is llama.Attention:
            module.__class__ = DecodingAttention


def attend(queries: mx.array, keys: mx.array, values: mx.array, scale: float, mask: mx.array | None) -> mx.array:
    """Return the attention of one token per row, (rows, key heads, queries per key head, dims).

    Queries are (rows, heads, 1, dims), keys and values (rows, key heads, tokens, dims). `mask`, if any, can be
    broadcast to (rows, 1, 1, tokens) and is true for the tokens to look at.
    """
    grouped = (queries * (scale * math.log2(math.e))).reshape(*keys.shape[:2], -1, keys.shape[-1])
    scores = grouped @ keys.swapaxes(-1, -2)
    if mask is not None:
        scores = mx.where(mask, scores, -mx.inf)
    weights = mx.power(2.0, scores - mx.max(scores, axis=-1, keepdims=True))
    return (weights @ values) / mx.sum(weights, axis=-1, keepdims=True)
