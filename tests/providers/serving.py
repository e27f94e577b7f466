"""A service behind a loopback server that speaks a codec's format: what a model of few words would answer."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from abstractllm.accumulator import call_deltas
from abstractllm.testing.loopback import Gate, Reply, Request
from abstractllm.types import GenerateRequest, GenerateResponse, TextPart, TokenLogprob, ToolCall, Usage
from abstractllm.wire.codec import Codec


def body_of(request: Request) -> Any:
    """Return the JSON of a request as it came."""
    return json.loads(request.body)


def served(codec: Codec, answer: GenerateResponse) -> Reply:
    """Return a whole answer in a format."""
    return Reply(body=json.dumps(dict(codec.encode_response(answer))).encode())


def streamed(codec: Codec, *deltas: GenerateResponse, error: Exception | None = None) -> Reply:
    """Return a streamed answer in a format, which may break off with an error."""
    encoder = codec.stream_encoder(GenerateRequest((), model="served"))
    pieces = [encoder.encode(delta) for delta in deltas]
    end = encoder.end() if error is None else encoder.fail(error)
    return Reply(chunks=[*filter(None, pieces), end])


def friendly(codec: Codec, request: Request) -> Reply:
    """Answer a request as it wants to be answered: with the words of its prompt, or a tool call, or a form."""
    asked = codec.decode_request(body_of(request))
    answer = _answer(asked)
    return streamed(codec, *_deltas(answer)) if asked.stream else served(codec, answer)


def _answer(asked: GenerateRequest) -> GenerateResponse:
    prompt = _text(asked.messages[-1].content)
    usage = Usage(sum(len(_text(message.content)) + 1 for message in asked.messages), 1)
    if asked.tools and asked.tool_choice != "none":
        names = [tool.name for tool in asked.tools]
        name = asked.tool_choice if asked.tool_choice in names else names[0]
        call = ToolCall("call_1", name, {"word": "x"})
        return GenerateResponse(tool_calls=(call,), finish_reason="tool_calls", usage=usage, model="served")
    if asked.response_format is not None:
        prompt = '{"yes": true}'
    return _cut(asked, re.findall(r"\S+\s*", prompt), usage)


def _cut(asked: GenerateRequest, words: list[str], usage: Usage) -> GenerateResponse:
    kept = words[: asked.max_tokens]
    text, ended = "".join(kept), "length" if len(kept) < len(words) else "stop"
    found = next((stop for stop in asked.stop if stop in text), None)
    if found is not None:
        text, ended = text[: text.index(found)], "stop"
    ranked = tuple(TokenLogprob("x", -number / 2, b"x") for number in range(asked.top_logprobs or 0))
    return GenerateResponse(
        text,
        finish_reason=ended,
        usage=replace(usage, completion_tokens=len(kept)),
        stop_string=found,
        model="served",
        logprobs=(TokenLogprob("x", -0.5, b"x", ranked),) if asked.logprobs else (),
    )


def _deltas(answer: GenerateResponse) -> Iterator[GenerateResponse]:
    for word in re.findall(r"\S+\s*|\s+", answer.content):
        yield GenerateResponse(word)
    yield replace(answer, content="", tool_calls=(), tool_call_deltas=call_deltas(answer.tool_calls))


def _text(content: str | tuple[Any, ...]) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part.text for part in content if isinstance(part, TextPart))


WEATHER: Mapping[str, Any] = {
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}


class Opened(Gate):
    """A gate that an event opens, which the rules for providers give."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self.event = event

    async def wait(self) -> None:
        """Wait for the event, in an event loop."""
        self.reached.set()
        while not self.event.is_set():
            await asyncio.sleep(0.002)
