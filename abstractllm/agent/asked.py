"""A run's task from the arguments of a call. Knows no agent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from abstractllm.agent.plan import Task
from abstractllm.agent.result import Result
from abstractllm.errors import InvalidParameterError, shown
from abstractllm.history import paired, resumable
from abstractllm.interface import File, MessageLike
from abstractllm.messages import to_messages
from abstractllm.types import Message, TextPart


class Asked:
    """An `Occasion` for one run, checked at the call; files are read when it begins. See `Agent.run`."""

    def __init__(
        self,
        prompt: str | None,
        messages: Sequence[MessageLike],
        deps: Any,
        files: Sequence[File],
        tool_choice: str | None,
        approvals: Mapping[str, bool | str] | None,
    ) -> None:
        history = to_messages(messages) if messages else ()
        if prompt is None and (not history or files):
            raise InvalidParameterError("prompt", "There is no prompt; pass one, or a conversation as messages=.")
        self._files = tuple(files)
        self._prompt = prompt
        turns = resumable(history) if prompt is None else (*paired(history), Message("user", _checked_prompt(prompt)))
        self.task = Task(turns, 0 if prompt is None else 1, deps, tool_choice, approvals)

    async def begin(self) -> Task:
        """Return the task, with its files read."""
        if not self._files:
            return self.task
        return await asyncio.to_thread(self._with_files)

    def _with_files(self) -> Task:
        from abstractllm.files import read_files

        turn = Message("user", (*read_files(self._files), TextPart(self._prompt or "")))
        return replace(self.task, messages=(*self.task.messages[:-1], turn))

    async def end(self, result: Result[Any] | None) -> None:
        """Keep nothing."""


def _checked_prompt(prompt: object) -> str:
    if isinstance(prompt, str) and prompt.strip():
        return prompt
    raise InvalidParameterError("prompt", f"prompt={shown(prompt)} is not valid: it must be a text to answer.")
