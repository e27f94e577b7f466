"""Our tools as a server: what clients see of them, with our client and with the SDK's own, in both of its eras."""

from __future__ import annotations

import asyncio
import json

import pytest
from mcp import Client, MCPError, StdioServerParameters, stdio_client

from abstractllm.agent.mcp import mcp_server, mcp_tools, serve_tools
from abstractllm.errors import InvalidParameterError, UnsupportedOperationError
from abstractllm.tools import ToolRetry, tool
from abstractllm.types import ImagePart, TextPart

SIDE_BY_SIDE = 20


def named(tools):
    return {tool.name: tool for tool in tools}


@pytest.fixture(scope="module")
def tools(program):
    """The tools of one server in a process of its own, for all tests here."""
    with mcp_tools(program("ours.py")) as found:
        yield named(found)


async def test_tools_are_listed_with_their_schemas(tools):
    assert tools["add"].definition.description == "Add two numbers."
    assert tools["add"].definition.parameters == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "the first"},
            "b": {"type": "integer", "description": "the second", "default": 2},
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    assert "context" not in tools["who"].definition.parameters["properties"]


async def test_tools_are_called(tools):
    assert await tools["add"](a=1) == "3"
    assert await tools["add"](a="1", b=5) == "6"  # as for agents, values are coerced to the hints
    assert json.loads(await tools["city"]()) == {"name": "Bern", "people": 134_000}
    assert await tools["numbers"]() == "[1,2]"
    assert await tools["stops"]() == "enough"
    assert await tools["who"]() == "who with a database"
    assert await tools["second_time"]() == "2"


async def test_pictures_go_through(tools, ours):
    assert await tools["picture"]() == (TextPart("a pixel"), ImagePart(ours.PIXEL, "image/png"))


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("add", {"b": "x"}, "do not fit the tool 'add'.*\n- a: is missing\n- b: Input should be a valid integer"),
        ("add", {"a": 1, "c": 1}, "- c: is not one of the parameters"),
        ("fails", {}, "^LookupError: no such city$"),
        ("says_how", {}, "^name a city instead$"),
        ("takes_long", {}, r"no result within 0\.05 s"),
        ("delete", {"really": "no"}, "^somebody said no$"),
    ],
)
async def test_errors_are_results_that_say_what_was_wrong(tools, name, arguments, text):
    with pytest.raises(ToolRetry, match=text):
        await tools[name](**arguments)


async def test_approval_is_asked_of_whoever_serves(tools):
    assert await tools["delete"](really="yes") == "deleted yes"
    assert await tools["delete"]() == "deleted None"


@pytest.mark.parametrize("name", ["together", "together_in_threads"])
async def test_calls_run_side_by_side(tools, name):
    answers = await asyncio.gather(*(tools[name](number=number) for number in range(SIDE_BY_SIDE)))
    assert answers == [str(number) for number in range(SIDE_BY_SIDE)]


async def test_sequential_tools_run_alone(tools):
    order = await asyncio.gather(*(tools["by_itself"](name=name) for name in "abc"))
    last = max(map(json.loads, order), key=len)
    assert last[0::2] == last[1::2]


async def test_a_cancelled_call_cancels_the_tool(tools):
    hanging = asyncio.create_task(tools["hang"]())
    await tools["hang_is_running"]()
    hanging.cancel()
    assert await tools["hang_was_cancelled"]() == "it was"


async def test_what_tools_print_is_not_for_the_client(program, capfd):
    async with mcp_tools(program("ours.py")) as found:
        assert await named(found)["noise"]() == "''"
    errors = capfd.readouterr().err
    assert "noise on stdout" in errors
    assert "noise of a child" in errors
    assert "JSON" not in errors


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_sdks_own_client_uses_it(program, mode):
    parameters = StdioServerParameters(**program("ours.py"))
    async with Client(stdio_client(parameters), mode=mode) as client:
        listed = await client.list_tools()
        assert client.server_info.name == "ours"
        assert "add" in [one.name for one in listed.tools]
        result = await client.call_tool("city", {})
        assert result.structured_content == {"name": "Bern", "people": 134_000}
        assert json.loads(result.content[0].text) == result.structured_content
        failed = await client.call_tool("fails", {})
        assert failed.is_error
        assert failed.content[0].text == "LookupError: no such city"
        with pytest.raises(MCPError, match="no tool named 'ad'. Did you mean 'add'"):
            await client.call_tool("ad", {})


async def test_serving_over_stdio_can_be_cancelled(run_python):
    program = (
        "import asyncio, os\nfrom abstractllm.agent.mcp import serve_tools\n"
        "reading, writing = os.pipe()\nos.dup2(reading, 0)\n"  # nobody will ever write to it
        "async def main():\n"
        "    serving = asyncio.create_task(serve_tools([]))\n"
        "    while 'abstractllm-mcp-stdin' not in {t.name for t in __import__('threading').enumerate()}:\n"
        "        await asyncio.sleep(0)\n"
        "    serving.cancel()\n"
        "    await asyncio.wait([serving])\n"
        "    print(serving.cancelled(), os.fstat(0) == os.fstat(reading))\n"
        "asyncio.run(main())"
    )
    assert await asyncio.to_thread(run_python, program) == "True True\n"


def test_what_cannot_be_served_is_refused():
    @tool(approval=True)
    def delete() -> None: ...

    def print_it() -> None: ...

    with pytest.raises(InvalidParameterError, match="needs approval"):
        mcp_server([delete])
    with pytest.raises(InvalidParameterError, match="Two tools are named"):
        mcp_server([print_it, print_it])
    with pytest.raises(InvalidParameterError, match="has no function"):
        mcp_server([{"name": "a"}])


@pytest.mark.parametrize("given", [{"transport": "sse"}, {"port": 1}, {"on_listening": print}])
async def test_a_transport_that_cannot_be_is_refused(given):
    with pytest.raises(InvalidParameterError):
        await serve_tools([], **given)


async def test_a_port_that_cannot_be_had(serving, ours):
    with serving(ours.serve) as url:
        port = int(url.rpartition(":")[2].partition("/")[0])
        with pytest.raises(UnsupportedOperationError, match=f"port {port}"):
            await serve_tools([], transport="http", port=port)
