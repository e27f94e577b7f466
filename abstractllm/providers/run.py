"""One running request: joining, deadlines, observers. Knows no backend and neither thread nor loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from abstractllm.accumulator import ResponseAccumulator, call_deltas
from abstractllm.errors import (
    AbstractLLMError,
    GenerationError,
    IncompleteOutputError,
    OutputValidationError,
    RequestTimeoutError,
    UnsupportedOperationError,
)
from abstractllm.providers.call import NO_LIMITS, Call
from abstractllm.providers.sources import is_cancelled
from abstractllm.types import GenerateRequest, GenerateResponse, Timeout

if TYPE_CHECKING:
    from abstractllm.prices import Cost
    from abstractllm.schema import OutputFormat

T = TypeVar("T")

logger = logging.getLogger("abstractllm")

_CLOSED = "The provider was closed while this request ran; create a new one."

EventKind = Literal["started", "finished", "failed", "cancelled"]


KnownCost = Callable[[GenerateResponse], "Cost | None"]


def no_known_cost(response: GenerateResponse) -> Cost | None:
    """Return None: nothing is known of prices."""
    return None


@dataclass(frozen=True, slots=True)
class GenerationEvent:
    """What observers are told: a request has started, finished, failed or been cancelled.

    A request starts when its files have been read and it has been checked; one that fails before is not told of.
    `response` is what had arrived by then, `seconds` the time since the start. `request` is the same object in the
    event that tells of the start and in the one that tells of the end. `known_cost` says what a response cost, None
    where the provider knows no price for it. `default_model` is the model of a request that names none.
    """

    kind: EventKind
    provider: str
    request: GenerateRequest
    response: GenerateResponse | None = None
    error: BaseException | None = None
    seconds: float = 0.0
    known_cost: KnownCost = field(default=no_known_cost, repr=False, compare=False)
    default_model: str | None = None

    @property
    def model(self) -> str | None:
        """The name of the model that is asked, None where it is not known."""
        return self.request.model or self.default_model


Observer = Callable[[GenerationEvent], None]


class Run:
    """The state of one request of the provider named `provider`, which `with` follows to its end, whatever that is.

    Until then its call is in `running`; afterwards it is cancelled, so that whatever still works for it stops. What
    breaks in between leaves `with` as an error of ours.
    """

    def __init__(
        self,
        provider: str,
        request: GenerateRequest,
        accumulator: ResponseAccumulator,
        observers: list[Observer],
        running: set[Call],
        known_cost: KnownCost = no_known_cost,
        default_model: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.call = Call(request.timeout)
        self._running = running
        self._provider = provider
        self.request = request
        self._accumulator = accumulator
        self._observers = observers
        self._known_cost = known_cost
        self._default_model = default_model
        self._tool_calls = 0
        self._has_started = False
        self._texts: dict[int, str] = {}  # of each choice, where its form matters

    def __enter__(self) -> Self:
        self._running.add(self.call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end(error)
        finally:
            self._running.discard(self.call)
            self.call.cancel()

    def _end(self, error: BaseException | None) -> None:
        """Tell the observers of the end, and raise the error for the user where that is another one."""
        if error is None:
            self.notify("finished")
        elif isinstance(error, asyncio.CancelledError) and self.call.closed and not is_cancelled():
            raise self.failed(error) from error
        elif isinstance(error, (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)):
            self.notify("finished" if self._accumulator.finished else "cancelled")
        elif isinstance(error, Exception):
            failure = self.failed(error)
            if failure is not error:
                raise failure from error

    def start(self) -> None:
        """Tell the observers that the request, now complete, has started."""
        self._has_started = True
        self.notify("started")

    def accept(self, delta: GenerateResponse) -> GenerateResponse:
        """Return the delta in the form that users see, having joined it to the answer.

        Raises UnsupportedOperationError when the provider has been closed meanwhile, IncompleteOutputError or
        OutputValidationError for an answer that ends without the form that was asked for.
        """
        self._check_wanted()
        if delta.tool_calls:
            pieces = call_deltas(delta.tool_calls, first=self._tool_calls)
            delta = replace(delta, tool_calls=(), tool_call_deltas=delta.tool_call_deltas + pieces)
        if delta.tool_call_deltas:
            self._tool_calls = max(self._tool_calls, *(piece.index + 1 for piece in delta.tool_call_deltas))
        if self.request.response_format is None:
            self._accumulator.add(delta)
            return delta
        return self._accept_formed(delta, self.request.response_format)

    def _accept_formed(self, delta: GenerateResponse, form: OutputFormat) -> GenerateResponse:
        """Join a delta of an answer that is to have a form; the last one gets the value."""
        if delta.choices:
            choices = tuple(self._accept_formed(one, form) for one in delta.choices)
            return replace(choices[0], choices=choices)
        text = self._texts[delta.choice] = self._texts.get(delta.choice, "") + delta.content
        if delta.finish_reason not in ("stop", "length"):
            self._accumulator.add(delta)
            return delta
        try:
            if form.kind != "json" and delta.finish_reason == "length":
                raise OutputValidationError("The answer is cut off.")
            delta = replace(delta, parsed=form.parse(text))
        except OutputValidationError as error:
            self._accumulator.add(delta)
            raise self._misshapen(error, delta) from error
        self._accumulator.add(delta)
        return delta

    def _misshapen(self, error: OutputValidationError, delta: GenerateResponse) -> GenerationError:
        """Return the error for an answer that is cut off, or has another form."""
        response = self._accumulator.response
        if delta.finish_reason != "length":
            return OutputValidationError(error.message, response=response, provider=self._provider)
        message = "max_tokens ended the answer before it had its form; raise max_tokens."
        return IncompleteOutputError(message, response=response, provider=self._provider)

    def again(self) -> None:
        """Begin anew, for another try: of the answer so far nothing stays but what it has cost."""
        self._tool_calls = 0
        self._texts.clear()
        self._accumulator.restart()
        self.call.again()

    def finish(self) -> None:
        """Raise GenerationError unless all answers are whole, UnsupportedOperationError where a close cut them off."""
        if not self._accumulator.finished:
            self._check_wanted()
            raise GenerationError(
                "The answer ended without a finish_reason, so it may be cut off.",
                response=self._accumulator.response,
                provider=self._provider,
            )
        made = 1 if self.request.n == 1 else max(1, len(self._accumulator.response.choices))
        if made < self.request.n:
            raise GenerationError(
                f"There came {made} of {self.request.n} answers: the service seems not to know n; leave it out.",
                response=self._accumulator.response,
                provider=self._provider,
            )

    def _check_wanted(self) -> None:
        if self.call.closed:
            raise UnsupportedOperationError(_CLOSED, provider=self._provider)

    def failed(self, error: BaseException) -> AbstractLLMError:
        """Tell the observers of a failure, and return the error for the user, which may be `error` itself."""
        failure = self._failure(error)
        self.notify("failed", failure)
        return failure

    def _failure(self, error: BaseException) -> AbstractLLMError:
        """Return the typed error. Whatever breaks in a provider that is being closed means that it was closed."""
        if self.call.closed and getattr(error, "message", None) != _CLOSED:
            return UnsupportedOperationError(_CLOSED, provider=self._provider)
        if isinstance(error, AbstractLLMError):
            error.provider = error.provider or self._provider
            return error
        return GenerationError(
            f"{type(error).__name__}: {error}", response=self._accumulator.response, provider=self._provider
        )

    def notify(self, kind: EventKind, error: BaseException | None = None) -> None:
        """Tell the observers of a started request. One that raises is logged and harms nobody."""
        if not self._observers or not self._has_started:
            return
        response = None if kind == "started" else self._accumulator.response
        seconds = time.monotonic() - self.call.started
        known = (self._known_cost, self._default_model())
        event = GenerationEvent(kind, self._provider, self.request, response, error, seconds, *known)
        for observer in list(self._observers):
            try:
                observer(event)
            except Exception:
                logger.exception("An observer of %s raised", self._provider)


def partial_reader(request: GenerateRequest) -> Callable[[str], Any] | None:
    """Return what reads an unfinished answer to a request, or None where it may have any form."""
    form: OutputFormat | None = request.response_format
    return None if form is None else form.partial


def limited(source: AsyncGenerator[T, None], call: Call) -> AsyncGenerator[T, None]:
    """Return the deltas of `source`; raises RequestTimeoutError when one is later than the call's limits allow.

    Closing what is returned closes `source`.
    """
    return source if call.timeout is NO_LIMITS or call.timeout == NO_LIMITS else _in_time(source, call)


async def _in_time(source: AsyncGenerator[T, None], call: Call) -> AsyncGenerator[T, None]:
    first = True
    async with aclosing(source):
        while True:
            try:
                delta = await _next_in_time(source, call, first=first)
            except StopAsyncIteration:
                return
            first = False
            yield delta


async def _next_in_time(source: AsyncGenerator[T, None], call: Call, *, first: bool) -> T:
    limits = dict(_limits(call, first=first))
    name = min(limits, key=lambda limit: limits[limit], default="total")
    scope = asyncio.timeout(limits.get(name))
    watch = _FirstEvent(call, scope) if first else None
    try:
        async with scope:
            return await anext(source)
    except TimeoutError as error:
        if not scope.expired():
            raise
        raise _too_late("first_event" if watch and watch.late else name, call.timeout) from error
    finally:
        if watch is not None:
            watch.stop()


def _limits(call: Call, *, first: bool) -> Iterator[tuple[str, float]]:
    """Yield the limits in seconds that hold for the next delta, whatever the provider says meanwhile."""
    left = call.remaining()
    if left is not None:
        yield "total", left
    if not first and call.timeout.idle is not None:
        yield "idle", call.timeout.idle


class _FirstEvent:
    """Ends `scope`, in which the first delta is waited for, when the limit passes and nothing has come.

    A provider may have its first token and no delta yet, as `Call.first_event` says, from any thread. So that fact is
    looked at when the limit passes, and not before.
    """

    def __init__(self, call: Call, scope: asyncio.Timeout) -> None:
        self.late = False
        self._call = call
        self._scope = scope
        self._loop = asyncio.get_running_loop()
        limit = call.timeout.first_event
        self._timer = None if limit is None else self._loop.call_later(limit, self._look)

    def _look(self) -> None:
        if self._call.begun or self._scope.expired():
            return
        self.late = True
        self._scope.reschedule(self._loop.time())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _too_late(name: str, timeout: Timeout) -> RequestTimeoutError:
    seconds = getattr(timeout, name)
    return RequestTimeoutError(
        f"The limit of {seconds:g} s for {name!r} passed; raise timeout or ask for fewer tokens.", limit=name
    )
