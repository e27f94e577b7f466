"""How late the event loop gets while 32 streams run, and while a model loads.

    python tests/benchmarks/loop_lag.py [--streams 32] [--tokens 64] [--rounds 3]

A task sleeps 1 ms again and again and measures by how much each sleep was longer. The numbers are the 99th percentiles
of one run in milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from measure import interleave, machine, table
from models import LLAMA_28M, random_model
from seed_pattern import SeedPattern

from abstractllm import embedded
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx


async def lag_during(work: Callable[[], Awaitable[object]]) -> float:
    """Return the 99th percentile of the loop's lateness in milliseconds while `work` runs."""
    late: list[float] = []
    task = asyncio.ensure_future(work())
    while not task.done():
        start = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append((time.perf_counter() - start - 0.001) * 1000)
    await task
    return sorted(late)[int(0.99 * (len(late) - 1))]


class Contest:
    """One model, served by us and by the usual wrapper."""

    def __init__(self, folder: Path, streams: int, tokens: int) -> None:
        self.tokens = tokens
        self.texts = [f"Tell me a story about number {number}, please." for number in range(streams)]
        self.llm = MLXProvider(model=str(folder))
        self.llm.load()
        self.peer = SeedPattern(folder)
        self.prompts = [self.peer.encode(text) for text in self.texts]

    def ours(self) -> float:
        """Lag while all prompts stream through `generate_async`."""

        async def one(text: str) -> None:
            async for _ in self.llm.generate_async(text, stream=True, max_tokens=self.tokens):
                pass

        return asyncio.run(lag_during(lambda: asyncio.gather(*(one(text) for text in self.texts))))

    def pattern(self) -> float:
        """Lag while all prompts stream through the usual wrapper."""

        async def one(prompt: list[int]) -> None:
            async for _ in self.peer.generate_async(prompt, self.tokens):
                pass

        return asyncio.run(lag_during(lambda: asyncio.gather(*(one(prompt) for prompt in self.prompts))))


def loading(folder: Path) -> float:
    """Lag while a model loads and gives its first token."""

    async def load() -> None:
        async with MLXProvider(model=str(folder)) as llm:
            await llm.generate_async("Hello", max_tokens=1)

    return asyncio.run(lag_during(load))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(machine(), "\n")
    import_mlx()
    with tempfile.TemporaryDirectory() as folder:
        big = random_model(Path(folder) / "28m", LLAMA_28M)
        for name, path in {"shipped model": embedded.PATH, "random 28M": big}.items():
            contest = Contest(path, options.streams, options.tokens)
            contestants = {"ours": contest.ours, "usual async wrapper": contest.pattern}
            results = interleave(contestants, options.rounds)
            print(table(f"{options.streams} streams, {name}", "lag p99 in ms", results, "ours"), flush=True)
            contest.llm.close()
        loads = interleave({"ours": lambda: loading(big)}, options.rounds)
        print(table("loading the random 28M model", "lag p99 in ms", loads, "ours"))


if __name__ == "__main__":
    main()
