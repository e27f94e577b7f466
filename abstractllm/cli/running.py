"""A run of an agent from a command: followed to its end, stopped by Ctrl-C, and a person asked where one must agree."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import islice
from typing import Any

from abstractllm.accumulator import added
from abstractllm.agent import Result, Run, ToolFinished
from abstractllm.cli.asking import agrees, can_ask
from abstractllm.cli.failures import print_note
from abstractllm.cli.watching import RunView, call_text
from abstractllm.errors import InvalidParameterError
from abstractllm.tools.results import to_content
from abstractllm.types import Message, ToolCall

Approvals = Mapping[str, bool | str]
Resume = Callable[[Result[Any], Approvals], Run[Any]]
"""Takes a result that waits for approvals and what was decided; returns the run that goes on."""

NOBODY = "there is nobody to ask"


class Stopped(KeyboardInterrupt):
    """Ctrl-C has stopped a run; what it had come to is kept."""


def approver(*, yes: bool = False) -> Callable[[ToolCall], bool | str] | None:
    """Return what decides about calls that need approval; None where a run is to stop, so that a person is asked."""
    if yes:
        return lambda call: True
    return None if can_ask() else _denied


def _denied(call: ToolCall) -> str:
    print_note(f"{call.name} needs a person to agree to it, and {NOBODY} but on a terminal; the call was denied")
    return NOBODY


def run_to_end(run: Run[Any], resume: Resume, view: RunView) -> Result[Any]:
    """Show a run and return its result, having asked about each call that waits for approval.

    Raises Stopped after Ctrl-C, with the run ended, and what the run raises.
    """
    result = _followed(run, view)
    while result.stop == "approval":
        result = _joined(result, _followed(resume(result, _decided(result.pending)), view))
    return result


def _decided(calls: Sequence[ToolCall]) -> Approvals:
    try:
        return {call.id: agrees(f"May {call_text(call, None)} be called?") for call in calls}
    except KeyboardInterrupt as error:
        raise Stopped from error


def _followed(run: Run[Any], view: RunView) -> Result[Any]:
    """Show one run and return its result; what its tools print goes to standard error, beside the answer."""
    seen = 0
    try:
        with redirect_stdout(sys.stderr), run:
            for event in run:
                seen += 1
                view.show(event)
    except KeyboardInterrupt as error:
        for event in islice(run, seen, None):  # the ends of calls, which the history has
            if isinstance(event, ToolFinished):
                view.show(event)
        raise Stopped from error
    finally:
        view.end()
    return run.result()


def _joined(first: Result[Any], second: Result[Any]) -> Result[Any]:
    """Return one result of a run that was stopped and went on."""
    return replace(
        second,
        text="\n\n".join(filter(None, (first.text, second.text))),
        new_messages=first.new_messages + second.new_messages,
        usage=added(first.usage, second.usage),
        turns=first.turns + second.turns,
    )


def ending_text(result: Result[Any]) -> str | None:
    """Return what a tool ended the run with, as text; None for other ends."""
    if result.stop != "stopped" or result.output is None:
        return None
    try:
        content = to_content(result.output)
    except InvalidParameterError:  # a value without a JSON form
        return str(result.output)
    return content if isinstance(content, str) else Message("tool", content).text
