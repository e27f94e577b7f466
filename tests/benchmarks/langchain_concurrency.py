"""Eight `ainvoke` at once on the model that ships: our chat model against a thread per call of `mlx_lm.generate`.

    python tests/benchmarks/langchain_concurrency.py [--calls 8] [--tokens 64] [--rounds 5]

The peer is the usual way to write such a chat model: `asyncio.to_thread(mlx_lm.generate, ...)` for each call. Where
MLX refuses to work in any thread but the one that loaded the model, all of the peer's calls go to that one.
All contestants answer the same prompts greedily, with the end token switched off, to the same number of tokens. We keep
no prefixes here, since the peer does not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from measure import interleave, machine, table
from never_end import never_end
from seed_pattern import SeedPattern

from abstractllm import embedded
from abstractllm.integrations.langchain import ChatAbstractLLM
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx

os.environ["ABSTRACTLLM_MLX_PREFIX_BYTES"] = "0"


class Threads:
    """The peer. `alone` is the thread that has loaded the model."""

    def __init__(self, folder: Path, texts: list[str], tokens: int) -> None:
        self._alone = ThreadPoolExecutor(1)
        self._model = self._alone.submit(SeedPattern, folder, never_end=True).result()
        self._prompts = [self._model.encode(text) for text in texts]
        self._tokens = tokens
        self.where: Executor | None = None if self._works_anywhere() else self._alone

    def _works_anywhere(self) -> bool:
        try:
            ThreadPoolExecutor(1).submit(self._generate, self._prompts[0]).result()
        except RuntimeError as error:
            print(f"a thread per call is not possible ({error}): one thread for all")
            return False
        return True

    def _generate(self, prompt: list[int]) -> int:
        return sum(1 for _ in self._model.generate(list(prompt), self._tokens))

    async def all(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(self.where, self._generate, one) for one in self._prompts))


def rate(work: Callable[[], Awaitable[Any]], total: int) -> float:
    """Return tokens per second."""
    started = time.perf_counter()
    asyncio.run(_awaited(work))
    return total / (time.perf_counter() - started)


async def _awaited(work: Callable[[], Awaitable[Any]]) -> None:
    await work()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    import_mlx()
    print(machine())
    texts = [f"Tell me a story about number {number}, please." for number in range(options.calls)]
    llm = MLXProvider()
    never_end(llm, embedded.PATH)
    chat = ChatAbstractLLM(llm, max_tokens=options.tokens)
    peer = Threads(embedded.PATH, texts, options.tokens)
    total = options.calls * options.tokens

    async def ours() -> None:
        answers = await asyncio.gather(*(chat.ainvoke(text) for text in texts))
        made = sum(answer.usage_metadata["output_tokens"] for answer in answers if answer.usage_metadata)
        assert made == total, made

    contest = {"ours, ainvoke": lambda: rate(ours, total), "a thread per call": lambda: rate(peer.all, total)}
    title = f"{options.calls} calls at once, {options.tokens} tokens each"
    print(table(title, "tokens/s", interleave(contest, options.rounds), "ours, ainvoke"))


if __name__ == "__main__":
    main()
