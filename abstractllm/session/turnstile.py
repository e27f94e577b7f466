"""A lock for async code on any number of event loops, which lets the waiting through in their order."""

from __future__ import annotations

import asyncio
import os
from collections import deque

from abstractllm.errors import UnsupportedOperationError
from abstractllm.threads import ForkSafeLock


class Ticket:
    """One who waits, or is inside; made on its event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.admitted: asyncio.Future[None] = self.loop.create_future()

    def admit(self) -> bool:
        """Say that its turn has come; False where its loop was closed, so that nobody waits there."""
        try:
            self.loop.call_soon_threadsafe(self._admit)
        except RuntimeError:
            return False
        return True

    def _admit(self) -> None:
        if not self.admitted.done():
            self.admitted.set_result(None)


class Turnstile:
    """Lets one in at a time; whoever has entered leaves, from any thread.

    Who was inside on an event loop that was closed since, or in the process that this one was forked from, is inside
    no more.
    """

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._pid = os.getpid()
        self._inside: Ticket | None = None
        self._waiting: deque[Ticket] = deque()

    async def enter(self) -> Ticket:
        """Wait for the turn and return what to leave with. Whoever is cancelled while waiting has not entered."""
        ticket = Ticket()
        with self._lock:
            self._forget_the_gone()
            self._waiting.append(ticket)
            if self._inside is None:
                self._let_one_in()
        try:
            await ticket.admitted
        except BaseException:  # also where the coroutine is closed
            self.leave(ticket)
            raise
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Let the next one in, or give up waiting. Safe to call twice."""
        with self._lock:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
            elif ticket is self._inside:
                self._let_one_in()

    def check_may_block(self) -> None:
        """Raise UnsupportedOperationError where a thread that blocks for its turn would wait for its own event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        with self._lock:
            before = [*self._waiting, self._inside]
        if any(ticket is not None and ticket.loop is loop for ticket in before):
            raise UnsupportedOperationError(
                "A turn of this session is going on in this thread's event loop, which a blocking call would hold up"
                " for ever; await `send_async` instead, or call this in `asyncio.to_thread`."
            )

    def _forget_the_gone(self) -> None:
        if os.getpid() != self._pid:
            self._pid = os.getpid()
            self._inside = None
            self._waiting.clear()
        elif self._inside is not None and self._inside.loop.is_closed():
            self._inside = None

    def _let_one_in(self) -> None:
        self._inside = None
        while self._waiting:
            ticket = self._waiting.popleft()
            if ticket.admit():
                self._inside = ticket
                return
