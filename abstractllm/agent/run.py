"""One run of an agent, as its readers hold it: events for any number of them, and one result. Knows no model."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, Self

from typing_extensions import TypeVar

from abstractllm.agent.events import Event, RunFailed, RunFinished, RunInfo, RunStarted
from abstractllm.agent.feed import Feed, call_on
from abstractllm.agent.plan import Plan, Task
from abstractllm.agent.result import Result
from abstractllm.agent.text import TextReader
from abstractllm.agent.turns import Turns
from abstractllm.errors import UnsupportedOperationError
from abstractllm.history import unanswered
from abstractllm.portal import portal
from abstractllm.types import Message, Usage

O = TypeVar("O", default=str)  # noqa: E741 (the output of an agent)

logger = logging.getLogger("abstractllm")

_running: set[asyncio.Task[Any]] = set()
"""Event loops hold their tasks weakly."""


class Occasion(Protocol):
    """Where a run's task comes from and its result goes to, such as a conversation that is kept."""

    async def begin(self) -> Task:
        """Return what the run is asked, having waited for its turn."""

    async def end(self, result: Result[Any] | None) -> None:
        """Take the result, or None of a run that failed. Called once, after `begin` has returned."""


class Run(Generic[O]):
    """A run of an agent: iterate over its events, await its result, or both, as often as wanted.

    It starts when it is first awaited, iterated or entered with `with`: on the running event loop, or else, for sync
    readers, on the package's own. Every reader gets all events from the first one on, however late it comes; a run that
    failed raises its error to each, at the end of the events and wherever the result is asked for.

    It ends early, as after `cancel`, when the last one who reads or awaits it leaves before its end, and when a `with`
    block that it was entered with is left.
    """

    def __init__(self, plan: Plan, occasion: Occasion, known: Task | None = None) -> None:
        """Make a run that has not begun; `known` is what is known of its task before that."""
        provider = getattr(plan.llm, "name", type(plan.llm).__name__)
        self.info = RunInfo(uuid.uuid4().hex, plan.name, provider, plan.llm.model_name())
        self._plan = plan
        self._occasion = occasion
        self._known = known
        self._feed: Feed[Event] = Feed()
        self._lock = threading.Lock()
        self._started = False
        self._stream = False
        self._turns: Turns | None = None
        self._task: asyncio.Task[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cancelled = False
        self._stops_after_turn = False
        self._is_ending = False
        self._holders: set[object] = set()
        self._result: Result[Any] | None = None
        self._error: BaseException | None = None
        self._trace: TracebackType | None = None

    # Reading.

    async def __aiter__(self) -> AsyncIterator[Event]:
        self._start(stream=True)
        holder = self._hold()
        try:
            async for event in self._feed.follow():
                yield event
        finally:
            await self._leave(holder)
        self._check()

    def __iter__(self) -> Iterator[Event]:
        self._start_elsewhere(stream=True)
        holder = self._hold()
        try:
            yield from self._feed.follow_sync()
        finally:
            self._leave_sync(holder)
        self._check()

    def text(self) -> TextReader:
        """Return the text of the run in pieces, for `for` and `async for`; turns are parted by a blank line."""
        return TextReader(self)

    def __await__(self) -> Generator[Any, Any, Result[O]]:
        return self.wait().__await__()

    async def wait(self) -> Result[O]:
        """Return the result, as awaiting the run does."""
        self._start(stream=False)
        holder = self._hold()
        try:
            while not self._feed.ended:
                await self._feed.news(len(self._feed.items))
        finally:
            await self._leave(holder)
        return self._outcome()

    def result(self) -> Result[O]:
        """Return the result, by blocking a thread that has no event loop to keep going; elsewhere, await the run."""
        self._start_elsewhere(stream=False)
        holder = self._hold()
        try:
            for _ in self._feed.follow_sync():
                pass
        finally:
            self._leave_sync(holder)
        return self._outcome()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, also of a run that failed: each call in it that has ended has its result."""
        if self._turns is not None:
            return self._turns.messages
        return () if self._known is None else self._known.messages

    # Ending.

    def cancel(self, *, after_turn: bool = False) -> None:
        """End the run: now, or when the present turn's calls have their results. Safe to call twice, on any thread.

        Its result says `stop="cancelled"` and holds what there is. A run that has not begun asks nothing when it is
        read later; with `after_turn` it takes its first turn, and is cancelled where that is not its end.
        """
        if self._feed.ended:
            return
        if after_turn:
            self._stops_after_turn = True
            if self._turns is not None:
                self._turns.stop_after_turn = True
        elif not self._cancelled:
            self._cancelled = True
            if self._loop is not None:
                call_on(self._loop, self._interrupt)

    def _interrupt(self) -> None:
        """Cancel the task, unless it has done its work and hands the result over."""
        if self._task is not None and not (self._is_ending or self._feed.ended):
            self._task.cancel()

    async def __aenter__(self) -> Self:
        self._start(stream=True)
        self._hold(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        await self._leave(self)
        await self._ended()

    def __enter__(self) -> Self:
        self._start_elsewhere(stream=True)
        self._hold(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        self._leave_sync(self)
        self._wait_for_end()

    def _hold(self, holder: object | None = None) -> object:
        """Keep the run going for somebody; return what to leave with."""
        holder = object() if holder is None else holder
        self._holders.add(holder)
        return holder

    async def _leave(self, holder: object) -> None:
        """Let go of the run; the last one to do so ends it and waits for its end."""
        self._holders.discard(holder)
        if not self._holders and not self._feed.ended:
            self.cancel()
            await self._ended()

    def _leave_sync(self, holder: object) -> None:
        self._holders.discard(holder)
        if not self._holders and not self._feed.ended:
            self.cancel()
            self._wait_for_end()

    async def _ended(self) -> None:
        while not self._feed.ended:
            await self._feed.news(len(self._feed.items))

    def _wait_for_end(self) -> None:
        while not self._feed.ended:
            self._feed.wait_for_news(len(self._feed.items))

    # Running.

    def _start(self, *, stream: bool) -> None:
        """Start on the running event loop, unless that is done."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._started:
                self._give_up_if_lost()
                return
            self._started, self._stream, self._loop = True, stream, loop
        task = loop.create_task(self._kept())
        _running.add(task)
        task.add_done_callback(self._close)

    def _start_elsewhere(self, *, stream: bool) -> None:
        """Start on the package's event loop, unless it runs already; refuse where waiting could never end."""
        with self._lock:
            if not self._started:
                self._stream = stream  # before the start, which another thread may see to at once
                job = portal().spawn(self._kept)
                self._started = True
                job.outcome.add_done_callback(self._close)
                return
        self._give_up_if_lost()
        if self._loop is not None and not self._feed.ended and _running_loop() is self._loop:
            raise UnsupportedOperationError(
                "This run goes on in this thread's event loop, which a sync reader would hold up; use `async for`."
            )

    def _give_up_if_lost(self) -> None:
        """End a run that cannot go on, as its event loop was closed."""
        if self._loop is not None and self._loop.is_closed() and not self._feed.ended:
            self._error = UnsupportedOperationError(
                "The event loop of this run was closed before its end; run it anew."
            )
            self._feed.end()

    async def here(self) -> Result[O]:
        """Run in the present task, to the end. For one that nobody else reads: cancelling the task cancels it."""
        self._started = True
        try:
            await self._run()
        finally:
            self._feed.end()
        return self._outcome()

    async def _kept(self) -> None:
        """Run in a task of its own; what is raised is kept for the readers."""
        try:
            await self._run()
        except (Exception, asyncio.CancelledError):
            return
        finally:
            self._feed.end()

    def _close(self, done: Any) -> None:
        """End the feed of a run that was cancelled before its first step, too."""
        if isinstance(done, asyncio.Task):
            _running.discard(done)
        if self._result is None and self._error is None:
            self._result = self._nothing()
        self._feed.end()

    async def _run(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._cancelled:
            self._result = self._nothing()
            return
        try:
            task = await self._occasion.begin()
        except asyncio.CancelledError:
            self._result = self._nothing()
            raise
        except BaseException as error:
            self._fail(error)
            raise
        try:
            await self._take_turns(task)
        finally:
            await self._end_occasion()

    async def _end_occasion(self) -> None:
        """Hand the result over; where it cannot be kept, the run has failed."""
        self._is_ending = True
        try:
            await self._occasion.end(self._result)
        except asyncio.CancelledError:  # has come too late: the run had its end
            raise
        except BaseException as error:
            self._error, self._trace = error, error.__traceback__
            raise

    async def _take_turns(self, task: Task) -> None:
        self._turns = turns = Turns(self._plan, task, self.info.run_id, self._tell, stream=self._stream)
        turns.stop_after_turn = self._stops_after_turn
        self._tell(RunStarted(task.messages))
        try:
            self._finish(await turns.run())
        except asyncio.CancelledError:
            self._finish(turns.result("cancelled"))
            raise
        except BaseException as error:
            self._fail(error)
            raise

    def _finish(self, result: Result[Any]) -> None:
        self._result = result
        self._tell(RunFinished(result))

    def _fail(self, error: BaseException) -> None:
        self._error, self._trace = error, error.__traceback__
        self._tell_observers(RunFailed(error))

    def _nothing(self) -> Result[Any]:
        """Return the result of a run that was cancelled before it had begun."""
        task = self._known or Task((), 0)
        new = task.messages[len(task.messages) - task.new :]
        return Result(
            None if self._plan.form else "",
            "",
            task.messages,
            new,
            Usage(),
            0,
            "cancelled",
            unanswered(task.messages),
            self.info.run_id,
        )

    def _tell(self, event: Event) -> None:
        if self._plan.observers:
            self._tell_observers(event)
        self._feed.put(event)

    def _tell_observers(self, event: Event | RunFailed) -> None:
        for observer in self._plan.observers:
            try:
                observer(self.info, event)
            except Exception:
                logger.exception("An observer of the agent %r raised", self.info.agent)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error.with_traceback(self._trace)

    def _outcome(self) -> Result[O]:
        self._check()
        assert self._result is not None
        return self._result


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
