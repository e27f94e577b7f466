"""The SDK's client for a server, whether a child process or one over HTTP. Knows no tool and holds no session."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

from abstractllm.agent.mcp.places import Address, Command, Place
from abstractllm.errors import MissingDependencyError, install_command

if TYPE_CHECKING:
    import httpx2
    from mcp import Client, types
    from mcp.client.session import IncomingMessage
    from mcp.client.stdio import StdioServerParameters

logger = logging.getLogger("abstractllm")

_CONNECT = 30.0
"""Seconds that the making of one TCP and TLS connection may take."""


def check_installed() -> None:
    """Import the SDK. Raises MissingDependencyError, which names the install command, when it is not there."""
    try:
        from mcp import Client  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"MCP needs the library mcp, version 2 or later ({error}). Install it with: {install_command('mcp')}"
        ) from error


@dataclass(slots=True)
class Transport:
    """The way to the server at `place`. `stderr` is for a child's messages; `status` is the last bad one of HTTP."""

    place: Place
    stderr: IO[Any] | int | None = None
    status: int | None = None

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Yield the SDK's client with its session begun; on leaving, the session and the child process end."""
        from mcp import Client, stdio_client
        from mcp.client.streamable_http import streamable_http_client
        from mcp.types import Implementation

        from abstractllm import __version__

        async with AsyncExitStack() as stack:
            if isinstance(self.place, Command):
                streams = stdio_client(_parameters(self.place), _child_stderr(self.stderr))
            else:
                http = await stack.enter_async_context(self._http(self.place))
                # Without the SDK's limit of 1 MiB for an event, which a screenshot is beyond.
                streams = streamable_http_client(self.place.url, http_client=http, max_sse_event_size=None)
            info = Implementation(name="abstractllm", version=__version__)
            client = Client(streams, client_info=info, cache=None, message_handler=self._hear)
            yield await stack.enter_async_context(client)

    def _http(self, place: Address) -> httpx2.AsyncClient:
        import httpx2

        # Without a limit for reading: each call has its own, and a stream may be silent for as long as it takes.
        timeout = httpx2.Timeout(_CONNECT, read=None)
        return httpx2.AsyncClient(headers=place.headers, timeout=timeout, event_hooks={"response": [self._look]})

    async def _look(self, response: httpx2.Response) -> None:
        """Remember why a server refuses, which the SDK does not tell."""
        if response.status_code >= 400:
            self.status = response.status_code

    async def _hear(self, message: IncomingMessage) -> None:
        from mcp.types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            logger.info(
                "The MCP server %r says that its tools have changed; leave its block and enter it again to see them.",
                self.place.label,
            )


async def all_tools(client: Client) -> list[types.Tool]:
    """Return the tools of every page of the server's list, each name once."""
    tools: dict[str, types.Tool] = {}
    seen: set[str] = set()
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor)
        for tool in page.tools:
            tools.setdefault(tool.name, tool)
        cursor = page.next_cursor
        if cursor is None:
            return list(tools.values())
        if cursor in seen:
            raise RuntimeError(f"its list of tools goes round in a circle, at {cursor!r}")
        seen.add(cursor)


def _parameters(place: Command) -> StdioServerParameters:
    from mcp import StdioServerParameters

    return StdioServerParameters(
        command=place.command,
        args=list(place.arguments),
        env=None if place.environment is None else dict(place.environment),
        cwd=place.folder,
        encoding_error_handler="replace",  # one byte that is not UTF-8 would end the session
    )


def _child_stderr(given: IO[Any] | int | None) -> TextIO:
    """Return what the child's stderr becomes: what was given, or where the user's goes.

    The SDK's own default is what `sys.stderr` was when it was imported. None, which its types do not know, has the
    child inherit the process's own.
    """
    if given is not None:
        return cast("TextIO", given)
    try:
        sys.stderr.fileno()
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return cast("TextIO", None)
    return sys.stderr
