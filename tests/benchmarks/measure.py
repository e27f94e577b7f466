"""What the benchmarks share: interleaved rounds, medians, ratios, and the machine they ran on."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Mapping

from abstractllm.providers.mlx import backend


def interleave(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run every contestant once per round, in turn, after one warm-up each; return their results per round."""
    results: dict[str, list[float]] = {name: [] for name in contestants}
    for run in contestants.values():
        run()
    for _ in range(rounds):
        for name, run in contestants.items():
            results[name].append(run())
    return results


def table(title: str, unit: str, results: Mapping[str, list[float]], ours: str) -> str:
    """Return a Markdown table of medians, spreads, and our ratio to each contestant (the median of rounds' ratios)."""
    lines = [f"### {title}", "", f"| | {unit}, median | lowest | highest | ours / this |", "|---|---|---|---|---|"]
    for name, values in results.items():
        ratio = statistics.median(a / b for a, b in zip(results[ours], values, strict=True))
        lines.append(
            f"| {name} | {statistics.median(values):.4g} | {min(values):.4g} | {max(values):.4g} | {ratio:.2f} |"
        )
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Return a line that says what this ran on."""
    blas = backend.load_blas()
    versions = ", ".join(f"{name} {backend.version(name)}" for name in ("mlx", "mlx-lm"))
    load = os.getloadavg()[0]
    system = f"{platform.system()} {platform.machine()}, {backend.available_cores()} cores"
    return (
        f"{system}, Python {platform.python_version()}, {versions}, BLAS {blas.library or 'of the mlx wheel'},"
        f" load average before the run {load:.1f}"
    )
