"""The network: a small Llama decoder (SwiGLU, tied embeddings) in plain PyTorch.

Parameter names are those of transformers' ``LlamaForCausalLM``, so the state dict exports unchanged.
It knows nothing of data or optimisation.
"""

from collections.abc import Iterator, Sequence
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
    """Cosines and sines (tokens, 1, head_dim / 2) for integer ``positions`` (tokens)."""
    frequencies = theta ** (-torch.arange(0, head_dim, 2, device=positions.device).float() / head_dim)
    angles = positions[:, None, None].float() * frequencies
    return angles.cos(), angles.sin()


class _Rotate(torch.autograd.Function):
    """Rotary positions on (tokens, heads, head_dim), halves paired as in Llama; its backward pass turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _Rotate.turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _Rotate.turned(gradient, cos, -sin), None, None

    @staticmethod
    def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class _Attend(torch.autograd.Function):
    """Causal attention inside each text of (heads, tokens, head_dim), in blocks of queries; twice as fast as the fused kernel on a CPU.

    ``q`` has a whole number of heads for each of ``k`` and ``v``.
    """

    BLOCK = 224

    @staticmethod
    def blocks(lengths: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Start of the text, start and end of the block of queries."""
        first = 0
        for length in lengths:
            for start in range(first, first + length, _Attend.BLOCK):
                yield first, start, min(start + _Attend.BLOCK, first + length)
            first += length

    @staticmethod
    def grouped(x: Tensor, heads: int, start: int, end: int) -> Tensor:
        """A block of (heads * group, tokens, head_dim) as (heads, group * block, head_dim)."""
        return x[:, start:end].reshape(heads, -1, x.shape[-1])

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
        heads, block = k.shape[0], _Attend.BLOCK
        future = torch.full((block, block), -1e4, dtype=q.dtype).triu(1)
        mixed, shares = torch.zeros_like(q), []
        for first, start, end in _Attend.blocks(lengths):
            size = end - start
            scores = _Attend.grouped(q, heads, start, end) @ k[:, first:end].mT
            scores.view(heads, -1, size, end - first)[..., start - first :] += future[:size, :size]
            share = torch.softmax(scores, dim=-1, dtype=q.dtype)
            mixed[:, start:end] = (share @ v[:, first:end]).view(-1, size, q.shape[-1])
            shares.append(share)
        ctx.save_for_backward(q, k, v, *shares)
        ctx.lengths = lengths
        return mixed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, *shares = ctx.saved_tensors
        heads = k.shape[0]
        for_q, for_k, for_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (first, start, end), share in zip(_Attend.blocks(ctx.lengths), shares, strict=True):
            wanted = _Attend.grouped(gradient, heads, start, end)
            for_v[:, first:end] += share.mT @ wanted
            for_scores = torch._softmax_backward_data(wanted @ v[:, first:end].mT, share, -1, q.dtype)
            for_q[:, start:end] = (for_scores @ k[:, first:end]).view(-1, end - start, q.shape[-1])
            for_k[:, first:end] += for_scores.mT @ _Attend.grouped(q, heads, start, end)
        return for_q, for_k, for_v, None


def attend(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Causal attention inside each text of (heads, tokens, head_dim); texts of ``lengths`` follow each other."""
    if not q.is_cuda:
        return _Attend.apply(q, k.contiguous(), v.contiguous(), lengths)
    texts = zip(q.split(list(lengths), 1), k.split(list(lengths), 1), v.split(list(lengths), 1), strict=True)
    mixed = [F.scaled_dot_product_attention(a[None], b[None], c[None], is_causal=True, enable_gqa=True)[0] for a, b, c in texts]
    return torch.cat(mixed, dim=1)


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

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, lengths: Sequence[int]) -> Tensor:
        """Mix ``x`` (tokens, width) over earlier tokens of the same text; one product for queries, keys and values."""
        mixed = F.linear(x, torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight]))
        mixed = mixed.view(len(x), -1, self.head_dim)
        turning = self.heads + self.kv_heads
        turned = _Rotate.apply(mixed[:, :turning], cos, sin).transpose(0, 1)
        q = turned[: self.heads] * self.head_dim**-0.5 if not x.is_cuda else turned[: self.heads]
        out = attend(q, turned[self.heads :], mixed[:, turning:].transpose(0, 1), lengths)
        return self.o_proj(out.transpose(0, 1).reshape(len(x), -1))


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
        gate, up = F.linear(x, torch.cat([self.gate_proj.weight, self.up_proj.weight])).chunk(2, dim=-1)
        return self.down_proj(F.silu(gate) * up)


class Layer(nn.Module):
    """One pre-normalised decoder layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = GatedMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, lengths: Sequence[int]) -> Tensor:
        """Attention, then the feed-forward block, each added to the stream."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, lengths)
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

    def forward(self, tokens: Tensor, positions: Tensor, lengths: Sequence[int]) -> Tensor:
        """Hidden states (tokens, width) after the last norm, for ``tokens`` (tokens) of texts with ``lengths``."""
        x = self.model.embed_tokens(tokens)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        cos, sin = rotary_tables(positions, self.config.head_dim, self.config.rope_theta)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for layer in self.model.layers:
            x = layer(x, cos, sin, lengths)
        return self.model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary for hidden states of any leading shape."""
        return F.linear(hidden, self.model.embed_tokens.weight)
