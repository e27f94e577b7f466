"""Agents with a scripted model, for the tests beside this file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from abstractllm import Capabilities, GenerateRequest, ModelCapability, ToolCall
from abstractllm.agent import Agent, Result
from abstractllm.history import paired
from abstractllm.providers.echo import EchoProvider, Reply


def call(name: str, id: str | None = None, /, **arguments: Any) -> ToolCall:
    """A call whose id is the name of its tool, where none is given."""
    return ToolCall(name if id is None else id, name, arguments)


def calls(*made: ToolCall, text: str = "") -> Reply:
    """An answer that makes calls."""
    return Reply(text, tool_calls=made)


class Formed(EchoProvider):
    """A scripted model that takes a form, and whose answers need not have it."""

    parameters = EchoProvider.parameters | {"response_format", "retries"}

    def get_capabilities(self) -> Capabilities:
        """Everything that the scripted model has, and forms."""
        return {**super().get_capabilities(), ModelCapability.STRUCTURED_OUTPUT: True}


class Recorder:
    """A script that notes what the model is asked."""

    def __init__(self, replies: Iterable[Reply | str]) -> None:
        self.requests: list[GenerateRequest] = []
        self._replies = iter(replies)

    def __call__(self, request: GenerateRequest) -> Reply | str:
        self.requests.append(request)
        return next(self._replies)


def scripted(*replies: Reply | str, **settings: Any) -> tuple[Agent, Recorder]:
    """An agent whose model gives these answers, and what notes the requests."""
    script = Recorder(replies)
    return Agent(Formed(replies=script), **settings), script


def contents(result: Result[Any]) -> list[Any]:
    """The contents of the results of calls, in their order."""
    return [one.content for one in result.messages if one.role == "tool"]


def check_paired(result: Result[Any]) -> None:
    """Check that each call has one result, in order, but for those that wait for approval."""
    waiting = {one.id for one in result.pending}
    whole = paired(result.messages)
    assert tuple(one for one in whole if one.tool_call_id not in waiting) == result.messages


def other_tasks() -> set[asyncio.Task[Any]]:
    """The tasks of this loop but for the one that asks."""
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


async def settled(turns: int = 20) -> None:
    """Let callbacks and finalizers that are due run."""
    for _ in range(turns):
        await asyncio.sleep(0)
