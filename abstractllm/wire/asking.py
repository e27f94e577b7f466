"""Asks for a form where a service has no field for it: a codec around another one. Knows no format and no service.

A form is asked for by a tool whose arguments are the answer, or by the system prompt. What comes back is made to look
like any other answer: the arguments become the content, and a Markdown fence around JSON goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

from abstractllm.accumulator import call_deltas
from abstractllm.errors import UnsupportedFeatureError
from abstractllm.schema import to_output_format
from abstractllm.types import GenerateRequest, GenerateResponse, Message, TextPart, ToolDefinition
from abstractllm.wire.codec import Codec, StreamDecoder, StreamEncoder
from abstractllm.wire.dialects import rooted

Way = Literal["tool", "json_object", "prompt", "both"]
"""How a schema is asked for: as the parameters of a tool that must be called; by the prompt, with any JSON object as
the form; by the prompt alone; by the prompt besides the field for it."""

_NAME = "answer"
_PURPOSE = "Gives the answer. Call it with the answer as the arguments, once you have everything that you need for it."
_ANY_OBJECT = {"type": "object"}
_SAID = "Your answer must be JSON alone, without any other text and without Markdown, and fit this JSON Schema:"
_SAID_OF_ANY = "Your answer must be a JSON object, without any other text and without Markdown."


class Asking:
    """The codec of one request, in one of the ways.

    With tools beside a form, a model that is asked by a tool must call one of them all: it goes on, or it answers. What
    it says before that is its reasoning. `by_name` says that the service can be told to call one tool by its name; else
    it is told to call any, and gets one tool alone where no other may be called. Raises UnsupportedFeatureError for a
    form that is no object, where one is needed.
    """

    def __init__(self, codec: Codec, way: Way, request: GenerateRequest, *, by_name: bool = True) -> None:
        self._codec = codec
        self._way = way
        self._by_name = by_name
        self._name = _free_name(request)

    def encode_request(self, request: GenerateRequest) -> Mapping[str, Any]:
        """Return the body of a request. Raises UnsupportedFeatureError for what it cannot say."""
        return self._codec.encode_request(self.asked(request))

    def asked(self, request: GenerateRequest) -> GenerateRequest:
        """Return the request as the service is asked."""
        if self._way == "tool":
            return _with_tool(request, self._name, self._by_name)
        prompted = _with_prompt(request)
        if self._way == "both":
            return prompted
        form = to_output_format({"type": "json_object"}) if self._way == "json_object" else None
        return replace(prompted, response_format=form)

    def decode_request(self, body: Mapping[str, Any]) -> GenerateRequest:
        """Return the request in a body, as the service is asked."""
        return self._codec.decode_request(body)

    def decode_response(self, body: bytes) -> GenerateResponse:
        """Return a whole answer. Raises GenerationError for what is none."""
        whole = self._codec.decode_response(body)
        read = tuple(self._whole(choice) for choice in whole.choices or (whole,))
        return replace(read[0], choices=read, raw_response=whole.raw_response) if whole.choices else read[0]

    def _whole(self, answer: GenerateResponse) -> GenerateResponse:
        calls = {
            piece.index: call for piece, call in zip(call_deltas(answer.tool_calls), answer.tool_calls, strict=True)
        }
        read = self._reader().read(replace(answer, tool_calls=(), tool_call_deltas=call_deltas(answer.tool_calls)))
        left = tuple(calls[piece.index] for piece in read.tool_call_deltas)
        return replace(read, tool_calls=left, tool_call_deltas=(), raw_response=answer.raw_response)

    def encode_response(self, response: GenerateResponse) -> Mapping[str, Any]:
        """Return a whole answer as JSON values."""
        return self._codec.encode_response(response)

    def stream_decoder(self) -> StreamDecoder:
        """Return the decoder of one answer."""
        return _Decoder(self._codec.stream_decoder(), self)

    def stream_encoder(self, request: GenerateRequest) -> StreamEncoder:
        """Return the encoder of one answer to a request."""
        return self._codec.stream_encoder(request)

    def _reader(self) -> _Reader:
        return _CalledAnswer(self._name) if self._way == "tool" else _FencedAnswer()


def as_asked(codec: Codec, request: GenerateRequest) -> GenerateRequest:
    """Return a request as the service is asked with a codec, which may be one of these."""
    return codec.asked(request) if isinstance(codec, Asking) else request


def _free_name(request: GenerateRequest) -> str:
    """Return a name that none of the request's tools has."""
    taken, name = {tool.name for tool in request.tools}, _NAME
    while name in taken:
        name += "_"
    return name


def _with_tool(request: GenerateRequest, name: str, by_name: bool) -> GenerateRequest:
    """Return a request that is answered by a call; one that demands another call has no form until then."""
    choice = request.tool_choice
    if choice not in (None, "auto", "none"):
        return replace(request, response_format=None)
    schema = rooted(request.response_format.schema)
    if schema is None:
        what = "This service takes forms of objects only; use a response_format that is one."
        raise UnsupportedFeatureError("response_format", what)
    answer = ToolDefinition(name, _PURPOSE, {"properties": {}, **schema})
    is_free = bool(request.tools) and choice != "none"
    tools = (*request.tools, answer) if is_free or by_name else (answer,)
    chosen = name if by_name and not is_free else "required"
    return replace(request, tools=tools, tool_choice=chosen, response_format=None)


def _with_prompt(request: GenerateRequest) -> GenerateRequest:
    """Return a request whose last leading system turn says the form.

    Any object needs no words where JSON is spoken of: services ask for that word alone.
    """
    form = request.response_format
    is_any = form.schema == _ANY_OBJECT
    if is_any and any("json" in message.text.lower() for message in request.messages):
        return request
    said = _SAID_OF_ANY if is_any else f"{_SAID}\n{form.text}"
    messages = request.messages
    leading = next((place for place, turn in enumerate(messages) if turn.role != "system"), len(messages))
    if not leading:
        return replace(request, messages=(Message("system", said), *messages))
    last = _with_text(messages[leading - 1], said)
    return replace(request, messages=(*messages[: leading - 1], last, *messages[leading:]))


def _with_text(turn: Message, said: str) -> Message:
    if isinstance(turn.content, str):
        return replace(turn, content=f"{turn.content}\n\n{said}")
    return replace(turn, content=(*turn.content, TextPart(said)))


# Answers.


class _Reader(Protocol):
    """Reads the deltas of one of the answers."""

    def read(self, delta: GenerateResponse) -> GenerateResponse:
        """Return a delta as users are to see it; it may say nothing."""


class _CalledAnswer:
    """Takes the arguments of the calls of one tool for the content."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._mine: set[int] = set()
        self._has_others = False
        self._held = ""

    def read(self, delta: GenerateResponse) -> GenerateResponse:
        """Return a delta as users are to see it. Text waits until it is known whether an answer is called after it."""
        others = []
        answered = ""
        for piece in delta.tool_call_deltas:
            if piece.name == self._name:
                self._mine.add(piece.index)
            if piece.index in self._mine:
                answered += piece.arguments
            else:
                others.append(piece)
        self._has_others = self._has_others or bool(others)
        self._held += delta.content
        found = replace(delta, content="", tool_call_deltas=tuple(others))
        if self._mine:
            return self._answered(found, answered)
        return self._released(found) if delta.finish_reason else found

    def _answered(self, delta: GenerateResponse, text: str) -> GenerateResponse:
        is_over = delta.finish_reason == "tool_calls" and not self._has_others
        held, self._held = self._held, ""
        return replace(
            delta,
            content=text,
            reasoning=delta.reasoning + held,
            finish_reason="stop" if is_over else delta.finish_reason,
            provider_data=None,  # it may hold the call, which the conversation will not have
        )

    def _released(self, delta: GenerateResponse) -> GenerateResponse:
        held, self._held = self._held, ""
        return replace(delta, content=held)


_OPENING = re.compile(r"\s*```[a-zA-Z]*[ \t]*\r?\n")
_OPENING_BEGUN = re.compile(r"\s*(`{0,2}|```[a-zA-Z]*[ \t]*\r?)")
_CLOSING = re.compile(r"\s*```\s*$")
_CLOSING_BEGUN = re.compile(r"\s*`{0,3}\s*$")


class _FencedAnswer:
    """Leaves a Markdown fence around all of an answer out, and everything else as it is."""

    def __init__(self) -> None:
        self._begun = self._fenced = False
        self._held = ""

    def read(self, delta: GenerateResponse) -> GenerateResponse:
        """Return a delta as users are to see it. What may be a fence waits until that is known."""
        text, self._held = self._held + delta.content, ""
        if not self._begun:
            text = self._opened(text, is_last=delta.finish_reason is not None)
        if self._fenced and delta.finish_reason is not None:
            text = _CLOSING.sub("", text)
        elif self._fenced:
            end = _CLOSING_BEGUN.search(text)
            cut = len(text) if end is None else end.start()
            text, self._held = text[:cut], text[cut:]
        return replace(delta, content=text)

    def _opened(self, text: str, *, is_last: bool) -> str:
        opening = _OPENING.match(text)
        if opening:
            self._begun = self._fenced = True
            return text[opening.end() :]
        if not is_last and _OPENING_BEGUN.fullmatch(text):
            self._held = text
            return ""
        self._begun = True
        return text


class _Decoder:
    """Decodes one streamed answer."""

    def __init__(self, decoder: StreamDecoder, asking: Asking) -> None:
        self._decoder = decoder
        self._asking = asking
        self._readers: dict[int, _Reader] = {}

    def feed(self, data: bytes) -> Sequence[GenerateResponse]:
        """Return the deltas that are complete with these bytes; raises what the codec inside raises."""
        return self._read(self._decoder.feed(data))

    def end(self) -> Sequence[GenerateResponse]:
        """Return what is left once the connection has ended; raises what the codec inside raises."""
        return self._read(self._decoder.end())

    def _read(self, deltas: Iterable[GenerateResponse]) -> list[GenerateResponse]:
        read = [self._reader_of(delta.choice).read(delta) for delta in deltas]
        return [delta for delta in read if delta != GenerateResponse(choice=delta.choice)]

    def _reader_of(self, choice: int) -> _Reader:
        if choice not in self._readers:
            self._readers[choice] = self._asking._reader()
        return self._readers[choice]
