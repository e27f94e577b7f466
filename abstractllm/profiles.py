"""Profiles in `abstractllm.toml`: named configurations, and where their files are.

A file holds `[profiles.NAME]` tables with `provider` and `model`, or `use` with a config string, and any parameter.
Knows nothing of providers; whether a parameter is right is checked where it is used.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abstractllm.errors import ConfigurationError

FILE_NAME = "abstractllm.toml"
FILE_VARIABLE = "ABSTRACTLLM_CONFIG"

_SECRET = re.compile(
    r"^(?!max_).*((^|_)(key|token|secret|password|passwd|credentials?|authorization)(_|$)|(key|token|secret|password)$)"
)
_ENV = "_env"


def looks_secret(name: str) -> bool:
    """Whether a value of this name may be a key or a password (`api_key` may, `max_tokens` may not)."""
    return _SECRET.match(name.lower().replace("-", "_")) is not None


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as its file has it: `use` is a provider's name or a config string, `settings` all the rest."""

    name: str
    file: Path
    use: str
    settings: Mapping[str, Any]

    def error(self, message: str) -> ConfigurationError:
        """Return the error for something that is wrong in this profile."""
        return _profile_error(self.name, self.file, message)

    def values(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that are not among the names in `given`; `X_env` becomes that variable's value as `X`.

        Raises ConfigurationError when the variable is not set.
        """
        found: dict[str, Any] = {}
        for name, value in self.settings.items():
            target = name.removesuffix(_ENV) if looks_secret(name) else name
            if target not in given:
                found[target] = value if target == name else self._variable(name, value)
        return found

    def _variable(self, name: str, variable: str) -> str:
        value = os.environ.get(variable)
        if not value:
            raise self.error(f"{name} names the environment variable {variable!r}, which is not set; set it")
        return value


def read_profiles() -> dict[str, Profile]:
    """Return all profiles by name, those of the first file in which a name stands.

    Raises ConfigurationError, naming the file, for one that cannot be read or has something else in it.
    """
    found: dict[str, Profile] = {}
    for file in config_files():
        for name, table in _tables(file).items():
            if name not in found:
                found[name] = _profile(name, file, table)
    return found


def find_profile(name: str) -> Profile | None:
    """Return one profile, or None where there is none of this name; other profiles are not looked into."""
    for file in config_files():
        tables = _tables(file)
        if name in tables:
            return _profile(name, file, tables[name])
    return None


def profile_names() -> list[str]:
    """Return the names of all profiles, sorted, whether or not they are right."""
    return sorted({name for file in config_files() for name in _tables(file)})


def config_files() -> list[Path]:
    """Return the files that count, first the one that wins.

    That is the file which `ABSTRACTLLM_CONFIG` names and no other, or else `abstractllm.toml` in the current folder
    and then in the user's folder for configurations, where they exist. Raises ConfigurationError when the named file
    does not exist.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named:
        file = Path(named).expanduser()
        if not file.is_file():
            raise ConfigurationError(f"{FILE_VARIABLE} names {named!r}, which is no file; correct or unset it.")
        return [file]
    places = (Path.cwd(), config_folder(sys.platform, os.environ))
    return [folder / FILE_NAME for folder in places if (folder / FILE_NAME).is_file()]


def config_folder(platform: str, environment: Mapping[str, str]) -> Path:
    """Return the folder for the user's configuration of this package on a platform named as in `sys.platform`."""
    if platform == "win32":
        base = environment.get("APPDATA") or "~/AppData/Roaming"
    elif platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "abstractllm"


def _tables(file: Path) -> dict[str, Any]:
    """Return what stands under `profiles` in a file."""
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} cannot be read as TOML: {error}") from error
    others = sorted(set(content) - {"profiles"})
    if others:
        raise ConfigurationError(f"{file} has {others[0]!r} at its top, where only [profiles.NAME] tables may stand.")
    tables = content.get("profiles", {})
    if not isinstance(tables, dict):
        raise ConfigurationError(f"{file} has 'profiles' as a value; write [profiles.NAME] tables.")
    return tables


def _profile(name: str, file: Path, table: object) -> Profile:
    """Return a checked profile."""
    if not isinstance(table, dict):
        raise _profile_error(name, file, f"it is a value; write a table, [profiles.{name}]")
    settings = {key: value for key, value in table.items() if key not in ("provider", "use")}
    for message in _mistakes(table, settings):
        raise _profile_error(name, file, message)
    return Profile(name, file, table.get("use") or table["provider"], settings)


def _mistakes(table: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong; no message holds a value, which may be a key in the wrong place."""
    chosen = [key for key in ("provider", "use") if key in table]
    if len(chosen) != 1:
        yield 'it needs one of provider = "NAME" and use = "NAME:MODEL?PARAMETER=VALUE"'
    for key in (*chosen, "model"):
        if key in table and (not isinstance(table[key], str) or not table[key].strip()):
            yield f"{key} must be text that is not empty"
    if "provider" in table and isinstance(table["provider"], str) and re.search("[:?]", table["provider"]):
        yield 'provider is a name alone; write a config string as use = "..."'
    for key, value in settings.items():
        if not looks_secret(key):
            continue
        if not key.endswith(_ENV):
            yield f'{key} must not stand in a file; name the environment variable with it: {key}{_ENV} = "VARIABLE"'
        elif not isinstance(value, str) or not value:
            yield f"{key} must be the name of an environment variable"


def _profile_error(name: str, file: Path, message: str) -> ConfigurationError:
    return ConfigurationError(f"The profile {name!r} in {file} is wrong: {message}.")
