"""Muon for the matrices of the layers, AdamW for embeddings and norms; the work of Muon is shared between processes.

Muon: https://kellerjordan.github.io/posts/muon (orthogonalised momentum by a Newton-Schulz iteration).
"""

from collections import defaultdict
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def orthogonalise(matrices: Tensor) -> Tensor:
    """Push the singular values of a stack of ``matrices`` (n, rows, columns) towards one."""
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).float()


class Optimiser:
    """Both rules behind one ``step``; every process must call it with equal gradients."""

    def __init__(self, net: nn.Module, rank: int, world: int, matrix_rate: float, other_rate: float) -> None:
        named = dict(net.named_parameters())
        self.matrices = [p for name, p in named.items() if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in named.items() if p.ndim != 2 or "embed" in name]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.adam = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.rank, self.world, self.matrix_rate, self.other_rate = rank, world, matrix_rate, other_rate

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Update all parameters with the learning rates times ``scale``."""
        for group in self.adam.param_groups:
            group["lr"] = self.other_rate * scale
        self.adam.step()
        updates = self._updates()
        for p, update in zip(self.matrices, updates, strict=True):
            ratio = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
            p.mul_(1 - 0.02 * self.matrix_rate * scale).add_(update, alpha=-self.matrix_rate * scale * ratio)

    def _updates(self) -> list[Tensor]:
        shapes: dict[torch.Size, list[int]] = defaultdict(list)
        for i, p in enumerate(self.matrices):
            assert p.grad is not None
            self.momenta[i].lerp_(p.grad, 0.05)
            shapes[p.shape].append(i)
        updates = [torch.zeros_like(p) for p in self.matrices]
        for indices in shapes.values():
            mine = indices[self.rank :: self.world]
            if not mine:
                continue
            stack = torch.stack([self.matrices[i].grad.lerp(self.momenta[i], 0.95) for i in mine])
            for i, update in zip(mine, orthogonalise(stack), strict=True):
                updates[i].copy_(update)
        if self.world > 1:
            flat = torch.cat([update.flatten() for update in updates])
            dist.all_reduce(flat)
            pieces = flat.split([update.numel() for update in updates])
            updates = [piece.view_as(update) for piece, update in zip(pieces, updates, strict=True)]
        return updates

    def state(self) -> dict[str, Any]:
        """What a checkpoint must keep."""
        return {"momenta": self.momenta, "adam": self.adam.state_dict()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` left off."""
        for own, saved in zip(self.momenta, state["momenta"], strict=True):
            own.copy_(saved)
        self.adam.load_state_dict(state["adam"])
