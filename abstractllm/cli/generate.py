"""`abstractllm generate`: one prompt, one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from abstractllm.cli.answers import Interrupted, Question, can_stream, show_answer
from abstractllm.cli.failures import debug_option
from abstractllm.cli.options import ModelChoice, model_options
from abstractllm.cli.output import print_json
from abstractllm.cli.prompt import full_prompt
from abstractllm.cli.toolbox import opened, read_servers, tool_options
from abstractllm.types import GenerateResponse, Usage


@click.command()
@click.argument("prompt", required=False)
@model_options
@tool_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of text.")
@click.option("--stream/--no-stream", default=None, help="Write the answer as it arrives, or when it is whole.")
@click.option("--stdin/--no-stdin", default=None, help="Wait for piped text however long, or leave it alone.")
@debug_option
def generate(prompt: str | None, as_json: bool, stream: bool | None, stdin: bool | None, **given: Any) -> None:
    """Answer one prompt.

    Without PROMPT, or with -, the prompt is what standard input holds. With both, the piped text goes before
    PROMPT: `cat notes.txt | abstractllm generate "Summarise this."`

    With --tool or --mcp the model may call tools before it answers; --json writes the whole run then.
    """
    if as_json and stream:
        raise click.UsageError("--json writes one whole answer; leave --stream out.")
    choice = ModelChoice.of(given)
    text = full_prompt(prompt, stdin)
    if given["tools"] or given["servers"]:
        _run(choice, text, given, as_json=as_json, stream=stream is not False)
        return
    request = Question(prompt=text, system_prompt=choice.system, files=choice.files)
    with choice.create() as llm:
        if as_json:
            print_json(as_dict(llm.generate(stream=False, **request)))
            return
        try:
            show_answer(llm, request, stream=can_stream(llm) if stream is None else stream)
        except Interrupted as error:
            raise KeyboardInterrupt from error


def _run(choice: ModelChoice, prompt: str, given: Mapping[str, Any], *, as_json: bool, stream: bool) -> None:
    """Let the model call tools until it has its answer."""
    from abstractllm.agent import Agent
    from abstractllm.cli.finishing import run_agent
    from abstractllm.cli.running import approver

    here = Path.cwd()
    with (
        opened(given["tools"], read_servers(given["servers"], here), here) as tools,
        choice.create_for_runs() as llm,
    ):
        agent = Agent(llm, tools=tools, instructions=choice.system, approve=approver(), name="generate")
        run_agent(agent, prompt, files=choice.files, as_json=as_json, stream=stream)


def as_dict(response: GenerateResponse) -> dict[str, Any]:
    """Return an answer as what `--json` writes; several answers stand in `choices`."""
    described: dict[str, Any] = {
        "model": response.model,
        "content": response.content,
        "reasoning": response.reasoning,
        "tool_calls": [{**asdict(call), "arguments": dict(call.arguments)} for call in response.tool_calls],
        "finish_reason": response.finish_reason,
        "stop_string": response.stop_string,
        "usage": _usage(response.usage),
        "timings": {**asdict(response.timings), "total": response.timings.total} if response.timings else None,
    }
    if response.choices:
        described["choices"] = [as_dict(choice) for choice in response.choices]
    return described


def _usage(usage: Usage | None) -> dict[str, int] | None:
    return {**asdict(usage), "total_tokens": usage.total_tokens} if usage else None
