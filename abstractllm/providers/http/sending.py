"""What is sent, at each try: an address, headers, a body. Knows no service, no wire format and no HTTP client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from abstractllm import __version__
from abstractllm.errors import InvalidParameterError
from abstractllm.providers.http.endpoint import Endpoint
from abstractllm.providers.http.secret import Hidden

HEADERS: Mapping[str, str] = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"abstractllm/{__version__}",
}
"""Headers of every request."""


@dataclass(frozen=True, slots=True)
class Sending:
    """One request as it is sent, at each try. `endpoint` is the service as it was configured when the work began."""

    endpoint: Endpoint
    url: str
    headers: Mapping[str, str]
    body: bytes
    method: str = "POST"


def sending_to(
    endpoint: Endpoint, url: str, headers: Mapping[str, str], body: bytes, *, method: str = "POST"
) -> Sending:
    """Return a request with the headers of every request and these, which have no readable repr.

    A caller keeps `headers` in no variable: tools that print tracebacks with variables would show the key.
    """
    hidden = {name: Hidden(value) for name, value in headers.items()}
    return Sending(endpoint, url, {**HEADERS, **hidden}, body, method)


_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def json_body(body: Mapping[str, Any], *, text: str) -> bytes:
    """Return JSON values as bytes; `text` is the parameter that holds the user's text.

    Raises InvalidParameterError for what is no JSON, in options or in text.
    """
    try:
        return _json.encode(body).encode()
    except UnicodeEncodeError as error:
        raise InvalidParameterError(
            text, "The request holds half a surrogate pair, which is no character; remove it from the text."
        ) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidParameterError("options", f"The request cannot be written as JSON: {error}") from error
