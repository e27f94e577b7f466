"""Spans as OpenTelemetry's own SDK records them: names, parents, endings, and no content unless it is asked for."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from types import SimpleNamespace

import pytest
from opentelemetry import context as contexts, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from abstractllm import Tracing, create_llm
from abstractllm.agent.events import (
    RunFailed,
    RunFinished,
    RunInfo,
    RunStarted,
    TextDelta,
    ToolFinished,
    ToolOutcome,
    ToolStarted,
    TurnFinished,
)
from abstractllm.errors import AuthenticationError, GenerationError
from abstractllm.observing import tracing as module
from abstractllm.observing.content import as_json, messages_json
from abstractllm.observing.conversation import conversation
from abstractllm.providers.echo import Reply
from abstractllm.providers.run import GenerationEvent
from abstractllm.testing.faces import Face, ask
from abstractllm.types import (
    DocumentPart,
    GenerateRequest,
    GenerateResponse,
    ImagePart,
    Message,
    TextPart,
    Timings,
    ToolCall,
    ToolDefinition,
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


# Requests.


@pytest.mark.parametrize("face", list(Face))
def test_every_face_makes_one_span(face):
    trace = Trace()
    ask(trace.llm(), face, "one two", temperature=0.5, stop=["x"], seed=3, max_tokens=9)
    (span,) = trace.ended
    assert (span.name, span.kind, span.status.status_code, span.parent) == (
        "chat echo",
        SpanKind.CLIENT,
        StatusCode.UNSET,
        None,
    )
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "echo",
        "gen_ai.request.model": "echo",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.request.seed": 3,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.response.model": "echo",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 2,
    } | ({"gen_ai.request.stream": True} if face.streams else {})


def test_all_that_an_answer_tells_is_there():
    trace = Trace()
    request = GenerateRequest((Message("user", "Hi"),), stream=True, model="m", n=2, top_k=4)
    choices = (GenerateResponse(finish_reason="stop"), GenerateResponse(finish_reason="length"))
    response = GenerateResponse(
        usage=Usage(5, 6, 2, 3), timings=Timings(0.5, 0.25), choices=choices, raw_response={"id": "resp-1"}
    )
    trace.tracing(GenerationEvent("started", "mistral", request))
    trace.tracing(GenerationEvent("finished", "mistral", request, response))
    attributes = trace.ended[0].attributes
    assert attributes["gen_ai.provider.name"] == "mistral_ai"
    assert (attributes["gen_ai.request.choice.count"], attributes["gen_ai.request.top_k"]) == (2, 4)
    assert attributes["gen_ai.response.finish_reasons"] == ("stop", "length")
    assert attributes["gen_ai.response.id"] == "resp-1"
    assert attributes["gen_ai.response.time_to_first_chunk"] == 0.75
    assert attributes["gen_ai.usage.cache_read.input_tokens"] == 2
    assert attributes["gen_ai.usage.reasoning.output_tokens"] == 3


def test_a_failed_request_says_which_error():
    trace = Trace()
    llm = trace.llm(replies=[Reply("a b", error=AuthenticationError(SECRET, status_code=401), error_after=1)])
    with pytest.raises(AuthenticationError):
        llm.generate("x")
    (span,) = trace.ended
    assert span.status.status_code is StatusCode.ERROR
    assert (span.status.description, span.attributes["error.type"]) == (None, "AuthenticationError")


def test_who_cancels_makes_no_error():
    trace = Trace()
    with trace.llm().generate("a b c", stream=True) as stream:
        next(stream)
    (span,) = trace.ended
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes["gen_ai.response.finish_reasons"] == ("cancelled",)


def test_requests_at_once_do_not_mix():
    trace = Trace()
    llm = trace.llm()
    streams = [llm.generate("word " * number, stream=True) for number in (1, 2, 3)]
    for stream in streams:
        next(stream)
    for stream in reversed(streams):
        list(stream)
    assert [span.attributes["gen_ai.usage.output_tokens"] for span in trace.ended] == [3, 2, 1]
    assert all(span.parent is None for span in trace.ended)


def test_a_request_hangs_from_the_span_around_it_and_leaves_the_context_alone():
    trace = Trace()
    with trace.provider.get_tracer("app").start_as_current_span("work"):
        before = contexts.get_current()
        for face in Face:
            ask(trace.llm(), face, "Hi", timeout=30)
        stream = trace.llm().generate("a b", stream=True)
        next(stream)
        assert contexts.get_current() is before
    threading.Thread(target=stream.close).start()
    assert trace.parents()["chat echo"] == "work"


def test_an_end_without_a_start_is_nobodys():
    trace = Trace()
    trace.tracing(GenerationEvent("finished", "p", GenerateRequest(()), GenerateResponse()))
    assert trace.ended == ()


# Agents.


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


# Content.


async def everything(trace):
    replies = [SECRET, Reply(SECRET, error=GenerationError(f"{SECRET} sk-abcdefghijklmnop0123"))]
    llm = trace.llm(replies=replies)
    call = ToolCall("call-1", "add", {"a": SECRET})
    tools = [ToolDefinition("add", SECRET, {"type": "object", "properties": {}})]
    llm.generate(SECRET, system_prompt=SECRET, tools=tools)
    with pytest.raises(GenerationError):
        llm.generate(SECRET)
    outcome = ToolOutcome("error", SECRET, SECRET, KeyError(SECRET))
    await agent_run(trace, info(), lambda: tool_call(trace, info(), call, nothing, outcome))
    return "".join(span.to_json() for span in trace.ended)


async def test_no_content_is_in_any_span():
    assert "swordfish" not in await everything(Trace())


async def test_content_is_in_the_spans_where_it_is_wanted():
    trace = Trace(capture_content=True)
    told = await everything(trace)
    assert "sk-abcdef" not in told
    first, failed, tool, _ = trace.ended
    assert json.loads(first.attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": SECRET}]},
        {"role": "user", "parts": [{"type": "text", "content": SECRET}]},
    ]
    assert json.loads(first.attributes["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [{"type": "text", "content": SECRET}], "finish_reason": "stop"}
    ]
    assert json.loads(first.attributes["gen_ai.tool.definitions"])[0]["description"] == SECRET
    assert json.loads(failed.attributes["gen_ai.output.messages"])[0]["finish_reason"] == "error"
    assert SECRET in failed.status.description
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"a": SECRET}
    assert json.loads(tool.attributes["gen_ai.tool.call.result"]) == SECRET


def test_messages_have_the_form_of_the_conventions():
    picture, address = ImagePart(b"123", "image/png", "a.png"), ImagePart(b"", "image/png", url="http://a/b")
    messages = (
        Message("user", (TextPart("see"), picture, address, DocumentPart(b"1", "application/pdf"))),
        Message("assistant", "", reasoning="hm", tool_calls=(CALL, ToolCall("2", "x", {}, invalid="{"))),
        Message("tool", "3", tool_call_id="call-1"),
    )
    assert json.loads(messages_json(messages)) == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "see"},
                {"type": "image", "mime_type": "image/png", "name": "a.png", "bytes": 3},
                {"type": "uri", "modality": "image", "mime_type": "image/png", "uri": "http://a/b"},
                {"type": "document", "mime_type": "application/pdf", "name": None, "bytes": 1},
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "hm"},
                {"type": "tool_call", "id": "call-1", "name": "add", "arguments": {"a": 1}},
                {"type": "tool_call", "id": "2", "name": "x", "arguments": "{"},
            ],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call-1", "response": "3"}]},
    ]


def test_any_value_becomes_json():
    circle = []
    circle.append(circle)
    assert json.loads(as_json(circle)).startswith("[[")
    assert json.loads(as_json({"a": {1, 2}, "b": SimpleNamespace})) == {"a": "{1, 2}", "b": repr(SimpleNamespace)}
    assert as_json("\ud800") == '"?"'


# The library.


def test_without_opentelemetry_it_says_what_to_install(run_python):
    told = run_python(
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from abstractllm import MissingDependencyError, Tracing, Metrics\n"
        "try: Tracing()\n"
        "except MissingDependencyError as error: print(error, isinstance(error, ImportError))"
    )
    assert told == 'Tracing needs opentelemetry-api: pip install "abstractllm-mlx[otel]" True\n'


def test_without_a_provider_of_spans_nothing_happens():
    tracing = Tracing(capture_content=True)
    llm = create_llm("echo")
    llm.observers.append(tracing)
    assert llm.generate("Hi").content == "Hi"
