"""Tools of this package, offered to MCP's clients: `serve_tools`, and `mcp_server`, which makes the SDK's server.

How tools are run is `execution`'s business, as for agents.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any, Literal, cast

from abstractllm.agent.events import Event, ToolFinished, ToolOutcome
from abstractllm.agent.execution import Ends, Executor, Situation, refused
from abstractllm.agent.mcp.content import to_blocks
from abstractllm.agent.mcp.transport import check_installed
from abstractllm.agent.mcp.wire import Lines, listen, own_stdin, serve_http
from abstractllm.agent.plan import Approver
from abstractllm.errors import InvalidParameterError, ToolArgumentError, did_you_mean, shown
from abstractllm.interface import ToolLike
from abstractllm.tools import Tool, ToolRetry, to_tool_definitions
from abstractllm.types import ToolCall, Usage

if TYPE_CHECKING:
    from mcp import types
    from mcp.server import Server, ServerRequestContext

logger = logging.getLogger("abstractllm")

PATH = "/mcp"
"""Where a server over HTTP has its endpoint."""


async def serve_tools(
    tools: Iterable[ToolLike],
    *,
    name: str = "abstractllm",
    transport: Literal["stdio", "http"] = "stdio",
    host: str = "127.0.0.1",
    port: int = 0,
    timeout: float | None = 60.0,
    deps: Any = None,
    approve: Approver | None = None,
    on_listening: Callable[[str], object] | None = None,
) -> None:
    """Offer tools to MCP's clients until this is cancelled or, with `transport="stdio"`, until the client has gone.

    With "stdio", the client is whoever started this process. While it is served, what tools print goes to stderr, and
    standard input is empty for them. With "http" (streamable HTTP, any number of clients) `on_listening` is called with
    the URL once it can be reached; port 0 is any free one. Whoever reaches the port can call the tools: there are no
    credentials. On a loopback host, requests of web pages from elsewhere are refused. Signals are the caller's.

    The rest is that of `mcp_server`. Raises what it raises, InvalidParameterError for a transport that does not exist
    or does not take what it was given, and UnsupportedOperationError where the port cannot be had.
    """
    server = mcp_server(tools, name=name, timeout=timeout, deps=deps, approve=approve)
    if transport == "http":
        await _serve_http(server, host, port, on_listening)
    elif transport != "stdio":
        raise InvalidParameterError("transport", f"transport={shown(transport)} must be 'stdio' or 'http'.")
    elif (host, port, on_listening) != ("127.0.0.1", 0, None):
        raise InvalidParameterError("host", "host, port and on_listening are for transport='http' alone.")
    else:
        await _serve_stdio(server)


def mcp_server(
    tools: Iterable[ToolLike],
    *,
    name: str = "abstractllm",
    timeout: float | None = 60.0,
    deps: Any = None,
    approve: Approver | None = None,
) -> Server[Any]:
    """Return the SDK's low-level server with these tools, for transports and applications of one's own.

    Arguments are validated as for agents. What is wrong with them, and what a tool raises, is a result that is an error
    and says so. Sync tools run in threads. Calls run side by side, those of `sequential` tools alone. `timeout`, in
    seconds, is for tools that have none; None: none. `deps` is what a tool finds in its `ToolContext`. `approve`
    decides about calls of tools that need `approval`, as for `Agent`; the client's own asking is not known here.

    Raises InvalidParameterError for tools that cannot be, and for one that needs approval without `approve`;
    MissingDependencyError without the library `mcp`.
    """
    check_installed()
    offered = _Offered(tools, timeout, deps, approve)
    from mcp.server import Server

    from abstractllm import __version__

    return Server(
        name, version=__version__, lifespan=_lifespan, on_list_tools=offered.list_tools, on_call_tool=offered.call_tool
    )


async def _serve_stdio(server: Server[Any]) -> None:
    from mcp.server.stdio import stdio_server

    with own_stdin() as descriptor:
        lines = cast("Any", Lines(descriptor))
        try:
            async with stdio_server(stdin=lines) as (reading, writing):
                try:
                    await server.run(reading, writing, server.create_initialization_options())
                finally:
                    sys.stdout.flush()  # what tools printed; after the outer block, it would go to the client
        except* (BrokenPipeError, ConnectionResetError):
            logger.info("The MCP client has gone before it had read all answers.")


async def _serve_http(server: Server[Any], host: str, port: int, on_listening: Callable[[str], object] | None) -> None:
    app = server.streamable_http_app(streamable_http_path=PATH, host=host)
    with closing(listen(host, port)) as listener:
        shown_host = f"[{host}]" if ":" in host else host
        url = f"http://{shown_host}:{listener.getsockname()[1]}{PATH}"
        logger.info("The MCP server %r listens on %s", server.name, url)
        if on_listening is not None:
            on_listening(url)
        await serve_http(app, listener)


class _Turns:
    """Lets calls run side by side, but some alone. One for each time that a server is run."""

    def __init__(self) -> None:
        self._door = asyncio.Lock()
        self._empty = asyncio.Event()
        self._empty.set()
        self._running = 0

    @asynccontextmanager
    async def turn(self, alone: bool) -> AsyncIterator[None]:
        """Wait for a turn, which lasts for the block. Whoever wants to be alone keeps others from beginning."""
        async with self._door:
            if alone:
                await self._empty.wait()
                yield
                return
            self._running += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._empty.set()


@asynccontextmanager
async def _lifespan(server: Server[Any]) -> AsyncIterator[_Turns]:
    yield _Turns()


class _Offered:
    """The tools of one server, and the answers to what clients ask of them."""

    def __init__(self, tools: Iterable[ToolLike], timeout: float | None, deps: Any, approve: Approver | None) -> None:
        given = tuple(tools)
        to_tool_definitions(given)
        self._tools = {one.name: one for one in map(Tool.of, given)}
        self._deps = deps
        self._approve = approve
        self._executor = Executor(self._tools, timeout=timeout, parallel=1, raise_errors=False, tell=_note)
        for one in self._tools.values():
            if one.approval is not False and approve is None:
                raise InvalidParameterError(
                    "approve", f"The tool {one.name!r} needs approval; pass approve=..., which decides about its calls."
                )

    async def list_tools(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """Answer `tools/list`: all of them, on one page."""
        from mcp import types

        listed = [
            types.Tool(
                name=one.name, description=one.definition.description, input_schema=dict(one.definition.parameters)
            )
            for one in self._tools.values()
        ]
        return types.ListToolsResult(tools=listed)

    async def call_tool(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Answer `tools/call`. A tool that does not exist is an error of the protocol, as the specification has it."""
        from mcp import MCPError, types

        tool = self._tools.get(params.name)
        if tool is None:
            hint = did_you_mean(params.name, self._tools)
            raise MCPError(code=types.INVALID_PARAMS, message=f"There is no tool named {params.name!r}.{hint}")
        call = ToolCall(str(context.request_id), params.name, params.arguments or {})
        return _result(await self._outcome(tool, call, context.lifespan_context))

    async def _outcome(self, tool: Tool, call: ToolCall, turns: _Turns) -> ToolOutcome:
        prepared = self._executor.prepare(call)
        if isinstance(prepared, ToolOutcome):
            return prepared
        why_not = await self._why_not(tool, call)
        if why_not is not None:
            return refused("denied", why_not)
        ends = Ends((call,))
        async with turns.turn(tool.sequential):
            await self._executor.run({0: prepared}, ends, Situation(self._deps, (), Usage()))
        return ends.all()[0]

    async def _why_not(self, tool: Tool, call: ToolCall) -> str | None:
        """Return why a call may not be made, or None."""
        needed = await _awaited(tool.approval(call)) if callable(tool.approval) else tool.approval
        if not needed or self._approve is None:
            return None
        decided = await _awaited(self._approve(call))
        if decided is True:
            return None
        return decided if isinstance(decided, str) else "The call was not approved."


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


def _result(outcome: ToolOutcome) -> types.CallToolResult:
    from mcp import types

    if outcome.kind != "ok":
        text = outcome.content.removeprefix("Error: ") if isinstance(outcome.content, str) else outcome.content
        return types.CallToolResult(content=to_blocks(text), is_error=True)
    return types.CallToolResult(content=to_blocks(outcome.content), structured_content=_structure(outcome))


def _structure(outcome: ToolOutcome) -> dict[str, Any] | None:
    """Return a value that is written as a JSON object as that object; older versions of MCP know no other structure."""
    if isinstance(outcome.value, str) or not isinstance(outcome.content, str):
        return None
    if not outcome.content.startswith("{"):
        return None
    found: Mapping[str, Any] = json.loads(outcome.content)
    return dict(found)


def _note(event: Event) -> None:
    """Log what a tool raised on its own account; what the client's model did wrong, it is told."""
    error = event.outcome.error if isinstance(event, ToolFinished) else None
    if error is not None and not isinstance(error, (ToolRetry, ToolArgumentError)):
        logger.warning("A tool that is offered over MCP failed", exc_info=error)
