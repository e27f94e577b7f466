"""A list that grows while others read it: several readers, on threads and event loops, each from its beginning.

Knows nothing of what the items are.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_SIGNALS = 0.25
"""Seconds after which a thread that waits looks whether Ctrl-C was pressed."""


class Feed(Generic[T]):
    """Items that one writer adds; `end` says that there will be no more.

    A reader adds its waker first and looks for news then, and the writer adds its item first and looks for wakers
    then: whichever is faster, one sees the other.
    """

    def __init__(self) -> None:
        self.items: list[T] = []
        self.ended = False
        self._wakers: list[Callable[[], None]] = []

    def put(self, item: T) -> None:
        """Add an item."""
        self.items.append(item)
        if self._wakers:
            self._wake()

    def end(self) -> None:
        """Say that there will be no more items."""
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        while self._wakers:
            try:
                wake = self._wakers.pop()
            except IndexError:  # taken by a reader that gave up
                return
            wake()

    def _has_news(self, seen: int) -> bool:
        return self.ended or len(self.items) > seen

    async def news(self, seen: int) -> None:
        """Return when there are more items than `seen`, or will be none."""
        if self._has_news(seen):
            return
        loop = asyncio.get_running_loop()
        event = asyncio.Event()

        def wake() -> None:
            call_on(loop, event.set)

        self._wakers.append(wake)
        if self._has_news(seen):
            self._forget(wake)
            return
        try:
            await event.wait()
        finally:
            self._forget(wake)

    def wait_for_news(self, seen: int) -> None:
        """Do what `news` does, by blocking the calling thread.

        No `threading.Event`: Ctrl-C at the wrong moment leaves its lock held, and the writer would hang in `set`. No
        wait without an end: a Ctrl-C that comes just before a thread blocks is seen when it goes on, and not before.
        """
        woken: queue.SimpleQueue[None] = queue.SimpleQueue()

        def wake() -> None:
            woken.put(None)

        self._wakers.append(wake)
        if self._has_news(seen):
            self._forget(wake)
            return
        try:
            while not self._has_news(seen):
                _wait(woken)
        finally:
            self._forget(wake)

    def _forget(self, wake: Callable[[], None]) -> None:
        if wake in self._wakers:
            try:
                self._wakers.remove(wake)
            except ValueError:  # the writer was faster
                return

    async def follow(self) -> AsyncIterator[T]:
        """Yield every item, the first one first, and wait for those to come."""
        seen = 0
        while True:
            while seen < len(self.items):
                yield self.items[seen]
                seen += 1
            if self.ended and seen == len(self.items):
                return
            await self.news(seen)

    def follow_sync(self) -> Iterator[T]:
        """Do what `follow` does, by blocking the calling thread."""
        seen = 0
        while True:
            while seen < len(self.items):
                yield self.items[seen]
                seen += 1
            if self.ended and seen == len(self.items):
                return
            self.wait_for_news(seen)


def _wait(woken: queue.SimpleQueue[None]) -> None:
    """Return when there is something in the queue, or when it is time to look at signals."""
    try:
        woken.get(timeout=_SIGNALS)
    except queue.Empty:
        return


def call_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a quick function on a loop, at once where that is the running one; never where it is closed."""
    try:
        here = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if here is loop:
        function()
        return
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:  # the loop is closed, and its reader with it
        return
