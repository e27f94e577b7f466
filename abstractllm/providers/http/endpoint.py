"""A provider's configuration -> where its requests go and with which key. Does no I/O."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from abstractllm.errors import InvalidParameterError, shown
from abstractllm.providers.http.secret import Secret

MAX_RETRIES = 2
"""Tries after the first where `max_retries` is not set."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A service as it is configured: `base_url` has no slash at its end, `key` may be missing."""

    base_url: str
    key: Secret | None = None
    max_retries: int = MAX_RETRIES

    @property
    def is_secure(self) -> bool:
        """Whether it is spoken to over TLS."""
        return self.base_url.lower().startswith("https:")


def read_endpoint(config: Mapping[str, Any], key_variable: str | None) -> Endpoint:
    """Return what a configuration says, with the key from the environment where it has none.

    Raises InvalidParameterError, which never shows the key.
    """
    return Endpoint(_base_url(config.get("base_url")), _key(config, key_variable), _retries(config.get("max_retries")))


def _base_url(value: object) -> str:
    if value is None:
        raise InvalidParameterError("base_url", "The base_url is missing; pass the service's address as base_url=.")
    problem = _problem(value)
    if problem or not isinstance(value, str):
        raise InvalidParameterError(
            "base_url", f"The base_url {problem}; it must look like 'https://host/path', and keys go into api_key."
        )
    return value.rstrip("/")


def _problem(value: object) -> str | None:
    """Say what is wrong with an address, without what may be a password or a key in it."""
    if not isinstance(value, str):
        return f"is a {type(value).__name__}"
    if not value.isascii() or not value.isprintable() or " " in value or "\\" in value:
        return "holds a character that an address may not have"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is not valid ({type(error).__name__})"
    if parts.scheme not in ("http", "https") or not host:
        return "is no http or https address"
    if parts.username is not None or parts.password is not None:
        return "holds a user or a password"
    return "holds a query or a fragment" if parts.query or parts.fragment else None


def _key(config: Mapping[str, Any], variable: str | None) -> Secret | None:
    given = config.get("api_key")
    if isinstance(given, Secret):
        return given
    if given is not None:
        return _checked_key(given, "The api_key")
    found = os.environ.get(variable) if variable else None
    return _checked_key(found, f"The key in the environment variable {variable}") if found else None


def _checked_key(value: object, what: str) -> Secret:
    if not isinstance(value, str):
        raise InvalidParameterError("api_key", f"{what} is a {type(value).__name__}; it must be a string.")
    if not value or not value.isascii() or not value.isprintable() or value != value.strip():
        raise InvalidParameterError(
            "api_key", f"{what} is empty or holds a space at an end, a line break or a character that is not ASCII."
        )
    return Secret(value)


def _retries(value: object) -> int:
    if value is None:
        return MAX_RETRIES
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise InvalidParameterError(
            "max_retries", f"max_retries={shown(value)} is not valid: it must be a whole number from 0 to 100."
        )
    return value
