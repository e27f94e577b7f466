"""A run's task from the arguments of a call. Knows no agent."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from abstractllm.agent.plan import Task
from abstractllm.agent.result import Result
from abstractllm.errors import InvalidParameterError, shown
from abstractllm.history import paired, resumable, unanswered
from abstractllm.interface import File, MessageLike
from abstractllm.messages import to_messages
from abstractllm.types import Message, TextPart, ToolCall


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
        self._files = checked_files(files)
        self._prompt = prompt
        turns = resumable(history) if prompt is None else (*paired(history), Message("user", _checked_prompt(prompt)))
        if approvals or not isinstance(approvals, (Mapping, type(None))):
            _check_approvals(approvals, () if prompt is not None else unanswered(turns))
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


def checked_files(files: Sequence[File] | None) -> tuple[File, ...]:
    """Return what is to be read, without a look at the disk. Raises InvalidParameterError for what is no list."""
    if files is None or files == ():
        return ()
    from abstractllm.files import file_paths

    return tuple(file_paths(files))


def _check_approvals(approvals: Mapping[str, bool | str], calls: Sequence[ToolCall]) -> None:
    """Refuse what are no decisions, and decisions about calls that this run cannot make."""
    if not isinstance(approvals, Mapping) or not all(isinstance(one, (bool, str)) for one in approvals.values()):
        what = f"approvals={shown(approvals)} is not valid: it must be a mapping from ids of calls to True, False or"
        raise InvalidParameterError("approvals", f"{what} why not.")
    waiting = [call.id for call in calls]
    for id in approvals:
        if id in waiting:
            continue
        found = f"those that do are {', '.join(map(repr, waiting))}" if waiting else "none does in a run like this"
        raise InvalidParameterError(
            "approvals",
            f"approvals has {id!r}, but no call of that id waits for a result; {found}. Approvals go with the"
            " conversation that stopped at the calls, without a prompt.",
        )


def _checked_prompt(prompt: object) -> str:
    if isinstance(prompt, str) and prompt.strip():
        return prompt
    raise InvalidParameterError("prompt", f"prompt={shown(prompt)} is not valid: it must be a text to answer.")
