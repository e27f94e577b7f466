"""Maritaca's service on this machine: answers in the form of its documentation, and a provider that asks for them."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime

from abstractllm.providers.http import Backoff
from abstractllm.providers.maritaca import MaritacaProvider
from abstractllm.testing.loopback import LoopbackServer, Reply

KEY = "maritaca-loopback-0123"
NOON, MIDNIGHT = (int(datetime(2026, 7, 17, hour, tzinfo=UTC).timestamp()) for hour in (15, 3))  # in Brasília
ANSWER = {
    "id": "123abc45-67de-f89g-1011-12h131415i16",
    "object": "chat_completion",
    "created": NOON,
    "model": "sabia-4",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "O Pelourinho, em Salvador."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 300,
        "total_tokens": 1500,
        "prompt_tokens_details": {"cached_tokens": 1000},
    },
    "system_fingerprint": "c68cf2ecaa94f232",
}
"""The example of documentation/api/en/completion-response.md, with the cached tokens of prompt-caching.md."""

TOOL = {
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}


class Quick(MaritacaProvider):
    """One that waits for nothing between its tries."""

    backoff = Backoff(draw=lambda: 0.0)


def reply(value, status=200, **headers):
    return Reply(status, headers, json.dumps(value).encode())


def answered(**changed):
    return reply({**ANSWER, **changed})


def chunk(said, finish=None, **more):
    choices = [] if said is None else [{"index": 0, "delta": said, "finish_reason": finish}]
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": NOON,
        "model": "sabia-4",
        "choices": choices,
    } | more


def events(*values):
    return Reply(chunks=[*(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values), b"data: [DONE]\n\n"])


OK = answered()
STREAM = events(
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "O Pelourinho, "}),
    chunk({"content": None}),
    chunk({"content": "em Salvador."}),
    chunk({}, "stop"),
    chunk(None, usage=ANSWER["usage"], service_tier="flex"),
)


@contextmanager
def asked(*script, **settings):
    with LoopbackServer(script) as server, Quick(base_url=server.url, **{"api_key": KEY, **settings}) as llm:
        yield llm, server
