"""A service that makes vectors behind OpenAI's format, for the server on the loopback, and who asks it."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from dataclasses import replace

from abstractllm.providers.compatible import CompatibleProvider
from abstractllm.providers.http import Backoff
from abstractllm.providers.openai import OpenAIProvider
from abstractllm.providers.services import SERVICES
from abstractllm.testing.loopback import LoopbackServer, Reply
from abstractllm.types import Embeddings, Usage
from abstractllm.wire.openai_embeddings import OpenAIEmbeddings

from .services import CLASSES as ROWS
from .serving import body_of

KEY = "sk-loopback-0123456789"


WIRE = OpenAIEmbeddings("served")


CLASSES = {**ROWS, "compatible": CompatibleProvider}


WITHOUT = sorted(name for name, row in SERVICES.items() if row.embeddings is None)


WITH = sorted(set(SERVICES) - set(WITHOUT))


class Small(OpenAIProvider):
    """One whose requests have two texts, and that waits for nothing between its tries."""

    embeddings = replace(OpenAIProvider.embeddings, inputs=2, at_once=2)
    backoff = Backoff(draw=lambda: 0.0)


def without_variables(monkeypatch):
    """Have no key, no address and no proxy of this machine reach a test."""
    variables = {row.key_variable for row in SERVICES.values() if row.key_variable}
    proxies = {"HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}
    for name in {*variables, *proxies, "OPENAI_API_KEY", "OLLAMA_HOST", "OLLAMA_API_KEY"}:
        monkeypatch.delenv(name, raising=False)


def vector(text):
    """Return what the service makes of a text: its length, and the letter that it begins with."""
    return [float(len(text)), float(ord(text[0]))]


def made(asked):
    """Return the answer of a service that is asked in any of the formats."""
    return Embeddings(map(vector, asked.texts), usage=Usage(sum(map(len, asked.texts))), model=f"{asked.model}-1")


def embedding(request):
    asked = WIRE.decode_request(body_of(request))
    short = asked.options.get("encoding_format") == "base64"
    return Reply(body=json.dumps(WIRE.encode_response(made(asked), base64=short)).encode())


def answer(*vectors, **more):
    return Reply(body=json.dumps({**WIRE.encode_response(Embeddings(vectors)), **more}).encode())


@contextmanager
def served(*script, kind=Small, **settings):
    script = script or (embedding,)
    script = script[0] if callable(script[0]) else script
    given = {"api_key": KEY, **settings}
    with LoopbackServer(script) as server, kind(base_url=server.url, **given) as llm:
        yield llm, server


def both(llm, texts, **params):
    """Return the vectors, having seen that both faces give the same."""
    found = llm.embed(texts, **params)

    async def asynchronously():
        return await llm.embed_async(texts, **params)

    again = asyncio.run(asynchronously())
    assert (again, again.usage, again.model) == (found, found.usage, found.model)
    return found
