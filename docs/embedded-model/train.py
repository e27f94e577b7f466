"""Train the model: ``python train.py --out RUN``. Seeded, resumable, on CPU processes or one GPU.

Data is made on the fly from (seed, step, process), so a resumed run sees what an unbroken one would have seen.
"""

import argparse
import os
import signal
import time
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from data.mixture import sample
from data.words import Words
from model import ModelConfig, TinyChat
from optimiser import Optimiser
from tokenizer import assistant_mask, chat_template, word_pieces
from tokenizers import Tokenizer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

SHIPPED = Path(__file__).parents[2] / "abstractllm" / "embedded"
Example = tuple[list[int], list[bool]]
Batch = tuple[Tensor, Tensor, Tensor, list[int]]
UNIT = 32  # texts take a multiple of it, so that few different shapes of attention are prepared


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--tokenizer", type=Path, default=SHIPPED / "tokenizer.json")
    parser.add_argument("--template", type=Path, default=SHIPPED / "chat_template.jinja")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8000, help="where training ends")
    parser.add_argument("--decay-steps", type=int, default=6500, help="over how many last steps the rate falls to zero")
    parser.add_argument("--tokens", type=int, default=13_824, help="tokens a step, over all processes; half of it for the first ten million")
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=0.003)
    parser.add_argument("--processes", type=int, default=2, help="on the CPU")
    parser.add_argument("--piece", type=int, default=3456, help="tokens of one forward pass, filled up; a GPU wants 65536 or so, and more --tokens")
    parser.add_argument("--workers", type=int, default=0, help="processes that make data ahead, for a GPU")
    parser.add_argument("--save-every", type=int, default=100)
    return parser.parse_args()


def budget(seen: int, tokens: int) -> int:
    """How many tokens the step after ``seen`` tokens has; later ones have ``tokens``."""
    return tokens // 2 if seen < 10_000_000 else tokens


class Source:
    """Batches for one process."""

    def __init__(self, options: argparse.Namespace, rank: int, world: int) -> None:
        self.tokenizer = Tokenizer.from_file(str(options.tokenizer))
        self.template = chat_template(options.template)
        self.pieces = word_pieces(self.tokenizer)
        self.seed, self.rank, self.world, self.tokens = options.seed, rank, world, options.tokens
        self.longest, self.piece = 1280, options.piece

    def examples(self, step: int, seen: int) -> list[Example]:
        """The conversations of a step, the shortest first; the same in every process."""
        rng = Random(f"{self.seed}/{step}")
        words, found, room = Words(rng, pieces=self.pieces), [], 0.96 * budget(seen, self.tokens)
        while room > 0:
            talk = sample(words, seen)
            tokens = self.tokenizer.encode(self.template.render(messages=talk.messages, tools=talk.tools)).ids
            if len(tokens) <= self.longest:
                found.append((tokens, assistant_mask(tokens, self.tokenizer)))
                room -= rounded_up(len(tokens), UNIT)
        return sorted(found[:-1], key=lambda example: len(example[0]))

    def batches(self, step: int, seen: int) -> list[Batch]:
        """Our share of the step in pieces of exactly ``piece`` tokens, so that every step has the same shapes.

        The weights of all processes together have the sum ``world``.
        """
        pieces = packed(self.examples(step, seen), budget(seen, self.tokens) // self.piece, self.piece)
        scale = self.world / sum(sum(mask) for examples in pieces for _, mask in examples)
        rng = np.random.default_rng([self.seed, step, self.rank])
        return [joined(examples, self.piece, rng, scale, stretch=seen > 8_000_000) for examples in pieces[self.rank :: self.world]]


def packed(examples: list[Example], count: int, piece: int) -> list[list[Example]]:
    """Fill ``count`` pieces of ``piece`` tokens, the longest first, each into the fullest that has room; the few that fit nowhere are left out."""
    pieces: list[list[Example]] = [[] for _ in range(count)]
    room = [piece] * count
    for example in reversed(examples):
        size = rounded_up(len(example[0]), UNIT)
        fitting = [i for i in range(count) if room[i] >= size]
        if fitting:
            best = min(fitting, key=room.__getitem__)
            pieces[best].append(example)
            room[best] -= size
    return pieces


class Steps(Dataset[list[Batch]]):
    """The batches of every step by its number, given what was seen before ``first``; may be asked in any process."""

    def __init__(self, options: argparse.Namespace, rank: int, world: int, first: int, seen: int) -> None:
        self.options, self.rank, self.world, self.first = options, rank, world, first
        self.seen = [seen]
        for _ in range(first, options.steps):
            self.seen.append(self.seen[-1] + budget(self.seen[-1], options.tokens))

    @cached_property
    def source(self) -> Source:
        """Made where it is used, since templates cannot be sent to another process."""
        return Source(self.options, self.rank, self.world)

    def __getitem__(self, step: int) -> list[Batch]:
        return self.source.batches(step, self.seen[step - self.first])


def rounded_up(number: int, unit: int) -> int:
    """The next multiple of ``unit``: few different shapes mean few kernels to prepare."""
    return -(-number // unit) * unit


def joined(examples: list[Example], piece: int, rng: np.random.Generator, scale: float, stretch: bool) -> Batch:
    """Put ``examples`` one after the other: weight ``scale`` on the assistant's tokens, 0.15 of it on a fifth of the others.

    ``stretch`` opens a gap in the positions of some texts, so that long contexts are not new to the model.
    """
    tokens, positions = np.zeros(piece, dtype=np.int64), np.zeros(piece, dtype=np.int64)
    weights, lengths, start = np.zeros(piece, dtype=np.float32), [], 0
    for ids, mask in examples:
        end, size = start + len(ids), rounded_up(len(ids), UNIT)
        tokens[start:end] = ids
        weights[start:end] = np.where(mask, 1.0, (rng.random(len(ids)) < 0.2) * 0.15) * scale
        weights[start] = 0.0
        positions[start : start + size] = np.arange(size)
        if stretch and rng.random() < 0.15:
            positions[start + rng.integers(1, len(ids)) : start + size] += rng.integers(1, 2500)
        lengths.append(size)
        start += size
    return torch.from_numpy(tokens), torch.from_numpy(weights), torch.from_numpy(positions), lengths


def loss_of(net: TinyChat, tokens: Tensor, weights: Tensor, positions: Tensor, lengths: list[int]) -> Tensor:
    """The weighted sum of the losses of the next tokens; the first token of a text has no weight."""
    targets, weights = tokens.roll(-1), weights.roll(-1)
    count = int((weights > 0).sum())
    chosen = weights.argsort(descending=True)[: rounded_up(count, 256)]
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
        hidden = net(tokens, positions, lengths)
        logits = net.logits(hidden[chosen])
    losses = F.cross_entropy(logits.float(), targets[chosen], reduction="none")
    return (losses * weights[chosen]).sum()


def rate(step: int, options: argparse.Namespace) -> float:
    """Warm-up, plateau, and a straight fall to zero."""
    return min(1.0, (step + 1) / 40, max(0.0, options.steps - step) / options.decay_steps)


class Trainer:
    """One process of the training."""

    def __init__(self, options: argparse.Namespace, rank: int, world: int) -> None:
        torch.manual_seed(options.seed)
        self.options, self.rank, self.world = options, rank, world
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        last = options.out / "last.pt"
        state = torch.load(last, map_location=self.device) if last.exists() else None
        self.net = TinyChat(ModelConfig(**state["config"]) if state else ModelConfig()).to(self.device)
        self.average = {name: p.detach().clone() for name, p in self.net.named_parameters()}
        self.optimiser = Optimiser(self.net, rank, world, options.matrix_rate, options.other_rate)
        self.step = self.seen = 0
        if state:
            self.load(state)

    def train_step(self, batches: list[Batch]) -> tuple[float, float]:
        """One update; the mean loss and the norm of the gradient."""
        self.net.zero_grad(set_to_none=True)
        loss_sum = 0.0
        for batch in batches:
            tokens, weights, positions, lengths = batch
            loss = loss_of(self.net, tokens.to(self.device), weights.to(self.device), positions.to(self.device), lengths)
            loss.backward()
            loss_sum += loss.item()
        norm = self.share_gradients()
        self.optimiser.step(rate(self.step, self.options))
        self.step += 1
        self.seen += budget(self.seen, self.options.tokens)
        keep = min(0.99, self.step / (self.step + 20))
        for name, p in self.net.named_parameters():
            self.average[name].lerp_(p.detach(), 1 - keep)
        return loss_sum, norm

    def share_gradients(self) -> float:
        """Average over the processes and clip."""
        parameters = list(self.net.parameters())
        if self.world > 1:
            flat = torch.cat([p.grad.flatten() for p in parameters])
            dist.all_reduce(flat)
            flat /= self.world
            for p, piece in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
                p.grad = piece.view_as(p)
        return float(torch.nn.utils.clip_grad_norm_(parameters, 1.0))

    def save(self) -> None:
        """Write ``last.pt``, never half of it."""
        if self.rank:
            return
        state = {
            "net": self.net.state_dict(), "average": self.average, "optimiser": self.optimiser.state(), "step": self.step, "seen": self.seen,
            "config": asdict(self.net.config),
        }  # fmt: skip
        torch.save(state, self.options.out / "new.pt")
        os.replace(self.options.out / "new.pt", self.options.out / "last.pt")

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.net.load_state_dict(state["net"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.optimiser.load(state["optimiser"])
        self.step, self.seen = state["step"], state["seen"]

    def run(self) -> None:
        """Train to the last step."""
        began, first = time.time(), self.seen
        steps = Steps(self.options, self.rank, self.world, self.step, self.seen)
        order = range(self.step, self.options.steps)
        for batches in DataLoader(steps, batch_size=None, sampler=order, num_workers=self.options.workers):
            loss, norm = self.train_step(batches)
            if self.rank == 0 and self.step % 10 == 0:
                speed = (self.seen - first) / (time.time() - began)
                print(f"{time.strftime('%H:%M:%S')} step {self.step} seen {self.seen / 1e6:.2f}M loss {loss:.4f} norm {norm:.2f} rate {rate(self.step, self.options):.3f} tok/s {speed:.0f}", flush=True)
            if self.step % self.options.save_every == 0 or self.step == self.options.steps:
                self.save()


def work(rank: int, world: int, options: argparse.Namespace) -> None:
    """The body of one process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if world > 1:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"file://{options.out / 'meeting-point'}", rank=rank, world_size=world)
    Trainer(options, rank, world).run()


def main() -> None:
    """Start one process for a GPU, several for a CPU."""
    options = parse_arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "meeting-point").unlink(missing_ok=True)
    world = 1 if torch.cuda.is_available() else options.processes
    if world == 1:
        work(0, 1, options)
    else:
        mp.spawn(work, args=(world, options), nprocs=world)


if __name__ == "__main__":
    main()
