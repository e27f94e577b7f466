"""Llamas that decode one token per row in few operations. For float32 on the CPU.

There a small model spends most of a step on starting operations, which takes some microseconds each: mlx-lm's form of a
llama with five layers has some 730 of them for a batch, and this one 360. Activations are kept as (rows, dimensions),
which spares two reshapes for each product, and rotations are looked up once a step. The dearest of them in a batch was
softmax: MLX's exponential is not vectorised outside Apple's processors and takes some 12 ns for each score. `mx.power`
calls the C library, which takes less than half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models import llama
from mlx_lm.models.base import create_attention_mask

from abstractllm.providers.mlx.rotation import Kind, Rotation, TabulatedRotation


class QuickNorm(nn.RMSNorm):  # type: ignore[misc]
    """`nn.RMSNorm`, which takes fewer operations for one token per row."""

    def prepare(self) -> None:
        """Compute what stays the same."""
        dims = self.weight.size
        self._scaled = self.weight * math.sqrt(dims)
        self._epsilon = mx.array([[dims * self.eps]])
        mx.eval(self._scaled, self._epsilon)

    def of_rows(self, x: mx.array) -> mx.array:
        """Return x (rows, dimensions), each row divided by its root mean square, times the weights."""
        inverse = mx.rsqrt(mx.sum(mx.square(x), axis=-1, keepdims=True) + self._epsilon)
        result: mx.array = x * inverse * self._scaled
        return result


class Rotations:
    """The rotations of a step, each looked up once; layers may have different ones, or none."""

    def __init__(self, offset: int | mx.array) -> None:
        self._offset = offset
        self._found: dict[Kind, Rotation | None] = {}

    def of(self, rope: nn.Module) -> Rotation | None:
        """Return what a layer's `rope` makes of the rows' positions; None where that is in no table."""
        if not isinstance(rope, TabulatedRotation):
            return None
        if rope.kind not in self._found:
            self._found[rope.kind] = rope.at(self._offset)
        return self._found[rope.kind]


class DecodingLlama(llama.LlamaModel):  # type: ignore[misc]
    """mlx-lm's llama up to the last norm. More than one token per row are computed as ever."""

    def __call__(self, inputs: mx.array, cache: Any = None, input_embeddings: mx.array | None = None) -> mx.array:
        """Return what the llama returns, (rows, tokens, dimensions), up to the last bits."""
        one_each = inputs is not None and inputs.shape[1] == 1 and input_embeddings is None
        if not one_each or cache is None or any(hasattr(layer, "bits") for layer in cache):
            several: mx.array = super().__call__(inputs, cache, input_embeddings)
            return several
        masks = self._masks(inputs, cache)
        rotations = Rotations(cache[0].offset)
        x = self.embed_tokens(inputs[:, 0])
        for layer, kept in zip(self.layers, cache, strict=True):
            seen, rotation = layer.input_layernorm.of_rows(x), rotations.of(layer.self_attn.rope)
            x = x + attended(layer.self_attn, seen, masks[layer.use_sliding], kept, rotation)
            x = x + layer.mlp(layer.post_attention_layernorm.of_rows(x))
        result: mx.array = self.norm.of_rows(x)[:, None]
        return result

    def _masks(self, inputs: mx.array, cache: Sequence[Any]) -> tuple[mx.array | None, mx.array | None]:
        """Return the masks of layers that see everything, and of those that see a window; None where all is seen."""
        whole = create_attention_mask(inputs, cache[self.fa_idx])
        if self.swa_idx is None:
            return whole, None
        return whole, create_attention_mask(inputs, cache[self.swa_idx], window_size=self.sliding_window)


def quicken_llamas(model: nn.Module) -> None:
    """Make mlx-lm's llamas, and the models that it runs as llamas, decode as above if their numbers are float32."""
    for module in model.modules():
        if type(module) is llama.LlamaModel and _is_plain(module):
            for norm in _norms(module):
                _quicken_norm(norm)
            module.__class__ = DecodingLlama


def _is_plain(module: llama.LlamaModel) -> bool:
    """Whether a llama is made of the parts that are known here, in float32."""
    embedding = module.embed_tokens
    numbers = [embedding.get("scales", embedding.weight), *(norm.weight for norm in _norms(module))]
    return all(array.dtype == mx.float32 for array in numbers) and all(
        type(layer) is llama.TransformerBlock and type(layer.self_attn) is llama.Attention for layer in module.layers
    )


def _norms(module: llama.LlamaModel) -> list[nn.RMSNorm]:
    pairs = ((layer.input_layernorm, layer.post_attention_layernorm) for layer in module.layers)
    return [*(norm for pair in pairs for norm in pair), module.norm]


def _quicken_norm(norm: nn.RMSNorm) -> None:
    norm.__class__ = QuickNorm
    norm.prepare()


def attended(layer: Any, x: mx.array, mask: mx.array | None, cache: Any, rotation: Rotation | None) -> mx.array:
    """Return what llama's attention `layer` makes of one token per row, x (rows, dimensions): the same shape.

    `rotation` is that of the rows' positions; without it, the layer's own is computed.
    """
    rows = x.shape[0]
    both = mx.concatenate([layer.q_proj(x), layer.k_proj(x)], axis=-1).reshape(rows, -1, 1, layer.head_dim)
    both = layer.rope(both, offset=cache.offset) if rotation is None else rotation.of(both)
    values = layer.v_proj(x).reshape(rows, -1, 1, layer.head_dim)
    keys, values = cache.update_and_fetch(both[:, layer.n_heads :], values)
    found = attend(both[:, : layer.n_heads], keys, values, layer.scale, mask)
    result: mx.array = layer.o_proj(found.reshape(rows, -1))
    return result


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
