"""What only shows after thousands of requests: memory that is not given back, and storms of every size."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx, trim_heap
from abstractllm.providers.mlx.worker import mlx_thread

from ..providers.mlx.storm import STAGES, check_nothing_is_left, engine_of, storm
from .conftest import PREFIX_BYTES
from .traffic import Traffic

MOST_GROWTH = 0.02
"""By how much the memory of the process may grow after the first requests: from then to the median of the last five."""

PARTS = 10
"""How often it is looked at afterwards."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of the process, of MLX's arrays, of its free buffers and of kept prefixes; and Python's objects."""

    resident: int
    active: int
    free: int
    prefixes: int
    objects: int

    @classmethod
    def of(cls, llm: MLXProvider) -> Memory:
        """Measure, once everything has come to rest and what is free has been given back.

        An idle runner gives it back too, but not after every step; what is free by then would only blur the picture.
        To list the objects takes a megabyte, which glibc keeps in the heap of any thread but the main one: call this on
        the main thread, while nothing runs, or the measuring is measured.
        """
        gc.collect()
        mlx_thread().run(trim_heap).result()
        active, free, prefixes = mlx_thread().run(lambda: _of_mlx(llm)).result()
        return cls(_resident(), active, free, prefixes, len(gc.get_objects()))

    def __str__(self) -> str:
        sizes = [f"{size / 2**20:8.1f}" for size in (self.resident, self.active, self.free, self.prefixes)]
        return " ".join([*sizes, f"{self.objects:9,}"])


def _of_mlx(llm: MLXProvider) -> tuple[int, int, int]:
    mx = import_mlx()
    return mx.get_active_memory(), mx.get_cache_memory(), engine_of(llm)._runner.spare_bytes()


def _resident() -> int:
    """Return the bytes of the process that are in memory."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    size = subprocess.run(["ps", "-o", "rss=", "-p", str(os.getpid())], capture_output=True, text=True, check=True)
    return int(size.stdout) * 1024


async def _start_all_threads(llm: MLXProvider) -> None:
    """Start what prepares requests: each thread takes some 0.1 MB for good, and how many a burst needs is chance."""
    everyone = threading.Barrier(llm.max_threads)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(llm._executor(), everyone.wait) for _ in range(llm.max_threads)))


async def test_memory_does_not_grow_with_the_requests(llm: MLXProvider, pytestconfig: pytest.Config) -> None:
    number, settled = pytestconfig.getoption("requests"), pytestconfig.getoption("settled")
    await _start_all_threads(llm)
    traffic, measured = Traffic(llm, seed=1), []
    print("\nrequests resident   active     free prefixes MiB, objects")
    for part in [settled, *[(number - settled) // PARTS] * PARTS]:
        await traffic.many(part)
        await asyncio.to_thread(check_nothing_is_left, llm)
        measured.append(Memory.of(llm))
        print(f"{traffic.made.total():8,} {measured[-1]}", flush=True)
    print(dict(traffic.made))
    first, later = measured[0].resident, median(one.resident for one in measured[-PARTS // 2 :])
    assert measured[0].prefixes > 0.8 * PREFIX_BYTES, "measured too early: the kept prefixes still grow; ask more"
    assert max(one.prefixes for one in measured) <= PREFIX_BYTES
    print(f"growth: {later / first - 1:+.2%}")
    assert later <= first * (1 + MOST_GROWTH)


async def test_a_storm(llm: MLXProvider, pytestconfig: pytest.Config) -> None:
    leaving, staying = pytestconfig.getoption("leaving"), pytestconfig.getoption("staying")
    left = await storm(llm, leaving, staying)
    print(f"\n{dict(left)}")
    assert sum(left.values()) == leaving
    assert set(left) == set(STAGES)
