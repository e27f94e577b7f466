"""Requests over aiohttp, and what can go wrong with them in words. Only this module and `download` know aiohttp.

Importing aiohttp takes long and makes two TLS contexts, so this module is imported off the event loop, by `provider`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from urllib.parse import urlsplit

import aiohttp

from abstractllm.errors import AbstractLLMError, GenerationError, ProviderConnectionError, RequestTimeoutError
from abstractllm.providers.http.proxies import Proxy, proxy_for

_PIECE = 2**18
"""Bytes of a body that are sent at once."""

_GIVING_UP = 1.0
"""Seconds that requests which were told to end have for it, which takes a few turns of the event loop."""

_FOREVER = aiohttp.ClientTimeout(total=None, sock_connect=None)


class Connections:
    """The open connections of one provider on one event loop, in which all methods but `abandon` are called.

    There may be any number of them: how many requests run is not decided here. Addresses are resolved as the system
    does; redirects are never followed, cookies never kept, and compressed answers neither asked for nor taken.
    """

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, resolver=aiohttp.ThreadedResolver())
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            response_class=_Response,
            timeout=_FOREVER,
        )
        self._proxies: dict[str, Proxy | None] = {}
        self._unanswered = 0
        self._all_answered: asyncio.Future[None] | None = None  # for who waits until there are none

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        tls: ssl.SSLContext | None,
        connect: float | None = None,
        method: str = "POST",
    ) -> Answer:
        """Send a request and return its answer once that has begun, whatever its status.

        `connect` is the limit in seconds until the connection stands. Raises ProviderConnectionError, and
        RequestTimeoutError for that limit.
        """
        self._unanswered += 1
        try:
            through = self._proxy(url)
            response = await self._session.request(
                method,
                url,
                data=body if len(body) <= _PIECE else _pieces(body),
                headers=_head(headers, body, through, tunnelled=tls is not None),
                allow_redirects=False,
                ssl=True if tls is None else tls,
                timeout=_FOREVER if connect is None else aiohttp.ClientTimeout(connect=connect),
                proxy=None if through is None else through.url,
                proxy_headers=None if through is None or tls is None else _authorization(through),
            )
        except aiohttp.ConnectionTimeoutError as error:
            raise RequestTimeoutError(
                f"No connection to {_place(url)} within {connect:g} s; raise timeout.connect or look at the network.",
                limit="connect",
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: no address, or no name of a host
            raise _unreached(error, url) from error
        finally:
            self._answered()
        return Answer(response, url)

    def _proxy(self, url: str) -> Proxy | None:
        """Return what the environment says about an address, looked up once."""
        if url not in self._proxies:
            self._proxies[url] = proxy_for(url)
        return self._proxies[url]

    def _answered(self) -> None:
        self._unanswered -= 1
        if self._all_answered is not None and not self._unanswered and not self._all_answered.done():
            self._all_answered.set_result(None)

    async def close(self) -> None:
        """Close all connections, those in use as well.

        Requests that are given up at the same time come first: aiohttp forgets the connections that it makes, and
        those with something left to send, when its session is closed before them.
        """
        try:
            if self._unanswered:
                self._all_answered = asyncio.get_running_loop().create_future()
                await asyncio.wait([self._all_answered], timeout=_GIVING_UP)
        finally:  # also where the loop ends meanwhile
            await self._session.close()

    def abandon(self) -> None:
        """Forget all connections of a loop that is closed; in any thread."""
        closing = self._session.close()
        try:
            closing.send(None)  # where the loop is closed, there is nothing to wait for
        except StopIteration:
            return
        closing.close()


class _Response(aiohttp.ClientResponse):
    """One that never leaves an unfinished connection behind.

    aiohttp closes a connection only after what is still to be sent was sent; a service that does not read would hold
    it, its socket and the request's body for ever.
    """

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        try:
            return await super().start(connection)
        except BaseException:
            _abort(connection)
            raise

    def close(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            _abort(self.connection)
        super().close()


def _abort(connection: aiohttp.connector.Connection | None) -> None:
    transport = None if connection is None else connection.transport
    if transport is not None:
        transport.abort()


class Answer:
    """An answer that has begun: `status`, `headers` in any case, and a body that is read in pieces as they come."""

    __slots__ = ("_content", "_response", "_url", "headers", "status")

    def __init__(self, response: aiohttp.ClientResponse, url: str) -> None:
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._content = response.content
        self._url = url

    async def read(self) -> bytes:
        """Return the next bytes, b"" after the last. Raises ProviderConnectionError where the body is cut off."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise ProviderConnectionError(
                f"The connection to {_place(self._url)} broke in the middle of the answer.", status_code=self.status
            ) from error

    async def whole(self, limit: int, begun: Callable[[], None]) -> bytes:
        """Return the body, and call `begun` when it begins. Raises GenerationError for more than `limit` bytes."""
        pieces: list[bytes] = []
        size = 0
        while piece := await self.read():
            begun()
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise GenerationError(f"The service sent more than {limit:,} bytes, which is no answer.")
            if self._content.at_eof():
                break
        return b"".join(pieces)

    async def beginning(self, limit: int, seconds: float) -> bytes:
        """Return the first `limit` bytes, or those that come within so many seconds or before the connection breaks."""
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(seconds):
                while size < limit and (piece := await self.read()):
                    pieces.append(piece)
                    size += len(piece)
        except (TimeoutError, ProviderConnectionError):
            pass  # the status alone says that it failed; the body would have said more
        return b"".join(pieces)[:limit]

    def close(self) -> None:
        """End a body that was not read to its end, with its connection, at once. Safe to call twice."""
        if self._response.connection is not None:
            self._response.close()


def worth_another_try(error: AbstractLLMError) -> bool:
    """Return whether a connection that broke, or was too slow, may be a passing matter; a wrong certificate is none."""
    if isinstance(error, RequestTimeoutError):
        return error.limit == "connect"
    if not isinstance(error, ProviderConnectionError):
        return False
    lasting = (aiohttp.ClientSSLError, ssl.SSLError, aiohttp.ClientHttpProxyError, ValueError)
    return not isinstance(error.__cause__, lasting)


async def _pieces(body: bytes) -> AsyncGenerator[memoryview, None]:
    """Yield a long body so that other requests get their turn while it is sent."""
    view = memoryview(body)
    for start in range(0, len(body), _PIECE):
        yield view[start : start + _PIECE]


def _head(headers: Mapping[str, str], body: bytes, proxy: Proxy | None, *, tunnelled: bool) -> Mapping[str, str]:
    """Add the body's length, and what a proxy wants that reads the request itself."""
    said = {**headers, "Content-Length": str(len(body))}
    return said if proxy is None or tunnelled else {**said, **_authorization(proxy)}


def _authorization(proxy: Proxy) -> Mapping[str, str]:
    return {} if proxy.authorization is None else {"Proxy-Authorization": proxy.authorization}


def _place(url: str) -> str:
    """Return host and port of an address, for a message."""
    return urlsplit(url).netloc


def _unreached(error: Exception, url: str) -> ProviderConnectionError:
    """Return the error for a request that got no answer."""
    return ProviderConnectionError(f"{_what_happened(error, _place(url))}")


def _what_happened(error: Exception, place: str) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"The proxy refused to connect to {place} (status {error.status}); look at HTTPS_PROXY and NO_PROXY."
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"The proxy for {place} cannot be reached; look at HTTP_PROXY, HTTPS_PROXY and NO_PROXY."
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"The certificate of {place} is not trusted ({_reason(error)}); SSL_CERT_FILE names further authorities."
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return f"No TLS connection to {place} ({_reason(error)}); is it an http address?"
    if isinstance(error, aiohttp.ClientConnectorError):
        return _unconnected(error, place)
    if isinstance(error, ValueError):
        return f"{place}, or the proxy for it, has an address that cannot be one; look at base_url and at HTTP_PROXY."
    if isinstance(error, aiohttp.ClientResponseError):
        return f"What {place} answered is not HTTP; look at base_url."
    return f"{place} closed the connection without an answer ({type(error).__name__})."


def _unconnected(error: aiohttp.ClientConnectorError, place: str) -> str:
    if isinstance(error.os_error, socket.gaierror):
        return f"The name of {place} cannot be resolved; look at base_url and at the network."
    reason = error.os_error.strerror or type(error.os_error).__name__
    return f"{place} cannot be reached ({reason}); does the service run, and is base_url right?"


def _reason(error: Exception) -> str:
    inner = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    return getattr(inner, "verify_message", None) or getattr(inner, "reason", None) or type(inner).__name__
