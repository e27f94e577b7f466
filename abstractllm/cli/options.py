"""The options that choose and configure a model, the same for every command that asks one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from abstractllm.errors import InvalidParameterError
from abstractllm.interface import AbstractLLMInterface
from abstractllm.parameters import from_text
from abstractllm.profiles import looks_secret

DEFAULT_MODEL = "mlx"
"""What is asked where nothing is said: the model that ships in the package."""

model_option = click.option(
    "-m",
    "--model",
    default=DEFAULT_MODEL,
    envvar="ABSTRACTLLM_MODEL",
    metavar="SPEC",
    help="Provider, provider:model, config string or profile; else ABSTRACTLLM_MODEL, else the model that ships.",
)
"""Gives a command the option that names the model."""

other_options = click.option(
    "-o",
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other parameter or setting; options.NAME=VALUE is one of the provider's own. May be repeated.",
)
"""Gives a command the option whose values `pairs` reads."""

_OPTIONS = (
    model_option,
    click.option("-s", "--system", metavar="TEXT", help="System prompt."),
    click.option("-f", "--file", "files", multiple=True, metavar="PATH", help="Attach a file; may be repeated."),
    click.option("--max-tokens", type=int, metavar="N", help="Longest answer, in tokens."),
    click.option("-t", "--temperature", type=float, metavar="X", help="0 is greedy."),
    click.option("--seed", type=int, metavar="N", help="Makes sampling repeatable."),
    click.option("--stop", multiple=True, metavar="TEXT", help="End the answer before this text; may be repeated."),
    other_options,
)


def model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that `ModelChoice.of` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model as it was asked for: `spec` as `create_llm` takes it, and `config` that beats it."""

    spec: str
    system: str | None = None
    files: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ModelChoice:
        """Return the choice that a command's options make. Raises UsageError."""
        config = pairs(given["options"])
        for name in ("max_tokens", "temperature", "seed", "stop"):
            if given[name] is not None and given[name] != ():
                config[name] = given[name]
        return cls(given["model"], given["system"], given["files"], config)

    def create(self) -> AbstractLLMInterface:
        """Return the provider, ready to be asked."""
        from abstractllm.factory import create_llm

        return create_llm(self.spec, **self.config)

    def create_for_runs(self) -> AbstractLLMInterface:
        """Return the provider for runs of an agent. Raises InvalidParameterError where it gives several answers."""
        llm = self.create()
        if llm.get_param("n", 1) in (None, 1):
            return llm
        llm.close()
        raise InvalidParameterError("n", "A conversation goes on with one answer; leave n out here.")


def pairs(texts: tuple[str, ...]) -> dict[str, Any]:
    """Return the parameters in texts of the form `name=value`; names `options.x` are gathered in `options`.

    Raises UsageError.
    """
    config: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name:
            raise click.UsageError(f"--option {text!r} is not of the form NAME=VALUE.")
        if looks_secret(name):
            raise click.UsageError(f"{name} on the command line can be read by others; set its environment variable.")
        group, dot, rest = name.partition(".")
        if dot and group == "options":
            own[rest] = from_text(rest, value)
        else:
            config[name] = from_text(name, value)
    return {**config, "options": {**config.get("options", {}), **own}} if own else config
