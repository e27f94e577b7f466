"""Spans of OpenTelemetry, and which of them is current where. The only module that imports it; knows no events.

A span that others are to hang from is attached to the context in which it is opened, and taken off there again. Where
its end is told in another context, it stays attached in the first one, as nobody can reach that; whoever starts a span
there then hangs it from what was current before.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from dataclasses import dataclass

from opentelemetry import context as contexts, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from abstractllm import __version__
from abstractllm.observing.conventions import Attributes


@dataclass(slots=True, eq=False)
class Scope:
    """A span and the context that it made: `outer` is what was current before, in the scope `around`."""

    span: Span
    context: Context
    outer: Context
    around: Scope | None
    mark: Token[Scope | None] | None = None
    token: Token[Context] | None = None
    ended: bool = False


_current: ContextVar[Scope | None] = ContextVar("abstractllm_scope", default=None)


class Spans:
    """Starts and ends spans of one tracer provider, the global one where none is given. Safe to use from any thread."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("abstractllm", __version__, provider)

    def start(self, name: str, attributes: Attributes, *, client: bool = False, parent: Scope | None = None) -> Span:
        """Start a span that is current nowhere, under `parent` or else under what is current here."""
        context = _surrounding() if parent is None else parent.context
        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        return self._tracer.start_span(name, context=context, kind=kind, attributes=attributes)

    def open(self, name: str, attributes: Attributes, *, parent: Scope | None = None) -> Scope:
        """Start a span and make it current here, for this context and those that are copied from it."""
        span = self.start(name, attributes, parent=parent)
        outer = _surrounding()
        scope = Scope(span, trace.set_span_in_context(span, outer), outer, _current.get())
        scope.mark = _current.set(scope)
        scope.token = contexts.attach(scope.context)
        return scope


def _surrounding() -> Context:
    """Return the current context, past scopes that have ended elsewhere."""
    context, scope = contexts.get_current(), _current.get()
    while scope is not None and scope.ended and context is scope.context:
        context, scope = scope.outer, scope.around
    return context


def close(scope: Scope) -> None:
    """End a scope's span, and make current what was so before, where this is the context in which it was opened."""
    scope.span.end()
    scope.ended = True
    mark, token, scope.mark, scope.token = scope.mark, scope.token, None, None
    if mark is None or token is None:
        return
    try:
        _current.reset(mark)
    except ValueError:  # another context: OpenTelemetry would log an error for its own token
        return
    contexts.detach(token)


def fail(span: Span, attributes: Attributes, description: str | None) -> None:
    """Say that what a span stands for went wrong."""
    span.set_attributes(attributes)
    span.set_status(Status(StatusCode.ERROR, description))
