"""One connection to one MCP server: opened, kept and closed in one task, and used from anywhere.

The SDK's cancel scopes must be left by the task that entered them. So one task on the portal's loop owns the session
from its start to its end, and whoever enters, calls or leaves only tells that task, or waits for it. Knows the protocol
through the SDK alone, and no tool of this package.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from abstractllm.agent.mcp.crossing import across, across_to_its_end
from abstractllm.agent.mcp.failures import broken_off, ended, late, left, not_opened, refused, root, unusable
from abstractllm.agent.mcp.transport import Transport, all_tools
from abstractllm.errors import AbstractLLMError, ToolArgumentError
from abstractllm.portal import portal

if TYPE_CHECKING:
    from mcp import Client, types

_GRACE = 5.0
"""Seconds that calls have for their end once the session has ended under them, which takes them no time."""


class Connection:
    """One session. `timeout` is in seconds, for the opening and for each call; None: as long as it takes.

    `open`, `call` and `close` may be awaited in any task of any loop, of any thread.
    """

    def __init__(self, transport: Transport, timeout: float | None) -> None:
        self._transport = transport
        self._place = transport.place
        self._timeout = timeout
        self._client: Client | None = None
        self._owner: asyncio.Task[None] | None = None
        self._leave: asyncio.Event | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._cause: BaseException | None = None
        self._left = False

    async def open(self) -> list[types.Tool]:
        """Open the session and return all tools of the server. When this raises, nothing of it is left."""
        return await across_to_its_end(self._open, cancel=True)

    def open_now(self) -> list[types.Tool]:
        """Do the same for sync code, and wait."""
        return portal().run(self._open)

    async def close(self) -> None:
        """End the session, and the child process with it; calls that wait are told. Safe to call twice."""
        await across_to_its_end(self._close, cancel=False)

    def close_now(self) -> None:
        """Do the same for sync code, and wait."""
        portal().run(self._close)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> types.CallToolResult:
        """Return the server's result as it is. Cancelling ends the wait at once, and the server is told.

        Raises RequestTimeoutError, ProviderConnectionError where the server has ended, UnsupportedOperationError
        after `close`, ToolArgumentError for arguments that JSON cannot hold, and ProviderAPIError for a refusal.
        """
        check_json(name, arguments)
        try:
            async with asyncio.timeout(self._timeout) as limit:
                return await across(functools.partial(self._call, name, arguments))
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise late(self._place, f"had no result of {name!r}", self._timeout, "total") from error

    # All below runs on the portal's loop.

    async def _open(self) -> list[types.Tool]:
        ready: asyncio.Future[list[types.Tool]] = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._own(ready))
        try:
            await asyncio.wait((ready, self._owner), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._owner.cancel()
            await asyncio.wait((self._owner,))
            raise
        if ready.done():
            return ready.result()
        raise not_opened(self._place, self._cause, self._transport.status)

    async def _own(self, ready: asyncio.Future[list[types.Tool]]) -> None:
        """Be the task in which the session begins, lives and ends."""
        try:
            async with AsyncExitStack() as stack:
                client, tools = await self._begin(stack)
                self._client, self._leave = client, asyncio.Event()
                ready.set_result(tools)
                await self._leave.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # kept for whoever opens or calls; out of this task nobody would hear it
            self._cause = root(error)
        finally:
            self._client = None

    async def _begin(self, stack: AsyncExitStack) -> tuple[Client, list[types.Tool]]:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                client = await stack.enter_async_context(self._transport.client())
                return client, await all_tools(client)
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise late(self._place, "was not ready", self._timeout, "connect") from error

    async def _close(self) -> None:
        self._left = True
        if self._leave is not None:
            self._leave.set()
        if self._owner is not None:
            await asyncio.wait((self._owner,))
        if self._calls:
            await asyncio.wait(self._calls, timeout=_GRACE)

    async def _call(self, name: str, arguments: Mapping[str, Any]) -> types.CallToolResult:
        from mcp import MCPError

        if self._client is None or self._left:
            raise self._over(None)
        task = asyncio.current_task()
        assert task is not None  # a coroutine only runs in a task
        self._calls.add(task)
        try:
            return await self._client.call_tool(name, dict(arguments))
        except MCPError as error:
            raise self._refused(name, error) from error
        except (RuntimeError, ValueError) as error:  # what the SDK raises over a result that breaks the protocol
            if self._client is None or self._left:
                raise self._over(error) from error
            raise unusable(self._place, name, error) from error
        finally:
            self._calls.discard(task)

    def _refused(self, name: str, error: BaseException) -> AbstractLLMError:
        from mcp.types import CONNECTION_CLOSED

        if getattr(error, "code", None) != CONNECTION_CLOSED:
            return refused(self._place, name, error)
        # The SDK uses one code for the end of the session and of one stream over HTTP, and only these words differ.
        if self._left or str(error) == "Connection closed":
            return self._over(error)
        return broken_off(self._place, name, error)

    def _over(self, error: BaseException | None) -> AbstractLLMError:
        return left(self._place) if self._left else ended(self._place, self._cause or error)


def check_json(tool: str, arguments: Mapping[str, Any]) -> None:
    """Raise ToolArgumentError for what JSON in UTF-8 cannot hold: the SDK loses its connection over some of it."""
    try:
        json.dumps(arguments, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ToolArgumentError(tool, [f"cannot be written as JSON: {error}"]) from error
