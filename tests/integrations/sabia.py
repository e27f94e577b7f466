"""A service on this machine that speaks Maritaca's format, and whose answers are those of the model that ships."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from abstractllm.interface import AbstractLLMInterface
from abstractllm.providers.mlx import MLXProvider
from abstractllm.testing.loopback import LoopbackServer, Reply, Request
from abstractllm.types import GenerateRequest
from abstractllm.wire.openai_chat import OpenAIChat

CODEC = OpenAIChat(provider="maritaca")
_PARAMETERS = ("max_tokens", "temperature", "top_p", "stop", "tool_choice", "response_format", "n")


@contextmanager
def sabia_service() -> Iterator[LoopbackServer]:
    """Yield the service, greedy as long as a request says nothing else."""
    with MLXProvider(temperature=0, options={"parallel_tool_calls": False}) as llm:
        llm.load()
        with LoopbackServer(lambda request: _reply(llm, request)) as server:
            yield server


def _reply(llm: AbstractLLMInterface, request: Request) -> Reply:
    asked = CODEC.decode_request(json.loads(request.body))
    if not asked.stream:
        answer = replace(llm.generate(**_arguments(asked)), model=asked.model)
        return Reply(body=json.dumps(dict(CODEC.encode_response(answer))).encode())
    return Reply(chunks=_pieces(llm, asked))


def _arguments(asked: GenerateRequest) -> dict[str, Any]:
    given = {name: getattr(asked, name) for name in _PARAMETERS}
    return {"messages": asked.messages, "tools": asked.tools or None, **given}


def _pieces(llm: AbstractLLMInterface, asked: GenerateRequest) -> Iterator[bytes]:
    encoder = CODEC.stream_encoder(asked)
    for delta in llm.generate(stream=True, **_arguments(asked)):
        piece = encoder.encode(replace(delta, model=asked.model))
        if piece:
            yield piece
    yield encoder.end()
