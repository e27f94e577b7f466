"""Images and PDFs from the web, through a guard: only from the public internet, at every redirect, and not too much.

A server that fetches what its users name can be made to ask machines that only it reaches (SSRF). So a name is resolved
here, each of its addresses is judged, and the connection goes to those very addresses: a name server that answers
otherwise the next time changes nothing. Knows no provider.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from abstractllm import __version__
from abstractllm.errors import FileProcessingError, InvalidParameterError
from abstractllm.files import MAX_BYTES, image_or_pdf
from abstractllm.files.labels import labels_of
from abstractllm.providers.http.addresses import Network, objection
from abstractllm.providers.http.tls import tls_context
from abstractllm.types import DocumentPart, ImagePart

if TYPE_CHECKING:
    from abstractllm.providers.http.download import Download

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]
"""Name and port -> addresses, as text. Raises OSError for a name that does not exist."""

_LONGEST = 8192
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NUMBER = re.compile(r"(\d+|0x[0-9a-f]*)", re.IGNORECASE)


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Return all addresses that the system has for a name."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


@dataclass(frozen=True, slots=True)
class Fetcher:
    """How files are fetched: at most `max_bytes` within `seconds`, over at most so many `redirects`.

    `allowed` are networks such as "10.1.2.0/24" that are fetched from although they are not public; `resolve` finds the
    addresses of a name. Proxies are never used, since a proxy would resolve names itself.
    """

    max_bytes: int = MAX_BYTES
    seconds: float = 30.0
    redirects: int = 5
    allowed: tuple[str, ...] = ()
    resolve: Resolver = system_resolver

    def __post_init__(self) -> None:
        _networks(self.allowed)

    async def fetch(self, url: str) -> ImagePart | DocumentPart:
        """Return the image or PDF at an http or https address, told by its content.

        Raises FileProcessingError where the address may not be fetched from, does not answer in time, or has something
        else, and ImageProcessingError for an image that cannot be decoded.
        """
        try:
            async with asyncio.timeout(self.seconds):
                data = await self._followed(url)
        except TimeoutError as error:
            raise _failure(url, f"was not there within {self.seconds:g} s; download it yourself") from error
        return await asyncio.to_thread(_part, url, data)

    async def _followed(self, url: str) -> bytes:
        """Return what is at an address, or where it redirects to; each is judged like the first."""
        place = url
        for _ in range(self.redirects + 1):
            found = await self._asked(url, _checked(place, url))
            if isinstance(found, bytes):
                return found
            place = _redirected(place, found, url)
        raise _failure(url, f"redirects more than {self.redirects} times; pass the address that it ends at")

    async def _asked(self, url: str, parts: SplitResult) -> bytes | str:
        """Return what is at one address, or the text of a redirect."""
        addresses = await self._addresses(url, parts)
        await asyncio.to_thread(_prepare, parts.scheme == "https")
        from abstractllm.providers.http.download import DownloadError, downloaded

        tls = tls_context() if parts.scheme == "https" else None
        agent = {"User-Agent": f"abstractllm/{__version__}"}
        try:
            async with downloaded(urlunsplit(parts), addresses, agent, tls) as answer:
                return await self._read(url, answer)
        except DownloadError as error:
            reason = f"{type(error).__name__}: {error}"
            raise _failure(url, f"cannot be fetched ({reason:.200}); download it yourself") from error

    async def _addresses(self, url: str, parts: SplitResult) -> Sequence[str]:
        """Return the addresses of a host, after all of them were judged."""
        host = parts.hostname or ""
        found = [host] if _is_address(host) else await self._resolved(url, host, _port(parts))
        networks = _networks(self.allowed)
        for address in found:
            reason = objection(address, networks)
            if reason is not None:
                what = f"leads to an address that is {reason}, and only the public internet is fetched from"
                raise _failure(url, f"{what}; download it yourself and pass the file")
        return found

    async def _resolved(self, url: str, host: str, port: int) -> Sequence[str]:
        try:
            found = list(await self.resolve(host, port))
        except (OSError, UnicodeError) as error:
            raise _failure(url, f"has a host that cannot be resolved ({error}); correct it") from error
        if not found:
            raise _failure(url, "has a host without an address; correct it")
        return found

    async def _read(self, url: str, answer: Download) -> bytes | str:
        if answer.status in _REDIRECTS and answer.location is not None:
            return answer.location
        if answer.status != 200:
            raise _failure(url, f"answers with status {answer.status}; look at it in a browser")
        if answer.encoding != "identity":
            raise _failure(url, f"comes compressed ({answer.encoding:.20}), unasked; download it yourself")
        if answer.length is not None and answer.length > self.max_bytes:
            raise self._too_large(url)
        pieces, size = [], 0
        while piece := await answer.read():
            pieces.append(piece)
            size += len(piece)
            if size > self.max_bytes:
                raise self._too_large(url)
        return b"".join(pieces)

    def _too_large(self, url: str) -> FileProcessingError:
        return _failure(url, f"has more than {self.max_bytes:,} bytes; download it and pass a smaller one")


def _checked(place: str, url: str) -> SplitResult:
    """Return the parts of an address that can mean but one thing to all who read it, without its fragment."""
    if len(place) > _LONGEST or not place.isascii() or not place.isprintable() or re.search(r"[\s\\]", place):
        what = "is too long, or has a space, a backslash or a character that is not ASCII; write those percent-encoded"
        raise _failure(url, what)
    try:
        parts = urlsplit(place)._replace(fragment="")
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise _failure(url, f"is not valid ({error}); correct it") from error
    if parts.scheme not in ("http", "https") or not host:
        raise _failure(url, f"leads to {_shown(place)!r}, which is no http or https address")
    if parts.username is not None or parts.password is not None:
        raise _failure(url, "holds a user or a password; download it yourself and pass the file")
    if "%" in host or (not _is_address(host) and _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2])):
        raise _failure(url, f"has the host {host!r}, which is no name and no plain address; correct it")
    return parts


def _redirected(place: str, location: str, url: str) -> str:
    """Return where a redirect leads. Raises FileProcessingError where it would give up encryption."""
    try:
        to = urljoin(place, location)
    except ValueError as error:
        raise _failure(url, "redirects to what is no address; look at it in a browser") from error
    if place.lower().startswith("https:") and not to.lower().startswith("https:"):
        raise _failure(url, "redirects from https to something else; look at it in a browser")
    return to


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _networks(allowed: Sequence[str]) -> list[Network]:
    """Return networks from their text. Raises InvalidParameterError."""
    try:
        return [ipaddress.ip_network(network) for network in allowed]
    except ValueError as error:
        raise InvalidParameterError("allowed", f"allowed holds what is no network: {error}.") from error


def _prepare(secure: bool) -> None:
    """Do what takes long and is needed once: imports, certificates. Not on an event loop."""
    import abstractllm.providers.http.download  # noqa: F401

    if secure:
        tls_context()


def _part(url: str, data: bytes) -> ImagePart | DocumentPart:
    part = image_or_pdf(data, url, labels_of([url])[0])
    if part is None:
        raise _failure(url, "is neither an image (PNG, JPEG, GIF, WebP) nor a PDF; download it and look at it")
    return part


def _failure(url: str, message: str) -> FileProcessingError:
    return FileProcessingError(f"The file at {_shown(url)} {message}.", path=url)


def _shown(url: str) -> str:
    """Return an address without its query and its user, which may hold keys."""
    plain = url.partition("?")[0].partition("#")[0]
    scheme, mark, rest = plain.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"[:300]


async def fetch_file_async(url: str, fetcher: Fetcher = Fetcher()) -> ImagePart | DocumentPart:
    """Return the image or PDF at an http or https address as a part, for `messages`. See `Fetcher.fetch`."""
    return await fetcher.fetch(url)


def fetch_file(url: str, fetcher: Fetcher = Fetcher()) -> ImagePart | DocumentPart:
    """Do what `fetch_file_async` does, for sync code."""
    from abstractllm.portal import portal

    return portal().run(lambda: fetcher.fetch(url))
