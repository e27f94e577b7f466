"""Spans of agents: what hangs from what, how they end, and that none of them stays behind."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from opentelemetry import context as contexts, trace
from opentelemetry.trace import SpanKind, StatusCode

from abstractllm.agent.events import (
    RunFailed,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolFinished,
    ToolOutcome,
    ToolStarted,
    TurnFinished,
)
from abstractllm.errors import GenerationError
from abstractllm.observing import tracing as module
from abstractllm.observing.conversation import conversation
from abstractllm.providers.run import GenerationEvent
from abstractllm.types import (
    GenerateRequest,
    GenerateResponse,
    Message,
    ToolCall,
)

from .spans import CALL, OK, SECRET, Trace, agent_run, info, nothing, result, tool_call


async def test_the_tree_of_a_run():
    trace = Trace()
    llm, who = trace.llm(), info()

    async def asked():
        await llm.generate_async("plan")
        await tool_call(trace, who, CALL, lambda: llm.generate_async("inside", stream=False, max_tokens=7))
        trace.tracing(who, TextDelta("x"))
        trace.tracing(who, TurnFinished(1, GenerateResponse()))

    await agent_run(trace, who, asked)
    outer, tool, inner, root = trace.ended[0], trace.spans["execute_tool add"], trace.ended[1], trace.ended[-1]
    assert root.name == "invoke_agent helper"
    assert root.parent is None
    assert outer.parent.span_id == tool.parent.span_id == root.context.span_id
    assert inner.parent.span_id == tool.context.span_id
    assert {span.context.trace_id for span in trace.ended} == {root.context.trace_id}
    assert (root.kind, tool.kind) == (SpanKind.INTERNAL, SpanKind.INTERNAL)
    assert dict(root.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "echo",
        "gen_ai.request.model": "echo",
        "gen_ai.agent.name": "helper",
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 4,
        "gen_ai.usage.cache_read.input_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "abstractllm.run.id": "1",
        "abstractllm.run.stop": "end",
        "abstractllm.run.turns": 2,
    }
    assert dict(tool.attributes) == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "add",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "call-1",
        "gen_ai.agent.name": "helper",
        "abstractllm.tool.outcome": "ok",
    }


async def test_runs_and_calls_at_once_do_not_mix():
    trace = Trace()
    llm, meet = trace.llm(), asyncio.Barrier(6)

    async def one(number):
        who = info(str(number), f"agent-{number}")

        async def inside(name):
            await meet.wait()
            await llm.generate_async("Hi", system_prompt=f"{number}{name}")
            await meet.wait()

        async def body():
            calls = [ToolCall(name, f"{name}-{number}") for name in ("x", "y")]
            await asyncio.gather(*(tool_call(trace, who, call, lambda c=call: inside(c.id)) for call in calls))

        await agent_run(trace, who, body)

    await asyncio.gather(*(one(number) for number in range(3)))
    parents = trace.parents()
    for number in range(3):
        assert parents[f"execute_tool x-{number}"] == f"invoke_agent agent-{number}"
        assert parents[f"execute_tool y-{number}"] == f"invoke_agent agent-{number}"
    tools = {span.context.span_id for span in trace.ended if span.name.startswith("execute_tool")}
    chats = [span.parent.span_id for span in trace.ended if span.name == "chat echo"]
    assert sorted(chats) == sorted(tools)


async def test_a_tool_in_a_thread_and_a_run_inside_a_tool():
    trace = Trace()
    llm = trace.llm()

    async def sync_tool():
        await asyncio.to_thread(lambda: (llm.generate("a"), llm.generate("b", timeout=30)))

    async def nested():
        await agent_run(trace, info("2", "inner"), sync_tool)

    await agent_run(trace, info(), lambda: tool_call(trace, info(), CALL, nested))
    assert trace.parents() == {
        "invoke_agent helper": None,
        "execute_tool add": "invoke_agent helper",
        "invoke_agent inner": "execute_tool add",
        "chat echo": "invoke_agent inner",
    }


async def test_a_call_hangs_from_its_run_in_whatever_context_it_is():
    trace = Trace()

    async def body():
        call = [(ToolStarted(CALL),), (ToolFinished(CALL, OK),)]
        contextvars.Context().run(lambda: [trace.tracing(info(), *event) for event in call])

    await agent_run(trace, info(), body)
    assert trace.parents() == {"execute_tool add": "invoke_agent helper", "invoke_agent helper": None}


async def test_spans_of_the_tools_own_hang_from_it():
    trace = Trace()

    async def body():
        with trace.provider.get_tracer("db").start_as_current_span("query"):
            pass

    await agent_run(trace, info(), lambda: tool_call(trace, info(), CALL, body))
    assert trace.parents()["query"] == "execute_tool add"


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (ToolOutcome("ok", ""), StatusCode.UNSET, None),
        (ToolOutcome("error", SECRET, error=KeyError(SECRET)), StatusCode.ERROR, "KeyError"),
        (ToolOutcome("error", SECRET), StatusCode.ERROR, "error"),
        (ToolOutcome("timeout", "", error=TimeoutError(SECRET)), StatusCode.ERROR, "timeout"),
        (ToolOutcome("denied", ""), StatusCode.UNSET, None),
        (ToolOutcome("cancelled", ""), StatusCode.UNSET, None),
    ],
)
async def test_how_a_call_ended(outcome, status, error):
    trace = Trace()
    await tool_call(trace, info(), CALL, nothing, outcome)
    (span,) = trace.ended
    assert span.status.status_code is status
    assert span.attributes.get("error.type") == error
    assert span.attributes["abstractllm.tool.outcome"] == outcome.kind


def test_a_call_or_run_that_was_never_started_has_a_span():
    trace = Trace()
    trace.tracing(info(), ToolFinished(CALL, ToolOutcome("denied", "")))
    trace.tracing(info(), RunFailed(GenerationError("no")))
    assert [span.name for span in trace.ended] == ["execute_tool add", "invoke_agent helper"]
    assert trace.ended[1].attributes["error.type"] == "GenerationError"
    assert not trace_is_current()


async def test_calls_of_one_id_are_told_apart():
    trace, meet = Trace(), asyncio.Barrier(2)
    calls = [ToolCall("same", "first"), ToolCall("same", "second")]
    await asyncio.gather(*(tool_call(trace, info(), call, meet.wait) for call in calls))
    assert sorted(trace.spans) == ["execute_tool first", "execute_tool second"]
    assert all(span.end_time for span in trace.ended)


def trace_is_current():
    return trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize(
    ("error", "status", "stop"),
    [(GenerationError(SECRET), StatusCode.ERROR, None), (asyncio.CancelledError(), StatusCode.UNSET, "cancelled")],
)
async def test_a_run_that_broke_off(error, status, stop):
    trace = Trace()

    async def broken():
        raise error

    with pytest.raises(type(error)):
        await agent_run(trace, info(), broken)
    (span,) = trace.ended
    assert (span.status.status_code, span.status.description) == (status, None)
    assert span.attributes.get("abstractllm.run.stop") == stop
    assert span.attributes.get("error.type") == (None if stop else "GenerationError")


def test_an_end_told_elsewhere_is_not_an_error_and_leaves_no_ghost(caplog):
    trace = Trace()
    llm = trace.llm()

    def begun_here_and_ended_there():
        trace.tracing(info(), RunStarted(()))
        trace.tracing(info(), ToolStarted(CALL))
        other = contextvars.copy_context()
        other.run(trace.tracing, info(), ToolFinished(CALL, ToolOutcome("ok", "")))
        other.run(trace.tracing, info(), RunFinished(result()))
        llm.generate("after")

    with trace.provider.get_tracer("app").start_as_current_span("work"):
        contextvars.copy_context().run(begun_here_and_ended_there)
    assert trace.parents() == {
        "work": None,
        "invoke_agent helper": "work",
        "execute_tool add": "invoke_agent helper",
        "chat echo": "work",
    }
    assert caplog.records == []


def test_a_run_in_the_callers_own_context_leaves_it_as_it_was():
    trace = Trace()
    before = contexts.get_current()
    for end in (RunFinished(result()), RunFailed(ValueError())):
        trace.tracing(info(), RunStarted(()))
        trace.tracing(info(), ToolStarted(CALL))
        trace.tracing(info(), ToolFinished(CALL, ToolOutcome("ok", "")))
        trace.tracing(info(), end)
        assert contexts.get_current() is before
    assert not trace_is_current()


def test_spans_whose_end_is_never_told_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    trace = Trace()
    requests = [GenerateRequest((Message("user", str(number)),)) for number in range(3)]
    for number, request in enumerate(requests):
        trace.tracing(GenerationEvent("started", "p", request))
        contextvars.copy_context().run(trace.tracing, info(str(number)), RunStarted(()))
        contextvars.copy_context().run(trace.tracing, info(str(number)), ToolStarted(CALL))
    assert sorted(span.name for span in trace.ended) == ["chat", "execute_tool add", "invoke_agent helper"]


async def test_a_conversation_is_known_to_all_that_begins_in_it():
    trace = Trace()
    llm = trace.llm()
    with conversation("support-7"):
        await agent_run(trace, info(), lambda: asyncio.to_thread(llm.generate, "Hi", timeout=30))
    llm.generate("Hi")
    told = [span.attributes.get("gen_ai.conversation.id") for span in trace.ended]
    assert told == ["support-7", "support-7", None]
