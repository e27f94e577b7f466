"""Ways to let an event loop go on until something is so, without a time in them."""

from __future__ import annotations

import asyncio


async def turns_of_the_loop(count=8):
    """Let everything run that can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Let the loop run until something is so; a loop that never gets there is ended by the limit of the test run."""
    while not condition():
        await asyncio.sleep(0.001)
