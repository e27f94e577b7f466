"""What happens in a run, as data: what readers of it iterate over, and observers are told. Knows nobody who acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from abstractllm.types import GenerateResponse, Message, Part, ToolCall, ToolCallDelta

if TYPE_CHECKING:
    from abstractllm.agent.result import Result

OutcomeKind = Literal["ok", "error", "timeout", "denied", "cancelled"]


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """How a call ended. `content` is what the model reads, `value` what the tool returned, `seconds` how long it ran.

    `error` is what the tool raised, a TimeoutError where it was out of time, or what was wrong with the call.
    """

    kind: OutcomeKind
    content: str | tuple[Part, ...]
    value: Any = None
    error: BaseException | None = field(default=None, compare=False)
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run begins with these turns, the new prompt among them."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of what the model says."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallProgress:
    """A piece of a call that the model is writing."""

    delta: ToolCallDelta


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """A tool is called. Calls that are refused before, such as those of unknown tools, do not start."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A call has its result, or one that says why there is none."""

    call: ToolCall
    outcome: ToolOutcome


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """The model's `turn`th answer is whole, and all its calls have results. The first turn is 1."""

    turn: int
    response: GenerateResponse


@dataclass(frozen=True, slots=True)
class RunFinished:
    """The last event of a run that did not fail."""

    result: Result[Any]


@dataclass(frozen=True, slots=True)
class RunFailed:
    """The last thing that observers are told of a run that failed; its readers get the error itself."""

    error: BaseException


Event = (
    RunStarted | TextDelta | ReasoningDelta | ToolCallProgress | ToolStarted | ToolFinished | TurnFinished | RunFinished
)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """Whose run an event belongs to. `run_id` is unique in the process and beyond."""

    run_id: str
    agent: str
    provider: str
    model: str | None = None


AgentObserver = Callable[[RunInfo, Event | RunFailed], None]
