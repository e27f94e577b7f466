"""Metrics and traces of real agents, whichever way they are run."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import context as contexts
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from abstractllm import Metrics, Session, Tracing, create_llm
from abstractllm.agent import Agent
from abstractllm.errors import GenerationError
from abstractllm.observing.conversation import conversation_id
from abstractllm.providers.echo import Reply
from abstractllm.types import ToolCall

ADDED = (ToolCall("1", "add", {"a": 1, "b": 2}), ToolCall("2", "later", {"a": 3}), ToolCall("3", "nope", {}))


class Watched:
    """An agent whose tools ask a model as well, and what its observers have seen."""

    def __init__(self, replies):
        self._exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.metrics = Metrics()
        observers = [self.metrics, Tracing(provider)]
        llm, self._inner = create_llm("echo", replies=replies), create_llm("echo")
        llm.observers += observers
        self._inner.observers += observers[1:]
        self.agent = Agent(llm, tools=[self.add, self.later], observers=observers)

    def add(self, a: int, b: int) -> int:
        """Add."""
        self._inner.generate("from a thread")
        return a + b

    async def later(self, a: int) -> int:
        """Wait."""
        await self._inner.generate_async("from a task")
        return a

    @property
    def spans(self):
        return self._exporter.get_finished_spans()

    async def run(self, way):
        if way == "run":
            await asyncio.to_thread(self.agent.run, "Go")
        elif way == "arun":
            await self.agent.arun("Go")
        elif way == "stream":
            await asyncio.to_thread(lambda: list(self.agent.stream("Go")))
        elif way == "async stream":
            async for _ in self.agent.stream("Go"):
                pass
        else:
            await self.agent.chat("Go")


def tree(spans):
    """Return each span's name with its parent's, in alphabetical order."""
    names = {span.context.span_id: span.name for span in spans}
    return sorted((span.name, span.parent and names[span.parent.span_id]) for span in spans)


WHOLE = [
    ("chat echo", "execute_tool add"),
    ("chat echo", "execute_tool later"),
    ("chat echo", "invoke_agent agent"),
    ("chat echo", "invoke_agent agent"),
    ("execute_tool add", "invoke_agent agent"),
    ("execute_tool later", "invoke_agent agent"),
    ("execute_tool nope", "invoke_agent agent"),
    ("invoke_agent agent", None),
]


def calls_then_answer(request):
    return "Done it all." if request.messages[-1].role == "tool" else Reply("Let me see. ", tool_calls=ADDED)


@pytest.mark.parametrize("way", ["run", "arun", "stream", "async stream", "chat"])
async def test_every_way_to_run_an_agent_is_counted_and_traced_alike(way, caplog):
    watched = Watched(calls_then_answer)
    before = contexts.get_current()
    await watched.run(way)
    assert contexts.get_current() is before
    assert tree(watched.spans) == WHOLE
    summary = watched.metrics.summary()
    assert (summary.requests.total, summary.runs.total, summary.runs.turns, summary.runs.tool_calls) == (2, 1, 2, 3)
    assert (summary.runs.stops, summary.runs.failed) == ({"end": 1}, 0)
    assert {name: dict(tool.kinds) for name, tool in summary.tools.items()} == {
        "add": {"ok": 1},
        "later": {"ok": 1},
        "nope": {"error": 1},
    }
    assert summary.runs.tokens == summary.requests.tokens
    assert caplog.records == []


async def test_a_run_that_fails_and_one_that_is_cancelled():
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def replies(request):
        if request.messages[-1].text == "fail":
            return Reply("a b", error=GenerationError("no"), error_after=1)
        loop.call_soon_threadsafe(begun.set)
        return Reply("a b", delay=60)

    watched = Watched(replies)
    with pytest.raises(GenerationError):
        await watched.agent.arun("fail")
    task = asyncio.create_task(watched.agent.arun("wait"))
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert watched.metrics.summary().runs.stops == {"failed": 1, "cancelled": 1}
    roots = [span for span in watched.spans if span.parent is None]
    assert [span.status.status_code for span in roots] == [StatusCode.ERROR, StatusCode.UNSET]
    assert tree(watched.spans) == [("chat echo", "invoke_agent agent")] * 2 + [("invoke_agent agent", None)] * 2


async def test_runs_at_once_have_trees_of_their_own():
    watched = Watched(calls_then_answer)
    await asyncio.gather(*(watched.agent.arun("Go") for _ in range(5)))
    traces = {}
    for span in watched.spans:
        traces.setdefault(span.context.trace_id, []).append(span)
    assert [tree(found) for found in traces.values()] == [WHOLE] * 5
    assert watched.metrics.summary().runs.turns == 10


async def test_all_that_happens_in_a_session_is_of_one_conversation():
    def told():
        """The ids; spans of tools have none by the conventions, and hang from those that have one."""
        return [span.attributes.get("gen_ai.conversation.id") for span in watched.spans if "tool" not in span.name]

    watched = Watched([Reply(tool_calls=ADDED[:2]), "Done.", Reply(error=GenerationError("no")), "Again.", "Bye."])
    first, other = Session(watched.agent, id="support-7"), Session(watched.agent)
    await first.send_async("Go")
    assert told() == ["support-7"] * 5  # a run, two answers, and what two tools ask of a model
    with pytest.raises(GenerationError):
        await first.send_async("Go")
    assert conversation_id() is None
    await asyncio.to_thread(other.send, "Go")
    await watched.agent.arun("Go")
    assert told()[5:] == ["support-7"] * 2 + [other.id] * 2 + [None] * 2


async def test_turns_at_once_are_each_of_their_own_conversation():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    agent = Agent(create_llm("echo"), observers=[Tracing(provider, capture_content=True)])
    sessions = [Session(agent, id=str(number)) for number in range(5)]
    await asyncio.gather(*(one.send_async("Hello") for one in sessions for _ in range(2)))
    assert sorted(span.attributes["gen_ai.conversation.id"] for span in exporter.get_finished_spans()) == sorted(
        "0011223344"
    )


async def test_the_model_that_ships_has_a_name_for_observers():
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    metrics, seen = Metrics(), []
    with create_llm("mlx", max_tokens=3) as llm:
        llm.observers += [metrics, Tracing(provider)]
        response = await llm.generate_async("Hello")
        run = Agent(llm, observers=[metrics, lambda info, _: seen.append(info.model)]).stream("Hello")
        await run
    assert {run.info.model, *seen} == {response.model} == {"embedded"}
    assert {span.name for span in exporter.get_finished_spans()} == {"chat embedded"}
    assert exporter.get_finished_spans()[0].attributes["gen_ai.request.model"] == "embedded"
    assert {one.model for one in (*metrics.requests, *metrics.runs)} == {"embedded"}


@pytest.mark.parametrize(("spec", "name"), [("echo:parrot", "parrot"), ("openai:gpt-5", "gpt-5"), ("openai", None)])
def test_a_provider_says_the_name_of_its_model(spec, name):
    with create_llm(spec) as provider:
        assert provider.model_name() == name
