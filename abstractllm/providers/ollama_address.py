"""Where an Ollama service is, from what OLLAMA_HOST or a user says. Does no I/O."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from abstractllm.errors import InvalidParameterError
from abstractllm.providers.http.proxies import is_local

HOST_VARIABLE = "OLLAMA_HOST"
PORT = 11434

_PLACE = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::([0-9]{0,5}))?")
_BARE_V6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}
"""Hosts that a service listens at, and where it is found then."""


def base_url_of(host: str) -> str:
    """Return the address for a host as Ollama's own programs read it: scheme, host and port may be missing.

    Without a scheme it is http and port 11434; with one, the scheme's own port (`envconfig.Host` in Ollama's sources).
    ollama.com is https. An address at which a service listens everywhere becomes this machine's. Raises
    InvalidParameterError where it cannot be read.
    """
    text = host.strip().strip("\"'").strip()
    scheme, given, rest = text.rpartition("://")
    place, slash, path = rest.partition("/")
    name, port = _split(place)
    name = _EVERYWHERE.get(name, name)
    if given:
        return f"{scheme.lower()}://{name}{port and ':' + port}{slash}{path}".rstrip("/")
    if _is_hosted(name):
        return f"https://{name}{port and ':' + port}{slash}{path}".rstrip("/")
    return f"http://{name}:{port or PORT}{slash}{path}".rstrip("/")


def is_hosted(base_url: str) -> bool:
    """Return whether an address is that of the service on the network which wants a key."""
    return _is_hosted(urlsplit(base_url).hostname or "")


def is_on_this_machine(base_url: str) -> bool:
    """Return whether an address is on this machine."""
    return is_local(urlsplit(base_url).hostname or "")


def _split(place: str) -> tuple[str, str]:
    if _BARE_V6.fullmatch(place):
        return f"[{place}]", ""
    found = _PLACE.fullmatch(place)
    if found is None or int(found[2] or 0) > 65535:
        raise InvalidParameterError(
            "base_url",
            f"The address of the service cannot be read; write base_url, or {HOST_VARIABLE}, like 'host:{PORT}'.",
            provider="ollama",
        )
    return found[1], found[2] or ""


def _is_hosted(name: str) -> bool:
    return name.lower() == "ollama.com" or name.lower().endswith(".ollama.com")
