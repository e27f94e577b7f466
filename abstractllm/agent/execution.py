"""The calls of one turn -> their outcomes: side by side under a limit, each with its own end.

One that fails, hangs or is refused leaves the others alone. Knows no model and no history.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from abstractllm.agent.events import Event, OutcomeKind, ToolFinished, ToolOutcome, ToolStarted
from abstractllm.errors import InvalidParameterError, ToolArgumentError, ToolError
from abstractllm.threads import DaemonThreads
from abstractllm.tools import StopRun, Tool, ToolContext, ToolRetry
from abstractllm.tools.results import to_content
from abstractllm.types import Message, ToolCall, Usage

GRACE = 1.0
"""Seconds that an async tool which was cancelled has for its own end, before it is left to itself."""

_THREADS = 256
"""Sync tools that run at the same time in one process; further ones wait for their turn."""

CANCELLED = "The call was cancelled before it had a result."


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call that can be made: its tool is there and the arguments fit."""

    call: ToolCall
    tool: Tool
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class Ends:
    """The outcomes of one turn's calls, by their place in it; filled in as they come."""

    calls: Sequence[ToolCall]
    outcomes: dict[int, ToolOutcome] = field(default_factory=dict)

    def all(self) -> tuple[ToolOutcome, ...]:
        """Return one outcome for each call, in order; those that did not come to their end count as cancelled."""
        cancelled = ToolOutcome("cancelled", CANCELLED)
        return tuple(self.outcomes.get(number, cancelled) for number in range(len(self.calls)))


@dataclass(frozen=True, slots=True)
class Situation:
    """What a tool may know of the run that calls it."""

    deps: Any
    messages: Sequence[Message]
    usage: Usage


class Executor:
    """Makes the calls of one run. `tell` is told of each start and end, where the call runs."""

    def __init__(
        self,
        tools: Mapping[str, Tool],
        *,
        timeout: float | None,
        parallel: int,
        raise_errors: bool,
        tell: Callable[[Event], None],
    ) -> None:
        self._tools = tools
        self._timeout = timeout
        self._parallel = parallel
        self._raise_errors = raise_errors
        self._tell = tell

    def prepare(self, call: ToolCall) -> Prepared | ToolOutcome:
        """Return what can be called, or why it cannot, for the model to read."""
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            return refused("error", f"There is no tool named {call.name!r}; the tools are: {known}.")
        if call.invalid is not None:
            return refused("error", f"The arguments are not a JSON object and cannot be read: {call.invalid:.500}")
        try:
            return Prepared(call, tool, tool.arguments(call.arguments))
        except ToolArgumentError as error:
            return refused("error", error.message, error)

    async def run(self, prepared: Mapping[int, Prepared], ends: Ends, situation: Situation) -> None:
        """Make the calls and put their outcomes into `ends`, by the same numbers.

        Cancelling it cancels them; then those that have ended are in `ends`. Raises ToolError for a tool that failed
        where that is asked for, having cancelled the others.
        """
        for group in _groups(prepared):
            ways = [self._follow(number, prepared[number], ends, situation) for number in group]
            if len(ways) == 1:
                await ways[0]
            else:
                await _together(ways, self._parallel)

    async def _follow(self, number: int, prepared: Prepared, ends: Ends, situation: Situation) -> None:
        """Make one call and tell its start and end."""
        self._tell(ToolStarted(prepared.call))
        started = time.perf_counter()
        try:
            outcome = await self._attempts(prepared, situation, started)
        except asyncio.CancelledError:
            outcome = ToolOutcome("cancelled", CANCELLED, seconds=time.perf_counter() - started)
            self._end(number, prepared.call, outcome, ends)
            raise
        self._end(number, prepared.call, outcome, ends)
        if self._raise_errors and outcome.kind in ("error", "timeout") and not isinstance(outcome.error, ToolRetry):
            raise ToolError(prepared.tool.name, str(outcome.content)) from outcome.error

    def _end(self, number: int, call: ToolCall, outcome: ToolOutcome, ends: Ends) -> None:
        ends.outcomes[number] = outcome
        self._tell(ToolFinished(call, outcome))

    async def _attempts(self, prepared: Prepared, situation: Situation, started: float) -> ToolOutcome:
        """Return how the last attempt ended; only one that fails for no reason of the model's has another after it."""
        tool = prepared.tool
        for attempt in range(1, tool.retries + 2):
            try:
                value = await self._value(prepared, situation, attempt)
                return ToolOutcome("ok", to_content(value), value, seconds=time.perf_counter() - started)
            except StopRun as stop:
                return ToolOutcome("ok", _stop_content(stop), stop.value, stop, time.perf_counter() - started)
            except ToolRetry as error:
                return _failed("error", str(error), error, started)
            except _TooLate as error:
                outcome = _failed("timeout", str(error), error, started)
            except Exception as error:  # whatever a tool raises is news for the model, not the end of the run
                outcome = _failed("error", f"{type(error).__name__}: {error}", error, started)
        return outcome

    async def _value(self, prepared: Prepared, situation: Situation, attempt: int) -> Any:
        """Call the function once and return what it returns. Raises what it raises, or _TooLate."""
        tool, over = prepared.tool, Flag()
        arguments = dict(prepared.arguments)
        if tool.context is not None:
            arguments[tool.context] = ToolContext(
                situation.deps, prepared.call, attempt, situation.messages, situation.usage, over.looked_at
            )
        function = functools.partial(tool.function, **arguments)
        limit = self._timeout if tool.timeout is None else tool.timeout
        limit = None if limit == math.inf else limit
        return await _in_time(function, tool.is_async, limit, over)


class Flag:
    """Whether a call is no longer wanted; set once, read on any thread."""

    __slots__ = ("is_set",)

    def __init__(self) -> None:
        self.is_set = False

    def looked_at(self) -> bool:
        """Return whether it is set."""
        return self.is_set


class _TooLate(Exception):
    """A tool took longer than it may."""


async def _in_time(function: Callable[[], Any], is_async: bool, limit: float | None, over: Flag) -> Any:
    """Return the value of a function, which runs as a task of its own or in a thread, within so many seconds.

    A thread cannot be stopped: a sync function that is too late goes on, and its value is thrown away.
    """
    work = _begin(function, is_async)
    try:
        done, _ = await asyncio.wait((work,), timeout=limit)
    except asyncio.CancelledError:
        over.is_set = True
        await _cancel([work])
        raise
    if not done:
        over.is_set = True
        await _cancel([work])
        raise _TooLate(f"The tool had no result within {limit:g} s and was given up.")
    if work.cancelled():
        raise RuntimeError("The tool cancelled itself.")
    value = work.result()
    if inspect.isawaitable(value):  # a plain function that returns a coroutine
        return await _in_time(functools.partial(_awaited, value), True, limit, over)
    return value


def _begin(function: Callable[[], Any], is_async: bool) -> asyncio.Future[Any]:
    if is_async:
        task: asyncio.Future[Any] = asyncio.ensure_future(function())
        return task
    context = contextvars.copy_context()
    return asyncio.wrap_future(_threads(os.getpid()).submit(context.run, _without_stop_iteration, function))


def _without_stop_iteration(function: Callable[[], Any]) -> Any:
    """Call a function; a StopIteration, which no future can hold, becomes a RuntimeError."""
    try:
        return function()
    except StopIteration as error:
        raise RuntimeError("The tool raised StopIteration.") from error


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


@functools.lru_cache(maxsize=1)
def _threads(pid: int) -> DaemonThreads:
    """Return the threads for sync tools of this process; a forked child gets its own."""
    return DaemonThreads(_THREADS, "abstractllm-tools")


async def _together(ways: Iterable[Any], parallel: int) -> None:
    """Run coroutines side by side, at most `parallel` at a time; the first one that raises ends the others."""
    slots = asyncio.Semaphore(parallel)

    async def held(way: Any) -> None:
        async with slots:
            await way

    tasks = [asyncio.ensure_future(held(way)) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        await _cancel([task for task in tasks if not task.done()])
    for task in tasks:
        if not task.cancelled():
            task.result()


async def _cancel(works: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel what still runs and wait for its end, for a while."""
    for work in works:
        work.cancel()
    if not works:
        return
    _, left = await asyncio.wait(works, timeout=GRACE)
    for work in left:
        work.add_done_callback(_forget)


def _forget(work: asyncio.Future[Any]) -> None:
    """Take note of the end of a tool that would not end, so that its late error is not reported as nobody's."""
    if not work.cancelled():
        work.exception()


def _groups(prepared: Mapping[int, Prepared]) -> Iterator[list[int]]:
    """Yield the numbers of calls that may run side by side; one of a sequential tool runs alone."""
    group: list[int] = []
    for number, one in prepared.items():
        if not one.tool.sequential:
            group.append(number)
            continue
        if group:
            yield group
        yield [number]
        group = []
    if group:
        yield group


def _failed(kind: OutcomeKind, text: str, error: Exception, started: float) -> ToolOutcome:
    return ToolOutcome(kind, f"Error: {text}", error=error, seconds=time.perf_counter() - started)


def refused(kind: OutcomeKind, text: str, error: Exception | None = None) -> ToolOutcome:
    """Return the outcome of a call that is not made."""
    return ToolOutcome(kind, f"Error: {text}", error=error)


def _stop_content(stop: StopRun) -> Any:
    try:
        return to_content(stop.value)
    except InvalidParameterError:  # the value is for the caller of the run, and may be anything
        return "The run was ended."
