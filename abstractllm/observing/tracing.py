"""Traces of requests, tool calls and runs of agents, as an observer of both. Knows no names of attributes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, overload

from abstractllm.agent.events import Event, RunFailed, RunFinished, RunInfo, RunStarted, ToolFinished, ToolStarted
from abstractllm.errors import MissingDependencyError, install_command
from abstractllm.observing import content, conventions as names
from abstractllm.observing.secrets import redact
from abstractllm.providers.run import GenerationEvent

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

    from abstractllm.observing.spans import Scope

MOST_OPEN = 10_000
"""Spans of one kind that may be open at once; beyond that, the oldest is ended, as its end was never told."""

K = TypeVar("K")
V = TypeVar("V")


class Tracing:
    """Makes spans of requests (`llm.observers.append(tracing)`) and of runs (`Agent(llm, observers=[tracing])`).

    `invoke_agent {agent}` is the span of a run; under it are `chat {model}` for each request and `execute_tool {tool}`
    for each call, and under that what the tool asks of models. They are of `tracer_provider`, of OpenTelemetry's global
    one where none is given. Names of attributes are in `conventions`.

    Messages, arguments, results and the texts of errors are content: they are in no span unless `capture_content`.
    Raises MissingDependencyError where opentelemetry-api is not installed.
    """

    def __init__(self, tracer_provider: TracerProvider | None = None, capture_content: bool = False) -> None:
        try:
            from abstractllm.observing import spans
        except ImportError as error:
            if not (error.name or "").startswith("opentelemetry"):
                raise
            raise MissingDependencyError(f"Tracing needs opentelemetry-api: {install_command('otel')}") from error
        self._spans = spans.Spans(tracer_provider)
        self._close, self._fail = spans.close, spans.fail
        self._capture = capture_content
        self._chats: dict[int, tuple[Span, GenerationEvent]] = {}  # by the request's id, which the event keeps alive
        self._runs: dict[str, Scope] = {}
        self._calls: dict[tuple[str, int], tuple[Scope, ToolStarted]] = {}  # by the call's id as an object

    @overload
    def __call__(self, told: GenerationEvent) -> None: ...

    @overload
    def __call__(self, told: RunInfo, event: Event | RunFailed) -> None: ...

    def __call__(self, told: GenerationEvent | RunInfo, event: Event | RunFailed | None = None) -> None:
        """Take what a provider or an agent tells."""
        if isinstance(told, GenerationEvent):
            if told.kind == "started":
                self._chat_started(told)
            else:
                self._chat_ended(told)
            return
        match event:
            case RunStarted():
                self._run_started(told)
            case ToolStarted():
                self._call_started(told, event)
            case ToolFinished():
                self._call_ended(told, event)
            case RunFinished() | RunFailed():
                self._run_ended(told, event)

    # Requests. Their ends may be told in any context, so nothing is attached to the one of their start.

    def _chat_started(self, event: GenerationEvent) -> None:
        attributes = names.of_request(event.provider, event.model, event.request)
        span = self._spans.start(_named(names.CHAT, event.model), attributes, client=True)
        if self._capture and span.is_recording():
            span.set_attribute(names.INPUT_MESSAGES, content.messages_json(event.request.messages))
            if event.request.tools:
                span.set_attribute(names.TOOL_DEFINITIONS, content.tools_json(event.request.tools))
        self._make_room(self._chats, lambda oldest: oldest[0].end())
        self._chats[id(event.request)] = (span, event)

    def _chat_ended(self, event: GenerationEvent) -> None:
        span, _ = self._chats.pop(id(event.request), (None, None))
        if span is None:  # this object came after the request had started
            return
        if event.response is not None and span.is_recording():
            span.set_attributes(names.of_response(event.request, event.response))
            if self._capture:
                span.set_attribute(names.OUTPUT_MESSAGES, content.response_json(event.response))
        if event.kind == "cancelled":
            span.set_attribute(names.FINISH_REASONS, ["cancelled"])
        if event.error is not None:
            self._fail(span, names.of_error(event.error), self._description(event.error))
        span.end()

    # Runs and calls. Start and end are told in one context each, to which the span is attached meanwhile.

    def _run_started(self, info: RunInfo) -> None:
        self._make_room(self._runs, self._close)
        self._runs[info.run_id] = self._opened_run(info)

    def _opened_run(self, info: RunInfo) -> Scope:
        attributes = names.operation(names.INVOKE_AGENT, info.provider, info.model)
        attributes |= {names.AGENT_NAME: info.agent, names.RUN_ID: info.run_id}
        return self._spans.open(_named(names.INVOKE_AGENT, info.agent), attributes)

    def _run_ended(self, info: RunInfo, event: RunFinished | RunFailed) -> None:
        scope = self._runs.pop(info.run_id, None) or self._opened_run(info)  # one may fail before its start
        if isinstance(event, RunFinished):
            result = event.result
            told: names.Attributes = {names.RUN_STOP: result.stop, names.RUN_TURNS: result.turns}
            scope.span.set_attributes(told | names.of_usage(result.usage))
        elif isinstance(event.error, asyncio.CancelledError):
            scope.span.set_attribute(names.RUN_STOP, "cancelled")
        else:
            self._fail(scope.span, names.of_error(event.error), self._description(event.error))
        self._close(scope)

    def _call_started(self, info: RunInfo, event: ToolStarted) -> None:
        self._make_room(self._calls, lambda oldest: self._close(oldest[0]))
        self._calls[info.run_id, id(event.call)] = (self._opened_call(info, event), event)

    def _opened_call(self, info: RunInfo, event: ToolStarted | ToolFinished) -> Scope:
        call = event.call
        attributes: names.Attributes = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: call.name,
            names.TOOL_TYPE: "function",
            names.TOOL_CALL_ID: call.id,
            names.AGENT_NAME: info.agent,
        }
        if self._capture:
            given = dict(call.arguments) if call.invalid is None else call.invalid
            attributes[names.TOOL_ARGUMENTS] = content.as_json(given)
        name = _named(names.EXECUTE_TOOL, call.name)
        return self._spans.open(name, attributes, parent=self._runs.get(info.run_id))

    def _call_ended(self, info: RunInfo, event: ToolFinished) -> None:
        scope, _ = self._calls.pop((info.run_id, id(event.call)), (None, None))
        scope = scope or self._opened_call(info, event)  # one that was refused was never started
        outcome = event.outcome
        scope.span.set_attribute(names.TOOL_OUTCOME, outcome.kind)
        if self._capture:
            scope.span.set_attribute(names.TOOL_RESULT, content.content_json(outcome.content))
        if outcome.kind in ("error", "timeout"):
            kind: names.Attributes = {names.ERROR_TYPE: outcome.kind}
            error = outcome.error
            told = kind if error is None or outcome.kind == "timeout" else names.of_error(error)
            self._fail(scope.span, told, None if error is None else self._description(error))
        self._close(scope)

    def _description(self, error: BaseException) -> str | None:
        return redact(str(error)) if self._capture else None

    @staticmethod
    def _make_room(open: dict[K, V], end: Callable[[V], None]) -> None:
        if len(open) >= MOST_OPEN:
            end(open.pop(next(iter(open))))


def _named(operation: str, what: str | None) -> str:
    return f"{operation} {what}" if what else operation
