"""A whole run of an agent as a command's work: what it writes in the end, and its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from abstractllm.agent import Agent, Result
from abstractllm.cli.failures import STOPPED_AT_LIMIT, STOPPED_BY_TOOL, print_note
from abstractllm.cli.output import AnswerWriter, print_json
from abstractllm.cli.running import ending_text, run_to_end
from abstractllm.cli.watching import RunView

_EXIT_CODES = {"end": 0, "limit": STOPPED_AT_LIMIT, "stopped": STOPPED_BY_TOOL}


def run_agent(
    agent: Agent[Any, Any],
    prompt: str,
    *,
    files: Sequence[str] = (),
    as_json: bool = False,
    stream: bool = True,
    output: bool = False,
    verbose: bool = False,
) -> None:
    """Run an agent and write what it says: at once, or with `stream=False` in the end.

    `as_json` writes `Result.to_json` instead, `output` only the last answer's value as JSON, for agents with a form.
    Leaves with the exit code of the run's end where that is not 0.
    """
    view = RunView(text=stream and not as_json and not output, verbose=verbose)
    result = run_to_end(
        agent.stream(prompt, files=files),
        lambda stopped, approvals: agent.stream(messages=stopped.messages, approvals=approvals),
        view,
    )
    if as_json:
        click.echo(result.to_json())
    elif output and result.output is not None and result.stop != "stopped":
        print_json(result.output)
    else:
        _write_rest(result, stream=stream or output)
    code = _EXIT_CODES[result.stop]
    if result.stop == "limit":
        print_note("the run came to one of its limits; what it has is not its own last word")
    if code:
        raise click.exceptions.Exit(code)


def _write_rest(result: Result[Any], *, stream: bool) -> None:
    """Write what has not been shown yet."""
    writer = AnswerWriter()
    for text in ("" if stream else result.text, ending_text(result) or ""):
        if text:
            writer.write(text)
            writer.end()
