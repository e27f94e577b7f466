"""Stop strings for services that cannot be relied upon to find them. Knows no service."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from abstractllm.text.stops import StopMatcher
from abstractllm.types import GenerateResponse


async def cut_at_stop(
    source: AsyncGenerator[GenerateResponse, None], stops: tuple[str, ...]
) -> AsyncGenerator[GenerateResponse, None]:
    """Yield the deltas of a single answer as far as the first stop string, at which the source is closed.

    The counts of an answer that is cut are not known: a service tells them at its end.
    """
    matcher = StopMatcher(stops)
    async with aclosing(source) as deltas:
        async for delta in deltas:
            text = matcher.add(delta.content)
            if matcher.matched is not None:
                yield replace(
                    delta, content=text, tool_call_deltas=(), finish_reason="stop", stop_string=matcher.matched
                )
                return
            yield replace(delta, content=text if delta.finish_reason is None else text + matcher.flush())
