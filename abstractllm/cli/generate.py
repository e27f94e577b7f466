"""`abstractllm generate`: one prompt, one answer."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import Any

import click

from abstractllm.cli.answers import Interrupted, Question, can_stream, show_answer
from abstractllm.cli.failures import debug_option, print_note
from abstractllm.cli.options import ModelChoice, model_options
from abstractllm.cli.output import print_json
from abstractllm.errors import InvalidParameterError
from abstractllm.types import GenerateResponse, Usage

STDIN_PATIENCE = 3.0
"""Seconds to wait for the first byte of a pipe when there is a prompt already."""


@click.command()
@click.argument("prompt", required=False)
@model_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of text.")
@click.option("--stream/--no-stream", default=None, help="Write the answer as it arrives, or when it is whole.")
@click.option("--stdin/--no-stdin", default=None, help="Wait for piped text however long, or leave it alone.")
@debug_option
def generate(prompt: str | None, as_json: bool, stream: bool | None, stdin: bool | None, **given: Any) -> None:
    """Answer one prompt.

    Without PROMPT, or with -, the prompt is what standard input holds. With both, the piped text goes before
    PROMPT: `cat notes.txt | abstractllm generate "Summarise this."`
    """
    if as_json and stream:
        raise click.UsageError("--json writes one whole answer; leave --stream out.")
    choice = ModelChoice.of(given)
    request = Question(prompt=full_prompt(prompt, stdin), system_prompt=choice.system, files=choice.files)
    with choice.create() as llm:
        if as_json:
            print_json(as_dict(llm.generate(stream=False, **request)))
            return
        try:
            show_answer(llm, request, stream=can_stream(llm) if stream is None else stream)
        except Interrupted as error:
            raise KeyboardInterrupt from error


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
