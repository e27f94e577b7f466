"""The streams that users hold: thin views on a source of deltas and on what has arrived so far."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterator
from types import TracebackType
from typing import Any, Protocol, Self

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.errors import UnsupportedOperationError
from abstractllm.types import GenerateResponse


class Place(Protocol):
    """A running request, as far as its place in a waiting line goes."""

    @property
    def queue_position(self) -> int | None:
        """How many requests wait before it, or None."""


class Line:
    """Where a request stands, from before it has begun. `place` is set by whoever runs it, on any thread."""

    def __init__(self) -> None:
        self.place: Place | None = None

    @property
    def position(self) -> int | None:
        """How many requests wait before it, or None."""
        return None if self.place is None else self.place.queue_position


class ResponseStream(Iterator[GenerateResponse]):
    """An answer as it arrives, delta by delta.

    The request starts when the stream is first iterated or entered with `with`; entering waits for the first
    delta, so that an error which comes before it is raised there. `response` is what has arrived; `close()` ends
    the request early.
    """

    def __init__(
        self,
        deltas: Generator[GenerateResponse, None, None],
        accumulator: ResponseAccumulator,
        line: Line | None = None,
    ) -> None:
        self._line = line or Line()
        self._deltas = deltas
        self._accumulator = accumulator
        self._first: list[GenerateResponse] = []

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> GenerateResponse:
        return self._first.pop() if self._first else next(self._deltas)

    def __enter__(self) -> Self:
        delta = None if self._first else next(self._deltas, None)
        if delta is not None:  # an answer without deltas is an empty stream
            self._first.append(delta)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def response(self) -> GenerateResponse:
        """The answer so far; the whole one once the stream has ended."""
        return self._accumulator.response

    @property
    def partial(self) -> Any:
        """With a `response_format`, what is certain by now of the value, as plain JSON values; else None."""
        return self._accumulator.partial

    @property
    def queue_position(self) -> int | None:
        """How many requests wait before this one for their turn, at this moment; may be read on any thread.

        None where it does not wait: before the provider has taken it in, once it runs, and where there is no line.
        """
        return self._line.position

    def close(self) -> None:
        """End the request. Safe to call twice; a closed stream yields nothing more.

        Raises UnsupportedOperationError while another thread waits for a delta of it.
        """
        if getattr(self._deltas, "gi_running", False):
            raise UnsupportedOperationError(
                "Another thread is waiting for the next delta of this stream; leave the loop over it there."
            )
        self._first.clear()
        self._deltas.close()


class AsyncResponseStream(Coroutine[Any, Any, "AsyncResponseStream"], AsyncIterator[GenerateResponse]):
    """An answer as it arrives: both a coroutine and an async iterator.

    `async for chunk in stream` works, and so does `async for chunk in await stream`. The request starts when the
    stream is awaited, first iterated, or entered with `async with`; awaiting and entering wait for the first delta,
    so that an error which comes before it is raised there.
    """

    def __init__(
        self,
        deltas: AsyncGenerator[GenerateResponse, None],
        accumulator: ResponseAccumulator,
        line: Line | None = None,
    ) -> None:
        self._line = line or Line()
        self._deltas = deltas
        self._accumulator = accumulator
        self._first: list[GenerateResponse] = []
        self._starting: Coroutine[Any, Any, AsyncResponseStream] | None = None

    async def _start(self) -> AsyncResponseStream:
        if not self._first:
            try:
                self._first.append(await anext(self._deltas))
            except StopAsyncIteration:
                pass  # an answer without deltas is an empty stream
        return self

    def __await__(self) -> Generator[Any, Any, AsyncResponseStream]:
        return self._start().__await__()

    def send(self, value: Any) -> Any:
        """Advance the coroutine; event loops call this."""
        return self._coroutine().send(value)

    def throw(self, *args: Any) -> Any:
        """Raise an exception inside the coroutine; event loops call this."""
        return self._coroutine().throw(*args)

    def close(self) -> None:
        """Give up a stream that was never awaited. To end a running one, use `aclose()`."""
        if self._starting is not None:
            self._starting.close()

    def _coroutine(self) -> Coroutine[Any, Any, AsyncResponseStream]:
        if self._starting is None:
            self._starting = self._start()
        return self._starting

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> GenerateResponse:
        return self._first.pop() if self._first else await anext(self._deltas)

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def response(self) -> GenerateResponse:
        """The answer so far; the whole one once the stream has ended."""
        return self._accumulator.response

    @property
    def partial(self) -> Any:
        """With a `response_format`, what is certain by now of the value, as plain JSON values; else None."""
        return self._accumulator.partial

    @property
    def queue_position(self) -> int | None:
        """How many requests wait before this one for their turn, at this moment; may be read on any thread.

        None where it does not wait: before the provider has taken it in, once it runs, and where there is no line.
        """
        return self._line.position

    async def aclose(self) -> None:
        """End the request. Safe to call twice; a closed stream yields nothing more.

        Raises UnsupportedOperationError while another task waits for a delta of it.
        """
        if getattr(self._deltas, "ag_running", False):
            raise UnsupportedOperationError(
                "Another task is waiting for the next delta of this stream; cancel that task instead."
            )
        self._first.clear()
        await self._deltas.aclose()
