"""What remote providers share: `HTTPProvider`, a base class that sends and reads what a codec encodes and decodes.

Knows no service and no wire format. aiohttp is imported in `connections` alone, and that at the first request.
"""

from __future__ import annotations

from abstractllm.providers.http.backoff import Backoff
from abstractllm.providers.http.endpoint import Endpoint
from abstractllm.providers.http.provider import HTTPProvider, Limits
from abstractllm.providers.http.secret import Secret

__all__ = ["Backoff", "Endpoint", "HTTPProvider", "Limits", "Secret"]
