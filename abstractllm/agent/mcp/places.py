"""What users say of an MCP server -> how it is started or reached. Starts and reaches nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from abstractllm.errors import InvalidParameterError, did_you_mean, shown

ServerLike = str | Sequence[str] | Mapping[str, Any]
"""A command line, a command with its arguments, a URL, or one entry of an `mcpServers` configuration."""

_COMMAND_KEYS = ("command", "args", "env", "cwd", "type")
_URL_KEYS = ("url", "headers", "type")
_COMMAND_TYPES = ("stdio",)
_URL_TYPES = ("http", "streamable-http", "streamableHttp", "streamable_http")


@dataclass(frozen=True, slots=True)
class Command:
    """A server that is a child process, spoken to over its standard input and output."""

    command: str
    arguments: tuple[str, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    folder: str | None = None

    @property
    def label(self) -> str:
        """What messages call it: without the arguments, which may hold a key."""
        return self.command


@dataclass(frozen=True, slots=True)
class Address:
    """A server that is reached over streamable HTTP."""

    url: str = field(repr=False)
    headers: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def label(self) -> str:
        """What messages call it: without user, password and query, which may hold a key."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


Place = Command | Address


def to_place(server: object) -> Place:
    """Return where a server is. Raises InvalidParameterError, parameter `server`, for what does not say so."""
    if isinstance(server, str):
        return _from_text(server)
    if isinstance(server, Mapping):
        return _from_mapping(server)
    if isinstance(server, Sequence) and not isinstance(server, (bytes, bytearray)):
        return _from_words([os.fspath(word) if isinstance(word, os.PathLike) else word for word in server])
    raise _bad(f"server is of type {type(server).__name__}; pass a command line, a list, a URL or a mapping.")


def _bad(message: str) -> InvalidParameterError:
    return InvalidParameterError("server", message)


def _from_text(text: str) -> Place:
    text = text.strip()
    if "://" in text.partition(" ")[0]:
        return _address(text, None)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise _bad(f"The server's command line cannot be read ({error}); pass a list of words.") from error
    return _from_words(words)


def _from_words(words: Sequence[object]) -> Command:
    if not words or not words[0]:
        raise _bad("The server's command is empty; pass the program that is the server, with its arguments.")
    command, *arguments = _texts("server", words)
    return Command(command, tuple(arguments))


def _address(url: object, headers: Mapping[str, str] | None) -> Address:
    parts = urlsplit(url) if isinstance(url, str) else None
    if not isinstance(url, str) or parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise _bad("The server's URL must be one of http or https with a host, such as http://127.0.0.1:8000/mcp.")
    return Address(url, headers)


# One entry of an `mcpServers` configuration.


def _from_mapping(server: Mapping[str, Any]) -> Place:
    if "mcpServers" in server:
        raise _bad("server is a whole configuration; pass one of its entries: config['mcpServers'][name].")
    if ("command" in server) == ("url" in server):
        raise _bad("server must have either 'command' or 'url'.")
    return _command_entry(server) if "command" in server else _url_entry(server)


def _command_entry(server: Mapping[str, Any]) -> Command:
    _check(server, _COMMAND_KEYS, _COMMAND_TYPES)
    args, folder = server.get("args") or (), server.get("cwd")
    if isinstance(args, (str, bytes)) or not isinstance(args, Sequence):
        raise _bad("The server's 'args' must be a list of strings.")
    if folder is not None and not isinstance(folder, (str, os.PathLike)):
        raise _bad("The server's 'cwd' must be a path.")
    place = _from_words([server["command"], *args])
    environment = _pairs("env", server.get("env"))
    return Command(place.command, place.arguments, environment, None if folder is None else os.fspath(folder))


def _url_entry(server: Mapping[str, Any]) -> Address:
    _check(server, _URL_KEYS, _URL_TYPES)
    return _address(server["url"], _pairs("headers", server.get("headers")))


def _check(server: Mapping[str, Any], keys: Sequence[str], types: Sequence[str]) -> None:
    for key in server:
        if key not in keys:
            raise _bad(f"server has the key {key!r}, which is not one of {', '.join(keys)}.{did_you_mean(key, keys)}")
    if server.get("type", types[0]) not in types:
        raise _bad(f"server has the type {shown(server['type'])}; here only {' and '.join(types)} can be used.")


def _pairs(key: str, given: object) -> dict[str, str] | None:
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise _bad(f"The server's {key!r} must be a mapping of strings to strings.")
    return dict(zip(_texts(key, list(given)), _texts(key, list(given.values())), strict=True))


def _texts(where: str, given: Sequence[object]) -> list[str]:
    for one in given:
        if not isinstance(one, str) or "\0" in one:
            raise _bad(f"{where!r} holds a {type(one).__name__}; everything in it must be a string without NUL.")
    return [str(one) for one in given]
