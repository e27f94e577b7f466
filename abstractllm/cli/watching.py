"""A run of an agent, shown while it goes on: what the model says on standard output, a line for each call beside it.

What models and tools say never moves the cursor. Asks nobody and decides nothing.
"""

from __future__ import annotations

import os
import sys

import click

from abstractllm.agent import (
    Event,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolFinished,
    ToolOutcome,
    ToolStarted,
    TurnFinished,
)
from abstractllm.cli.answers import argument_text
from abstractllm.cli.failures import print_note
from abstractllm.cli.output import AnswerWriter, one_line
from abstractllm.types import TextPart, ToolCall

_ARGUMENTS = 200
_RESULT = 100
"""Characters of a call's arguments and of its result that its line shows."""

_WORDS = {"error": "failed: ", "timeout": "failed: ", "denied": "denied: ", "cancelled": "cancelled: "}


class RunView:
    """Shows events. Without `text` the model's words are left out; with `verbose` each other event has a line."""

    def __init__(self, *, text: bool = True, verbose: bool = False) -> None:
        self._writer = AnswerWriter() if text else None
        self._verbose = verbose
        self._live = sys.stderr.isatty()
        self._open: str | None = None
        self._unseen: dict[str, ToolCall] = {}
        self._thought = ""
        self._said = False
        self._turn_ended = False

    def show(self, event: Event) -> None:
        """Show what happened."""
        match event:
            case TextDelta():
                self._say(event.text)
            case ToolStarted():
                self._start(event.call)
            case ToolFinished():
                self._finish(event.call, event.outcome)
            case TurnFinished():
                self._turn_ended = True
                if event.response.finish_reason == "length":
                    self._note("the answer was cut off at its longest length; --max-tokens raises it")
        if self._verbose:
            self._describe(event)

    def end(self) -> None:
        """Finish what is open: the answer's last line, and that of a call."""
        if self._open is not None:
            self._open = None
            click.echo(err=True)
        if self._writer is not None:
            self._writer.end()

    def _say(self, text: str) -> None:
        """Write what the model says; its turns are parted by a blank line, as in `Result.text`."""
        if self._writer is None:
            return
        if self._turn_ended and self._said:
            self._writer.end()
            self._writer.write("\n")
        self._said, self._turn_ended = True, False
        self._writer.write(text)

    def _start(self, call: ToolCall) -> None:
        self._unseen[call.id] = call
        self._begin_line()

    def _begin_line(self) -> None:
        """Begin the line of a call that runs, where somebody watches and no other line is open."""
        if self._live and self._open is None and self._unseen:
            self.end()
            self._open, call = self._unseen.popitem()
            click.echo(_dim(call_text(call)), nl=False, err=True)

    def _finish(self, call: ToolCall, outcome: ToolOutcome) -> None:
        """End the line of a call, or write it whole where another one is open."""
        begun = self._open == call.id
        self._unseen.pop(call.id, None)
        if begun:
            self._open = None
        else:
            self.end()
        text = f"{'' if begun else call_text(call)} -> {_WORDS.get(outcome.kind, '')}{outcome_text(outcome)}"
        click.echo(_dim(text), err=True)
        self._begin_line()

    def _note(self, text: str) -> None:
        self.end()
        print_note(text)

    def _describe(self, event: Event) -> None:
        if isinstance(event, ReasoningDelta):
            self._thought += event.text
            return
        if self._thought:
            self._event(f"the model thinks: {self._thought}")
            self._thought = ""
        text = _described(event)
        if text is not None:
            self._event(text)

    def _event(self, text: str) -> None:
        self.end()
        click.echo(_dim(f"event: {one_line(text)}"), err=True)


def _described(event: Event) -> str | None:
    match event:
        case RunStarted():
            return f"the run begins with {len(event.messages)} messages"
        case ToolStarted():
            return f"{event.call.name} starts"
        case ToolFinished():
            return f"{event.call.name} ends, {event.outcome.kind}, after {event.outcome.seconds:.2f} s"
        case TurnFinished():
            used = event.response.usage
            tokens = f", {used.prompt_tokens} tokens in, {used.completion_tokens} out" if used else ""
            return f"turn {event.turn} ends, {event.response.finish_reason or 'without a reason'}{tokens}"
        case RunFinished():
            result = event.result
            return f"the run ends, {result.stop}, after {result.turns} turns and {result.usage.total_tokens} tokens"
    return None


def call_text(call: ToolCall, longest: int | None = _ARGUMENTS) -> str:
    """Return a call as `name(arguments)` on one line, in which nothing is hidden from who reads it but what is cut."""
    return f"{_plain(call.name)}({_cut(_plain(argument_text(call)), longest)})"


def outcome_text(outcome: ToolOutcome) -> str:
    """Return how a call ended in a few words."""
    content = outcome.content
    if not isinstance(content, str):
        content = " ".join(
            part.text if isinstance(part, TextPart) else f"[{type(part).__name__.removesuffix('Part').lower()}]"
            for part in content
        )
    if outcome.kind != "ok":
        content = content.removeprefix("Error: ")
    return _cut(_plain(one_line(content)), _RESULT) or "(nothing)"


def _plain(text: str) -> str:
    """Return text with each character that shows nothing, or turns the direction of others, as its number."""
    return "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in text)


def _cut(text: str, longest: int | None) -> str:
    return text if longest is None or len(text) <= longest else f"{text[:longest]}..."


def _dim(text: str) -> str:
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return text if plain else click.style(text, dim=True)
