"""The tools of MCP servers as tools of this package: `mcp_tools`. How a session is held is `connection`'s business."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal

from abstractllm.agent.mcp.connection import Connection
from abstractllm.agent.mcp.content import to_value
from abstractllm.agent.mcp.places import ServerLike, to_place
from abstractllm.agent.mcp.transport import Transport, check_installed
from abstractllm.errors import InvalidParameterError, UnsupportedOperationError, did_you_mean, shown
from abstractllm.tools import Tool
from abstractllm.types import Part, ToolCall, ToolDefinition

if TYPE_CHECKING:
    from mcp import types

Approval = bool | Callable[[ToolCall], bool | Awaitable[bool]] | Literal["destructive"]

_LONGEST = 64
"""Characters that the name of a tool may have, for models and services."""

_DIGEST = 8
"""Hexadecimal digits that keep two names apart which are cut or changed to the same."""


def mcp_tools(
    server: ServerLike,
    *,
    prefix: str | None = None,
    timeout: float | None = 30.0,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
    approval: Approval = False,
    stderr: IO[Any] | int | None = None,
) -> MCPTools:
    """Return an MCP server's tools for the length of a block: `with` or `async with`, which give `list[Tool]`.

    `server` is a command line or a list of its words, which is started as a child process; a URL of streamable HTTP; or
    one entry of an `mcpServers` configuration: `{"command", "args", "env", "cwd"}` or `{"url", "headers"}`. A child
    gets only what the SDK thinks harmless of this process's environment, such as PATH and HOME, and its own `env`.

    `prefix` is put before each name, as it stands. In names that models cannot write, other characters become `_`.
    `include` and `exclude` are names as the server has them; without them, all its tools are there.
    `timeout` is in seconds, for the opening, and for each call; None: no limit here.
    `approval` is that of `Tool`, for all of them; `"destructive"` asks for those that the server does not itself call
    harmless, which is only its own word. `stderr`, a file or what `subprocess` takes, is for the child's messages; None
    is where this process's go.

    The tools are async functions that can be called in any task, loop or thread, many at once. The list is that of the
    moment of entering: when the server says that it has changed, this is logged, and entering again brings the new one.

    Raises InvalidParameterError for what cannot be right, and MissingDependencyError without the library `mcp`.
    Entering raises ProviderConnectionError, AuthenticationError or RequestTimeoutError where no session begins, and
    InvalidParameterError for a name that the server does not have, or a tool with a schema that cannot be used.
    Leaving ends the session and the child: first its input is closed, after 2 s it is told to end, after 2 more killed.
    """
    place = to_place(server)
    _check(prefix, timeout, include, exclude, approval)
    check_installed()
    return MCPTools(Transport(place, stderr), _Choice(prefix or "", include, exclude, approval, timeout))


class MCPTools:
    """What `mcp_tools` returns: a block for `with` or `async with`, which can be entered again once it was left."""

    def __init__(self, transport: Transport, choice: _Choice) -> None:
        self._transport = transport
        self._choice = choice
        self._connection: Connection | None = None

    async def __aenter__(self) -> list[Tool]:
        connection = self._new()
        try:
            listed = await connection.open()
            return self._choice.tools(connection, listed)
        except BaseException:
            self._connection = None
            await connection.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def __enter__(self) -> list[Tool]:
        connection = self._new()
        try:
            listed = connection.open_now()
            return self._choice.tools(connection, listed)
        except BaseException:
            self._connection = None
            connection.close_now()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close_now()

    def _new(self) -> Connection:
        if self._connection is not None:
            raise UnsupportedOperationError("This block of MCP tools was entered already; make another one.")
        self._connection = Connection(self._transport, self._choice.timeout)
        return self._connection


class _Choice:
    """Which of a server's tools there are to be, and how."""

    def __init__(
        self,
        prefix: str,
        include: Collection[str] | None,
        exclude: Collection[str] | None,
        approval: Approval,
        timeout: float | None,
    ) -> None:
        self.timeout = timeout
        self._prefix = prefix
        self._include = include
        self._exclude = exclude
        self._approval = approval

    def tools(self, connection: Connection, listed: Sequence[types.Tool]) -> list[Tool]:
        """Return the chosen tools, in the server's order."""
        known = [one.name for one in listed]
        for parameter, names in (("include", self._include), ("exclude", self._exclude)):
            _check_known(parameter, names or (), known)
        chosen = [one for one in listed if self._is_chosen(one.name)]
        names = writable([self._prefix + one.name for one in chosen])
        return [self._tool(connection, name, one) for name, one in zip(names, chosen, strict=True)]

    def _is_chosen(self, name: str) -> bool:
        return (self._include is None or name in self._include) and name not in (self._exclude or ())

    def _tool(self, connection: Connection, name: str, listed: types.Tool) -> Tool:
        async def call(**arguments: Any) -> str | tuple[Part, ...]:
            return to_value(name, await connection.call(listed.name, arguments))

        call.__name__ = call.__qualname__ = name
        call.__doc__ = listed.description
        definition = ToolDefinition(name, listed.description or "", listed.input_schema, call)
        try:
            return Tool(definition, call, timeout=self.timeout, approval=self._approval_of(listed))
        except InvalidParameterError as error:
            hint = f"leave it out with exclude=[{listed.name!r}]"
            raise InvalidParameterError("server", f"{error.message} It is a tool of the server: {hint}.") from error

    def _approval_of(self, listed: types.Tool) -> bool | Callable[[ToolCall], bool | Awaitable[bool]]:
        """Return whether a person must agree; where a server says nothing, the protocol has a tool be destructive."""
        if self._approval != "destructive":
            return self._approval
        hints = listed.annotations
        return hints is None or not (hints.read_only_hint or hints.destructive_hint is False)


def writable(names: Sequence[str]) -> list[str]:
    """Return names that models can write, each of them once, as near to those that were given as can be."""
    plain = [re.sub(r"[^a-zA-Z0-9_-]", "_", name) for name in names]
    return [
        same if same == name and len(name) <= _LONGEST else _kept_apart(name, same, plain)
        for name, same in zip(names, plain, strict=True)
    ]


def _kept_apart(name: str, changed: str, all_changed: Sequence[str]) -> str:
    if len(changed) <= _LONGEST and all_changed.count(changed) == 1:
        return changed
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{changed[: _LONGEST - _DIGEST - 1]}_{digest}"


def _check_known(parameter: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f" It has {', '.join(known) or 'none at all'}."
            raise InvalidParameterError(parameter, f"{parameter}: the server has no tool {name!r}.{hint}")


def _check(prefix: object, timeout: object, include: object, exclude: object, approval: object) -> None:
    if prefix is not None and not (isinstance(prefix, str) and re.fullmatch(r"[a-zA-Z0-9_-]{0,32}", prefix)):
        _refuse("prefix", prefix, "at most 32 of a-z, A-Z, 0-9, '_' and '-'")
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is not None and not (number and timeout > 0):  # type: ignore[operator]
        _refuse("timeout", timeout, "a number of seconds above 0, or None")
    for parameter, names in (("include", include), ("exclude", exclude)):
        plain = isinstance(names, Collection) and not isinstance(names, (str, bytes))
        if names is not None and not (plain and all(isinstance(name, str) for name in names)):  # type: ignore[attr-defined]
            _refuse(parameter, names, "a list of names of the server's tools")
    if not (isinstance(approval, bool) or callable(approval) or approval == "destructive"):
        _refuse("approval", approval, "True, False, 'destructive' or a function of a ToolCall")


def _refuse(parameter: str, value: object, wanted: str) -> None:
    raise InvalidParameterError(parameter, f"{parameter}={shown(value)} must be {wanted}.")
