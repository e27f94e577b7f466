"""How much memory this machine has left."""

from __future__ import annotations

from pathlib import Path


def available_memory() -> int | None:
    """Return the bytes of memory that are free for use, or None where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return None  # not Linux
    return None
