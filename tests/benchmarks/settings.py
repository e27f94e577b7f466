"""What sampling settings and constraints cost: tokens per second of concurrent streams with and without them.

    python tests/benchmarks/settings.py [--streams 32] [--tokens 64] [--rounds 3]

`mixed` gives every stream other settings (temperature, top_p, top_k, min_p, penalties, a seed for every other one) and
a stop string that never comes; `schema` holds every stream to a JSON Schema that it cannot fulfil within the tokens.
`batch_generate` is mlx-lm's greedy run. Every contestant computes the same number of tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Any

from concurrency import Contest
from measure import interleave, machine, table
from models import LLAMA_28M, random_model

from abstractllm import embedded
from abstractllm.errors import IncompleteOutputError
from abstractllm.providers.mlx.backend import import_mlx

NUMBERS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99999}, "minItems": 1000}


def mixed(number: int) -> dict[str, Any]:
    """Return the settings of one stream."""
    kinds: list[dict[str, Any]] = [
        {"temperature": 0.7},
        {"temperature": 1.0, "top_p": 0.9},
        {"temperature": 0.8, "top_k": 40},
        {"temperature": 1.2, "min_p": 0.05},
        {"temperature": 0.9, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1},
        {"temperature": 0.0, "frequency_penalty": 0.4},
        {"temperature": 0.5, "presence_penalty": 0.3, "top_p": 0.8},
        {"temperature": 0.0},
    ]
    seed = {"seed": number} if number % 2 else {}
    return {**kinds[number % len(kinds)], **seed, "stop": [f"@@{number}@@"]}


class SettingsContest(Contest):
    """The same streams, with settings of their own."""

    def with_settings(self, settings: list[dict[str, Any]]) -> float:
        """Return tokens per second of one stream per settings, all at once."""

        async def one(text: str, options: dict[str, Any]) -> int:
            stream = self.llm.generate_async(text, stream=True, max_tokens=self.tokens, **options)
            try:
                async for _ in stream:
                    pass
            except IncompleteOutputError:
                if "response_format" not in options:
                    raise
            usage = stream.response.usage
            assert usage is not None
            return usage.completion_tokens

        async def all_of_them() -> int:
            pairs = zip(self.texts, settings, strict=True)
            return sum(await asyncio.gather(*(one(text, options) for text, options in pairs)))

        return self._rate(lambda: asyncio.run(all_of_them()))


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=("shipped", "28m"), default=("shipped", "28m"))
    options = parser.parse_args()
    print(machine(), "\n")
    import_mlx()
    with tempfile.TemporaryDirectory() as folder:
        models = {"shipped": ("shipped model", embedded.PATH)}
        if "28m" in options.models:
            models["28m"] = ("random 28M", random_model(Path(folder) / "28m", LLAMA_28M))
        for name, path in (models[model] for model in options.models):
            _contest(name, path, options.streams, options.tokens, options.rounds)


def _contest(name: str, path: Path, streams: int, tokens: int, rounds: int) -> None:
    contest = SettingsContest(path, streams, tokens)
    greedy = [{"temperature": 0.0} for _ in range(streams)]
    contestants = {
        "ours, mixed settings": lambda: contest.with_settings([mixed(number) for number in range(streams)]),
        "ours, schema": lambda: contest.with_settings([{**one, "response_format": NUMBERS} for one in greedy]),
        "ours, greedy": lambda: contest.with_settings(greedy),
        "batch_generate, greedy": contest.batch,
    }
    results = interleave(contestants, rounds)
    for ours in ("ours, mixed settings", "ours, schema"):
        shown = {key: value for key, value in results.items() if key == ours or key.endswith("greedy")}
        print(table(f"{streams} streams, {name}", "tokens/s", shown, ours), flush=True)


if __name__ == "__main__":
    main()
