"""What a run came to, in memory and as JSON. Knows no run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, cast, get_args

from typing_extensions import TypeVar

from abstractllm.errors import InvalidParameterError
from abstractllm.history import unanswered
from abstractllm.messages import message_as_dict, to_messages
from abstractllm.types import Message, ToolCall, Usage

O = TypeVar("O", default=str)  # noqa: E741 (the output of an agent)

Stop = Literal["end", "limit", "cancelled", "approval", "stopped"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Result(Generic[O]):
    """What a run came to.

    `output` is the last answer, in the type that the agent was given; None where the run stopped before there was one.
    `text` is everything that the model said, its turns parted by a blank line. `messages` is the whole conversation, in
    which every call has its result but those in `pending`, and `new_messages` what the run added, the prompt included.
    `usage` is summed over all turns, `turns` counts the model's answers.

    `stop` says why it ended: "end" with an answer, "limit" at one of its `Limits`, "cancelled", "stopped" by a tool's
    StopRun, or at the calls in `pending`, which wait for "approval".
    """

    output: O
    text: str
    messages: tuple[Message, ...]
    new_messages: tuple[Message, ...]
    usage: Usage
    turns: int
    stop: Stop
    pending: tuple[ToolCall, ...] = ()
    run_id: str = field(default="", compare=False)

    def __str__(self) -> str:
        return self.text

    def to_json(self) -> str:
        """Return all of it as JSON text; `output` is not in it where it is no text: the last answer says it."""
        described = {
            "format": _FORMAT,
            "messages": [message_as_dict(one) for one in self.messages],
            "new": len(self.new_messages),
            "text": self.text,
            "usage": asdict(self.usage),
            "turns": self.turns,
            "stop": self.stop,
            "pending": [call.id for call in self.pending],
            "run_id": self.run_id,
        }
        return json.dumps(described, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, output: Any = str) -> Result[Any]:
        """Return the result that `to_json` wrote. `output` is the type that the agent was given.

        Raises InvalidParameterError for any other text, and OutputValidationError for another type.
        """
        try:
            given = json.loads(text)
            if given["format"] != _FORMAT or given["stop"] not in get_args(Stop):
                raise ValueError(f"format {given['format']!r}, stop {given['stop']!r}")
            return _restored(given, output)
        except (KeyError, TypeError, ValueError, InvalidParameterError) as error:
            raise InvalidParameterError("text", f"This is not what Result.to_json wrote: {error}") from error


def _restored(given: Mapping[str, Any], output: Any) -> Result[Any]:
    messages = to_messages(given["messages"])
    stop = cast(Stop, given["stop"])
    waiting = set(given["pending"])
    return Result(
        output=_output(messages, stop, output),
        text=given["text"],
        messages=messages,
        new_messages=messages[len(messages) - given["new"] :],
        usage=Usage(**given["usage"]),
        turns=given["turns"],
        stop=stop,
        pending=tuple(call for call in unanswered(messages) if call.id in waiting),
        run_id=given["run_id"],
    )


def _output(messages: tuple[Message, ...], stop: Stop, output: Any) -> Any:
    """Return the last answer in its type, where there is one."""
    last = messages[-1]
    if output is str:
        return last.text if last.role == "assistant" and not last.tool_calls else ""
    if stop != "end":
        return None
    from abstractllm.schema import to_output_format

    return to_output_format(output).parse(last.text)
