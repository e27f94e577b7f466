"""The wire formats as the tests of behaviour see them: a provider of each, and the bytes that a service would send."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from abstractllm.errors import AbstractLLMError
from abstractllm.portal import portal
from abstractllm.providers.anthropic import AnthropicProvider
from abstractllm.providers.http import Backoff
from abstractllm.providers.maritaca import MaritacaProvider as Maritaca
from abstractllm.providers.ollama import OllamaProvider
from abstractllm.providers.openai import OpenAIProvider
from abstractllm.testing.faces import ask
from abstractllm.testing.loopback import LoopbackServer, Reply
from abstractllm.types import GenerateRequest, GenerateResponse, Usage
from abstractllm.wire.anthropic import AnthropicMessages
from abstractllm.wire.ollama import OllamaChat
from abstractllm.wire.openai_chat import OpenAIChat
from abstractllm.wire.openai_responses import OpenAIResponses

KEY = "k7GqPz-of-these-tests-2Xw9"
"""A key of no known form, which only somebody who knows it can hide."""

PROXIES = [name for base in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (base, base.upper())]
LAST = GenerateResponse(finish_reason="stop", usage=Usage(3, 2), model="served")


def quick(kind, **settings):
    """Return a class that notes the waits between its tries instead of waiting, and has the key."""

    class Quick(kind):
        defaults = {**kind.defaults, **settings, "api_key": KEY}
        backoff = Backoff(draw=lambda: 1.0)

        def __init__(self, *given, **more):
            self.pauses = []
            super().__init__(*given, **more)

        async def _pause(self, seconds):
            self.pauses.append(seconds)

    return Quick


@dataclass(frozen=True)
class Format:
    """A wire format: a class that speaks it, its codec, and how it says errors and lines."""

    name: str
    kind: type
    codec: object
    error: object
    keepalive: bytes = b": keepalive\n\n"
    framed: object = staticmethod(lambda data: b"data: " + data + b"\n\n")

    @property
    def pieces(self):
        """The bytes of the two deltas "Hel" and "lo", and those of the end."""
        encoder = self.codec.stream_encoder(GenerateRequest((), model="served"))
        first, second = encoder.encode(GenerateResponse("Hel")), encoder.encode(GenerateResponse("lo"))
        return first, second, encoder.encode(LAST) + encoder.end()

    @property
    def stream(self):
        return Reply(chunks=self.pieces)

    @property
    def body(self):
        """A whole answer."""
        answer = GenerateResponse("Hello", finish_reason="stop", usage=Usage(3, 2), model="served")
        return json.dumps(dict(self.codec.encode_response(answer))).encode()

    def body_of_error(self, message, code="some_error"):
        """Return the body of an answer that is an error."""
        return json.dumps(self.error(message, code)).encode()

    def failing(self, error):
        """Return the bytes of an error in the middle of a stream."""
        return self.codec.stream_encoder(GenerateRequest((), model="served")).fail(error)

    def whole_or_stream(self, request):
        """Answer a request as it wants to be answered."""
        wanted = json.loads(request.body)
        streams = wanted.get("stream", self.name == "ollama")
        return self.stream if streams else Reply(body=self.body)

    @contextmanager
    def served(self, *script, reads=True, **settings):
        """Yield a provider and the server that it asks, which plays the replies or calls the function given."""
        script = script[0] if script and callable(script[0]) else script
        with (
            LoopbackServer(script or self.whole_or_stream, reads=reads) as server,
            self.kind(base_url=server.url, **settings) as llm,
        ):
            yield llm, server


def _openai(message, code="some_error"):
    return {"error": {"message": message, "type": code, "param": None, "code": code}}


def _anthropic(message, code="some_error"):
    return {"type": "error", "error": {"type": code, "message": message}}


def _ollama(message, code=None):
    return {"error": message}


CHAT = Format("chat", quick(OpenAIProvider, model="gpt-4.1"), OpenAIChat(), _openai)
FORMATS = (
    CHAT,
    Format("responses", quick(OpenAIProvider, model="gpt-5-codex"), OpenAIResponses(), _openai),
    Format("anthropic", quick(AnthropicProvider, model="claude-sonnet-4-5"), AnthropicMessages(), _anthropic),
    Format("ollama", quick(OllamaProvider, model="m"), OllamaChat(), _ollama, b"\n", lambda data: data + b"\n"),
    Format("maritaca", quick(Maritaca), OpenAIChat(), _openai),
)


def failure(llm, kind, face, **params):
    """Ask and return the error, which is of this kind exactly and shows no key."""
    with pytest.raises(AbstractLLMError) as caught:
        ask(llm, face, "Hi", **params)
    error = caught.value
    assert type(error) is kind, repr(error)
    assert error.provider == llm.name
    shows_no_key(error)
    return error


def shows_no_key(error):
    """Check that nothing that is printed of an error holds the key, with the variables of all frames."""
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert KEY not in shown
    assert KEY not in f"{error} {error!r} {error.__cause__!r} {error.__context__!r} {vars(error)!r}"


def descriptors():
    return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))


def settled(condition):
    """Wait until the loops have done what is due; for ends that nobody reports."""
    for _ in range(500):
        if condition():
            return True
        portal().run(lambda: asyncio.sleep(0.002))
    return condition()


@contextmanager
def no_leak():
    """Check that as many sockets are open afterwards as before, and that nothing warned."""
    portal()
    before = descriptors()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert settled(lambda: descriptors() <= before), f"{descriptors() - before} descriptors leak"
    warned = [str(warning.message) for warning in caught]
    assert not warned, warned
