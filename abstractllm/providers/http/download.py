"""One GET to addresses that were chosen beforehand, over aiohttp. Decides nothing: `fetching` says what is fetched.

Importing aiohttp takes long, so this module is imported off the event loop, by `fetching`.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

HEADERS: Mapping[str, str] = {"Accept": "image/*, application/pdf", "Accept-Encoding": "identity"}

DownloadError = (aiohttp.ClientError, OSError, ValueError)
"""What a connection or an answer that breaks raises here; aiohttp has ValueErrors for addresses that it refuses."""


@dataclass(frozen=True, slots=True)
class Download:
    """An answer that has begun: its status, where it redirects to, the bytes it says it has, and its body."""

    status: int
    location: str | None
    length: int | None
    encoding: str
    content: aiohttp.StreamReader = field(repr=False)

    async def read(self) -> bytes:
        """Return the next bytes, b"" after the last. Raises one of `DownloadError`."""
        return await self.content.readany()


class _Pinned(AbstractResolver):
    """Resolves every name to the addresses that were checked, so that no second answer of a name server counts."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=_family(address), proto=0, flags=socket.AI_NUMERICHOST
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Hold nothing, so give nothing back."""


def _family(address: str) -> int:
    return socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6


@asynccontextmanager
async def downloaded(
    url: str, addresses: Sequence[str], headers: Mapping[str, str], tls: ssl.SSLContext | None
) -> AsyncIterator[Download]:
    """Yield the answer to a GET that goes to one of the addresses, and nowhere else.

    No redirect is followed, no proxy asked, no cookie or password sent. Raises one of `DownloadError`.
    """
    connector = aiohttp.TCPConnector(resolver=_Pinned(addresses), use_dns_cache=False, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
    ) as session:
        tls_or_not = True if tls is None else tls
        async with session.get(url, headers={**HEADERS, **headers}, allow_redirects=False, ssl=tls_or_not) as answer:
            encoding = answer.headers.get("Content-Encoding", "identity").lower()
            place = answer.headers.get("Location")
            yield Download(answer.status, place, answer.content_length, encoding, answer.content)
