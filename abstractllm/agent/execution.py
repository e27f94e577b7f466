"""The calls of one turn -> their outcomes: side by side under a limit, each with its own end.

One that fails, hangs or is refused leaves the others alone. Knows no model and no history.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import inspect
import math
import os
import threading
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

_ERROR = "Error: "
"""What the model reads before what went wrong."""

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
    _stops: dict[int, StopRun] = field(default_factory=dict)

    def add(self, number: int, outcome: ToolOutcome) -> None:
        """Take the outcome of a call."""
        self.outcomes[number] = outcome
        if isinstance(outcome.error, StopRun):
            self._stops[number] = outcome.error

    @property
    def stop(self) -> StopRun | None:
        """What a tool ended the run with; of several, that of the first call."""
        return self._stops[min(self._stops)] if self._stops else None

    def all(self) -> tuple[ToolOutcome, ...]:
        """Return one outcome for each call, in order; those that did not come to their end count as cancelled."""
        numbers = range(len(self.calls))
        return tuple(self.outcomes.get(number) or ToolOutcome("cancelled", CANCELLED) for number in numbers)


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
        except Exception as error:  # from what a type of the application's own does when it is made
            return refused("error", f"The arguments cannot be read: {type(error).__name__}: {error}", error)

    async def run(self, prepared: Mapping[int, Prepared], ends: Ends, situation: Situation) -> None:
        """Make the calls and put their outcomes into `ends`, by the same numbers.

        Cancelling it cancels them; then those that have ended are in `ends`. After a StopRun no further one is begun.
        Raises ToolError for a tool that failed where that is asked for, having cancelled the others.
        """
        for group in _groups(prepared):
            ways = [functools.partial(self._follow, number, prepared[number], ends, situation) for number in group]
            if len(ways) == 1:
                await ways[0]()
            else:
                await _together(ways, self._parallel)

    async def _follow(self, number: int, prepared: Prepared, ends: Ends, situation: Situation) -> None:
        """Make one call and tell its start and end."""
        if ends.stop is not None:
            return
        self._tell(ToolStarted(prepared.call))
        started = time.perf_counter()
        try:
            outcome = await self._attempts(prepared, situation, started)
        except asyncio.CancelledError:
            outcome = ToolOutcome("cancelled", CANCELLED, seconds=time.perf_counter() - started)
            self._end(number, prepared.call, outcome, ends)
            raise
        self._end(number, prepared.call, outcome, ends)
        self.check(prepared.call, outcome)

    def check(self, call: ToolCall, outcome: ToolOutcome) -> None:
        """Raise ToolError for a call that failed, or could not be made, where that is to end the run."""
        if self._raise_errors and outcome.kind in ("error", "timeout") and not isinstance(outcome.error, ToolRetry):
            raise ToolError(call.name, str(outcome.content).removeprefix(_ERROR)) from outcome.error

    def _end(self, number: int, call: ToolCall, outcome: ToolOutcome, ends: Ends) -> None:
        ends.add(number, outcome)
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
            except _TooLate as late:
                outcome = _failed("timeout", str(late), TimeoutError(str(late)), started)
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
    """A tool took longer than it may; no TimeoutError, which a tool may raise itself."""


async def _in_time(function: Callable[[], Any], is_async: bool, limit: float | None, over: Flag) -> Any:
    """Return the value of a function, which runs as a task of its own or in a thread, within so many seconds.

    A thread cannot be stopped: a sync function that is too late goes on, and its value is thrown away.
    """
    work = _begin(function, is_async)
    try:
        done = await _is_done(work, limit)
    except asyncio.CancelledError:
        over.is_set = True
        await _cancel(work)
        raise
    if not done:
        over.is_set = True
        await _cancel(work)
        raise _TooLate(f"The tool had no result within {limit:g} s and was given up.")
    if work.cancelled():
        raise RuntimeError("The tool cancelled itself.")
    value = work.result()
    if inspect.isawaitable(value) and not isinstance(value, str):  # a coroutine, or a Reply, but not an Answer
        return await _in_time(functools.partial(_awaited, value), True, limit, over)
    return value


async def _is_done(work: asyncio.Future[Any], limit: float | None) -> bool:
    """Wait for the end of work, at most so many seconds, and return whether it has come; the work goes on if not."""
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    timer = None if limit is None else loop.call_later(limit, wake)
    work.add_done_callback(wake)
    try:
        await waiter
    finally:
        work.remove_done_callback(wake)
        if timer is not None:
            timer.cancel()
    return work.done()


def _begin(function: Callable[[], Any], is_async: bool) -> asyncio.Future[Any]:
    if is_async:
        return asyncio.ensure_future(_without_exit(function))
    context = contextvars.copy_context()
    return asyncio.wrap_future(_threads(os.getpid()).submit(context.run, _without_signs, function))


_SIGNS = (StopIteration, SystemExit, KeyboardInterrupt, asyncio.CancelledError, concurrent.futures.CancelledError)
"""Exceptions that mean something else to futures and event loops than that a tool failed."""


def _without_signs(function: Callable[[], Any]) -> Any:
    """Call a function in a thread that is not the main one, where Ctrl-C never arrives; `_SIGNS` are RuntimeErrors."""
    try:
        return function()
    except _SIGNS as error:
        raise RuntimeError(f"The tool raised {type(error).__name__}.") from error


async def _without_exit(function: Callable[[], Awaitable[Any]]) -> Any:
    """Call a function and await it; what would end the event loop becomes a RuntimeError, but for a real Ctrl-C."""
    try:
        return await function()
    except (SystemExit, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            raise
        raise RuntimeError(f"The tool raised {type(error).__name__}.") from error


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


@functools.lru_cache(maxsize=1)
def _threads(pid: int) -> DaemonThreads:
    """Return the threads for sync tools of this process; a forked child gets its own."""
    return DaemonThreads(_THREADS, "abstractllm-tools")


async def _together(ways: Iterable[Callable[[], Awaitable[None]]], parallel: int) -> None:
    """Call coroutine functions side by side, at most `parallel` at a time; the first that raises ends the others."""
    slots = asyncio.Semaphore(parallel)

    async def held(way: Callable[[], Awaitable[None]]) -> None:
        async with slots:
            await way()

    tasks = [asyncio.ensure_future(held(way)) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)  # each gives its tool up in time
    errors = [task.exception() for task in tasks if not task.cancelled()]
    for error in filter(None, errors):
        raise error


async def _cancel(work: asyncio.Future[Any]) -> None:
    """Cancel what still runs and wait for its end, for a while."""
    work.add_done_callback(_forget)
    work.cancel()
    await asyncio.wait((work,), timeout=GRACE)


def _forget(work: asyncio.Future[Any]) -> None:
    """Take note of the end of a tool that was given up, so that its error is not reported as nobody's."""
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
    return ToolOutcome(kind, f"{_ERROR}{text}", error=error, seconds=time.perf_counter() - started)


def refused(kind: OutcomeKind, text: str, error: Exception | None = None) -> ToolOutcome:
    """Return the outcome of a call that is not made."""
    return ToolOutcome(kind, f"{_ERROR}{text}", error=error)


def _stop_content(stop: StopRun) -> Any:
    try:
        return to_content(stop.value)
    except InvalidParameterError:  # the value is for the caller of the run, and may be anything
        return "The run was ended."
