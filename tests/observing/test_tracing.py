"""Spans as OpenTelemetry's own SDK records them: names, parents, endings, and no content unless it is asked for."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import pytest
from opentelemetry import context as contexts
from opentelemetry.trace import SpanKind, StatusCode

from abstractllm import Tracing, create_llm
from abstractllm.agent.events import (
    ToolOutcome,
)
from abstractllm.errors import AuthenticationError, GenerationError
from abstractllm.observing.content import as_json, messages_json
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

from .spans import CALL, SECRET, Trace, agent_run, info, nothing, tool_call


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
