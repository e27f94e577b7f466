"""Time and memory of `import abstractllm`, over those of Python itself.

    python tests/benchmarks/import_time.py [--rounds 15]

Each figure is that of a fresh process; the table shows what the import adds to an empty one.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"


def process(code: str) -> tuple[float, float]:
    """Return the seconds and the peak memory in MB of a fresh Python that runs `code`."""
    start = time.perf_counter()
    output = subprocess.run([sys.executable, "-c", f"{code}\n{PEAK}"], check=True, capture_output=True, text=True)
    return time.perf_counter() - start, int(output.stdout) / 1024


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    codes = {
        "Python alone": "pass",
        "import abstractllm": "import abstractllm",
        "from abstractllm import create_llm": "from abstractllm import create_llm",
    }
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in codes}
    for _ in range(rounds):
        for name, code in codes.items():
            results[name].append(process(code))
    base = [statistics.median(column) for column in zip(*results["Python alone"], strict=True)]
    print("| | ms over Python alone | MB over Python alone |\n|---|---|---|")
    for name, values in results.items():
        seconds, memory = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"| {name} | {(seconds - base[0]) * 1000:.0f} | {memory - base[1]:.1f} |")


if __name__ == "__main__":
    main()
