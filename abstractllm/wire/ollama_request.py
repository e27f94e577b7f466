"""Requests in Ollama's native chat format, in both directions. Knows nothing of answers."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct, field

from abstractllm.errors import InvalidParameterError, InvalidRequestError
from abstractllm.parameters import check_parameters
from abstractllm.schema import OutputFormat
from abstractllm.tools import to_tool_definitions
from abstractllm.types import (
    DocumentPart,
    GenerateRequest,
    ImagePart,
    Message,
    Part,
    Reasoning,
    TextPart,
    ToolCall,
    ToolDefinition,
)
from abstractllm.wire.bodies import read_request, schema_format
from abstractllm.wire.refusals import refusal, refuse_names, refuse_parameters
from abstractllm.wire.toolcalls import arguments_object, call_of

_UNSAID = ("n", "logit_bias", "deterministic", "priority")

_OPTIONS = {
    "max_tokens": "num_predict",
    "temperature": "temperature",
    "seed": "seed",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
"""Parameters and their names in a body's `options`."""

BESIDE = frozenset({"keep_alive", "truncate", "shift"})
"""Options of this format that stand beside `options` in a body; all others stand in them."""

_BEGINNINGS = (
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png"),
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg"),
    (re.compile(rb"GIF8[79]a"), "image/gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp"),
)
"""The first bytes of images, by their specifications; this format does not say what an image is."""

_ANY_OBJECT = {"type": "object"}
_LEVELS: Mapping[Any, Reasoning] = {False: "none", True: "medium", "low": "low", "medium": "medium", "high": "high"}


@dataclass(frozen=True, slots=True)
class OllamaQuirks:
    """What differs between services and models that speak this format.

    `provider` is the name in errors. `think_levels` says that the model takes low, medium and high; others refuse
    them, and know only whether to think.
    """

    provider: str = "ollama"
    think_levels: bool = False


# Requests -> bodies.


def encode_request(request: GenerateRequest, quirks: OllamaQuirks) -> dict[str, Any]:
    """Return the body of a request. Raises UnsupportedFeatureError and InvalidParameterError."""
    refuse_parameters(request, _UNSAID, quirks.provider)
    refuse_names(request, quirks.provider)
    body: dict[str, Any] = {} if request.model is None else {"model": request.model}
    body |= {"messages": _turns(request.messages, quirks.provider), "stream": request.stream}
    body |= _tools(request, quirks.provider)
    if request.response_format is not None:
        body["format"] = _format(request.response_format, quirks.provider)
    if request.reasoning is not None:
        levels = quirks.think_levels and request.reasoning != "none"
        body["think"] = request.reasoning if levels else request.reasoning != "none"
    if request.logprobs:
        body |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    return _with_options(body, request)


def _turns(messages: Sequence[Message], provider: str) -> list[dict[str, Any]]:
    names: dict[str, str] = {}
    turns = []
    for message in messages:
        names |= {call.id: call.name for call in message.tool_calls}
        turns.append(_turn(message, names, provider))
    return turns


def _turn(message: Message, names: Mapping[str, str], provider: str) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.reasoning:
        turn["thinking"] = message.reasoning
    images = [] if isinstance(message.content, str) else _images(message.content, provider)
    if images:
        turn["images"] = images
    if message.tool_calls:
        turn["tool_calls"] = [call_body(number, call) for number, call in enumerate(message.tool_calls)]
    if message.role == "tool":
        name = message.name or names.get(message.tool_call_id or "")
        turn |= {"tool_name": name} if name else {}
        turn |= {"tool_call_id": message.tool_call_id} if message.tool_call_id else {}
    return turn


def _images(content: Sequence[Part], provider: str) -> list[str]:
    for part in content:
        if isinstance(part, DocumentPart):
            raise refusal("documents", f"has no place for {part.media_type} files; convert them to text", provider)
        if isinstance(part, ImagePart) and not part.data:
            raise refusal("vision", "takes images as data, not by URL; attach the file itself", provider)
    return [base64.b64encode(part.data).decode("ascii") for part in content if isinstance(part, ImagePart)]


def call_body(number: int, call: ToolCall) -> dict[str, Any]:
    """Return a call as JSON values; `number` counts the calls of one answer."""
    identity = {"id": call.id} if call.id else {}
    return {**identity, "function": {"index": number, "name": call.name, "arguments": arguments_object(call)}}


def _tools(request: GenerateRequest, provider: str) -> dict[str, Any]:
    """Return the tools. Not to call any is said by leaving them out; to call one cannot be said."""
    if request.tool_choice not in (None, "auto", "none"):
        raise refusal("tool_choice", "cannot force a tool call; use tool_choice='auto'", provider)
    if not request.tools or request.tool_choice == "none":
        return {}
    return {"tools": [{"type": "function", "function": _function(tool)} for tool in request.tools]}


def _function(tool: ToolDefinition) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}


def _format(output: OutputFormat, provider: str) -> object:
    if output.kind != "json" or output.schema is None:
        raise refusal("response_format", f"cannot hold an answer to a format of kind {output.kind!r}", provider)
    return "json" if output.schema == _ANY_OBJECT else dict(output.schema)


def _with_options(body: dict[str, Any], request: GenerateRequest) -> dict[str, Any]:
    given = {ours: getattr(request, ours) for ours in _OPTIONS}
    options = {_OPTIONS[ours]: value for ours, value in given.items() if value is not None}
    if request.stop:
        options["stop"] = list(request.stop)
    added = {name: value for name, value in request.options.items() if name not in BESIDE}
    for name in options.keys() & added.keys():
        raise InvalidParameterError("options", f"options say {name!r}, which the request says already; give one.")
    options |= added
    beside = {name: value for name, value in request.options.items() if name in BESIDE}
    return body | beside | ({"options": options} if options else {})


# Bodies -> requests.


class _Function(Struct):
    name: str
    arguments: Any = None


class _Call(Struct):
    function: _Function
    id: str = ""


class _Turn(Struct):
    role: Literal["system", "user", "assistant", "tool"]
    content: str | None = ""
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class _Defined(Struct):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(Struct):
    function: _Defined


class _Body(Struct):
    messages: list[_Turn] = field(default_factory=list)
    model: str | None = None
    stream: bool | None = True
    tools: list[_Tool] | None = None
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    think: bool | Literal["low", "medium", "high"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None


def decode_request(body: Mapping[str, Any]) -> GenerateRequest:
    """Return the request in a body. What is not the format's own goes to `options`, for the server to judge.

    Raises InvalidRequestError. A body without messages, which in this format loads a model, is none.
    """
    read = read_request(body, _Body)
    if not read.messages:
        raise InvalidRequestError("The request has no messages; add one.")
    beside = {name: value for name, value in body.items() if name not in _Body.__struct_fields__}
    given = {name: value for name, value in (read.options or {}).items() if value is not None}
    values = _parameters(given)
    values["reasoning"] = None if read.think is None else _LEVELS[read.think]
    if read.logprobs:
        values |= {"logprobs": True, "top_logprobs": read.top_logprobs or None}
    if read.format:
        values["response_format"] = _output_format(read.format)
    return GenerateRequest(
        messages=tuple(_message(turn) for turn in read.messages),
        tools=to_tool_definitions([_definition(tool.function) for tool in read.tools or ()]),
        stream=read.stream is not False,
        model=read.model,
        options=beside | given,
        **check_parameters(values),
    )


def _parameters(options: dict[str, Any]) -> dict[str, Any]:
    """Take our parameters out of a body's `options`."""
    values = {ours: options.pop(theirs, None) for ours, theirs in _OPTIONS.items()}
    values["stop"] = options.pop("stop", None)
    for name in ("max_tokens", "top_k"):
        if isinstance(values[name], int) and values[name] <= 0:  # without limit
            values[name] = None
    return values


def _output_format(given: str | dict[str, Any]) -> OutputFormat:
    if isinstance(given, dict):
        return schema_format(given)
    if given != "json":
        raise InvalidRequestError(f"The format {given!r} is not known; use 'json' or a JSON Schema.")
    return schema_format(_ANY_OBJECT)


def _definition(tool: _Defined) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters or {}}


def _message(turn: _Turn) -> Message:
    images = tuple(_image(data) for data in turn.images or ())
    text = turn.content or ""
    said = (TextPart(text),) if text else ()
    return Message(
        turn.role,
        (*images, *said) if images else text,
        name=turn.tool_name,
        tool_calls=tuple(
            call_of(call.id, call.function.name, call.function.arguments) for call in turn.tool_calls or ()
        ),
        tool_call_id=turn.tool_call_id,
        reasoning=turn.thinking or None,
    )


def _image(data: str) -> ImagePart:
    """Return an image, whose type only its first bytes tell."""
    try:
        found = base64.b64decode(data, validate=True)
    except ValueError as error:
        raise InvalidRequestError(f"An image is not valid base64: {error}.") from error
    for pattern, media_type in _BEGINNINGS:
        if pattern.match(found):
            return ImagePart(found, media_type)
    raise InvalidRequestError("An image is neither PNG, JPEG, GIF nor WebP.")
