"""The command line, `abstractllm`: one file per command, loaded when it is called. Knows the commands' names only."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import abstractllm
from abstractllm.cli.failures import EXIT_CODES, Settings, debug_option, plain_ends, show_warnings_plainly
from abstractllm.errors import did_you_mean

COMMANDS = {
    "generate": "Answer one prompt.",
    "chat": "Talk with a model, turn by turn.",
    "agent": "Run agents that stand in TOML files, or check them.",
    "sessions": "List, show and delete conversations that are kept in a store.",
    "providers": "List the providers, what they can do and whether they are ready.",
    "models": "List, fetch and remove models.",
    "bench": "Measure how fast a model answers many requests at once.",
    "doctor": "Say what runs here, and what needs attention.",
}
"""Each command with its one-line help; its module and the command in it have that name."""


class LazyGroup(click.Group):
    """The `abstractllm` command; ends every error in one line on standard error and its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            if cmd_name.startswith("-"):
                return None
            ctx.fail(f"No such command {cmd_name!r}.{did_you_mean(cmd_name, COMMANDS)}")
        command: click.Command = getattr(import_module(f"abstractllm.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES.items()])

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the options that stand before a command's name."""
        with plain_ends(Settings()):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Read a command's own options and run it."""
        with plain_ends(ctx.ensure_object(Settings)):
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(abstractllm.__version__, message="abstractllm %(version)s")
@debug_option
def cli() -> None:
    """One interface to every language model.

    ABSTRACTLLM_MODEL names the model to use where no --model is given, ABSTRACTLLM_DEBUG=1 is --debug.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with `arguments`, or those of the process; leaves with an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a character that the terminal lacks must not end an answer
    show_warnings_plainly()
    cli.main(args=None if arguments is None else list(arguments), prog_name="abstractllm")
