"""The prompt that the argument of a command and standard input make together."""

from __future__ import annotations

import os
import sys

import click

from abstractllm.cli.failures import print_note
from abstractllm.errors import InvalidParameterError

STDIN_PATIENCE = 3.0
"""Seconds to wait for the first byte of a pipe when there is a prompt already."""


def full_prompt(prompt: str | None, stdin: bool | None = None, patience: float = STDIN_PATIENCE) -> str:
    """Return the prompt that argument and standard input make together.

    Standard input is read when there is no argument, when it is a pipe or file, or when `stdin` is True; never when
    `stdin` is False. With an argument, it is left alone when nothing has come after `patience` seconds. Raises
    InvalidParameterError for text that is not UTF-8.
    """
    if prompt is None or prompt == "-":
        if stdin is False:
            raise click.UsageError("There is no prompt; pass one, or leave --no-stdin out.")
        if _is_terminal():
            print_note("type the prompt, then Ctrl-D")
        return _standard_input()
    piped = "" if stdin is False or not (stdin or _has_piped_text(patience)) else _standard_input()
    return _checked(f"{piped.rstrip()}\n\n{prompt}" if piped.strip() else prompt)


def _has_piped_text(patience: float) -> bool:
    """Whether standard input is a pipe or file that has something to say.

    Programs that start this one often leave a pipe open that nothing is ever written to, so the wait has an end.
    """
    if sys.stdin is None or _is_terminal():
        return False
    if arrives_within(patience):
        return True
    print_note("standard input is open but silent, so it is left alone; --stdin waits for it, --no-stdin never does")
    return False


def arrives_within(seconds: float) -> bool:
    """Whether standard input has text, or its end, within that time; True where that cannot be known."""
    import io
    import select

    try:
        descriptor = sys.stdin.fileno()
    except io.UnsupportedOperation:
        return True
    if os.name == "nt":
        return True
    return bool(select.select([descriptor], [], [], seconds)[0])


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _standard_input() -> str:
    if sys.stdin is None:
        return ""
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidParameterError(
            "prompt", "Standard input is not UTF-8 text; convert it, or attach it with --file."
        ) from error


def _checked(prompt: str) -> str:
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameterError("prompt", "The prompt is not valid text in this terminal's encoding.") from error
    return prompt
