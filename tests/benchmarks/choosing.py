"""How long the choice of 32 tokens takes: python tests/benchmarks/choosing.py [--rounds N]

Cases take turns in each round, and medians are printed, with the ratio to the greedy case. Beside them stand
the same draws with MLX's `random.categorical`, and `argsort` for top_p, as a row-by-row sampler would use them.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.choosing import BatchSampler
from abstractllm.providers.mlx.worker import mlx_thread

ROWS = 32
WARM = Sampling(0.8)
FOUR = (Sampling(), WARM, Sampling(0.8, top_k=40), Sampling(0.7, top_p=0.95))
CASES: Mapping[str, list[Sampling]] = {
    "greedy": [Sampling()] * ROWS,
    "temperature 0.8": [WARM] * ROWS,
    "temperature 0.8, 32 seeds": [replace(WARM, seed=i) for i in range(ROWS)],
    "top_k 40": [replace(WARM, top_k=40)] * ROWS,
    "top_k 40, top_p 0.95, 32 seeds": [replace(WARM, top_k=40, top_p=0.95, seed=i) for i in range(ROWS)],
    "top_p 0.95": [replace(WARM, top_p=0.95)] * ROWS,
    "4 settings mixed": [FOUR[i % 4] for i in range(ROWS)],
    "greedy, penalties": [Sampling(repetition_penalty=1.1, presence_penalty=0.5)] * ROWS,
    "greedy, 5 log-probabilities": [Sampling(logprobs=5)] * ROWS,
}


@dataclass(eq=False)
class Row:
    """A row with a prompt of 100 tokens."""

    sampling: Sampling
    prompt: list[int] = field(default_factory=lambda: list(range(100)))
    generated: list[int] = field(default_factory=list)


def cases(logits: Any) -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """Yield what is measured: functions that return the arrays to be computed."""
    import mlx.core as mx

    for name, settings in CASES.items():
        sampler = BatchSampler()
        sampler.join([Row(sampling) for sampling in settings])
        yield name, lambda sampler=sampler: sampler.choose(logits).arrays
    yield "mx categorical, temperature", lambda: [mx.random.categorical(logits * (1 / 0.8))]
    yield "mx categorical, row by row", lambda: [mx.random.categorical(logits[i : i + 1] * 1.25) for i in range(ROWS)]
    yield "mx argsort", lambda: [mx.argsort(-logits, axis=-1)]


def measure(vocabulary: int, rounds: int) -> None:
    """Print the medians for one size of the vocabulary, with logits as peaked as those of a language model."""
    mx = import_mlx()
    logits = mx.random.normal((ROWS, vocabulary)) * 2
    logits[:, :5] = mx.array([20.0, 18.0, 17.0, 16.0, 16.0])
    mx.eval(logits)
    times: dict[str, list[float]] = {}
    building: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, case in cases(logits):
            mx.eval(case())
            begin = time.perf_counter()
            arrays = case()
            built = time.perf_counter()
            mx.eval(arrays)
            times.setdefault(name, []).append(time.perf_counter() - begin)
            building.setdefault(name, []).append(built - begin)
    print(f"{ROWS} rows, vocabulary {vocabulary}: median ms (least), of these to build, ratio to greedy")
    greedy = statistics.median(times["greedy"])
    for name, found in times.items():
        middle, graph = statistics.median(found), statistics.median(building[name])
        print(f"  {name:32} {middle * 1e3:9.2f} ({min(found) * 1e3:.2f})  {graph * 1e3:6.2f}  {middle / greedy:7.1f}")


def main() -> None:
    """Measure on the MLX thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for vocabulary in (2048, 128_000):
        mlx_thread().run(lambda vocabulary=vocabulary: measure(vocabulary, rounds)).result()


if __name__ == "__main__":
    main()
