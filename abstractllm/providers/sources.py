"""Sources of deltas as they are read to their end, and who gave up. Knows no provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.types import GenerateResponse


async def collect(deltas: AsyncGenerator[GenerateResponse, None], accumulator: ResponseAccumulator) -> GenerateResponse:
    """Return the answer that `accumulator` has joined when `deltas` are at their end."""
    async with aclosing(deltas):
        async for _ in deltas:
            pass
    return accumulator.response


def is_cancelled() -> bool:
    """Whether somebody has cancelled the task that runs here, if one does."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop runs in this thread
        return False
    return task is not None and task.cancelling() > 0


def generator(source: Iterator[GenerateResponse]) -> Generator[GenerateResponse, None, None]:
    """Return `source` as something that can be closed, whatever kind of iterator it is."""
    return source if isinstance(source, Generator) else _closed_at_end(source)


def _closed_at_end(source: Iterator[GenerateResponse]) -> Generator[GenerateResponse, None, None]:
    try:
        for delta in source:  # noqa: UP028 - `yield from` would close it as well, and so twice
            yield delta
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()
