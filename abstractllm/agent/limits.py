"""How far a run may go. Knows no run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from abstractllm.errors import InvalidParameterError, shown

_CHOICES = ("answer", "raise")


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a run may go; None is no limit.

    `turns` are answers of the model, `tool_calls` calls that are made, `tokens` those of all prompts and answers
    together, `seconds` the time of the whole run, `parallel` how many calls of one turn run at the same time.

    When `turns` or `tool_calls` are used up, calls that are left get a result that says so. With `on_limit="answer"`
    the model is then asked for one last answer, without tools; when `tokens` or `seconds` are used up, the run ends
    with what it has. With `on_limit="raise"` the run raises RunLimitError, which holds the result so far.

    Raises InvalidParameterError for values that make no sense.
    """

    turns: int | None = 10
    tool_calls: int | None = 50
    tokens: int | None = None
    seconds: float | None = None
    parallel: int = 8
    on_limit: Literal["answer", "raise"] = "answer"

    def __post_init__(self) -> None:
        if self.on_limit not in _CHOICES:
            raise _bad("on_limit", self.on_limit, "'answer' or 'raise'")
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name != "on_limit" and not (value is None and one.name != "parallel"):
                _check_number(one.name, value)


def _check_number(name: str, value: object) -> None:
    kinds = (int, float) if name == "seconds" else (int,)
    least = 0 if name == "tool_calls" else 1
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise _bad(name, value, "a number")
    if not value > 0 if name == "seconds" else value < least:  # what is not a number is not greater either
        raise _bad(name, value, "greater than 0" if name == "seconds" else f"at least {least}")


def _bad(name: str, value: object, expected: str) -> InvalidParameterError:
    return InvalidParameterError("limits", f"Limits({name}={shown(value)}) is not valid: it must be {expected}.")
