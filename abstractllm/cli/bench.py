"""`abstractllm bench`: the speed of many requests at once. Reads options, and shows what `measuring` finds."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from click.core import ParameterSource

from abstractllm.cli.failures import debug_option, print_note
from abstractllm.cli.measuring import Level, Plan, Summary, summary, sweep
from abstractllm.cli.options import ModelChoice, model_option, other_options, pairs
from abstractllm.cli.output import print_json, print_line, print_table

COLUMNS = ("AT ONCE", "FIRST", "p95", "NEXT", "p95", "WORST", "TOK/S", "EACH", "CACHED", "OK")
"""Short, because all of it should fit on a terminal of 80 columns."""


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Return the numbers from 1 on that a text holds, with commas between them. Raises BadParameter."""
    pieces = [piece.strip() for piece in value.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,5}", piece) for piece in pieces):
        raise click.BadParameter(f"{value!r} is not a list of numbers from 1 on, such as 1,4,16.", context, parameter)
    return tuple(int(piece) for piece in pieces)


@click.command()
@click.argument("spec", metavar="[MODEL]", required=False)
@model_option
@click.option(
    "-c",
    "--concurrency",
    callback=_numbers,
    default="1,4,16,32",
    show_default=True,
    metavar="N,N",
    help="How many at once.",
)
@click.option("--requests", type=click.IntRange(1), default=32, show_default=True, help="Requests for each of these.")
@click.option("--max-tokens", type=click.IntRange(1), default=64, show_default=True, help="Longest answer, in tokens.")
@click.option("--prompt-tokens", type=click.IntRange(1), default=128, show_default=True, help="About as long a prompt.")
@click.option(
    "--shared", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Part that begins every prompt."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed makes other prompts.")
@other_options
@click.option("--json", "as_json", is_flag=True, help="Write JSON, with all times in seconds.")
@debug_option
@click.pass_context
def bench(context: click.Context, /, spec: str | None, as_json: bool, **given: Any) -> None:
    """Measure how fast a model answers many requests at once.

    MODEL is what --model takes. For each number of --concurrency, so many requests run at any time until --requests
    are done, after one that is not counted. A request that fails is counted, and the rest goes on. Ctrl-C shows what
    was measured so far. Prompts are plain words, other ones for each number.
    """
    choice = ModelChoice(_spec(context, spec, given.pop("model")), config=pairs(given.pop("options")))
    plan = _checked(Plan(**given))
    levels: list[Level] = []
    try:
        asyncio.run(_run(choice, plan, levels))
    except KeyboardInterrupt:
        _show(choice, plan, levels, as_json, complete=False)
        raise
    _raise_if_all_failed(levels)
    _show(choice, plan, levels, as_json, complete=True)


def _spec(context: click.Context, argument: str | None, option: str) -> str:
    """Return the model that is named, wherever it is."""
    if argument is None:
        return option
    if context.get_parameter_source("model") is ParameterSource.COMMANDLINE:
        raise click.UsageError("The model is named twice; leave --model out.")
    return argument


def _checked(plan: Plan) -> Plan:
    most = max(plan.concurrency)
    if most > plan.requests:
        raise click.UsageError(
            f"With --requests {plan.requests} there are never {most} at once; raise it, or lower --concurrency."
        )
    return plan


async def _run(choice: ModelChoice, plan: Plan, levels: list[Level]) -> None:
    async with choice.create() as llm:
        await sweep(llm, plan, levels, _tell if sys.stderr.isatty() else lambda level: None)


def _tell(level: Level) -> None:
    print_note(f"{level.requests} requests, {level.concurrency} at once")


def _raise_if_all_failed(levels: Sequence[Level]) -> None:
    """Raise the first error where no request was answered."""
    errors = [sample.error for level in levels for sample in level.samples]
    if errors and errors[0] is not None and None not in errors:
        raise errors[0]


def _show(choice: ModelChoice, plan: Plan, levels: Sequence[Level], as_json: bool, *, complete: bool) -> None:
    """Write what was measured; a level without any request that has ended is left out."""
    summaries = [summary(level) for level in levels if level.samples]
    if as_json:
        described = {"model": choice.spec, **asdict(plan), "complete": complete}
        print_json({**described, "levels": [asdict(one) for one in summaries]})
        return
    if not summaries:
        return
    print_table(COLUMNS, [_row(one) for one in summaries])
    print_line(
        "\nTimes in milliseconds: to the first token, and from each piece of text to the next. Tokens per second:"
    )
    print_line("of all requests together, and of each one. Cached: part of the prompts that needed no computing.")
    for one in summaries:
        _note_failures(one)


def _row(one: Summary) -> tuple[str, ...]:
    return (
        str(one.concurrency),
        _milliseconds(one.first_token.median),
        _milliseconds(one.first_token.p95),
        _milliseconds(one.between_tokens.median),
        _milliseconds(one.between_tokens.p95),
        _milliseconds(one.between_tokens.worst),
        _number(one.tokens_per_second),
        _number(one.tokens_per_second_each),
        "?" if one.cached_share is None else f"{one.cached_share:.0%}",
        f"{one.answered}/{one.requests}",
    )


def _milliseconds(seconds: float | None) -> str:
    return _number(None if seconds is None else seconds * 1000)


def _number(value: float | None) -> str:
    """Return a number with one digit after the point, and without one from 100 on; `?` where it is not known."""
    return "?" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _note_failures(one: Summary) -> None:
    for kind, failures in one.errors.items():
        print_note(f"{one.concurrency} at once: {failures.count} failed with {kind}, such as: {failures.message}")
