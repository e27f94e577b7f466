"""What remote providers share: `HTTPProvider`, a base class that sends and reads what a codec encodes and decodes.

Knows no service and no wire format. aiohttp is imported in `connections` and `download` alone, when first needed.
"""

from __future__ import annotations

from abstractllm.providers.http.attachments import Attachments
from abstractllm.providers.http.backoff import Backoff
from abstractllm.providers.http.endpoint import Endpoint
from abstractllm.providers.http.fetching import Fetcher
from abstractllm.providers.http.provider import HTTPProvider, Limits
from abstractllm.providers.http.secret import Secret

__all__ = ["Attachments", "Backoff", "Endpoint", "Fetcher", "HTTPProvider", "Limits", "Secret"]
