"""Models for sessions: scripted ones, and one that can be held up in the middle of an answer."""

import threading
from collections import deque

from abstractllm import GenerateResponse, Usage, create_llm
from abstractllm.history import paired
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.echo import Reply
from abstractllm.types import ToolCall


class Held(BaseProvider):
    """Says "Well, " and "then."; before that, where the prompt says "hold", it waits for `go` or its cancellation."""

    name = "held"
    api_version = 1

    def __init__(self, config=None):
        super().__init__(config)
        self.speaks, self.go = threading.Event(), threading.Event()

    def _stream(self, request, call):
        yield GenerateResponse(content="Well, ")
        if "hold" in request.messages[-1].text:
            woken = threading.Event()
            call.on_cancel(woken.set)
            self.speaks.set()
            while not (self.go.is_set() or woken.wait(0.005)):
                pass
            if call.cancelled:
                return
        yield GenerateResponse(content="then.", finish_reason="stop", usage=Usage(1, 2))


class Line(deque):
    """What waits at a turnstile; `came` is released for each that comes."""

    def __init__(self):
        super().__init__()
        self.came = threading.Semaphore(0)

    def append(self, one):
        super().append(one)
        self.came.release()


def scripted(*replies):
    """Return a model that gives these replies, each once; one that is an exception is raised."""
    played = [Reply("", error=one) if isinstance(one, Exception) else one for one in replies]
    return create_llm("echo", replies=played)


def calling(*names, content=""):
    """Return a reply that calls tools of these names; their ids are the names."""
    return Reply(content, tool_calls=[ToolCall(name, name, {}) for name in names])


def told(session):
    """Return what has been said, as texts."""
    return [message.text for message in session.messages]


def is_paired(messages):
    return paired(messages) == tuple(messages)
