"""Notices when a piece of work does not end. Knows neither what the work is nor what is to be done about it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOKS = 4
"""How often work is seen unchanged before it counts as hung.

Looks are counted, not seconds on a clock: a process that was suspended finds much time gone by, and nothing hangs.
"""


class Watchdog:
    """Watches the work of one thread from another one, which ends with the process.

    `on_hang` is called once in that other thread, when one piece of work has taken `limit` seconds, and up to a quarter
    more. What it does is up to it: the work itself cannot be stopped.
    """

    def __init__(self, limit: float, on_hang: Callable[[], None]) -> None:
        self._limit = limit
        self._on_hang = on_hang
        self._work: object | None = None
        self._seen: object | None = None
        self._looks = 0

    def start(self) -> None:
        """Look from now on until something hangs."""
        threading.Thread(target=self._live, name="abstractllm-mlx-watchdog", daemon=True).start()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Say that a piece of work is being done. Call on the thread that is watched; not one within another."""
        self._work = object()
        try:
            yield
        finally:
            self._work = None

    def look(self) -> bool:
        """Look once, and return whether the work hangs."""
        work = self._work
        self._looks = self._looks + 1 if work is not None and work is self._seen else 0
        self._seen = work
        return self._looks >= LOOKS

    def _live(self) -> None:
        pause = threading.Event()
        while not self.look():
            pause.wait(self._limit / LOOKS)
        self._on_hang()
