"""A model behind OpenAI's formats, for the server on the loopback: it says the prompt back and keeps what is asked."""

from __future__ import annotations

import asyncio
import json
import re

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.testing.loopback import Gate, Reply
from abstractllm.types import GenerateResponse, TokenLogprob, ToolCall, Usage


def answering(codec):
    """Return a script that decodes requests with a codec and encodes the answers with it."""

    def answer(request):
        asked = codec.decode_request(json.loads(request.body))
        deltas = [delta for number in range(asked.n) for delta in said(asked, number)]
        if asked.stream:
            encoder = codec.stream_encoder(asked)
            return Reply(chunks=[*map(encoder.encode, deltas), encoder.end()])
        whole = ResponseAccumulator()
        for delta in deltas:
            whole.add(delta)
        return Reply(body=json.dumps(codec.encode_response(whole.response)).encode())

    return answer


def said(asked, number):
    """Yield the deltas of one answer."""
    calls = called(asked)
    text = "" if calls else '{"yes":true}' if asked.response_format else asked.messages[-1].text
    stop = next((stop for stop in asked.stop if stop in text), None)
    words = re.findall(r"\s*\S+\s*", text[: text.index(stop)] if stop else text)
    kept = words[: asked.max_tokens]
    for word in kept:
        logprobs = (scored(word, asked.top_logprobs or 0),) if asked.logprobs else ()
        yield GenerateResponse(word, choice=number, logprobs=logprobs)
    if calls:
        yield GenerateResponse(tool_calls=calls, choice=number)
    reason = "tool_calls" if calls else "length" if len(kept) < len(words) else "stop"
    used = Usage(sum(len(turn.text.split()) for turn in asked.messages), len(kept) * asked.n)
    last = number == asked.n - 1
    yield GenerateResponse(choice=number, finish_reason=reason, stop_string=stop, usage=used if last else None)


def called(asked):
    """Return the calls that a request gets: of the tool that it forces, or of the first where it may call any."""
    if not asked.tools or asked.tool_choice == "none":
        return ()
    names = [tool.name for tool in asked.tools]
    name = asked.tool_choice if asked.tool_choice in names else names[0]
    return (ToolCall("call_1", name, {"word": "seven"}),)


def scored(word, top):
    others = tuple(TokenLogprob(f"other{rank}", -1.0 - rank, f"other{rank}".encode()) for rank in range(top))
    return TokenLogprob(word, -0.5, word.encode(), others)


class Opened(Gate):
    """A gate that an event opens, which the rules give."""

    def __init__(self, event):
        super().__init__()
        self.event = event

    async def wait(self):
        while not self.event.is_set():
            await asyncio.sleep(0.002)
