"""`create_llm`: from a config string, a profile and arguments to a provider. Names no provider itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, overload
from urllib.parse import unquote

from abstractllm.errors import (
    AbstractLLMError,
    ConfigurationError,
    InvalidParameterError,
    MissingDependencyError,
    PluginError,
    UnsupportedProviderError,
)
from abstractllm.fallback import FallbackLLM, Member, told
from abstractllm.interface import AbstractLLMInterface
from abstractllm.parameters import from_text
from abstractllm.profiles import Profile, find_profile, looks_secret, profile_names
from abstractllm.registry import get_provider_class, list_providers, unknown_name


@dataclass(frozen=True, slots=True)
class ConfigString:
    """The parts of a config string; `provider` may also be a profile's name."""

    provider: str
    model: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters with the model among them, where there is one."""
        return {**self.parameters} if self.model is None else {**self.parameters, "model": self.model}


Specs = list[Any] | tuple[str | AbstractLLMInterface, ...]
"""Strings and providers, mixed; as `Sequence` a string would be one too, and type checkers could not tell."""


@overload
def create_llm(spec: str, /, model: str | None = None, **config: Any) -> AbstractLLMInterface: ...


@overload
def create_llm(spec: Specs, /, model: str | None = None, **config: Any) -> FallbackLLM: ...


def create_llm(spec: str | Specs, /, model: str | None = None, **config: Any) -> AbstractLLMInterface:
    """Return a language model.

    `spec` names a provider or a profile from `abstractllm.toml`, alone or as a config string,
    `"provider:model?parameter=value&..."`; see `parse_config_string`. `model` and `config` beat it, and it beats the
    profile; what none of them says comes from environment variables and the provider's defaults. None means
    "not given".

    A list of such names is one model with backends to fall back on, asked in order: see `FallbackLLM`. `model` and
    `config` then go to all of them. A provider that is already made may stand in the list; it takes no `config`, and
    closing the whole closes it too. A backend whose library is not installed is passed over, unless they all are.

    Raises UnsupportedProviderError for an unknown name, ConfigurationError for a string or profile that is wrong,
    MissingDependencyError or PluginError when the provider cannot be imported, InvalidParameterError or
    UnsupportedFeatureError for a parameter that is wrong. No model is loaded.
    """
    if isinstance(model, str) and not model.strip():
        raise ConfigurationError("The model is empty; name one, or leave it out for the provider's default.")
    arguments = {"model": model, **config}
    named = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(spec, (list, tuple)):
        return _fallback(spec, named)
    return _single(spec, named)


def _single(spec: str, named: Mapping[str, Any]) -> AbstractLLMInterface:
    parsed = parse_config_string(spec)
    given = {**parsed.settings, **named}
    profile = find_profile(parsed.provider)
    _check_name(parsed.provider, profile)
    if profile is not None:
        return _from_profile(profile, given)
    return get_provider_class(parsed.provider)(given)


def _fallback(specs: Specs, named: Mapping[str, Any]) -> FallbackLLM:
    """Return one model out of several; those that were made for it are closed where it cannot be made."""
    if not specs:
        raise ConfigurationError("The list of backends is empty; name at least one, such as ['openai:gpt-5', 'mlx'].")
    with ExitStack() as made:
        members = []
        for number, spec in enumerate(specs):
            members.append(_member(number, spec, named))
            if isinstance(spec, str) and members[-1].llm is not None:
                made.callback(members[-1].llm.close)
        if all(member.llm is None for member in members):
            raise told([(member, member.error) for member in members if member.error is not None])
        whole = FallbackLLM(members, named)
        made.pop_all()
        return whole


def _member(number: int, spec: object, named: Mapping[str, Any]) -> Member:
    """Return one backend of several; one whose package is missing or broken says so when it is asked."""
    if isinstance(spec, AbstractLLMInterface):
        if named:
            first = next(iter(named))
            raise ConfigurationError(
                f"{first} cannot be given to backend {number}, which is already made; give it there."
            )
        return Member(_label(getattr(spec, "name", type(spec).__name__), spec.get_param("model")), spec)
    if not isinstance(spec, str):
        kind = type(spec).__name__
        raise ConfigurationError(f"Backend {number} is a {kind}; name a provider or a profile, or pass a provider.")
    parsed = parse_config_string(spec)
    name = _label(parsed.provider, named.get("model", parsed.model))
    try:
        return Member(name, _single(spec, named))
    except (MissingDependencyError, PluginError) as error:
        return Member(name, None, error)
    except AbstractLLMError as error:
        error.provider = error.provider or name
        raise


def _label(provider: str, model: object) -> str:
    return provider if model is None else f"{provider}:{model}"


def parse_config_string(spec: str) -> ConfigString:
    """Take a config string apart: `provider`, `provider:model`, either of them with `?name=value&name=value`.

    The query begins after the last `?`, the provider ends at the first `:` before it, and all between is the model,
    as it is: it may hold `:`, `/`, `?` and spaces. A model with a `?` needs the `?` of a query after it, which may be
    empty. In the query `%XX` is decoded, and `&`, `=`, `?` and `%` in a value are written like that; values are
    read by `parameters.from_text`.

    Raises ConfigurationError, without any value in its message, since that may be a key in the wrong place.
    """
    if not isinstance(spec, str) or not spec.strip():
        raise ConfigurationError("Name a provider or a profile, such as 'echo' or 'provider:model?temperature=0.2'.")
    head, question, query = spec.rpartition("?")
    parameters = _parameters(query) if question else {}
    provider, colon, model = (head if question else spec).partition(":")
    if not provider or re.search(r"[\s?]", provider):
        raise _wrong("it must begin with a provider's name, without white space")
    if colon and (not model or model != model.strip()):
        raise _wrong(f"the model after {provider + ':'!r} is empty or has white space around it")
    if re.search(r"\?.*=", model, re.DOTALL):
        raise _wrong("it has a second '?'; write a '?' inside a value as %3F, and pass such a model as model=")
    if colon and "model" in parameters:
        raise _wrong("it gives the model twice")
    return ConfigString(provider, model if colon else None, parameters)


def _parameters(query: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, piece in enumerate(query.split("&") if query else (), 1):
        key, equals, text = piece.partition("=")
        name = _decoded(key, number)
        if not equals or not name or name != name.strip():
            raise _wrong(f"part {number} of its query is not of the form name=value")
        if looks_secret(name):
            raise ConfigurationError(
                f"{name} must not stand in a config string, which ends up in logs. Pass it as an argument, in the "
                "provider's environment variable, or in a profile by the variable's name, as in api_key_env."
            )
        if name in found:
            raise _wrong(f"it gives {name} twice")
        found[name] = from_text(name, _decoded(text, number))
    return found


def _decoded(text: str, number: int) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise _wrong(f"part {number} of its query has a '%' that begins no %XX; write it as %25")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise _wrong(f"part {number} of its query has %XX that is not UTF-8") from None


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError(f"The config string is wrong: {message}. Its form is provider:model?name=value.")


def _check_name(name: str, profile: Profile | None) -> None:
    """Raise unless `name` belongs to a provider or to a profile, and not to both."""
    providers = {info.name for info in list_providers()}
    if profile is not None and name in providers:
        raise profile.error("its name is a provider's; rename the profile")
    if profile is None and name not in providers:
        raise UnsupportedProviderError(unknown_name(name, providers=providers, profiles=profile_names()))


def _from_profile(profile: Profile, given: dict[str, Any]) -> AbstractLLMInterface:
    """Return what a profile describes; a mistake in it is told with its name and file."""
    used = _used(profile)
    settings = used.settings | profile.values(given) | given
    provider = get_provider_class(used.provider)
    try:
        return provider(settings)
    except InvalidParameterError as error:
        if error.parameter in given:
            raise
        raise profile.error(error.message.rstrip(".")) from error


def _used(profile: Profile) -> ConfigString:
    """Return the provider of a profile with what its `use` says besides."""
    try:
        used = parse_config_string(profile.use)
    except ConfigurationError as error:
        raise profile.error(error.message.rstrip(".")) from error
    providers = {info.name for info in list_providers()}
    if used.provider not in providers:
        raise profile.error(unknown_name(used.provider, providers=providers).rstrip("."))
    return used
