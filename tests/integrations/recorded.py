"""A provider that says what its script says, and remembers what it was asked; it takes every parameter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from abstractllm.parameters import CHECKS
from abstractllm.providers.call import Call
from abstractllm.providers.echo import EchoProvider
from abstractllm.types import GenerateRequest, GenerateResponse


class Recorded(EchoProvider):
    """`requests` are those that came; `ended` counts the answers that came to an end or were left."""

    name: ClassVar[str] = "recorded"
    parameters: ClassVar[frozenset[str]] = frozenset(CHECKS)
    options: ClassVar[frozenset[str]] = frozenset({"parallel_tool_calls", "strict_tools"})
    default_retries: ClassVar[int] = 0

    def __init__(self, *replies: Any, **settings: Any) -> None:
        self.requests: list[GenerateRequest] = []
        self.ended = 0
        super().__init__(replies=list(replies) or None, **settings)

    def _stream(self, request: GenerateRequest, call: Call) -> Iterator[GenerateResponse]:
        self.requests.append(request)
        try:
            yield from super()._stream(request, call)
        finally:
            self.ended += 1
