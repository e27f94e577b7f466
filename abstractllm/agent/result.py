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

    `output` is the last answer, in the type that the agent was given, or the value of a tool's StopRun. Where the run
    stopped before there was one, it is None; for an agent whose output is text, what the model had said last, which may
    be cut off or "".

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
        """Return all of it as JSON text; what a StopRun had as value is only in it where that is text."""
        described = {
            "format": _FORMAT,
            "messages": [message_as_dict(one) for one in self.messages],
            "new": self._new(),
            "output": self.output if isinstance(self.output, str) else None,
            "formed": self.output is not None and self.stop != "stopped",
            "text": self.text,
            "usage": asdict(self.usage),
            "turns": self.turns,
            "stop": self.stop,
            "pending": [call.id for call in self.pending],
            "run_id": self.run_id,
        }
        return json.dumps(described, ensure_ascii=False)

    def _new(self) -> list[int]:
        """Return the places of `new_messages`: results that were waited for stand before others of their turn."""
        new = {id(one) for one in self.new_messages}
        return [place for place, one in enumerate(self.messages) if id(one) in new]

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
        except (LookupError, TypeError, ValueError, InvalidParameterError) as error:
            raise InvalidParameterError("text", f"This is not what Result.to_json wrote: {error}") from error


def _restored(given: Mapping[str, Any], output: Any) -> Result[Any]:
    messages = to_messages(given["messages"])
    waiting = set(given["pending"])
    return Result(
        output=_output(given, messages, output),
        text=given["text"],
        messages=messages,
        new_messages=tuple(messages[place] for place in given["new"]),
        usage=Usage(**given["usage"]),
        turns=given["turns"],
        stop=cast(Stop, given["stop"]),
        pending=tuple(call for call in unanswered(messages) if call.id in waiting),
        run_id=given["run_id"],
    )


def _output(given: Mapping[str, Any], messages: tuple[Message, ...], output: Any) -> Any:
    """Return the output: text as it was, another type from the last answer."""
    if given["output"] is not None or not given["formed"]:
        return given["output"]
    from abstractllm.schema import to_output_format

    return to_output_format(output).parse(messages[-1].text)
