"""`abstractllm models`: the models that a provider has at hand."""

from __future__ import annotations

import time
from dataclasses import asdict

import click

from abstractllm.cli.asking import confirm
from abstractllm.cli.failures import debug_option
from abstractllm.cli.output import print_json, print_line, print_table, readable_size
from abstractllm.errors import UnsupportedFeatureError
from abstractllm.providers.base import BaseProvider
from abstractllm.registry import get_provider_class

_provider_option = click.option(
    "-p", "--provider", default="mlx", show_default=True, metavar="NAME", help="Whose models."
)


@click.group()
@debug_option
def models() -> None:
    """List, fetch and remove models."""


@models.command("list")
@_provider_option
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@debug_option
def list_command(provider: str, as_json: bool) -> None:
    """List the models that can be used without a download."""
    found = _provider_class(provider).list_models()
    if as_json:
        print_json([asdict(model) for model in found])
        return
    rows = [(model.name, readable_size(model.size), _day(model.modified), model.path or "") for model in found]
    print_table(("MODEL", "SIZE", "CHANGED", "WHERE"), rows)


@models.command()
@click.argument("model")
@_provider_option
@debug_option
def pull(model: str, provider: str) -> None:
    """Fetch MODEL, so that it can be used offline; writes where it is."""
    print_line(_provider_class(provider).pull_model(model))


@models.command()
@click.argument("model")
@_provider_option
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@debug_option
def remove(model: str, provider: str, yes: bool) -> None:
    """Delete the fetched MODEL from the disk."""
    kind = _provider_class(provider)
    if not yes:
        confirm(f"Remove {model!r}{_size_of(kind, model)} from the disk?")
    print_line(f"Removed {model}; {readable_size(kind.remove_model(model))} are free again.")


def _provider_class(name: str) -> type[BaseProvider]:
    """Return a provider's class if it may know about models."""
    kind = get_provider_class(name)
    if not issubclass(kind, BaseProvider):
        raise UnsupportedFeatureError("models", "This provider does not keep models on this machine.", provider=name)
    return kind


def _size_of(kind: type[BaseProvider], model: str) -> str:
    sizes = [info.size for info in kind.list_models() if info.name == model]
    return f" ({readable_size(sizes[0])})" if sizes else ""


def _day(seconds: float | None) -> str:
    return "?" if seconds is None else time.strftime("%Y-%m-%d", time.localtime(seconds))
