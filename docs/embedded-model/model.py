"""The network: a small Llama decoder (SwiGLU, tied embeddings) in plain PyTorch.

Parameter names are those of transformers' ``LlamaForCausalLM``, so the state dict exports unchanged.
It knows nothing of data or optimisation.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the network; ``to_json`` gives the ``config.json`` that mlx-lm and transformers read.

    Plain layers without further norms: at this size a step of MLX costs as much as its number of operations.
    """

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 480
    num_hidden_layers: int = 5
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 32
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    max_position_embeddings: int = 4096

    def to_json(self, bos: int, eos: int, pad: int) -> dict[str, Any]:
        """The standard ``llama`` configuration with the given special token ids."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **asdict(self),
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "hidden_act": "silu",
            "initializer_range": 0.02,
            "tie_word_embeddings": True,
            "use_cache": True,
            "torch_dtype": "float16",
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": pad,
        }


class _Normalise(torch.autograd.Function):
    """The norm with a backward pass in few operations: a third faster on a CPU than autograd's own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        scale = torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps).to(x.dtype)
        normal = x * scale
        ctx.save_for_backward(normal, scale, weight)
        return normal * weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        normal, scale, weight = ctx.saved_tensors
        for_weight = (gradient * normal).float().flatten(0, -2).sum(0)
        gradient = gradient * weight.to(gradient.dtype)
        return scale * (gradient - normal * (gradient * normal).mean(-1, keepdim=True)), for_weight, None


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis with a learned scale."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (..., size); the type of ``x`` is kept."""
        return _Normalise.apply(x, self.weight, self.eps)


def rotary_tables(positions: Tensor, head_dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (batch, 1, length, head_dim) for integer ``positions`` (batch, length)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim)
    angles = positions[:, None, :, None].float() * frequencies
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to ``x`` (batch, heads, length, head_dim), halves paired as in Llama."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, block: int = 160) -> Tensor:
    """Causal attention over (batch, heads, length, head_dim), in blocks of queries.

    On a CPU this trains twice as fast as the fused kernel at these sizes; on a GPU the fused one is used.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    q, k, v = q * q.shape[-1] ** -0.5, k.contiguous(), v.contiguous()
    mask = torch.full((block, block), -1e4, dtype=q.dtype).triu(1)
    mixed = []
    for start in range(0, q.shape[2], block):
        end = min(start + block, q.shape[2])
        size = end - start
        scores = q[:, :, start:end] @ k[:, :, :end].transpose(-1, -2)
        scores = torch.cat([scores[..., :start], scores[..., start:] + mask[:size, :size]], dim=-1)
        mixed.append(torch.softmax(scores, dim=-1, dtype=q.dtype) @ v[:, :, :end])
    return torch.cat(mixed, dim=2)


class Attention(nn.Module):
    """Causal self-attention with rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.kv_heads = config.num_key_value_heads
        width = config.hidden_size
        self.q_proj = nn.Linear(width, self.heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(width, self.kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.head_dim, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Mix ``x`` (batch, length, width) over earlier positions."""
        batch, length, _ = x.shape
        q = self.q_proj(x).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        mixed = attend(rotate(q, cos, sin), self._for_each_head(rotate(k, cos, sin)), self._for_each_head(v))
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))

    def _for_each_head(self, x: Tensor) -> Tensor:
        """Repeat keys or values (batch, kv_heads, length, head_dim) for the query heads that share them."""
        return x.repeat_interleave(self.heads // self.kv_heads, dim=1)


class GatedMLP(nn.Module):
    """The SwiGLU feed-forward block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position of ``x`` alone."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One pre-normalised decoder layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = GatedMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attention, then the feed-forward block, each added to the stream."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class TinyChat(nn.Module):
    """The whole model; its output layer is the embedding table."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.apply(self._initialise)
        for layer in self.model.layers:
            nn.init.zeros_(layer.self_attn.o_proj.weight)
            nn.init.zeros_(layer.mlp.down_proj.weight)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)

    def forward(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        """Hidden states (batch, length, width) after the last norm, for ``tokens`` (batch, length)."""
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        x = self.model.embed_tokens(tokens)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for layer in self.model.layers:
            x = layer(x, cos, sin)
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary for hidden states of any leading shape."""
        return F.linear(hidden, self.model.embed_tokens.weight)
