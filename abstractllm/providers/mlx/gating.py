"""The gated layers of llamas and Qwens (SwiGLU; Shazeer 2020), for the CPU.

There MLX's exponential is not vectorised outside Apple's processors and takes some 12 ns for each number, in a large
batch as long as a tenth of a step. `mx.power` calls the C library, which takes less than half.
"""

from __future__ import annotations

import math
from functools import partial

import mlx.core as mx
from mlx import nn
from mlx_lm.models import llama, qwen2, qwen3


@partial(mx.compile, shapeless=True)
def swiglu(gate: mx.array, up: mx.array) -> mx.array:
    """Return up * gate * sigmoid(gate), elementwise, up to the last bits."""
    return gate * up / (1 + mx.power(2.0, gate * -math.log2(math.e)))


class _QuickGating(nn.Module):  # type: ignore[misc]
    """The forward pass that all these layers share."""

    def __call__(self, x: mx.array) -> mx.array:
        """Return what the layer returns, (..., dimensions), up to the last bits."""
        if x.dtype != mx.float32:
            other: mx.array = super().__call__(x)
            return other
        result: mx.array = self.down_proj(swiglu(self.gate_proj(x), self.up_proj(x)))
        return result


class LlamaGating(_QuickGating, llama.MLP):  # type: ignore[misc]
    """Of mlx-lm's llamas, and of the models that it runs as llamas."""


class Qwen2Gating(_QuickGating, qwen2.MLP):  # type: ignore[misc]
    """Of Qwen 2 and 2.5."""


class Qwen3Gating(_QuickGating, qwen3.MLP):  # type: ignore[misc]
    """Of Qwen 3."""


QUICK: dict[type[nn.Module], type[nn.Module]] = {
    llama.MLP: LlamaGating,
    qwen2.MLP: Qwen2Gating,
    qwen3.MLP: Qwen3Gating,
}


def quicken_gating(model: nn.Module) -> None:
    """Make the gated layers of a model, where they are of a kind that is known here, the quick ones."""
    for module in model.modules():
        if type(module) in QUICK:
            module.__class__ = QUICK[type(module)]
