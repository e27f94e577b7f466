"""One answer as it is read: pieces of a body -> deltas, and what its end means. Knows no HTTP and no wire format."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from abstractllm.errors import AbstractLLMError, ProviderAPIError, ProviderConnectionError
from abstractllm.types import GenerateResponse

if TYPE_CHECKING:
    from abstractllm.providers.http.connections import Answer
    from abstractllm.wire.codec import StreamDecoder


_PATIENCE = 0.5
"""Seconds that the end of a body is waited for after a whole answer; with it, the connection can be used again."""


class Body(Protocol):
    """A body that comes in pieces."""

    async def read(self) -> bytes:
        """Return the next piece, b"" after the last. Raises ProviderConnectionError where it is cut off."""


class Streamed:
    """A stream of `n` answers. `over` says that nothing more will come.

    A service that sends all of them and leaves the body open holds nobody up.
    """

    __slots__ = ("_body", "_decoder", "_unfinished", "over")

    def __init__(self, body: Body, decoder: StreamDecoder, n: int = 1) -> None:
        self._body = body
        self._decoder = decoder
        self._unfinished = n
        self.over = False

    async def first(self) -> Sequence[GenerateResponse]:
        """Return the first deltas, or none where the answer has none."""
        deltas: Sequence[GenerateResponse] = ()
        while not deltas and not self.over:
            deltas = await self.more()
        return deltas

    async def more(self) -> Sequence[GenerateResponse]:
        """Return the deltas of the next piece, which may be none. Raises what the decoder raises."""
        return await (self._next() if self._unfinished > 0 else self._rest())

    async def _next(self) -> Sequence[GenerateResponse]:
        try:
            piece = await self._body.read()
        except ProviderConnectionError as cut:
            return self._after(cut)
        if piece:
            deltas = self._decoder.feed(piece)
            self._unfinished -= sum(delta.finish_reason is not None for delta in deltas)
            return deltas
        self.over = True
        return self._decoder.end()

    async def _rest(self) -> Sequence[GenerateResponse]:
        """Return what still comes after whole answers, until the body ends or `_PATIENCE` does."""
        deltas: list[GenerateResponse] = []
        try:
            async with asyncio.timeout(_PATIENCE):
                while not self.over:
                    deltas += await self._next()
        except TimeoutError:
            self.over = True
            deltas += self._decoder.end()
        return deltas

    def _after(self, cut: ProviderConnectionError) -> Sequence[GenerateResponse]:
        """Return what was left when the connection broke: the whole answer may have come by then, or it is cut off."""
        self.over = True
        try:
            return self._decoder.end()
        except AbstractLLMError:
            raise cut from cut.__cause__


class Held:
    """Closes an answer at the end of `with`, or with `keep` only when something fails; errors get the request's id."""

    __slots__ = ("_answer", "_keep")

    def __init__(self, answer: Answer, *, keep: bool = False) -> None:
        self._answer = answer
        self._keep = keep

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None and self._keep:
            return
        if isinstance(error, ProviderAPIError):
            from abstractllm.wire.failures import request_id

            error.request_id = error.request_id or request_id(self._answer.headers)
        self._answer.close()


class Told:
    """Shows the errors of ours that leave `with` to `tell`, on their way."""

    __slots__ = ("_tell",)

    def __init__(self, tell: Callable[[AbstractLLMError], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, AbstractLLMError):
            self._tell(error)
