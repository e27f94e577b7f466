"""Agents: a model, its tools, and the loop between them."""

from __future__ import annotations

from abstractllm.agent.agent import Agent as Agent
from abstractllm.agent.events import (
    AgentObserver as AgentObserver,
    Event as Event,
    ReasoningDelta as ReasoningDelta,
    RunFailed as RunFailed,
    RunFinished as RunFinished,
    RunInfo as RunInfo,
    RunStarted as RunStarted,
    TextDelta as TextDelta,
    ToolCallProgress as ToolCallProgress,
    ToolFinished as ToolFinished,
    ToolOutcome as ToolOutcome,
    ToolStarted as ToolStarted,
    TurnFinished as TurnFinished,
)
from abstractllm.agent.limits import Limits as Limits
from abstractllm.agent.reply import Answer as Answer, Reply as Reply
from abstractllm.agent.result import Result as Result
from abstractllm.agent.run import Run as Run
