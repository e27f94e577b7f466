"""Spans as tests look at them, and runs as tests tell of them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from abstractllm import Tracing, create_llm
from abstractllm.agent.events import (
    RunFailed,
    RunFinished,
    RunInfo,
    RunStarted,
    ToolFinished,
    ToolOutcome,
    ToolStarted,
)
from abstractllm.types import (
    Message,
    ToolCall,
    Usage,
)

SECRET = "the swordfish swims at noon"


class Trace:
    """A tracing object and the spans that it has ended."""

    def __init__(self, **settings):
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider, **settings)

    @property
    def spans(self):
        return {span.name: span for span in self._exporter.get_finished_spans()}

    @property
    def ended(self):
        return self._exporter.get_finished_spans()

    def llm(self, **settings):
        llm = create_llm("echo", **settings)
        llm.observers.append(self.tracing)
        return llm

    def parents(self):
        """Return the name of each span's parent, by the span's name."""
        names = {span.context.span_id: span.name for span in self.ended}
        return {span.name: span.parent and names[span.parent.span_id] for span in self.ended}


def info(run_id="1", agent="helper"):
    return RunInfo(run_id, agent, "echo", "echo")


def result(stop="end", turns=2):
    return SimpleNamespace(usage=Usage(30, 4, 10, 2), turns=turns, stop=stop)


CALL = ToolCall("call-1", "add", {"a": 1})
OK = ToolOutcome("ok", "3")


async def agent_run(trace, who, body):
    """Tell of a run as an agent does: in one task of its own."""

    async def task():
        trace.tracing(who, RunStarted((Message("user", SECRET),)))
        try:
            await body()
        except BaseException as error:
            trace.tracing(who, RunFailed(error))
            raise
        trace.tracing(who, RunFinished(result()))

    await asyncio.create_task(task())


async def tool_call(trace, who, call, body, outcome=OK):
    async def task():
        trace.tracing(who, ToolStarted(call))
        await body()
        trace.tracing(who, ToolFinished(call, outcome))

    await asyncio.create_task(task())


async def nothing():
    pass
