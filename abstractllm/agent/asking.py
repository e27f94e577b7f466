"""One answer of the model within a run: what it is asked, and its deltas as events. Knows no tool's outcome."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.agent.events import Event, ReasoningDelta, TextDelta, ToolCallProgress
from abstractllm.agent.plan import Plan
from abstractllm.capabilities import ModelCapability
from abstractllm.errors import InvalidParameterError, shown
from abstractllm.history import paired, trimmed
from abstractllm.schema import OutputFormat
from abstractllm.types import GenerateResponse, Message


class Asking:
    """Asks the model of a run. `partial` is what had arrived of an answer that was cut off, until the next one."""

    def __init__(self, plan: Plan, deps: Any, tell: Callable[[Event], None], *, stream: bool) -> None:
        self._plan = plan
        self._deps = deps
        self._tell = tell
        self._streams = stream and plan.llm.get_capabilities().get(ModelCapability.STREAMING) is not False
        self._system_prompt: str | None = None
        self._has_prompt = False
        self.partial: GenerateResponse | None = None

    async def ask(
        self, messages: Sequence[Message], *, tools: bool, form: OutputFormat | None, tool_choice: str | None
    ) -> GenerateResponse:
        """Return the answer to a conversation, having told its pieces."""
        self.partial = None
        arguments: dict[str, Any] = {"system_prompt": await self._instructions(), **self._plan.params}
        arguments["messages"] = await self._shown(messages)
        if tools and (self._plan.definitions or tool_choice):
            arguments |= {"tools": self._plan.definitions or None, "tool_choice": tool_choice}
        if form is not None:
            arguments |= {"response_format": form, "retries": 0}
        if self._streams:
            return await self._streamed(arguments)
        response: GenerateResponse = await self._plan.llm.generate_async(**arguments)
        self._tell_pieces(response)
        return response

    async def _streamed(self, arguments: dict[str, Any]) -> GenerateResponse:
        joined = ResponseAccumulator()
        stream: Any = self._plan.llm.generate_async(stream=True, **arguments)
        if inspect.iscoroutine(stream):  # a plugin may write a plain `async def`
            stream = await stream
        try:
            async for delta in stream:
                joined.add(delta)
                self._tell_pieces(delta)
        except asyncio.CancelledError:
            self.partial = _without_calls(joined.response)
            raise
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        return joined.response

    def _tell_pieces(self, delta: GenerateResponse) -> None:
        if delta.reasoning:
            self._tell(ReasoningDelta(delta.reasoning))
        if delta.content:
            self._tell(TextDelta(delta.content))
        for piece in delta.tool_call_deltas:
            self._tell(ToolCallProgress(piece))

    async def _instructions(self) -> str | None:
        """Return the system prompt, made once for the run."""
        if self._has_prompt:
            return self._system_prompt
        given = self._plan.instructions
        made: Any = given(self._deps) if callable(given) else given
        self._system_prompt = await made if inspect.isawaitable(made) else made
        self._has_prompt = True
        return self._system_prompt

    async def _shown(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return what the model is shown of the history."""
        trim = self._plan.trim
        if trim is None:
            return tuple(messages)
        if callable(trim):
            return paired(_left(trim(messages)))  # what a function leaves out may have had a result, or been one
        return await asyncio.to_thread(trimmed, tuple(messages), trim, self._count)

    def _count(self, messages: Sequence[Message]) -> int:
        system = (Message("system", self._system_prompt),) if self._system_prompt else ()
        return self._plan.llm.count_tokens((*system, *messages), self._plan.definitions or None)


def _left(messages: object) -> Sequence[Message]:
    """Return what a function left of a history. Raises InvalidParameterError where that is no conversation."""
    if isinstance(messages, (list, tuple)) and messages and all(isinstance(one, Message) for one in messages):
        return messages
    what = f"The function trim returned {shown(messages)}"
    raise InvalidParameterError("trim", f"{what}; it must return a list of those messages that the model is shown.")


def _without_calls(response: GenerateResponse) -> GenerateResponse | None:
    """Return what had arrived of an answer as one that can stay in a history; None where there is no text."""
    return replace(response, tool_calls=()) if response.content else None
