"""How the command line ends when something goes wrong: one line on standard error, and an exit code."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import click

from abstractllm.cli.output import one_line
from abstractllm.errors import AbstractLLMError

EXIT_CODES = {
    0: "success",
    1: "any other error; `doctor`: something needs attention",
    2: "the command or the request cannot be right, or the model cannot do it",
    3: "configuration: provider, plugin, profile, variable or missing library",
    4: "the model cannot be found or loaded",
    5: "a remote service answered with an error or could not be reached",
    6: "generating failed after it had begun",
    7: "a time limit passed",
    8: "the waiting line is full",
    9: "a run of an agent came to one of its limits",
    10: "a tool ended a run of an agent",
    130: "stopped by Ctrl-C",
}
"""What each exit code means; those of errors are `exit_code` of their classes."""

INTERRUPTED = 130
STOPPED_AT_LIMIT = 9
STOPPED_BY_TOOL = 10

_HelpShown = getattr(click.exceptions, "NoArgsIsHelpError", click.exceptions.Exit)  # click 8.1 exits instead


@dataclass
class Settings:
    """What holds for one run of the command line, whichever command runs."""

    debug: bool = field(default_factory=lambda: os.environ.get("ABSTRACTLLM_DEBUG", "") not in ("", "0"))


def debug_option(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the option --debug, so that it may stand before or after the command's name."""
    option = click.option(
        "--debug", is_flag=True, expose_value=False, callback=_switch_debug, help="Show where an error came from."
    )
    return option(command)


def _switch_debug(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        ctx.find_root().ensure_object(Settings).debug = True


@contextmanager
def plain_ends(settings: Settings) -> Iterator[None]:
    """Turn every error into a line and an exit code, and Ctrl-C into its code; click ends quietly on a broken pipe."""
    try:
        yield
    except (click.exceptions.Exit, _HelpShown, BrokenPipeError):
        raise
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo(err=True)  # the line on which the terminal shows ^C
        raise click.exceptions.Exit(INTERRUPTED) from error
    except Exception as error:
        if settings.debug:
            traceback.print_exception(error)
        print_error(error)
        raise click.exceptions.Exit(exit_code_of(error)) from error


def exit_code_of(error: Exception) -> int:
    """Return the exit code for an error; see `EXIT_CODES`."""
    return error.exit_code if isinstance(error, (AbstractLLMError, click.ClickException)) else 1


def print_error(error: Exception) -> None:
    """Write one line, `error: ...`, to standard error."""
    click.echo(f"error: {one_line(_message(error))}", err=True)


def print_note(text: str) -> None:
    """Write one line that is no error to standard error."""
    click.echo(f"note: {one_line(text)}", err=True)


def _message(error: Exception) -> str:
    if isinstance(error, AbstractLLMError):
        return str(error)
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else "abstractllm"
        message = error.format_message()
        return f"{message}{'' if message.endswith(('.', '?')) else '.'} See '{path} --help'."
    if isinstance(error, click.ClickException):
        return error.format_message()
    return f"{type(error).__name__}: {error} (unexpected; --debug shows where it came from)"


def show_warnings_plainly() -> None:
    """Have warnings printed as one line each, without the place in the code."""

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        print(f"warning: {one_line(str(message))}", file=sys.stderr)

    warnings.showwarning = show
