"""Streamable HTTP on the loopback: our client, our server, and the SDK's, each with each."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager

import pytest
from mcp import Client

from abstractllm.agent.mcp import mcp_tools
from abstractllm.errors import AuthenticationError, ProviderConnectionError, UnsupportedOperationError

BIG = 3_000_000
"""Characters of an answer, more than the SDK takes as one event by itself."""


def named(tools):
    return {tool.name: tool for tool in tools}


@contextmanager
def answering(status):
    """Answer everything with one status, but 500 to those who know the password; give the URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(500 if self.headers["authorization"] == "hush" else status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with running(Handler) as url:
        yield url


@contextmanager
def running(handler):
    """Serve HTTP with a handler for the length of a block, which gives the URL."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/mcp"
        finally:
            server.shutdown()
            thread.join()


class OldServer(http.server.BaseHTTPRequestHandler):
    """A server without any library, of the time before 2026-07-28, which answers calls as streams of events."""

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method, parameters = message["method"], message.get("params", {})
        if "id" not in message:
            return self.send(202)
        if method == "initialize":
            information = {"name": "old", "version": "1"}
            version = parameters["protocolVersion"]
            return self.reply(message, protocolVersion=version, capabilities={"tools": {}}, serverInfo=information)
        if method == "tools/list":
            return self.reply(
                message, tools=[{"name": name, "inputSchema": {"type": "object"}} for name in ("big", "cut")]
            )
        if method != "tools/call":
            return self.send(400)
        if parameters["name"] == "cut":
            return self.send(200, b": nothing follows\n\n", "text/event-stream")
        result = {"content": [{"type": "text", "text": "x" * BIG}]}
        event = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        return self.send(200, f"event: message\ndata: {event}\n\n".encode(), "text/event-stream")

    def reply(self, message, **result):
        body = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
        self.send(200, body.encode(), "application/json")

    def send(self, status, body=b"", kind="text/plain"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


async def test_an_old_server_with_a_big_answer_and_one_that_is_cut_off():
    with running(OldServer) as url:
        async with mcp_tools(url) as found:
            tools = named(found)
            with pytest.raises(ProviderConnectionError, match="broke off its answer to the call of 'cut'"):
                await tools["cut"]()
            assert len(await tools["big"]()) == BIG


async def test_tools_are_called(serving, ours):
    with serving(ours.serve) as url:
        async with mcp_tools(url, prefix="there_") as tools:
            assert await named(tools)["there_add"](a=1) == "3"


def test_two_loops_and_sync_code(serving, ours):
    with serving(ours.serve) as url, mcp_tools({"url": url, "headers": {"x-mine": "1"}}) as found:
        add = named(found)["add"]
        assert [asyncio.run(add(a=number)) for number in (1, 2)] == ["3", "4"]


async def test_calls_run_side_by_side(serving, ours):
    with serving(ours.serve) as url:
        async with mcp_tools(url) as found:
            together = named(found)["together"]
            answers = await asyncio.gather(*(together(number=number) for number in range(ours.SIDE_BY_SIDE)))
    assert answers == [str(number) for number in range(ours.SIDE_BY_SIDE)]


async def test_a_cancelled_call_cancels_the_tool(serving, ours):
    with serving(ours.serve) as url:
        async with mcp_tools(url) as found:
            tools = named(found)
            hanging = asyncio.create_task(tools["hang"]())
            await tools["hang_is_running"]()
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            assert await tools["hang_was_cancelled"]() == "it was"


async def test_leaving_tells_calls_that_wait(serving, ours):
    with serving(ours.serve) as url:
        async with mcp_tools(url) as found:
            tools = named(found)
            hanging = asyncio.create_task(tools["hang"]())
            await tools["hang_is_running"]()
        with pytest.raises(UnsupportedOperationError, match="was left"):
            await hanging


async def test_a_server_that_is_killed_during_a_call(program):
    entry = program("ours.py", "http")
    environment = {**os.environ, **entry["env"]}
    with subprocess.Popen(
        [entry["command"], *entry["args"]], stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        url = (await asyncio.to_thread(server.stdout.readline)).strip()
        async with mcp_tools(url) as found:
            tools = named(found)
            hanging = asyncio.create_task(tools["hang"]())
            os.kill(int(await tools["hang_is_running"]()), signal.SIGKILL)
            with pytest.raises(ProviderConnectionError, match="has ended"):
                await hanging
            with pytest.raises(ProviderConnectionError, match="has ended"):
                await tools["add"](a=1)
    assert server.returncode == -signal.SIGKILL


async def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ProviderConnectionError, match="opened no session.*check its address"):
        await mcp_tools(f"http://127.0.0.1:{port}/mcp").__aenter__()


async def test_a_server_that_wants_credentials():
    with answering(401) as url:
        with pytest.raises(AuthenticationError, match="'headers'") as refused:
            await mcp_tools(url).__aenter__()
        assert refused.value.status_code == 401
        with pytest.raises(ProviderConnectionError, match="HTTP status was 500") as broken:
            await mcp_tools({"url": url, "headers": {"Authorization": "hush"}}).__aenter__()
        assert "hush" not in str(broken.value)


async def test_a_wrong_path(serving, ours):
    with serving(ours.serve) as url, pytest.raises(ProviderConnectionError, match="HTTP status was 404"):
        await mcp_tools(url + "/nowhere").__aenter__()


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_sdks_own_client_uses_our_server(serving, ours, mode):
    with serving(ours.serve) as url:
        async with Client(url, mode=mode) as client:
            result = await client.call_tool("add", {"a": 1})
            assert (result.content[0].text, result.is_error) == ("3", False)
            assert (await client.call_tool("fails", {})).is_error
