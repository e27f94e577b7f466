"""The events of a run -> what the model says in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from abstractllm.agent.events import Event, TextDelta, TurnFinished

if TYPE_CHECKING:
    from abstractllm.agent.run import Run

BETWEEN_TURNS = "\n\n"


class TextReader:
    """The text of a run in pieces, which join to `Result.text`; iterate with `for` or `async for`, also again."""

    def __init__(self, run: Run[Any]) -> None:
        self._run = run

    def __iter__(self) -> Iterator[str]:
        parts = _Parts()
        for event in self._run:
            yield from parts.of(event)

    async def __aiter__(self) -> AsyncIterator[str]:
        parts = _Parts()
        async for event in self._run:
            for piece in parts.of(event):
                yield piece


class _Parts:
    """Parts the text of one answer of the model from that of the next one."""

    def __init__(self) -> None:
        self._said = False
        self._ended = False

    def of(self, event: Event) -> Iterator[str]:
        if isinstance(event, TextDelta):
            if self._ended and self._said:
                yield BETWEEN_TURNS
            self._said, self._ended = True, False
            yield event.text
        elif isinstance(event, TurnFinished):
            self._ended = True
