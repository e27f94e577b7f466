"""`abstractllm providers`: who is there, what they can do, and whether they are ready."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import click

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.cli.failures import debug_option
from abstractllm.cli.output import print_json, print_table
from abstractllm.errors import MissingDependencyError, PluginError
from abstractllm.providers.base import BaseProvider
from abstractllm.registry import ProviderInfo, get_provider_class, list_providers

State = Literal["ready", "needs attention", "not ready", "not installed", "broken"]

SHOWN: Mapping[ModelCapability, str] = {
    ModelCapability.STREAMING: "streaming",
    ModelCapability.TOOL_USE: "tools",
    ModelCapability.STRUCTURED_OUTPUT: "structured output",
    ModelCapability.VISION: "images",
    ModelCapability.DOCUMENTS: "documents",
    ModelCapability.REASONING: "reasoning",
    ModelCapability.EMBEDDINGS: "embeddings",
}
"""The capabilities that the table shows, by the words that it uses."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """A provider after it was tried.

    `can` is what its default model does for sure, `problem` why it is not ready (a missing key is such a reason), or
    what its diagnosis advises.
    """

    name: str
    distribution: str | None
    version: str | None
    state: State
    can: tuple[str, ...] = ()
    problem: str | None = None


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@debug_option
def providers(as_json: bool) -> None:
    """List the providers, what they can do and whether they are ready."""
    found = [status_of(info) for info in list_providers()]
    if as_json:
        print_json([asdict(status) for status in found])
        return
    print_table(("PROVIDER", "PACKAGE", "CAN", "STATUS"), [_row(status) for status in found])


def status_of(info: ProviderInfo) -> ProviderStatus:
    """Import a provider, make one and ask what it can do; whatever it raises is its problem alone."""
    state: State = "broken"
    problem: str | None = info.error
    can: tuple[str, ...] = ()
    if problem is None:
        try:
            can, state, problem = _try(info.name)
        except Exception as error:
            state, problem = _state(error), f"{error}" or type(error).__name__
    return ProviderStatus(info.name, info.distribution, info.version, state, can, problem)


def _try(name: str) -> tuple[tuple[str, ...], State, str | None]:
    """Return what a provider can do, and what it lacks or the first advice of its diagnosis, if there is any."""
    kind = get_provider_class(name)
    with kind() as llm:
        can = what_it_can(llm.get_capabilities())
        lacking = llm.missing() if isinstance(llm, BaseProvider) else None
    if lacking is not None:
        return can, "not ready", lacking
    findings = kind.diagnose() if issubclass(kind, BaseProvider) else []
    advice = next((finding.advice for finding in findings if finding.advice), None)
    return can, "needs attention" if advice else "ready", advice


def _state(error: Exception) -> State:
    if isinstance(error, MissingDependencyError):
        return "not installed"
    return "broken" if isinstance(error, PluginError) else "not ready"


def what_it_can(capabilities: Capabilities) -> tuple[str, ...]:
    """Return the words for what is known to work."""
    return tuple(word for capability, word in SHOWN.items() if capabilities.get(capability))


def _row(status: ProviderStatus) -> tuple[str, str, str, str]:
    package = " ".join(filter(None, (status.distribution, status.version))) or "registered at run time"
    state = f"{status.state}: {status.problem}" if status.problem else status.state
    return status.name, package, ", ".join(status.can), state
