"""An agent in a TOML file: read and checked, with messages that name the file. Starts nothing and asks no model."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NoReturn

from abstractllm.agent import Limits
from abstractllm.cli.toolbox import Server, read_servers
from abstractllm.errors import ConfigurationError, InvalidParameterError, did_you_mean, shown
from abstractllm.profiles import looks_secret

_LIMITS = [one.name for one in fields(Limits)]

SETTINGS = ("name", "retries", "tool_timeout", "on_tool_error", "trim")
"""What goes to `Agent` as it stands in the file."""

_HOW = ("prefix", "timeout", "include", "exclude", "approval")
"""What may stand in the table of an MCP server for `mcp_tools`, beside where the server is."""


@dataclass(frozen=True, slots=True)
class AgentFile:
    """What a file says; `folder` is where it lies, to which its paths are relative.

    `output` is a JSON Schema, None where the answer is text. `settings` are arguments of `Agent`, `params` the model's.
    """

    folder: Path
    model: str | None = None
    instructions: str | None = None
    prompt: str | None = None
    files: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    output: Mapping[str, Any] | None = None
    limits: Limits = field(default_factory=Limits)
    params: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_agent(path: Path) -> AgentFile:
    """Return the agent in a file. Raises ConfigurationError for one that cannot be read or says what cannot be."""
    return _Reader(path, _table(path)).read()


def _table(path: Path) -> Mapping[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} cannot be read as TOML: {error}.") from error
    for key in content:
        if key != "agent":
            raise ConfigurationError(f"{path} has {key!r} at its top, where only [agent] may stand.")
    table = content.get("agent")
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path} has no table [agent]; begin it with that line.")
    return table


class _Reader:
    """Reads one table; each method returns the value of a key in its form."""

    def __init__(self, path: Path, table: Mapping[str, Any]) -> None:
        self._path = path
        self._folder = path.resolve().parent
        self._table = table

    def read(self) -> AgentFile:
        known = {**_READERS, **dict.fromkeys(SETTINGS, _Reader._setting)}
        found: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for key, value in self._table.items():
            if key not in known:
                self._fail(f"the key {key!r} is unknown.{did_you_mean(key, known)}")
            (settings if key in SETTINGS else found)[_NAMES.get(key, key)] = known[key](self, key, value)
        return AgentFile(self._folder, settings=settings, **found)

    def _fail(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{self._path}: {message if message.endswith(('.', '?')) else message + '.'}")

    def _text(self, key: str, value: object) -> str:
        if isinstance(value, str) and value.strip():
            return value
        self._fail(f"{key} must be text that is not empty")

    def _texts(self, key: str, value: object) -> tuple[str, ...]:
        if isinstance(value, list):
            return tuple(self._text(f"each of {key}", one) for one in value)
        self._fail(f'{key} must be a list of texts, as in {key} = ["..."]')

    def _files(self, key: str, value: object) -> tuple[str, ...]:
        return tuple(one if "://" in one else str(self._folder / one) for one in self._texts(key, value))

    def _servers(self, key: str, value: object) -> tuple[Server, ...]:
        if not isinstance(value, list):
            self._fail(f"{key} must be a list of commands, addresses, files or tables")
        return tuple(server for one in value for server in self._server(key, one))

    def _server(self, key: str, value: object) -> list[Server]:
        """Return the servers of one entry; a command runs in the file's folder."""
        if isinstance(value, dict):
            how = {name: value.pop(name) for name in _HOW if name in value}
            return [Server({"cwd": str(self._folder), **value} if "command" in value else value, how)]
        try:
            servers = read_servers([self._text(f"each of {key}", value)], self._folder)
        except InvalidParameterError as error:
            self._fail(f"{key}: {error.message}")
        return [self._at_home(server) for server in servers]

    def _at_home(self, server: Server) -> Server:
        if not isinstance(server.where, str) or "://" in server.where.partition(" ")[0]:
            return server
        import shlex

        try:
            command, *arguments = shlex.split(server.where)
        except ValueError as error:
            self._fail(f"mcp: {server.where!r} is no command line ({error})")
        return Server({"command": command, "args": arguments, "cwd": str(self._folder)}, server.how)

    def _output(self, key: str, value: object) -> Mapping[str, Any]:
        """Return the JSON Schema that stands here, or in the file that is named here."""
        from abstractllm.schema import to_output_format

        schema = value if isinstance(value, dict) else self._schema(key, value)
        try:
            to_output_format(schema)
        except InvalidParameterError as error:
            self._fail(f"{key}: {error.message}")
        return schema

    def _schema(self, key: str, value: object) -> Mapping[str, Any]:
        path = self._folder / self._text(key, value)
        try:
            schema = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            self._fail(f"{key}: {path} cannot be read: {error.strerror}")
        except (ValueError, RecursionError) as error:
            self._fail(f"{key}: {path} is no JSON file: {error}")
        if not isinstance(schema, dict):
            self._fail(f"{key}: {path} holds no JSON Schema, which is an object")
        return schema

    def _limits(self, key: str, value: object) -> Limits:
        """Return the limits; `inf` is none."""
        table = self._dict(key, value)
        for name in table:
            if name not in _LIMITS:
                self._fail(f"the limit {name!r} is unknown.{did_you_mean(name, _LIMITS)}")
        given: dict[str, Any] = {name: None if one == math.inf else one for name, one in table.items()}
        try:
            return Limits(**given)
        except InvalidParameterError as error:
            self._fail(error.message)

    def _params(self, key: str, value: object) -> Mapping[str, Any]:
        table = self._dict(key, value)
        for name in table:
            if looks_secret(name):
                self._fail(f"{name} must not stand in a file; set its environment variable, or use a profile as model")
        return table

    def _dict(self, key: str, value: object) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self._fail(f"{key} is {shown(value)}; write a table, [agent.{key}]")

    def _setting(self, key: str, value: object) -> object:
        if key == "name":
            return self._text(key, value)
        return None if value == math.inf else value


_READERS: Mapping[str, Callable[[_Reader, str, object], Any]] = {
    "model": _Reader._text,
    "instructions": _Reader._text,
    "prompt": _Reader._text,
    "files": _Reader._files,
    "tools": _Reader._texts,
    "mcp": _Reader._servers,
    "output": _Reader._output,
    "limits": _Reader._limits,
    "params": _Reader._params,
}
"""Each key of the table with what reads it."""

_NAMES = {"mcp": "servers"}
