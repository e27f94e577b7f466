"""Tools of every kind, served by `serve_tools` over standard input and output, or over HTTP, whose URL it prints."""

import asyncio
import os
import subprocess
import sys
import threading
from dataclasses import dataclass

from abstractllm.agent.mcp import serve_tools
from abstractllm.tools import StopRun, ToolContext, ToolRetry, tool
from abstractllm.types import ImagePart, TextPart

PIXEL = bytes.fromhex("89504e470d0a1a0a")
SIDE_BY_SIDE = 20

hanging, cancelled, all_here = asyncio.Event(), asyncio.Event(), asyncio.Event()
threads = threading.Barrier(SIDE_BY_SIDE)
here: list[int] = []
alone: list[str] = []


@dataclass
class City:
    """A place."""

    name: str
    people: int


def add(a: int, b: int = 2) -> int:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


def pid() -> int:
    return os.getpid()


async def hang() -> None:
    hanging.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        cancelled.set()
        raise


async def hang_is_running() -> int:
    await hanging.wait()
    return os.getpid()


async def hang_was_cancelled() -> str:
    await cancelled.wait()
    return "it was"


async def together(number: int) -> int:
    here.append(number)
    if len(here) == SIDE_BY_SIDE:
        all_here.set()
    await all_here.wait()
    return number


def together_in_threads(number: int) -> int:
    threads.wait(60)
    return number


def fails() -> None:
    raise LookupError("no such city")


def says_how() -> None:
    raise ToolRetry("name a city instead")


def stops() -> None:
    raise StopRun("enough")


@tool(timeout=0.05)
async def takes_long() -> None:
    await asyncio.Event().wait()


@tool(retries=1)
def second_time(context: ToolContext) -> int:
    if context.attempt == 1:
        raise OSError("not yet")
    return context.attempt


def city() -> City:
    return City("Bern", 134_000)


def numbers() -> list[int]:
    return [1, 2]


def picture() -> list:
    return [TextPart("a pixel"), ImagePart(PIXEL, "image/png")]


def who(context: ToolContext) -> str:
    return f"{context.call.name} with {context.deps}"


def noise() -> str:
    print("noise on stdout")
    subprocess.run(["echo", "noise of a child"], check=True)
    return repr(sys.stdin.read())


@tool(sequential=True)
async def by_itself(name: str) -> list[str]:
    alone.append(name)
    for _ in range(5):
        await asyncio.sleep(0)
    alone.append(name)
    return list(alone)


@tool(approval=lambda call: call.arguments.get("really") is not None)
def delete(really: str | None = None) -> str:
    return f"deleted {really}"


async def decide(call) -> bool | str:
    return True if call.arguments["really"] == "yes" else "somebody said no"


TOOLS = [add, pid, hang, hang_is_running, hang_was_cancelled, together, together_in_threads, fails, says_how, stops]
TOOLS += [takes_long, second_time, city, numbers, picture, who, noise, by_itself, delete]


def serve(**more):
    return serve_tools(TOOLS, name="ours", deps="a database", approve=decide, **more)


if __name__ == "__main__":
    over_http = {"transport": "http", "on_listening": lambda url: print(url, flush=True)}
    asyncio.run(serve(**(over_http if "http" in sys.argv else {})))
