"""A lock for async code on any number of event loops, which lets the waiting through in their order."""

from __future__ import annotations

import asyncio
from collections import deque

from abstractllm.threads import ForkSafeLock

_Waiting = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Turnstile:
    """Lets one in at a time; whoever has entered leaves, from any thread."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._taken = False
        self._waiting: deque[_Waiting] = deque()

    async def enter(self) -> None:
        """Wait for the turn. Whoever is cancelled while waiting has not entered."""
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            loop = asyncio.get_running_loop()
            waiting = (loop, loop.create_future())
            self._waiting.append(waiting)
        try:
            await waiting[1]
        except asyncio.CancelledError:
            self._give_up(waiting)
            raise

    def _give_up(self, waiting: _Waiting) -> None:
        with self._lock:
            still_waits = waiting in self._waiting
            if still_waits:
                self._waiting.remove(waiting)
        if not still_waits:  # the turn came at this very moment
            self.leave()

    def leave(self) -> None:
        """Let the next one in."""
        with self._lock:
            while self._waiting:
                loop, future = self._waiting.popleft()
                try:
                    loop.call_soon_threadsafe(_let_in, future)
                except RuntimeError:  # its loop was closed, so nobody waits there
                    continue
                return
            self._taken = False


def _let_in(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
