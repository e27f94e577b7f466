"""The tools that a command is given, by `--tool` and `--mcp` or by a file: opened for as long as it runs."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abstractllm.cli.failures import print_note
from abstractllm.errors import AbstractLLMError, InvalidParameterError

if TYPE_CHECKING:
    from abstractllm.tools import Tool

_PREFIX = 31
"""Characters of a server's name that stand before the names of its tools, and `_` after them."""

_LAST_WORDS = 4096
"""Bytes of what a server wrote to its standard error that are looked at for why it did not begin."""

_OPTIONS = (
    click.option(
        "--tool",
        "tools",
        multiple=True,
        metavar="MODULE:NAME",
        help="A function that the model may call, or a list of them; also FILE.py:NAME. May be repeated.",
    ),
    click.option(
        "--mcp",
        "servers",
        multiple=True,
        metavar="SERVER",
        help="Tools of an MCP server: a command, a URL, or a file with mcpServers. May be repeated.",
    ),
)


def tool_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options `--tool` and `--mcp`, whose values are `tools` and `servers`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True, slots=True)
class Server:
    """An MCP server: `where` and how, as `mcp_tools` takes it."""

    where: str | Mapping[str, Any]
    how: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def opened(tools: Sequence[str], servers: Sequence[Server], folder: Path) -> Iterator[list[Tool]]:
    """Give the tools of that many names and servers for the length of a block, at whose end the servers end.

    Raises InvalidParameterError for what cannot be right, and what `mcp_tools` raises.
    """
    if not tools and not servers:
        yield []
        return
    from abstractllm.cli.loading import load_tools

    found = load_tools(tools, folder)
    with ExitStack() as stack:
        for server in servers:
            found += stack.enter_context(_opened(server))
        yield found


@contextmanager
def _opened(server: Server) -> Iterator[list[Tool]]:
    """Give a server's tools. What it writes to its standard error stays away from the terminal."""
    from abstractllm.agent.mcp import mcp_tools

    with tempfile.TemporaryFile() as words, ExitStack() as stack:
        try:
            tools = stack.enter_context(mcp_tools(server.where, stderr=words, **server.how))
        except AbstractLLMError:
            words.seek(max(0, words.seek(0, 2) - _LAST_WORDS))
            last = words.read().decode(errors="replace").strip().splitlines()
            if last:
                print_note(f"the MCP server's last words: {last[-1]}")
            raise
        yield tools


def read_servers(texts: Sequence[str], folder: Path) -> list[Server]:
    """Return the servers that texts name: a command line, a URL, or a JSON file, relative to `folder`, that lists some.

    Tools of servers in a file have the server's name before their own. Raises InvalidParameterError.
    """
    return [server for text in texts for server in _servers(text.strip(), folder)]


def _servers(text: str, folder: Path) -> list[Server]:
    path = folder / Path(text).expanduser()
    if not text.endswith(".json") or "://" in text or (not path.is_file() and len(text.split()) > 1):
        return [Server(text)]
    listed = _listed(path)
    return [Server(entry, {"prefix": _prefix(name)}) for name, entry in listed.items() if _is_wanted(entry)]


def _listed(path: Path) -> Mapping[str, Any]:
    """Return the `mcpServers` of a file."""
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _bad(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise _bad(f"{path} is no JSON file: {error}.") from error
    listed = described.get("mcpServers") if isinstance(described, dict) else None
    if not isinstance(listed, dict) or not all(isinstance(entry, dict) for entry in listed.values()):
        raise _bad(f'{path} has no servers; it must be {{"mcpServers": {{NAME: {{"command": ..., "args": [...]}}}}}}.')
    return listed


def _is_wanted(entry: dict[str, Any]) -> bool:
    """Whether a server is switched on; that key is of clients, and nothing that starts a server knows it."""
    return entry.pop("disabled", False) is not True


def _prefix(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:_PREFIX] + "_"


def _bad(message: str) -> InvalidParameterError:
    return InvalidParameterError("mcp", message)
