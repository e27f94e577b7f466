"""Which proxy the environment names for an address: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import getproxies_environment, proxy_bypass

from abstractllm.errors import ConfigurationError
from abstractllm.providers.http.secret import Hidden


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: its address without user and password, and those as the value of its header, if there are any."""

    url: str
    authorization: Hidden | None = field(default=None)


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy for an address. This machine itself is never asked for through one.

    The names of the variables may be written in lower case. Raises ConfigurationError for a proxy that is not spoken
    to over HTTP.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    proxies = getproxies_environment()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or is_local(host) or proxy_bypass(_with_port(host, parts.port)):
        return None
    return _proxy(found if "://" in found else f"http://{found}")


def is_local(host: str) -> bool:
    """Return whether a host, by name or number, is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost" or host.lower().rstrip(".").endswith(".localhost")


def _with_port(host: str, port: int | None) -> str:
    return host if port is None else f"{host}:{port}"


def _proxy(address: str) -> Proxy:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"The environment names a {parts.scheme or 'nameless'!r} proxy, and only http and https ones are supported;"
            " correct HTTP_PROXY, HTTPS_PROXY or ALL_PROXY, or put the service into NO_PROXY."
        )
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], "", "", ""))
    if parts.username is None:
        return Proxy(plain)
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(plain, Hidden("Basic " + base64.b64encode(pair.encode()).decode("ascii")))
