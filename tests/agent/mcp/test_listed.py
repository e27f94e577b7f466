"""Which of a server's tools there are, how they are called, and which need approval."""

from __future__ import annotations

import pytest

from abstractllm.agent.mcp import mcp_tools
from abstractllm.errors import InvalidParameterError, ProviderConnectionError


def named(tools):
    return {tool.name: tool for tool in tools}


async def test_all_pages_of_the_list_are_read(plain):
    async with mcp_tools(plain("pages")) as tools:
        assert len(tools) == 11
    with pytest.raises(ProviderConnectionError, match="round in a circle"):
        await mcp_tools(plain("circle")).__aenter__()


async def test_a_changed_list_is_logged(plain, caplog):
    with caplog.at_level("INFO", logger="abstractllm"):
        async with mcp_tools(plain()) as found:
            tools = named(found)
            await tools["changed"]()
            await tools["echo"](text="a")
    assert "tools have changed" in caplog.text


async def test_a_schema_that_cannot_be_used(plain, nothing_left):
    with pytest.raises(InvalidParameterError, match=r"'echo'.*leave it out with exclude=\['echo'\]"):
        await mcp_tools(plain("unsound")).__aenter__()
    assert len(nothing_left) == 1


async def test_names_are_made_such_as_models_can_write(plain):
    async with mcp_tools(plain("names"), prefix="a_") as tools:
        names = [tool.name for tool in tools]
    assert names[3] == "a_plain"
    assert names[0] != names[1]
    assert {name[:10] for name in names[:2]} == {"a_fs_read_"}
    assert [len(name) for name in names] == [18, 18, 64, 7]


async def test_two_servers_with_the_same_tools(plain):
    async with mcp_tools(plain(), prefix="a_") as first, mcp_tools(plain(), prefix="b_") as second:
        tools = named([*first, *second])
        assert await tools["a_pid"]() != await tools["b_pid"]()


async def test_tools_are_chosen(plain):
    async with mcp_tools(plain(), include=["pid", "echo"], exclude={"pid"}) as tools:
        assert list(named(tools)) == ["echo"]
    with pytest.raises(InvalidParameterError, match="no tool 'ech'. Did you mean 'echo'"):
        await mcp_tools(plain(), include=["ech"]).__aenter__()
    with pytest.raises(InvalidParameterError, match="no tool 'delete'"):
        mcp_tools(plain(), exclude=["delete"]).__enter__()


async def test_approval_is_asked_for_as_the_user_says(plain):
    async with mcp_tools(plain()) as tools:
        assert not any(tool.approval for tool in tools)
    async with mcp_tools(plain(), approval=True) as tools:
        assert all(tool.approval is True for tool in tools)
    async with mcp_tools(plain(), approval="destructive") as tools:
        assert {tool.name for tool in tools if not tool.approval} == {"echo", "pid"}
