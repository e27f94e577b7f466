"""Runs of agents as their events tell of them: what each has done so far, and the record of one that is over."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, fields

from abstractllm.agent.events import RunFailed, RunFinished, RunInfo, ToolFinished, TurnFinished
from abstractllm.observing.records import RunRecord, ToolRecord
from abstractllm.types import Usage

MOST_OPEN = 10_000
"""Runs that are followed at once; beyond that, the oldest one is forgotten, as its end was never told."""


@dataclass(slots=True)
class _Progress:
    started: float
    turns: int = 0
    tool_calls: int = 0
    usage: Usage = field(default_factory=Usage)


class OpenRuns:
    """Runs that have begun and not ended; not safe to use from several threads at once."""

    def __init__(self) -> None:
        self._open: dict[str, _Progress] = {}

    def begin(self, info: RunInfo) -> None:
        """Follow a run from now on."""
        self._progress(info)

    def _progress(self, info: RunInfo) -> _Progress:
        found = self._open.get(info.run_id)
        if found is None:
            if len(self._open) >= MOST_OPEN:
                del self._open[next(iter(self._open))]
            found = self._open[info.run_id] = _Progress(time.monotonic())
        return found

    def turn(self, info: RunInfo, event: TurnFinished) -> None:
        """Count a turn."""
        progress = self._progress(info)
        progress.turns += 1
        progress.usage = together(progress.usage, event.response.usage)

    def tool(self, info: RunInfo, event: ToolFinished) -> ToolRecord:
        """Count a call, and return its record."""
        self._progress(info).tool_calls += 1
        outcome = event.outcome
        error = None if outcome.error is None or outcome.kind == "ok" else type(outcome.error).__name__
        return ToolRecord(info.run_id, info.agent, event.call.name, outcome.kind, outcome.seconds, time.time(), error)

    def end(self, info: RunInfo, event: RunFinished | RunFailed) -> RunRecord:
        """Follow a run no more, and return its record; of one that failed, it is what its events have told."""
        progress = self._progress(info)
        del self._open[info.run_id]
        stop, error = _ending(event)
        finished = event.result if isinstance(event, RunFinished) else progress
        return RunRecord(
            run_id=info.run_id,
            agent=info.agent,
            provider=info.provider,
            model=info.model or "",
            stop=stop,
            seconds=time.monotonic() - progress.started,
            ended=time.time(),
            turns=finished.turns,
            tool_calls=progress.tool_calls,
            usage=finished.usage or progress.usage,
            error=error,
        )


def _ending(event: RunFinished | RunFailed) -> tuple[str, str | None]:
    """Return why a run stopped, and the name of its error's class."""
    if isinstance(event, RunFinished):
        return event.result.stop, None
    if isinstance(event.error, asyncio.CancelledError):
        return "cancelled", None
    return "failed", type(event.error).__name__


def together(one: Usage, other: Usage | None) -> Usage:
    """Return the sum of two counts."""
    if other is None:
        return one
    return Usage(*(getattr(one, count.name) + getattr(other, count.name) for count in fields(Usage)))
