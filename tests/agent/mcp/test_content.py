"""What the SDK's own server gives comes as parts of ours; contents go there and back."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, strategies as st
from mcp.types import CallToolResult, ImageContent, TextContent

from abstractllm.agent.mcp import mcp_tools
from abstractllm.agent.mcp.client import writable
from abstractllm.agent.mcp.content import to_blocks, to_value
from abstractllm.errors import ProviderAPIError
from abstractllm.tools import ToolRetry
from abstractllm.types import DocumentPart, ImagePart, TextPart

PIXEL = bytes.fromhex("89504e470d0a1a0a")


@pytest.fixture(scope="module")
def tools(program):
    """The tools of one server, written with the SDK, in a process of its own."""
    with mcp_tools(program("theirs.py")) as found:
        yield {tool.name: tool for tool in found}


async def test_texts_and_structures(tools):
    assert await tools["add"](a=1) == "3"
    assert "3.5" in await tools["weather"](city="Bern")
    assert await tools["only_structure"]() == '{"é": [1, null]}'


async def test_pictures_and_documents(tools):
    assert await tools["picture"]() == (TextPart("a pixel"), ImagePart(PIXEL, "image/png"))
    assert await tools["resources"]() == (
        TextPart("hello", "file:///a.txt"),
        DocumentPart(b"%PDF", "application/pdf", "file:///a.pdf"),
        TextPart("b: file:///b\nanother"),
    )
    assert await tools["sound"]() == "[data: 4 bytes of audio/wav, which cannot be shown]"


async def test_errors_are_for_the_model(tools):
    with pytest.raises(ToolRetry, match="fails"):
        await tools["fails"]()
    with pytest.raises(ToolRetry, match="validation error"):
        await tools["add"](a="x")


async def test_a_cancelled_call_cancels_the_tool(tools):
    hanging = asyncio.create_task(tools["hang"]())
    await tools["hang_is_running"]()
    hanging.cancel()
    assert await tools["hang_was_cancelled"]() == "it was"


def test_an_error_without_a_word():
    with pytest.raises(ToolRetry, match="'x' failed|x failed"):
        to_value("x", CallToolResult(content=[], is_error=True))


def test_nothing_is_an_empty_text():
    assert to_value("x", CallToolResult(content=[])) == ""


def test_texts_are_joined_and_structure_is_only_for_where_there_is_none():
    blocks = [TextContent(type="text", text=text) for text in "ab"]
    assert to_value("x", CallToolResult(content=blocks, structured_content={"a": 1})) == "a\n\nb"
    picture = ImageContent(type="image", data="AA==", mime_type="image/png")
    both = to_value("x", CallToolResult(content=[picture], structured_content={"a": 1}))
    assert both == (TextPart('{"a": 1}'), ImagePart(b"\0", "image/png"))


def test_data_that_is_not_base64():
    with pytest.raises(ProviderAPIError, match="not base64"):
        to_value("x", CallToolResult(content=[ImageContent(type="image", data="!", mime_type="image/png")]))


parts = st.one_of(
    st.builds(TextPart, st.text(max_size=5)),
    st.builds(ImagePart, st.binary(min_size=1, max_size=20), st.sampled_from(["image/png", "image/webp"])),
    st.builds(DocumentPart, st.binary(min_size=1, max_size=20), st.just("application/pdf")),
)


@given(st.lists(parts, min_size=1, max_size=4))
def test_parts_go_there_and_back(given_parts):
    back = to_value("x", CallToolResult(content=to_blocks(given_parts)))
    if all(isinstance(part, TextPart) for part in given_parts):
        assert back == "\n\n".join(part.text for part in given_parts)
    else:
        assert [type(part) for part in back] == [type(part) for part in given_parts]
        assert [getattr(part, "data", None) or part.text for part in back] == [
            getattr(part, "data", None) or part.text for part in given_parts
        ]


def test_a_picture_that_is_only_an_address_goes_as_a_link():
    (block,) = to_blocks([ImagePart(b"", "image/png", "a.png", "https://example.com/a.png")])
    assert (block.type, block.uri, block.mime_type) == ("resource_link", "https://example.com/a.png", "image/png")


@given(st.lists(st.text(st.sampled_from("ab./_é"), max_size=3) | st.text(min_size=60, max_size=70), unique=True))
def test_names_can_be_written_and_are_told_apart(names):
    made = writable([f"t{name}" for name in names])
    assert len(set(made)) == len(made)
    assert all(
        len(name) <= 64 and name.isascii() and set(name) <= set("_-") | set(filter(str.isalnum, name)) for name in made
    )
