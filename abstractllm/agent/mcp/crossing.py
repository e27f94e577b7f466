"""Waiting, in any event loop, for work that runs on the package's own loop. Knows nothing of MCP.

Everything of a session runs on that one loop, so that it does not matter which task, loop or thread opens it, uses it
and closes it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from abstractllm.portal import portal

T = TypeVar("T")


async def across(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run the coroutine that `make` returns on the portal's loop. Cancelling cancels it, and waits for nothing."""
    job = portal().spawn(make, awaited=True)
    try:
        await _ended(job.outcome)
    except asyncio.CancelledError:
        job.cancel()
        raise
    return job.outcome.result()


async def across_to_its_end(make: Callable[[], Coroutine[Any, Any, T]], *, cancel: bool) -> T:
    """Do the same, but leave only when the work has ended; cancelling cancels it only where `cancel` says so.

    Whoever is cancelled a second time leaves at once, and the work goes on to its end by itself.
    """
    job = portal().spawn(make, awaited=True)
    try:
        await _ended(job.outcome)
    except asyncio.CancelledError:
        if cancel:
            job.cancel()
        await _ended(job.outcome)
        raise
    return job.outcome.result()


async def _ended(outcome: concurrent.futures.Future[Any]) -> None:
    """Wait in this loop for an outcome that another one sets; being cancelled does not touch it."""
    loop = asyncio.get_running_loop()
    waiter = loop.create_future()

    def wake() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def tell(_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(wake)

    outcome.add_done_callback(tell)
    await waiter
