"""A server written with the SDK's own `MCPServer`, which was FastMCP."""

import asyncio
from typing import TypedDict

from mcp.server import MCPServer
from mcp.server.mcpserver import Audio, Image
from mcp.types import BlobResourceContents, CallToolResult, EmbeddedResource, ResourceLink, TextResourceContents

PIXEL = bytes.fromhex("89504e470d0a1a0a")

server = MCPServer("theirs")
hanging, cancelled = asyncio.Event(), asyncio.Event()


PDF = BlobResourceContents(uri="file:///a.pdf", blob="JVBERg==", mime_type="application/pdf")


class Weather(TypedDict):
    city: str
    degrees: float


@server.tool()
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def weather(city: str) -> Weather:
    return {"city": city, "degrees": 3.5}


@server.tool()
def only_structure() -> CallToolResult:
    return CallToolResult(content=[], structured_content={"é": [1, None]})


@server.tool()
def picture() -> list:
    return ["a pixel", Image(data=PIXEL, format="png")]


@server.tool()
def sound() -> Audio:
    return Audio(data=b"1234", format="wav")


@server.tool()
def resources() -> list:
    return [
        EmbeddedResource(type="resource", resource=TextResourceContents(uri="file:///a.txt", text="hello")),
        EmbeddedResource(
            type="resource",
            resource=BlobResourceContents(uri="file:///a.pdf", blob="JVBERg==", mime_type="application/pdf"),
        ),
        ResourceLink(type="resource_link", name="b", uri="file:///b", description="another"),
    ]


@server.tool()
def fails() -> None:
    raise LookupError("no such city")


@server.tool()
async def hang() -> None:
    hanging.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.set()
        raise


@server.tool()
async def hang_is_running() -> str:
    await hanging.wait()
    return "it is"


@server.tool()
async def hang_was_cancelled() -> str:
    await cancelled.wait()
    return "it was"


if __name__ == "__main__":
    server.run()
