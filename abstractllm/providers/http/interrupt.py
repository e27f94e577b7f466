"""Ends what a request waits for when its answer is no longer wanted. Knows neither HTTP nor providers."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol, Self, TypeVar

from abstractllm.errors import UnsupportedOperationError
from abstractllm.providers.call import Call

T = TypeVar("T")


class Closable(Protocol):
    """Something that ends at once whatever waits for it."""

    def close(self) -> None:
        """End it; safe to call twice."""


class Interrupt:
    """Follows a call from `with` to its end; the call may be closed in any thread, the rest is for one event loop."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._over = False
        self._left = False
        self._scope: asyncio.Timeout | None = None
        self._held: Closable | None = None

    def __enter__(self) -> Self:
        self._call.on_cancel(self._leave_soon)
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        self._held = None

    def hold(self, held: Closable) -> None:
        """Have something closed when the call is."""
        self._held = held
        if self._left:
            held.close()

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what the work does. Raises UnsupportedOperationError when it was interrupted."""
        try:
            async with asyncio.timeout_at(self._loop.time() if self._left else None) as self._scope:
                return await work
        except TimeoutError:
            if not self._left:
                raise
            raise UnsupportedOperationError("The request was given up while it waited.") from None
        finally:
            self._scope = None

    def _leave_soon(self) -> None:
        if self._over:
            return
        try:
            self._loop.call_soon_threadsafe(self._leave)
        except RuntimeError:  # the loop is closed, and nothing waits there any more
            return

    def _leave(self) -> None:
        if self._over:
            return
        self._left = True
        if self._scope is not None:
            self._scope.reschedule(self._loop.time())
        if self._held is not None:
            self._held.close()
