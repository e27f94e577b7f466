"""`abstractllm agent`: agents that stand in files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from abstractllm.agent import Agent
from abstractllm.cli.agentfile import AgentFile, read_agent
from abstractllm.cli.failures import debug_option
from abstractllm.cli.finishing import run_agent
from abstractllm.cli.options import DEFAULT_MODEL, ModelChoice
from abstractllm.cli.output import one_line, print_line
from abstractllm.cli.prompt import full_prompt
from abstractllm.cli.running import approver
from abstractllm.cli.toolbox import opened
from abstractllm.errors import ConfigurationError, InvalidParameterError

_file_argument = click.argument("file", type=click.Path(path_type=Path), metavar="FILE.toml")


def _model_option(command: Callable[..., None]) -> Callable[..., None]:
    option = click.option("-m", "--model", metavar="SPEC", help="Another model than that of the file.")
    return option(command)


@click.group()
@debug_option
def agent() -> None:
    """Run agents that stand in TOML files, or check them."""


@agent.command()
@_file_argument
@click.argument("prompt", required=False)
@_model_option
@click.option("--json", "as_json", is_flag=True, help="Write the whole run as one JSON object instead of text.")
@click.option("-v", "--verbose", is_flag=True, help="Show what happens, line by line, on standard error.")
@click.option("-y", "--yes", is_flag=True, help="Make every call without asking.")
@click.option("--stdin/--no-stdin", default=None, help="Wait for piped text however long, or leave it alone.")
@debug_option
def run(
    file: Path, prompt: str | None, model: str | None, as_json: bool, verbose: bool, yes: bool, stdin: bool | None
) -> None:
    """Run the agent in FILE.toml.

    The prompt is PROMPT, else that of the file, else what standard input holds; piped text goes before a prompt. What
    the model says goes to standard output, a line for each call to standard error. An agent with an output writes
    that alone, as JSON.
    """
    described = read_agent(file)
    text = full_prompt(prompt if prompt is not None else described.prompt, stdin)
    with _made(described, model, yes=yes, start=True) as made:
        output = described.output is not None
        run_agent(made, text, files=described.files, as_json=as_json, output=output, verbose=verbose)


@agent.command()
@_file_argument
@_model_option
@debug_option
def check(file: Path, model: str | None) -> None:
    """Say whether FILE.toml can be run: its keys, tools, limits, output and model. Starts no server, asks no model."""
    described = read_agent(file)
    with _made(described, model, yes=False, start=False) as made:
        names = [tool.name for tool in made.tools]
    parts = [f"model {_spec(described, model)}", f"tools {', '.join(names) if names else 'none'}"]
    if described.servers:
        parts.append(f"MCP servers {len(described.servers)}, not started")
    parts.append("output as JSON" if described.output is not None else "output as text")
    print_line(one_line(f"{file} can be run: {'; '.join(parts)}."))


@contextmanager
def _made(described: AgentFile, model: str | None, *, yes: bool, start: bool) -> Iterator[Agent[Any, Any]]:
    """Give the agent for the length of a block; without `start` its servers are only looked at."""
    if not start:
        _check_servers(described)
        _check_files(described)
    servers = described.servers if start else ()
    choice = ModelChoice(_spec(described, model), config=described.params)
    with opened(described.tools, servers, described.folder) as tools, choice.create_for_runs() as llm:
        try:
            made = Agent(
                llm,
                tools=tools,
                instructions=described.instructions,
                output=str if described.output is None else described.output,
                limits=described.limits,
                approve=approver(yes=yes),
                **described.settings,
            )
        except InvalidParameterError as error:
            raise ConfigurationError(f"The agent cannot be made: {error.message}") from error
        yield made


def _spec(described: AgentFile, model: str | None) -> str:
    import os

    return model or described.model or os.environ.get("ABSTRACTLLM_MODEL") or DEFAULT_MODEL


def _check_servers(described: AgentFile) -> None:
    from abstractllm.agent.mcp import mcp_tools

    for server in described.servers:
        mcp_tools(server.where, **server.how)


def _check_files(described: AgentFile) -> None:
    """Read what would go with the prompt, but for addresses."""
    from abstractllm.files import read_files

    read_files([path for path in described.files if "://" not in path])
