"""A reply to one message: a text that can be awaited, or read while it is written. Knows no model."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Coroutine, Generator
from typing import Any

from abstractllm.agent.result import Result
from abstractllm.agent.run import Run


class Answer(str):
    """A whole reply: a string, which can also be awaited and iterated over like the `Reply` that it came from.

    `result` is what the run came to.
    """

    result: Result[Any]
    _pieces: tuple[str, ...]

    def __new__(cls, result: Result[Any], pieces: tuple[str, ...] = ()) -> Answer:
        """Make the answer of a result; `pieces` are those in which it was written."""
        answer = super().__new__(cls, result.text)
        answer.result = result
        answer._pieces = pieces or (result.text,)
        return answer

    def __await__(self) -> Generator[Any, Any, Answer]:
        return _itself(self).__await__()

    async def __aiter__(self) -> AsyncIterator[str]:
        for piece in self._pieces:
            yield piece


async def _itself(answer: Answer) -> Answer:
    return answer


class Reply(Coroutine[Any, Any, Answer]):
    """What a message is answered with: `await` it for the whole text, `async for` it for the text as it is written.

    Both as often as wanted, in any order, from any number of tasks: nothing is asked twice. It starts when it is first
    awaited or iterated over. `run` has the events behind the text.
    """

    def __init__(self, run: Run[Any]) -> None:
        self.run = run
        self._used = False
        self._awaiting: Coroutine[Any, Any, Answer] | None = None

    async def _whole(self) -> Answer:
        result = await self.run.wait()
        return Answer(result, tuple([piece async for piece in self.run.text()]))

    def __await__(self) -> Generator[Any, Any, Answer]:
        self._used = True
        return self._whole().__await__()

    async def __aiter__(self) -> AsyncIterator[str]:
        self._used = True
        async for piece in self.run.text():
            yield piece

    def cancel(self) -> None:
        """End the run; what has arrived stays."""
        self.run.cancel()

    # As a coroutine, for `asyncio.create_task` and task groups.

    def send(self, value: Any) -> Any:
        """Advance the coroutine; event loops call this."""
        return self._coroutine().send(value)

    def throw(self, *args: Any) -> Any:
        """Raise an exception inside the coroutine; event loops call this."""
        return self._coroutine().throw(*args)

    def close(self) -> None:
        """Give up a reply that is not wanted after all."""
        self._used = True
        if self._awaiting is not None:
            self._awaiting.close()

    def _coroutine(self) -> Coroutine[Any, Any, Answer]:
        self._used = True
        if self._awaiting is None:
            self._awaiting = self._whole()
        return self._awaiting

    def __repr__(self) -> str:
        return "<Reply: `await` it for its text, or read it with `async for`>"

    def __del__(self) -> None:
        if not getattr(self, "_used", True):
            warnings.warn("A reply was never awaited, so nothing was asked; put `await` before it.", RuntimeWarning, 2)
