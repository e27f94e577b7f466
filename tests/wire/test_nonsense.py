"""What other sides send may be anything: every codec answers with values or with this package's errors.

The nonsense is drawn from fixed seeds, from the words of both formats, so that it gets past the first check.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from abstractllm.errors import AbstractLLMError
from abstractllm.types import GenerateRequest, GenerateResponse
from abstractllm.wire.anthropic import AnthropicMessages
from abstractllm.wire.codec import Codec
from abstractllm.wire.ollama import OllamaChat

BLOCKS = ["text", "thinking", "redacted_thinking", "tool_use", "tool_result", "image", "document", "server_tool_use"]
FIELDS = [
    "type",
    "text",
    "thinking",
    "signature",
    "input",
    "name",
    "id",
    "citations",
    "citation",
    "partial_json",
    "source",
    "content",
    "tool_use_id",
    "is_error",
    "data",
    "url",
    "media_type",
    "title",
    "role",
    "tool_calls",
    "function",
    "arguments",
    "images",
    "tool_name",
    "token",
    "logprob",
    "bytes",
    "top_logprobs",
    "stop_reason",
    "usage",
    "model",
    "input_tokens",
    "output_tokens",
    "budget_tokens",
    "effort",
    "format",
    "schema",
    "description",
    "parameters",
]
TOP = [
    "type",
    "index",
    "delta",
    "content_block",
    "message",
    "usage",
    "error",
    "content",
    "stop_sequence",
    "model",
    "done",
    "done_reason",
    "eval_count",
    "logprobs",
    "system",
    "tools",
    "tool_choice",
    "thinking",
    "output_config",
    "options",
    "think",
    "format",
    "stream",
    "max_tokens",
    "temperature",
    "top_k",
    "stop_sequences",
    "stop",
]
EVENTS = ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta"]
PLAIN = [None, True, False, 0, 1, -1, 2**70, 0.5, "", "é", "user", "json", "auto", "base64", "eHg=", '{"a":1}', [], {}]
SEEDS = range(400)


class Nonsense:
    """Draws JSON values from the words of the formats."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 3) -> Any:
        kind = self.random.randrange(5) if depth else 0
        if kind == 3:
            return [self.value(depth - 1) for _ in range(self.random.randrange(3))]
        if kind == 4:
            return self.fields(FIELDS, depth)
        return self.random.choice([*PLAIN, *BLOCKS])

    def fields(self, names: list[str], depth: int = 3) -> dict[str, Any]:
        chosen = self.random.sample(names, self.random.randrange(min(5, len(names) + 1)))
        return {name: self.block() if self.random.random() < 0.2 else self.value(depth - 1) for name in chosen}

    def block(self) -> dict[str, Any]:
        fields = self.fields(["text", "input", "citations", "source", "content", "tool_use_id", "signature"], 2)
        return fields | {"type": self.random.choice(BLOCKS)}

    def blocks(self) -> list[dict[str, Any]]:
        return [self.block() for _ in range(self.random.randrange(3))]

    def event(self) -> dict[str, Any]:
        kind = self.random.choice(EVENTS)
        return {"content_block": self.block(), **self.fields(TOP), "type": kind, "index": self.random.randrange(2)}

    def request(self) -> dict[str, Any]:
        roles = ["user", "assistant", "system", "tool"]
        turns = [{"role": self.random.choice(roles), "content": self.random.choice([self.blocks(), "Hi"])}]
        return {**self.fields(TOP), "messages": turns * self.random.randrange(1, 3)}


CODECS = pytest.mark.parametrize("codec", [AnthropicMessages(), OllamaChat()], ids=["anthropic", "ollama"])


def read_stream(codec: Codec, data: bytes) -> list[GenerateResponse]:
    decoder = codec.stream_decoder()
    return [*decoder.feed(data), *decoder.end()]


@CODECS
def test_streams(codec: Codec) -> None:
    read = 0
    for seed in SEEDS:
        drawn = Nonsense(seed)
        bodies = [json.dumps(drawn.event()) for _ in range(3)]
        events = [f"data: {body}\n\n" for body in [*bodies, '{"type":"message_stop"}']]
        lines = [f"{body}\n" for body in [*bodies, '{"done": true}']]
        for data in ("".join(events), "".join(lines)):
            try:
                found = read_stream(codec, data.encode())
            except AbstractLLMError:
                continue
            read += bool(found)
    assert read > 10


@CODECS
def test_answers(codec: Codec) -> None:
    read = 0
    for seed in SEEDS:
        drawn = Nonsense(seed)
        said = drawn.fields(["content", "thinking", "tool_calls"])
        try:
            body = {"done": True, **drawn.fields(TOP), "content": drawn.blocks(), "message": said}
            codec.encode_response(codec.decode_response(json.dumps(body).encode()))
        except AbstractLLMError:
            continue
        read += 1
    assert read > 10


@CODECS
def test_requests(codec: Codec) -> None:
    read = 0
    for seed in SEEDS:
        try:
            found = codec.decode_request(Nonsense(seed).request())
            assert isinstance(found, GenerateRequest)
            read += 1
            codec.encode_request(found)
        except AbstractLLMError:
            continue
    assert read > 10


@CODECS
def test_bytes(codec: Codec) -> None:
    for seed in SEEDS:
        data = random.Random(seed).randbytes(seed % 40)
        with pytest.raises(AbstractLLMError):
            codec.decode_response(data)
        with pytest.raises(AbstractLLMError):
            read_stream(codec, data)
