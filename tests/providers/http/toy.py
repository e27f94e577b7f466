"""A small provider with a format of its own, and the service that it asks on the loopback."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from contextlib import contextmanager

import pytest

from abstractllm.errors import AbstractLLMError, GenerationError, ProviderAPIError, ProviderConnectionError
from abstractllm.portal import portal
from abstractllm.providers.http import Backoff, HTTPProvider
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import LoopbackServer, Reply
from abstractllm.types import GenerateResponse, Usage
from abstractllm.wire.lines import EventDecoder

KEY = "sk-loopback-0123456789"


PROXIES = [name for base in ("http_proxy", "https_proxy", "all_proxy", "no_proxy") for name in (base, base.upper())]


class ToyDecoder:
    """Server-sent events of JSON: {"text"}, {"error": {"status"}} and, at the end, {"done": true}."""

    def __init__(self):
        self.events = EventDecoder()
        self.done = False

    def feed(self, data):
        return [delta for event in self.events.feed(data) for delta in self.decode(event.data)]

    def decode(self, data):
        try:
            value = json.loads(data)
        except ValueError as error:
            raise GenerationError(f"The service sent what is no JSON: {data[:40]!r}") from error
        if "error" in value:
            raise ProviderAPIError("The service broke off.", status_code=value["error"]["status"])
        if value.get("done"):
            self.done = True
            yield GenerateResponse(finish_reason="stop", usage=Usage(value.get("tokens", 1), 1))
        elif value.get("text"):
            yield GenerateResponse(content=value["text"])

    def end(self):
        if not self.done:
            raise ProviderConnectionError("The answer was cut off.")
        return []


class ToyCodec:
    def __init__(self):
        self.threads = []

    def encode_request(self, request):
        self.threads.append(threading.current_thread())
        return {"prompt": request.messages[-1].text, "stream": request.stream, **request.options}

    def decode_response(self, body):
        try:
            value = json.loads(body)
            return GenerateResponse(value["text"], finish_reason="stop", usage=Usage(value.get("tokens", 1), 1))
        except (ValueError, KeyError) as error:
            raise GenerationError("The service sent what is no answer.") from error

    def stream_decoder(self):
        return ToyDecoder()


class Toy(HTTPProvider):
    name = "toy"
    path = "/answer"
    options = frozenset({"extra"})
    key_variable = "TOY_KEY"
    backoff = Backoff(draw=lambda: 1.0)
    defaults = {"api_key": KEY}

    def __init__(self, url, **settings):
        self.codec = ToyCodec()
        self.pauses = []
        super().__init__(base_url=url, **settings)

    def _codec(self):
        return self.codec

    async def _pause(self, seconds):
        self.pauses.append(seconds)


def event(value):
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value).encode()) + b"\n\n"


HELLO = (event({"text": "Hel"}), event({"text": "lo"}), event({"done": True}))


STREAM = Reply(chunks=HELLO)


WHOLE = Reply(body=b'{"text": "Hello"}')


def friendly(request):
    """Answer a request as it wants to be answered, with its prompt where that is not empty."""
    body = json.loads(request.body)
    words, tokens = body["prompt"], len(body["prompt"])
    if body["stream"]:
        return Reply(chunks=[*(event({"text": letter}) for letter in words), event({"done": True, "tokens": tokens})])
    return Reply(body=json.dumps({"text": words, "tokens": tokens}).encode())


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
def served(*script, reads=True, toy=Toy, **settings):
    """Yield a provider and the server that it asks, which plays the replies or calls the function given."""
    script = script[0] if script and callable(script[0]) else script
    with LoopbackServer(script or [STREAM], reads=reads) as server, toy(server.url, **settings) as llm:
        yield llm, server


def text(llm, **params):
    return "".join(delta.content for delta in llm.generate("Hi", stream=True, **params))


def failure(llm, kind=AbstractLLMError, *, stream=True, **params):
    """Ask and return the error."""
    face = Face.STREAM if stream else Face.WHOLE
    with pytest.raises(kind) as caught:
        ask(llm, face, "Hi", **params)
    return caught.value


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
