"""What an agent is made of, checked and immutable, as its runs need it. Knows no run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abstractllm.agent.events import AgentObserver
from abstractllm.agent.limits import Limits
from abstractllm.interface import AbstractLLMInterface
from abstractllm.schema import OutputFormat
from abstractllm.tools import Tool
from abstractllm.types import Message, ToolCall, ToolDefinition

Approver = Callable[[ToolCall], bool | str | Awaitable[bool | str]]
"""Says of a call that needs approval whether it may be made; a string says why not."""

Instructions = str | Callable[[Any], str | Awaitable[str]]
"""A system prompt, or what makes one of a run's `deps`."""

Trim = int | Callable[[Sequence[Message]], Sequence[Message]]
"""How many tokens a prompt may have, or what makes of the history what the model is shown of it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """An agent's configuration; see `Agent`. `form` is None where the output is text."""

    llm: AbstractLLMInterface
    name: str
    tools: Mapping[str, Tool]
    definitions: tuple[ToolDefinition, ...]
    instructions: Instructions | None
    form: OutputFormat | None
    retries: int
    limits: Limits
    tool_timeout: float | None
    raise_tool_errors: bool
    approve: Approver | None
    trim: Trim | None
    observers: tuple[AgentObserver, ...]
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What one run is asked: the turns so far and the new one, of which `new` are not yet in the caller's history.

    `approvals` are decisions by call id: True, False, or why not.
    """

    messages: tuple[Message, ...]
    new: int
    deps: Any = None
    tool_choice: str | None = None
    approvals: Mapping[str, bool | str] | None = None
