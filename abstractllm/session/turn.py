"""One turn of a conversation: where its run's task comes from, and what is kept of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from abstractllm.agent.asked import Asked, checked_files
from abstractllm.agent.plan import Task
from abstractllm.agent.result import Result
from abstractllm.errors import InvalidParameterError
from abstractllm.history import unanswered
from abstractllm.interface import File
from abstractllm.observing.conversation import conversation
from abstractllm.session.turnstile import Ticket, Turnstile
from abstractllm.types import Message


class Turn:
    """An `Occasion` on which a conversation goes on; its arguments but the first four are those of `Agent.run`."""

    def __init__(
        self,
        id: str,
        turnstile: Turnstile,
        past: Callable[[], tuple[Message, ...]],
        keep: Callable[[Result[Any]], Awaitable[None]],
        prompt: str | None,
        files: Sequence[File],
        deps: Any,
        approvals: Mapping[str, bool | str] | None,
    ) -> None:
        self._id = id
        self._turnstile = turnstile
        self._past = past
        self._keep = keep
        self._prompt = prompt
        self._files = checked_files(files)
        self._deps = deps
        self._approvals = approvals
        self._ticket: Ticket | None = None
        self._observed = ExitStack()
        self._asked(past() if prompt is None else ())  # what cannot be right is said at the call

    def _asked(self, past: tuple[Message, ...]) -> Asked:
        if self._prompt is None and not unanswered(past):
            raise InvalidParameterError("prompt", "There is no prompt, and no call waits for approval; pass a prompt.")
        return Asked(self._prompt, past, self._deps, self._files, None, self._approvals)

    async def begin(self) -> Task:
        """Wait for the turns before this one. From now on, what happens in this context belongs to the conversation."""
        self._ticket = await self._turnstile.enter()
        try:
            task = await self._asked(self._past()).begin()
        except BaseException:
            self._turnstile.leave(self._ticket)
            raise
        self._observed.enter_context(conversation(self._id))
        return task

    async def end(self, result: Result[Any] | None) -> None:
        """Keep what was said, if there is something, and let the next turn begin."""
        assert self._ticket is not None
        try:
            if result is not None and _says_something(result):
                await self._keep(result)
        finally:
            self._turnstile.leave(self._ticket)
            self._observed.close()


def _says_something(result: Result[Any]) -> bool:
    return any(message.role != "user" for message in result.new_messages)
