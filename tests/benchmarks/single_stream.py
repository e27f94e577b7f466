"""Tokens per second of one stream, against `mlx_lm.stream_generate`.

    python tests/benchmarks/single_stream.py [--tokens 256] [--rounds 9]

Sync, greedy, both made to run to the same number of tokens, and without prefixes kept from round to round. Also the
time from a cold process to the first token.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import interleave, machine, table
from models import LLAMA_28M, random_model
from never_end import never_end
from seed_pattern import SeedPattern

from abstractllm import embedded
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx

os.environ["ABSTRACTLLM_MLX_PREFIX_BYTES"] = "0"

PROMPT = "Tell me a story about number 7, please."
COLD = (
    "from abstractllm import create_llm; llm = create_llm('mlx');"
    " next(iter(llm.generate('What can you do?', stream=True)))"
)


class Contest:
    """One model, served by us and by mlx-lm."""

    def __init__(self, folder: Path, tokens: int) -> None:
        self.tokens = tokens
        self.llm = MLXProvider(model=str(folder))
        never_end(self.llm, folder)
        self.peer = SeedPattern(folder, never_end=True)
        self.prompt = self.peer.encode(PROMPT)

    def ours(self) -> float:
        """Tokens per second of `generate(stream=True)`."""
        start = time.perf_counter()
        stream = self.llm.generate(PROMPT, stream=True, max_tokens=self.tokens)
        for _ in stream:
            pass
        usage = stream.response.usage
        assert usage is not None
        assert usage.completion_tokens == self.tokens
        return self.tokens / (time.perf_counter() - start)

    def mlx_lm(self) -> float:
        """Tokens per second of `mlx_lm.stream_generate`."""
        start = time.perf_counter()
        count = sum(1 for _ in self.peer.generate(self.prompt, self.tokens))
        assert count == self.tokens
        return self.tokens / (time.perf_counter() - start)


def cold_start() -> float:
    """Seconds from starting Python to the first delta of the shipped model."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", COLD], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    print(machine(), "\n")
    import_mlx()
    with tempfile.TemporaryDirectory() as folder:
        big = random_model(Path(folder) / "28m", LLAMA_28M)
        for name, path in {"shipped model": embedded.PATH, "random 28M": big}.items():
            contest = Contest(path, options.tokens)
            contestants = {"ours": contest.ours, "mlx_lm.stream_generate": contest.mlx_lm}
            print(table(f"one stream, {name}", "tokens/s", interleave(contestants, options.rounds), "ours"), flush=True)
    print(table("cold process to first token", "s", interleave({"ours": cold_start}, options.rounds), "ours"))


if __name__ == "__main__":
    main()
