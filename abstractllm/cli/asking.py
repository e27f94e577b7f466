"""Questions that a person answers with y or n. Knows nothing of what is asked."""

from __future__ import annotations

import sys

import click

from abstractllm.cli.output import one_line


def can_ask() -> bool:
    """Whether a person can see a question and answer it."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def agrees(question: str) -> bool:
    """Ask on standard error and return whether the answer is yes; anything else is no, the end of input too."""
    click.echo(f"{one_line(question)} [y/N] ", nl=False, err=True)
    answer = "" if sys.stdin is None else sys.stdin.readline()
    if not answer.endswith("\n"):
        click.echo(err=True)
    return answer.strip().lower() in ("y", "yes")


def confirm(question: str) -> None:
    """Return when the answer is yes; raise ClickException otherwise."""
    if not agrees(question):
        raise click.ClickException("Nothing was removed; answer y, or pass --yes.")
