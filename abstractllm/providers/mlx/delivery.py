"""Hands the deltas of an answer from the MLX thread to whoever reads them: a thread or an event loop.

The MLX thread never waits for a reader. An answer's length bounds what can pile up.
"""

from __future__ import annotations

import asyncio
import logging
import queue
from collections import deque
from collections.abc import AsyncIterator, Iterator

from abstractllm.aio import End
from abstractllm.providers.local.answer import Sink
from abstractllm.providers.mlx.worker import Outbox
from abstractllm.types import GenerateResponse

logger = logging.getLogger("abstractllm.mlx")


class SharedSink:
    """The sink of several answers to one request: ends once all have ended, or with the first error."""

    def __init__(self, sink: Sink, answers: int) -> None:
        self._sink = sink
        self._running = answers

    def put(self, item: GenerateResponse | End) -> None:
        """Hand over; of the ends only the one that counts. Call on one thread."""
        if not isinstance(item, End):
            self._sink.put(item)
            return
        self._running = 0 if item.failed else self._running - 1
        if self._running == 0:
            self._sink.put(item)


class ThreadSink:
    """A sink that a thread reads by iterating."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[GenerateResponse | End] = queue.SimpleQueue()
        self._abandoned = False

    def put(self, item: GenerateResponse | End) -> None:
        """Hand over; what comes after `abandon` is dropped."""
        if not self._abandoned:
            self._items.put(item)

    def abandon(self, error: Exception) -> None:
        """Raise this error where the sink is read. Call on any thread."""
        self._abandoned = True
        self._items.put(End(error))

    def __iter__(self) -> Iterator[GenerateResponse]:
        while True:
            item = self._items.get()
            if isinstance(item, End):
                item.check()
                return
            yield item


class LoopSink:
    """A sink that a task of the running event loop reads by iterating."""

    def __init__(self, outbox: Outbox) -> None:
        self._loop = asyncio.get_running_loop()
        self._outbox = outbox
        self._items: deque[GenerateResponse | End] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._abandoned = False

    def put(self, item: GenerateResponse | End) -> None:
        """Hand over at the end of the engine's step; call on the MLX thread. What comes after `abandon` is dropped."""
        if not self._abandoned:
            self._outbox.put(self._loop, lambda: self._receive(item))

    def abandon(self, error: Exception) -> None:
        """Raise this error where the sink is read. Call on any thread; it waits for no step."""
        self._abandoned = True
        try:
            self._loop.call_soon_threadsafe(self._receive, End(error))
        except RuntimeError:
            logger.debug("an event loop closed before its answers were read")

    def _receive(self, item: GenerateResponse | End) -> None:
        self._items.append(item)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def __aiter__(self) -> AsyncIterator[GenerateResponse]:
        while True:
            while not self._items:
                self._waiter = self._loop.create_future()
                await self._waiter
            item = self._items.popleft()
            if isinstance(item, End):
                item.check()
                return
            yield item
