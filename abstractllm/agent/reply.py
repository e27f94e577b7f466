"""A reply to one message: a text that can be awaited, or read while it is written. Knows no model."""

from __future__ import annotations

import asyncio
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

    def __reduce__(self) -> tuple[Any, ...]:
        return Answer, (self.result, self._pieces)

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
    awaited or iterated over.

    An agent's `chat` and a session's `send_async` make it. `abstractllm.providers.echo.Reply` is something else: an
    answer that a scripted model is to give.
    """

    def __init__(self, run: Run[Any]) -> None:
        self._run = run
        self._used = False
        self._awaiting: dict[asyncio.Task[Any] | None, Coroutine[Any, Any, Answer]] = {}  # by who drives it

    @property
    def run(self) -> Run[Any]:
        """The run behind the text, for its events and its result; whoever takes it answers for its being read."""
        self._used = True
        return self._run

    async def _whole(self) -> Answer:
        result = await self._run.wait()
        return Answer(result, tuple([piece async for piece in self._run.text()]))

    def __await__(self) -> Generator[Any, Any, Answer]:
        self._used = True
        return self._whole().__await__()

    async def __aiter__(self) -> AsyncIterator[str]:
        self._used = True
        async for piece in self._run.text():
            yield piece

    def cancel(self) -> None:
        """End the run; what has arrived stays."""
        self._used = True
        self._run.cancel()

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
        for one in self._awaiting.values():
            one.close()

    def _coroutine(self) -> Coroutine[Any, Any, Answer]:
        """Return the coroutine of the task that asks: each one that was made of this reply has its own."""
        self._used = True
        task = asyncio.current_task()
        if task not in self._awaiting:
            self._awaiting[task] = self._whole()
            if task is not None:
                task.add_done_callback(self._forget)
        return self._awaiting[task]

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._awaiting.pop(task, None)

    def __repr__(self) -> str:
        return "<Reply: `await` it for its text, or read it with `async for`>"

    def __del__(self) -> None:
        if not getattr(self, "_used", True):
            warnings.warn("A reply was never awaited, so nothing was asked; put `await` before it.", RuntimeWarning, 2)
