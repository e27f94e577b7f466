"""HTTP/1.1 messages on asyncio streams, as much of them as the servers for tests need. Knows no service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

_PIECE = 2**16

HIDDEN = "(hidden)"

SECRET_HEADERS = frozenset(
    {
        "api-key",
        "authorization",
        "cookie",
        "openai-organization",
        "openai-project",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
        "x-goog-api-key",
    }
)
"""Headers, in lower case, that say who asks or let one ask in their name."""


@dataclass(frozen=True, slots=True)
class Head:
    """The beginning of a request or an answer: its first line in three words, and its headers in lower case."""

    words: tuple[str, str, str]
    headers: Mapping[str, str]


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Return the next head, or None where the other side has closed the connection.

    Raises ValueError where it does not speak HTTP, but TLS perhaps.
    """
    first = await reader.read(1)
    if not first:
        return None
    if not first.isalpha():
        raise ValueError(f"No message of HTTP begins with {first!r}.")
    text = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *lines = text.rstrip("\r\n").split("\r\n")
    words = (*line.split(" ", 2), "", "")
    headers = {name.strip().lower(): value.strip() for name, _, value in (entry.partition(":") for entry in lines)}
    return Head((words[0], words[1], words[2]), headers)


async def read_body(
    reader: asyncio.StreamReader, headers: Mapping[str, str], *, answer: bool = False
) -> AsyncGenerator[bytes, None]:
    """Yield a body: each HTTP chunk as one piece, or what comes in. An answer may also end with its connection."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readline()).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif "content-length" in headers or not answer:
        left = int(headers.get("content-length", "0"))
        while left:
            piece = await reader.read(min(left, _PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece
    else:
        while piece := await reader.read(_PIECE):
            yield piece


def head_bytes(first_line: str, headers: Mapping[str, str]) -> bytes:
    """Return a head as it is sent."""
    lines = [first_line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def chunk_bytes(data: bytes) -> bytes:
    """Return bytes as one HTTP chunk; none make the end of the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def scrubbed(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers without what is secret in them."""
    return {name: HIDDEN if name.lower() in SECRET_HEADERS else value for name, value in headers.items()}
