"""Which providers there are, by name: entry points of installed packages, and what was registered at run time.

Entry points are read at the first question, never at import, and only the provider that is asked for is imported.
Names no provider itself.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any

from abstractllm.errors import (
    DISTRIBUTION,
    ConfigurationError,
    MissingDependencyError,
    PluginError,
    UnsupportedProviderError,
    did_you_mean,
    install_command,
)
from abstractllm.interface import AbstractLLMInterface
from abstractllm.providers.base import API_VERSION
from abstractllm.threads import ForkSafeLock

GROUP = "abstractllm.providers"
"""Entry point group; a value is `package.module:Class`, with `[extra]` after it if an extra brings its libraries."""

ProviderClass = type[AbstractLLMInterface]


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    """A provider as its package declares it.

    `target` is `package.module:Class`; `distribution` and `version` are of the package that declares it, None for
    one registered at run time; `extra` is the extra of that package which brings its libraries, if there is one.
    `error` says why it cannot be used, as far as that is known.
    """

    name: str
    target: str
    distribution: str | None = None
    version: str | None = None
    extra: str | None = None
    error: str | None = None

    @property
    def source(self) -> str:
        """Who declares it, for messages."""
        if self.distribution is None:
            return f"{self.target}, registered at run time"
        return f"{self.target} of {self.distribution} {self.version or ''}".rstrip()


class _Registry:
    """What is known so far; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._installed: Mapping[str, tuple[ProviderInfo, ...]] | None = None
        self._registered: dict[str, ProviderInfo] = {}
        self._classes: dict[ProviderInfo, ProviderClass] = {}

    def claims(self) -> dict[str, tuple[ProviderInfo, ...]]:
        """Return all names with those who claim them; one registered at run time is alone."""
        with self._lock:
            if self._installed is None:
                self._installed = _claims(_declared(distributions()))
            return {**self._installed, **{name: (info,) for name, info in self._registered.items()}}

    def loaded(self, info: ProviderInfo) -> ProviderClass | None:
        """Return the class of a provider that was asked for before."""
        with self._lock:
            return self._classes.get(info)

    def keep(self, info: ProviderInfo, provider: ProviderClass) -> None:
        """Remember the class of a provider."""
        with self._lock:
            self._classes[info] = provider

    def register(self, info: ProviderInfo) -> None:
        """Add a provider, or put it in the place of one with the same name."""
        with self._lock:
            self._registered[info.name] = info


_registry = _Registry()


def get_provider_class(name: str) -> ProviderClass:
    """Return the class of the provider `name`, importing it and nothing else.

    Raises UnsupportedProviderError for an unknown name, MissingDependencyError when a library that the provider
    needs is not installed, and PluginError when its package is broken, is claimed by two packages, or was made for
    another version of the provider API.
    """
    info = _only(_claimed(name))
    provider = _registry.loaded(info)
    if provider is None:
        provider = _checked(info, _import(info))
        _registry.keep(info, provider)
    return provider


def register_provider(name: str, target: type[Any] | str, *, replace: bool = False) -> None:
    """Make a provider known for the life of this process, such as one defined in a notebook.

    `target` is its class or `"package.module:Class"`, which is imported when it is asked for. Raises
    ConfigurationError for a bad name, and for one that is taken unless `replace` is true; PluginError for a class
    that is no provider.
    """
    _check_name(name)
    taken = _registry.claims().get(name)
    if taken and not replace:
        raise ConfigurationError(
            f"The name {name!r} is taken by {taken[0].source}; choose another one, or pass replace=True."
        )
    if isinstance(target, str):
        _registry.register(ProviderInfo(name, _check_target(name, target)))
        return
    info = ProviderInfo(name, f"{target.__module__}:{target.__qualname__}")
    _registry.keep(info, _checked(info, target))
    _registry.register(info)


def list_providers() -> list[ProviderInfo]:
    """Return the providers that are declared, sorted by name, without importing any; a broken one harms nothing."""
    found: list[ProviderInfo] = []
    for _, infos in sorted(_registry.claims().items()):
        sound = _sound(infos)
        error = _ambiguity(sound) if len(sound) > 1 else None
        found.extend(replace(info, error=info.error or error) for info in infos)
    return found


def check_provider(name: str) -> ProviderInfo:
    """Return what is declared about a provider with `error` set if importing it fails; it does get imported.

    Raises UnsupportedProviderError for an unknown name.
    """
    info = _claimed(name)[0]
    try:
        get_provider_class(name)
    except ConfigurationError as error:
        return replace(info, error=error.message)
    return info


def _claimed(name: str) -> tuple[ProviderInfo, ...]:
    claims = _registry.claims()
    if name not in claims:
        raise UnsupportedProviderError(unknown_name(name, providers=claims))
    return claims[name]


def unknown_name(name: str, *, providers: Iterable[str], profiles: Iterable[str] = ()) -> str:
    """Return the message for a name that is neither a provider's nor a profile's."""
    installed, own = sorted(providers), sorted(profiles)
    listed = f"Installed providers: {', '.join(installed) or 'none'}."
    if own:
        listed += f" Profiles: {', '.join(own)}."
    return f"No provider is named {name!r}.{did_you_mean(name, installed + own)} {listed}"


def _claims(declared: Iterable[ProviderInfo]) -> dict[str, tuple[ProviderInfo, ...]]:
    """Group what is declared by name."""
    found: dict[str, list[ProviderInfo]] = {}
    for info in declared:
        found.setdefault(info.name, []).append(info)
    return {name: tuple(infos) for name, infos in found.items()}


def _declared(installed: Iterable[Distribution]) -> Iterator[ProviderInfo]:
    """Yield what each distribution declares; one that is found twice, as with editable installs, counts once."""
    seen: set[str] = set()
    for distribution in installed:
        infos = _declared_by(distribution)
        name = infos[0].distribution if infos else None
        if name is not None and name not in seen:
            seen.add(name)
            yield from infos


def _declared_by(distribution: Distribution) -> list[ProviderInfo]:
    """Return the providers of a distribution; for one whose declarations cannot be read, its name and what is wrong."""
    try:
        if GROUP not in (distribution.read_text("entry_points.txt") or ""):
            return []
        name, version = _normalized(distribution.name), distribution.version
        return [_info(entry, name, version) for entry in distribution.entry_points.select(group=GROUP)]
    except Exception as error:  # whatever is wrong with a stranger's files
        name = _name_of(distribution)
        problem = f"The entry points of {name} cannot be read: {type(error).__name__}: {error}."
        return [ProviderInfo(name, "", name, error=f"{problem} Upgrade or uninstall that package.")]


def _info(entry: EntryPoint, distribution: str, version: str) -> ProviderInfo:
    target, _, extra = (part.strip(" ]") for part in entry.value.partition("["))
    return ProviderInfo(entry.name, target, distribution, version, extra or None)


def _name_of(distribution: Distribution) -> str:
    try:
        return _normalized(distribution.name)
    except Exception:  # its metadata may be what is broken
        return _normalized(None)


def _normalized(distribution: str | None) -> str:
    return (distribution or "unknown").replace("_", "-").replace(".", "-").lower()


def _only(infos: tuple[ProviderInfo, ...]) -> ProviderInfo:
    sound = _sound(infos)
    if len(sound) > 1:
        raise PluginError(_ambiguity(sound))
    if not sound:
        raise PluginError(str(infos[0].error))
    return sound[0]


def _sound(infos: tuple[ProviderInfo, ...]) -> tuple[ProviderInfo, ...]:
    """Leave out those that cannot be used whatever is done."""
    return tuple(info for info in infos if info.error is None)


def _ambiguity(infos: tuple[ProviderInfo, ...]) -> str:
    sources = " and ".join(info.source for info in infos)
    return f"The provider name {infos[0].name!r} is claimed by {sources}; uninstall all but one."


def _check_name(name: str) -> None:
    if not name or not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise ConfigurationError(
            f"{name!r} cannot name a provider; use ASCII letters, digits, '-' and '_', as in a config string."
        )


def _check_target(name: str, target: str) -> str:
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise ConfigurationError(f"The target {target!r} of {name!r} must be a class or 'package.module:Class'.")
    return target


def _import(info: ProviderInfo) -> object:
    """Return the object that `info.target` names."""
    module, _, path = info.target.partition(":")
    try:
        found: object = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    except (MissingDependencyError, PluginError):
        raise
    except ImportError as error:
        raise _import_failure(info, error) from error
    except (Exception, SystemExit) as error:
        raise PluginError(_broken(info, error)) from error
    return found


def _import_failure(info: ProviderInfo, error: ImportError) -> ConfigurationError:
    """Tell a library that is not installed from a provider whose own module is missing or broken."""
    missing = (error.name or "").partition(".")[0]
    ours = info.target.partition(":")[0].partition(".")[0]
    absent = isinstance(error, ModuleNotFoundError) and missing and missing not in sys.stdlib_module_names
    if not absent or missing == ours:
        return PluginError(_broken(info, error))
    return MissingDependencyError(
        f"The provider {info.name!r} needs {missing!r}, which is not installed. Run: {_install(info)}"
    )


def _install(info: ProviderInfo) -> str:
    """Return the command that brings a provider's libraries, as far as its package can be known."""
    if info.distribution is None:
        return "pip install, with the name of the package that has it"
    if info.extra is None:
        return f"pip install {info.distribution}"
    if info.distribution == _normalized(DISTRIBUTION):
        return install_command(info.extra)
    return f'pip install "{info.distribution}[{info.extra}]"'


def _broken(info: ProviderInfo, error: BaseException) -> str:
    advice = "upgrade or uninstall that package" if info.distribution else "correct it and register it again"
    return (
        f"The provider {info.name!r} ({info.source}) cannot be imported: {type(error).__name__}: {error}. "
        f"Every other provider still works; {advice}."
    )


def _checked(info: ProviderInfo, found: object) -> ProviderClass:
    """Return `found` as a provider's class, or raise PluginError."""
    if not inspect.isclass(found) or not issubclass(found, AbstractLLMInterface):
        raise PluginError(
            f"The provider {info.name!r} ({info.source}) is no subclass of AbstractLLMInterface, which it must be."
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise PluginError(f"The provider {info.name!r} ({info.source}) is not finished: it does not define {missing}.")
    version = getattr(found, "api_version", API_VERSION)
    if version != API_VERSION:
        raise PluginError(
            f"The provider {info.name!r} ({info.source}) is made for version {version} of the provider API, and this "
            f"is version {API_VERSION}. Install a version of it that fits."
        )
    return found
