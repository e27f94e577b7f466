"""One answer as it is read: pieces of a body -> deltas, and what its end means. Knows no HTTP and no wire format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from abstractllm.errors import AbstractLLMError, ProviderConnectionError
from abstractllm.types import GenerateResponse

if TYPE_CHECKING:
    from abstractllm.wire.codec import StreamDecoder


class Body(Protocol):
    """A body that comes in pieces."""

    async def read(self) -> bytes:
        """Return the next piece, b"" after the last. Raises ProviderConnectionError where it is cut off."""


class Streamed:
    """A streamed answer. `over` says that nothing more will come."""

    __slots__ = ("_body", "_decoder", "over")

    def __init__(self, body: Body, decoder: StreamDecoder) -> None:
        self._body = body
        self._decoder = decoder
        self.over = False

    async def first(self) -> Sequence[GenerateResponse]:
        """Return the first deltas, or none where the answer has none."""
        deltas: Sequence[GenerateResponse] = ()
        while not deltas and not self.over:
            deltas = await self.more()
        return deltas

    async def more(self) -> Sequence[GenerateResponse]:
        """Return the deltas of the next piece, which may be none. Raises what the decoder raises."""
        try:
            piece = await self._body.read()
        except ProviderConnectionError as cut:
            return self._after(cut)
        if piece:
            return self._decoder.feed(piece)
        self.over = True
        return self._decoder.end()

    def _after(self, cut: ProviderConnectionError) -> Sequence[GenerateResponse]:
        """Return what was left when the connection broke: the whole answer may have come by then, or it is cut off."""
        self.over = True
        try:
            return self._decoder.end()
        except AbstractLLMError:
            raise cut from cut.__cause__
