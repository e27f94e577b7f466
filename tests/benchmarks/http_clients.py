"""What a call and a streamed chunk cost in CPU time: this package against other clients of the same service.

    python tests/benchmarks/http_clients.py [--rounds 5] [--only ours openai]

The service is a stub on loopback in a process of its own; each client is a process of its own, all are warm, and they
take turns in every round. Others than this package and aiohttp must be installed:
`pip install openai litellm any-llm-sdk[openai] pydantic-ai-slim[openai] langchain-openai`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from http_contestants import CONTESTANTS
from measure import interleave, table

HERE = Path(__file__).parent
DISTRIBUTIONS = {"raw aiohttp": "aiohttp", "any-llm": "any-llm-sdk", "pydantic-ai": "pydantic-ai-slim"}
"""Names of distributions, where they are not those of the contestants."""


@dataclass(frozen=True)
class Task:
    """One thing that is measured: so many calls, streams or constructions, so many of them at once."""

    title: str
    unit: str
    what: str
    count: int
    concurrency: int = 1


TASKS = (
    Task("whole answers, one at a time", "CPU us a call", "calls", 200),
    Task("whole answers, 64 at a time", "CPU us a call", "calls", 640, 64),
    Task("streams of 200 chunks, one at a time", "CPU us a chunk", "chunks", 20),
    Task("streams of 200 chunks, 16 at a time", "CPU us a chunk", "chunks", 32, 16),
    Task("construction of a client", "CPU us", "construction", 10),
)


class Process:
    """A child that takes orders by lines; `first` is the first line that it says."""

    def __init__(self, *command: str) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._child = subprocess.Popen([sys.executable, *command], **pipes)

    def line(self) -> str:
        """Return the next line that it says."""
        assert self._child.stdout is not None
        text = self._child.stdout.readline()
        if not text:
            raise SystemExit(f"{self._child.args!r} ended with {self._child.wait()}; what it said is above.")
        return str(text)

    def cost(self, task: Task) -> float:
        """Return the microseconds of CPU time that one unit of a task costs it."""
        assert self._child.stdin is not None
        order = {"what": task.what, "count": task.count, "concurrency": task.concurrency}
        self._child.stdin.write(json.dumps(order) + "\n")
        self._child.stdin.flush()
        return float(json.loads(self.line())["cpu"])

    def end(self) -> None:
        """Close its input, by which it ends."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait(10)


@contextmanager
def started(*command: str) -> Iterator[Process]:
    """Yield a child that ends with the block."""
    process = Process(*command)
    try:
        yield process
    finally:
        process.end()


def versions(names: list[str]) -> str:
    """Return the contestants' versions, and what all run on."""
    listed = (DISTRIBUTIONS.get(name, name) for name in names if name != "ours")
    cores, load = os.cpu_count(), os.getloadavg()[0]
    system = f"{platform.system()} {platform.machine()}, {cores} cores, Python {platform.python_version()}"
    return f"{system}, load average before the run {load:.1f}; " + ", ".join(f"{one} {version(one)}" for one in listed)


def measured(clients: Mapping[str, Process], task: Task, rounds: int) -> str:
    """Return the table of one task."""
    contest: dict[str, Callable[[], float]] = {name: partial(client.cost, task) for name, client in clients.items()}
    return table(task.title, task.unit, interleave(contest, rounds), "ours")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS))
    options = parser.parse_args()
    print(versions(options.only), "\n")
    with ExitStack() as stack:
        stub = stack.enter_context(started(str(HERE / "http_stub.py")))
        url = f"http://127.0.0.1:{int(stub.line())}/v1"
        clients = {
            name: stack.enter_context(started(str(HERE / "http_contestants.py"), name, url)) for name in options.only
        }
        for task in TASKS:
            print(measured(clients, task, options.rounds), flush=True)


if __name__ == "__main__":
    main()
