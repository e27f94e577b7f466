"""What a tool may ask about the run that calls it, and the exceptions by which it speaks to that run.

Knows nothing of how runs go on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, final

from abstractllm.tools.signatures import Injected
from abstractllm.types import Message, ToolCall, Usage

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    D = TypeVar("D", default=Any)
else:
    from typing import TypeVar

    D = TypeVar("D")


def _never() -> bool:
    return False


@final
@dataclass(frozen=True, slots=True)
class ToolContext(Injected, Generic[D]):
    """What one call of a tool belongs to.

    A tool gets it by a parameter with this type as its hint, also `ToolContext[Deps]`, `ToolContext | None` or either
    as a string; the model neither sees that parameter nor can write it.

    `deps` is what the run was given for its tools, `call` what the model wrote, `attempt` is 1 for the first time that
    the function is called for it. `messages` is the conversation up to the turn with the call, `usage` what the run has
    used so far. `is_cancelled` tells whether nobody waits for the result any more.
    """

    deps: D
    call: ToolCall = field(default_factory=lambda: ToolCall("", ""))
    attempt: int = 1
    messages: Sequence[Message] = ()
    usage: Usage = field(default_factory=Usage)
    is_cancelled: Callable[[], bool] = field(default=_never, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether the call timed out or its run was cancelled; a sync tool that works long should look and return."""
        return self.is_cancelled()


class ToolRetry(Exception):
    """Raise it in a tool to tell the model what to do otherwise: its text is the result of the call, as an error."""


class StopRun(Exception):
    """Raise it in a tool to end the run now. `value` becomes the output of the run."""

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value
