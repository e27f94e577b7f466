"""Tokens per second of many concurrent streams of one model, against three other ways to serve them.

    python tests/benchmarks/concurrency.py [--streams 8 32] [--tokens 64] [--rounds 5]

Each contestant answers the same prompts greedily and is made to run to the same number of tokens (the end token is
switched off for all). We keep no prefixes here, since nobody else does from round to round. (a) is the usual async
wrapper, (b) `mlx_lm.batch_generate` on all prompts at once, which neither streams nor is async: to be compared with our
whole answers, (c) one request after another with `mlx_lm.stream_generate`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measure import interleave, machine, table
from models import LLAMA_28M, random_model
from never_end import never_end
from seed_pattern import SeedPattern

from abstractllm import embedded
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx

os.environ["ABSTRACTLLM_MLX_PREFIX_BYTES"] = "0"


class Contest:
    """One model and everything that serves it."""

    def __init__(self, folder: Path, streams: int, tokens: int) -> None:
        self.tokens = tokens
        self.total = streams * tokens
        self.texts = [f"Tell me a story about number {number}, please." for number in range(streams)]
        self.llm = MLXProvider(model=str(folder))
        never_end(self.llm, folder)
        self.peer = SeedPattern(folder, never_end=True)
        self.prompts = [self.peer.encode(text) for text in self.texts]

    def ours(self) -> float:
        """Stream all prompts at once through `generate_async(stream=True)`."""

        async def one(text: str) -> int:
            response = None
            async for chunk in self.llm.generate_async(text, stream=True, max_tokens=self.tokens):
                response = chunk
            assert response is not None
            assert response.usage is not None
            return response.usage.completion_tokens

        async def all_of_them() -> int:
            return sum(await asyncio.gather(*(one(text) for text in self.texts)))

        return self._rate(lambda: asyncio.run(all_of_them()))

    def whole(self) -> float:
        """Ask all prompts at once through `generate_async`, for whole answers as those of (b)."""

        async def one(text: str) -> int:
            usage = (await self.llm.generate_async(text, max_tokens=self.tokens)).usage
            assert usage is not None
            return usage.completion_tokens

        async def all_of_them() -> int:
            return sum(await asyncio.gather(*(one(text) for text in self.texts)))

        return self._rate(lambda: asyncio.run(all_of_them()))

    def pattern(self) -> float:
        """Stream all prompts at once through the usual wrapper."""

        async def one(prompt: list[int]) -> int:
            return len([item async for item in self.peer.generate_async(prompt, self.tokens)])

        async def all_of_them() -> int:
            return sum(await asyncio.gather(*(one(prompt) for prompt in self.prompts)))

        return self._rate(lambda: asyncio.run(all_of_them()))

    def batch(self) -> float:
        """Answer all prompts with one call of `mlx_lm.batch_generate`."""
        return self._rate(lambda: self.peer.batch(self.prompts, self.tokens))

    def sequential(self) -> float:
        """Answer one prompt after the other."""
        return self._rate(lambda: sum(len(list(self.peer.generate(prompt, self.tokens))) for prompt in self.prompts))

    def _rate(self, run: Callable[[], int]) -> float:
        start = time.perf_counter()
        count = run()
        seconds = time.perf_counter() - start
        assert count == self.total, f"{count} tokens instead of {self.total}: the contestants did unequal work"
        return count / seconds


def main() -> None:
    """Run the contest for each model and number of streams, and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=("shipped", "28m"), default=("shipped", "28m"))
    options = parser.parse_args()
    print(machine(), "\n")
    import_mlx()
    with tempfile.TemporaryDirectory() as folder:
        big = random_model(Path(folder) / "28m", LLAMA_28M)
        models = {"shipped": ("shipped model", embedded.PATH), "28m": ("random 28M", big)}
        for name, path in (models[model] for model in options.models):
            for streams in options.streams:
                _contest(name, path, streams, options.tokens, options.rounds)


def _contest(name: str, path: Path, streams: int, tokens: int, rounds: int) -> None:
    contest = Contest(path, streams, tokens)
    results = interleave(
        {
            "ours": contest.ours,
            "ours, whole answers": contest.whole,
            "(a) usual async wrapper": contest.pattern,
            "(b) batch_generate": contest.batch,
            "(c) one after another": contest.sequential,
        },
        rounds,
    )
    print(table(f"{streams} streams, {name}", "tokens/s", results, "ours"), flush=True)


if __name__ == "__main__":
    main()
