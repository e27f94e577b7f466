"""`mcp_tools` with child processes: from any task, loop and thread, through every end that a server can come to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import mcp.client.stdio
import pytest

from abstractllm.agent import Agent
from abstractllm.agent.mcp import mcp_tools
from abstractllm.errors import (
    InvalidParameterError,
    MissingDependencyError,
    ProviderAPIError,
    ProviderConnectionError,
    RequestTimeoutError,
    ToolArgumentError,
    UnsupportedOperationError,
)
from abstractllm.portal import portal
from abstractllm.types import Message, ToolCall


def named(tools):
    return {tool.name: tool for tool in tools}


@pytest.fixture
def hurried(monkeypatch):
    """Have the SDK wait for an unwilling child only for a moment."""
    monkeypatch.setattr(mcp.client.stdio, "PROCESS_TERMINATION_TIMEOUT", 0.1)
    monkeypatch.setattr(mcp.client.stdio, "FORCE_KILL_TIMEOUT", 0.1)


async def test_a_tool_is_called(plain):
    async with mcp_tools(plain()) as tools:
        echo = named(tools)["echo"]
        assert echo.definition.parameters == {"type": "object", "properties": {"text": {"type": "string"}}}
        assert await echo(text="ü\n") == "ü\n"
        assert echo.is_async
        with pytest.raises(ToolArgumentError):
            echo.arguments({"text": 3})


async def test_a_command_line_is_split(plain):
    command = " ".join(f"'{word}'" for word in plain())
    async with mcp_tools(command) as tools:
        assert await named(tools)["echo"](text="a") == "a"


def test_sync_code_uses_it_too(plain):
    with mcp_tools(plain()) as tools:
        echo = named(tools)["echo"]
        assert asyncio.run(echo(text="a")) == "a"
        assert portal().run(lambda: echo(text="b")) == "b"
    with pytest.raises(UnsupportedOperationError, match="was left"):
        asyncio.run(echo(text="c"))


def test_an_agent_uses_it(plain):
    asked = Message("assistant", tool_calls=(ToolCall("1", "echo", {"text": "from the server"}),))
    with mcp_tools(plain()) as tools:
        result = Agent("echo", tools=tools).run(messages=[Message("user", "Go on."), asked])
    assert [turn.text for turn in result.messages if turn.role == "tool"] == ["from the server"]


def test_two_loops_one_after_another_share_a_session(plain):
    block = mcp_tools(plain())
    tools = named(asyncio.run(block.__aenter__()))
    first = asyncio.run(tools["pid"]())
    assert asyncio.run(tools["pid"]()) == first
    asyncio.run(block.__aexit__(None, None, None))


def test_each_of_two_loops_has_its_own_block(plain):
    block = mcp_tools(plain())

    async def use():
        async with block as tools:
            return await named(tools)["pid"]()

    assert asyncio.run(use()) != asyncio.run(use())


async def test_it_is_opened_in_one_task_and_closed_in_another(plain):
    block = mcp_tools(plain())
    tools = named(await asyncio.create_task(block.__aenter__()))
    assert await asyncio.create_task(tools["echo"](text="a")) == "a"
    await asyncio.create_task(block.__aexit__(None, None, None))
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_blocks_are_left_in_any_order(plain):
    first, second = mcp_tools(plain()), mcp_tools(plain())
    await first.__aenter__()
    tools = named(await second.__aenter__())
    await first.__aexit__(None, None, None)
    assert await tools["echo"](text="a") == "a"
    await second.__aexit__(None, None, None)


def test_many_threads_and_loops_call_at_once(plain):
    with mcp_tools(plain()) as tools, ThreadPoolExecutor(8) as threads:
        echo = named(tools)["echo"]
        answers = list(threads.map(lambda number: asyncio.run(echo(text=str(number))), range(20)))
    assert answers == [str(number) for number in range(20)]


async def test_a_block_is_entered_once_at_a_time(plain):
    block = mcp_tools(plain())
    async with block:
        with pytest.raises(UnsupportedOperationError, match="entered already"):
            await block.__aenter__()
        with pytest.raises(UnsupportedOperationError, match="entered already"):
            block.__enter__()


async def test_an_error_in_the_block_leaves_it(plain, nothing_left):
    with pytest.raises(LookupError, match="mine"):
        async with mcp_tools(plain()):
            raise LookupError("mine")
    assert len(nothing_left) == 1


# Ends that nobody wished for.


async def test_a_server_that_is_killed_during_a_call(plain):
    async with mcp_tools(plain()) as found:
        tools = named(found)
        hanging = asyncio.create_task(tools["hang"]())
        await asyncio.sleep(0)
        os.kill(int(await tools["pid"]()), signal.SIGKILL)
        with pytest.raises(ProviderConnectionError, match="has ended"):
            await hanging
        with pytest.raises(ProviderConnectionError, match="enter it again"):
            await tools["echo"](text="a")


async def test_a_server_that_dies_of_a_call(plain):
    async with mcp_tools(plain()) as tools:
        with pytest.raises(ProviderConnectionError, match="has ended"):
            await named(tools)["die"]()


async def test_a_cancelled_call_ends_at_once_and_the_server_is_told(plain):
    async with mcp_tools(plain()) as found:
        tools = named(found)
        hanging = asyncio.create_task(tools["hang"]())
        await asyncio.sleep(0)
        await tools["pid"]()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert int(await tools["cancelled"]()) > 0
        assert await tools["echo"](text="still there") == "still there"


async def test_a_stalled_call_has_its_timeout_and_the_server_is_told(plain, monkeypatch):
    block = mcp_tools(plain())
    async with block as found:
        tools = named(found)
        assert tools["hang"].timeout == 30.0
        with monkeypatch.context() as patch:
            patch.setattr(block._connection, "_timeout", 0.05)
            with pytest.raises(RequestTimeoutError, match=r"no result of 'hang' within 0\.05 s") as caught:
                await tools["hang"]()
        assert caught.value.limit == "total"
        assert int(await tools["cancelled"]()) > 0


async def test_a_server_that_does_not_read_hangs_nobody(plain, hurried):
    async with mcp_tools(plain()) as found:
        tools = named(found)
        deaf = asyncio.create_task(tools["deaf"]())
        stuck = [asyncio.create_task(tools["echo"](text="x" * 1_000_000)) for _ in range(3)]
        await asyncio.sleep(0)
        stuck[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await stuck[1]
    for task in (deaf, stuck[0], stuck[2]):
        with pytest.raises(UnsupportedOperationError, match="was left"):
            await task


async def test_a_child_that_will_not_end_is_killed(plain, hurried, nothing_left):
    async with mcp_tools(plain("stubborn")) as tools:
        assert await named(tools)["echo"](text="a") == "a"
    with pytest.raises(ProcessLookupError):
        os.kill(nothing_left[0], 0)


async def test_leaving_tells_calls_that_wait(plain):
    async with mcp_tools(plain()) as found:
        tools = named(found)
        hanging = asyncio.create_task(tools["hang"]())
        await asyncio.sleep(0)
        await tools["pid"]()
    with pytest.raises(UnsupportedOperationError, match="was left"):
        await hanging


async def test_leaving_goes_to_its_end_when_it_is_cancelled(plain, nothing_left, hurried):
    block = mcp_tools(plain("stubborn"))
    await block.__aenter__()
    leaving = asyncio.create_task(block.__aexit__(None, None, None))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    with pytest.raises(ProcessLookupError):
        os.kill(nothing_left[0], 0)


async def test_opening_that_is_cancelled_leaves_nothing(plain, nothing_left):
    opening = asyncio.create_task(mcp_tools(plain("mute")).__aenter__())
    while not nothing_left:
        await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    with pytest.raises(ProcessLookupError):
        os.kill(nothing_left[0], 0)


async def test_a_server_that_says_nothing_is_given_up(plain, nothing_left):
    with pytest.raises(RequestTimeoutError, match=r"was not ready within 0\.5 s") as caught:
        await mcp_tools(plain("mute"), timeout=0.5).__aenter__()
    assert caught.value.limit == "connect"
    assert len(nothing_left) == 1


async def test_a_server_that_ends_at_once(plain):
    with pytest.raises(ProviderConnectionError, match="no session began.*see its stderr"):
        await mcp_tools(plain("exits")).__aenter__()


def test_a_command_that_does_not_exist(tmp_path):
    with pytest.raises(ProviderConnectionError, match="could not be started.*FileNotFoundError"):
        mcp_tools([str(tmp_path / "nothing")]).__enter__()
    with pytest.raises(ProviderConnectionError, match="could not be started"):
        mcp_tools({"command": sys.executable, "cwd": str(tmp_path / "nowhere")}).__enter__()


# What servers say.


async def test_noise_on_its_standard_output_ends_nothing(plain):
    async with mcp_tools(plain()) as found:
        tools = named(found)
        assert await tools["garbage"]() == "after garbage"
        assert await tools["latin"]() == "after latin"


async def test_arguments_that_json_cannot_hold_end_nothing(plain):
    async with mcp_tools(plain()) as found:
        echo = named(found)["echo"]
        for text in ("\ud83d", float("nan"), {1}):
            with pytest.raises(ToolArgumentError, match="cannot be written as JSON"):
                await echo(text=text)
        assert await echo(text="a") == "a"


async def test_a_refusal_and_a_broken_result_say_so(plain):
    block = mcp_tools(plain())
    async with block as found:
        with pytest.raises(ProviderAPIError, match="refused the call of 'nonsense': no such thing as nonsense"):
            await block._connection.call("nonsense", {})
        with pytest.raises(ProviderAPIError, match="gave no usable result of 'broken'"):
            await named(found)["broken"]()


async def test_a_child_gets_its_own_environment_and_not_ours(plain, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "12")
    command, *arguments = plain()
    async with mcp_tools({"command": command, "args": arguments, "env": {"MINE": "34"}}) as found:
        variable = named(found)["variable"]
        assert await variable(text="SECRET_KEY") == "None"
        assert await variable(text="MINE") == "34"


def test_what_a_child_says_to_the_user_goes_where_ours_does(plain, capfd, tmp_path):
    with mcp_tools(plain("loud")):
        pass
    assert "a word to the user" in capfd.readouterr().err
    with (tmp_path / "log").open("w+") as log, mcp_tools(plain("loud"), stderr=log):
        pass
    assert (tmp_path / "log").read_text() == "a word to the user\n"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "given",
    [
        {"prefix": "a b"},
        {"prefix": "x" * 33},
        {"timeout": 0},
        {"timeout": True},
        {"include": "echo"},
        {"exclude": [1]},
        {"approval": "always"},
    ],
)
def test_what_cannot_be_right_is_said_before_anything_starts(given):
    with pytest.raises(InvalidParameterError) as caught:
        mcp_tools("nothing", **given)
    assert caught.value.parameter == next(iter(given))


def test_the_library_can_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(MissingDependencyError, match=r"abstractllm-mlx\[mcp\]"):
        mcp_tools("nothing")


def test_a_program_that_leaves_a_block_open_ends_and_its_child_with_it(run_python, plain):
    program = (
        "import asyncio, sys\nfrom abstractllm.agent.mcp import mcp_tools\n"
        "tools = {tool.name: tool for tool in mcp_tools(sys.argv[1:]).__enter__()}\n"
        "print(asyncio.run(tools['pid']()))"
    )
    pid = int(run_python(program, *plain()))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
