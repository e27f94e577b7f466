"""`abstractllm doctor`: what runs here, and what needs attention. Gathers findings; providers make their own."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import click

import abstractllm
from abstractllm.cli.failures import debug_option
from abstractllm.cli.output import one_line, print_json, print_line
from abstractllm.errors import DISTRIBUTION, ConfigurationError, MissingDependencyError
from abstractllm.profiles import config_files, read_profiles
from abstractllm.providers.base import BaseProvider, Finding
from abstractllm.registry import ProviderInfo, get_provider_class, list_providers

IMPORT_NAME = "abstractllm"


@dataclass(frozen=True, slots=True)
class Section:
    """Findings that belong together."""

    title: str
    findings: tuple[Finding, ...]


@click.command()
@click.option("--parity", metavar="MODEL", help="Check only whether this model's exact mode holds here.")
@click.option("--json", "as_json", is_flag=True, help="Write JSON.")
@debug_option
@click.pass_context
def doctor(context: click.Context, parity: str | None, as_json: bool) -> None:
    """Say what runs here, and what needs attention.

    The exit code is 0 when nothing needs attention and 1 otherwise. A provider whose libraries are not installed is
    shown with the command that installs them, and needs no attention.

    With --parity it asks MODEL (what --model of other commands takes) the same prompts alone and in company of other
    requests, with deterministic=True; the exit code is 0 when every answer was the same and 1 otherwise.
    """
    if parity is not None:
        context.exit(0 if _exact_mode_holds(parity, as_json) else 1)
    sections = tuple(examine())
    advice = [finding.advice for section in sections for finding in section.findings if finding.advice]
    if as_json:
        print_json({"ok": not advice, "sections": [asdict(section) for section in sections]})
    else:
        _print(sections, len(advice))
    context.exit(1 if advice else 0)


def _exact_mode_holds(spec: str, as_json: bool) -> bool:
    """Check a model's exact mode, show what was found, and return whether it holds."""
    from abstractllm.cli.parity import check_parity, print_parity

    parity = check_parity(spec)
    if as_json:
        print_json({"ok": parity.holds, **asdict(parity)})
    else:
        print_parity(parity)
    return parity.holds


def examine() -> Iterator[Section]:
    """Yield what is found about the machine, the package, its neighbours and each provider."""
    yield Section("system", tuple(_system()))
    yield Section("package", (*_package(), *other_owners(), *other_copies()))
    known = list_providers()
    yield Section("plugins", tuple(_plugins(known)))
    for info in known:
        findings = provider_findings(info)
        if findings:
            yield Section(info.name, findings)


def _system() -> Iterator[Finding]:
    yield Finding("Python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("platform", f"{platform.system()} {platform.release()} {platform.machine()}")
    yield Finding("processors", str(os.cpu_count() or "unknown"))
    names = sorted(name for name in os.environ if name.startswith("ABSTRACTLLM_"))
    yield Finding("variables", ", ".join(names) or "none")
    try:
        files = ", ".join(str(file) for file in config_files())
        yield Finding("profiles", f"{', '.join(read_profiles())} in {files}" if files else "none")
    except ConfigurationError as error:
        yield Finding("profiles", "cannot be read", error.message)


def _package() -> Iterator[Finding]:
    yield Finding(IMPORT_NAME, f"{abstractllm.__version__} ({_home()})")
    try:
        installed = version(DISTRIBUTION)
    except PackageNotFoundError:
        yield Finding(DISTRIBUTION, "not installed, so its providers are unknown", f"pip install {DISTRIBUTION}")
        return
    if installed != abstractllm.__version__:
        advice = f"install it again: pip install --force-reinstall {DISTRIBUTION}"
        yield Finding(DISTRIBUTION, f"{installed} is installed, and {abstractllm.__version__} runs", advice)


def _home() -> Path:
    return Path(abstractllm.__file__).resolve().parent


def other_owners() -> Iterator[Finding]:
    """Yield the installed distributions that bring a package of our import name and are not ours."""
    for name in sorted({name.lower().replace("_", "-") for name in packages_distributions().get(IMPORT_NAME, ())}):
        if name != DISTRIBUTION:
            yield Finding(
                name,
                f"another project with the same import name, {IMPORT_NAME!r}: each overwrites the other's files",
                f"pip uninstall -y {name}; pip install --force-reinstall {DISTRIBUTION}",
            )


def other_copies(folders: Sequence[str] | None = None) -> Iterator[Finding]:
    """Yield other modules of our name in `folders`: by default, the current folder and the import path."""
    searched = [os.getcwd(), *sys.path] if folders is None else folders
    for folder in dict.fromkeys(Path(name or ".").resolve() for name in searched):
        for copy in (folder / IMPORT_NAME / "__init__.py", folder / f"{IMPORT_NAME}.py"):
            if copy.is_file() and copy.resolve().parent != _home():
                value = f"{copy} hides this one, or is hidden by it, depending on where Python is started"
                yield Finding("second copy", value, "rename or remove it, or start Python elsewhere")


def _plugins(known: Sequence[ProviderInfo]) -> Iterator[Finding]:
    """Yield the providers by who brings them; one who is declared twice needs attention."""
    for info in known:
        source = info.distribution and f"{info.distribution} {info.version}"
        yield Finding(info.name, f"{info.target} of {source or 'this process'}", info.error)


def provider_findings(info: ProviderInfo) -> tuple[Finding, ...]:
    """Return a provider's own diagnosis, or why there is none."""
    if info.error is not None:
        return ()
    try:
        kind = get_provider_class(info.name)
        return tuple(kind.diagnose()) if issubclass(kind, BaseProvider) else ()
    except MissingDependencyError as error:
        return (Finding("not installed", error.message),)
    except Exception as error:
        return (Finding("broken", f"{type(error).__name__}", f"{error}"),)


def _print(sections: Sequence[Section], problems: int) -> None:
    for section in sections:
        if section.findings:
            _print_section(section)
    print_line("Nothing needs attention." if not problems else f"Needing attention: {problems}, marked with !")


def _print_section(section: Section) -> None:
    width = max(len(finding.label) for finding in section.findings)
    print_line(section.title)
    for finding in section.findings:
        mark = "!" if finding.advice else " "
        print_line(f"{mark} {one_line(finding.label):{width}}  {one_line(finding.value)}")
        if finding.advice:
            print_line(f"  {'':{width}}  -> {one_line(finding.advice)}")
    print_line()
