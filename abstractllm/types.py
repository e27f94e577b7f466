"""The data that requests and answers are made of: frozen, slotted, without behaviour beyond reading.

This module knows no provider, does no I/O and validates nothing; checks live in `parameters` and `capabilities`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "cancelled"]
Reasoning = Literal["none", "low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text; `name` is the file it came from, if any."""

    text: str
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image as encoded bytes (PNG, JPEG, GIF or WebP), or by `url` when `data` is empty."""

    data: bytes = field(repr=False)
    media_type: str
    name: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """A document that a provider reads itself, such as a PDF, or by `url` when `data` is empty."""

    data: bytes = field(repr=False)
    media_type: str
    name: str | None = None
    url: str | None = None


Part = TextPart | ImagePart | DocumentPart


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model asks for.

    `arguments` are decoded. When the model's text could not be decoded, `arguments` is empty and
    `invalid` holds that text.
    """

    id: str
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    invalid: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call in a stream: deltas with one `index` join to one call.

    `id` and `name` come once, `arguments` is a piece of JSON text.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    `content` is text or parts. `tool_calls` belong to an assistant turn, `tool_call_id` to a tool's
    result. `provider_data` is what one provider wants back unchanged, such as signed reasoning.
    """

    role: Role
    content: str | tuple[Part, ...] = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    reasoning: str | None = None
    provider_data: Mapping[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text of the turn, without images and documents."""
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(part.text for part in self.content if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True, weakref_slot=True)
class ToolDefinition:
    """A tool as the model sees it: `parameters` is a JSON Schema of an object. `function` runs it, if known."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    function: Callable[..., Any] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of one answer; `cached_tokens` are those of the prompt that needed no computing.

    `proposed_tokens` came from a draft model; `accepted_tokens` of them were taken, perhaps one that ends the answer.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    proposed_tokens: int = 0
    accepted_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and answer together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """Where the time of one request went, in seconds: waiting, until the first token, from there to the end."""

    queued: float = 0.0
    first_token: float = 0.0
    decode: float = 0.0

    @property
    def total(self) -> float:
        """Seconds from submission to the last token."""
        return self.queued + self.first_token + self.decode


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, its natural-log probability under the raw model, and its likeliest alternatives."""

    token: str
    logprob: float
    bytes: bytes
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class GenerateResponse:
    """A whole answer or, in a stream, one delta.

    Joined deltas equal the whole answer. In a stream `tool_call_deltas` carry the calls and the last delta
    carries `finish_reason`, `usage`, `timings` and `stop_string`; in a whole answer `tool_calls` are decoded.
    `choice` is the number of the answer when several were asked for; then the whole answer's `choices` has
    them all. `parsed` is the validated value when a `response_format` was given.
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_deltas: tuple[ToolCallDelta, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    stop_string: str | None = None
    model: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    choice: int = 0
    choices: tuple[GenerateResponse, ...] = ()
    parsed: Any = None
    provider_data: Mapping[str, Any] | None = None
    raw_response: Any = field(default=None, repr=False, compare=False)

    def has_tool_calls(self) -> bool:
        """Whether the model asks for at least one tool call."""
        return bool(self.tool_calls)

    def to_message(self) -> Message:
        """Return the answer as an assistant turn, ready to be put into `messages`."""
        return Message(
            "assistant",
            self.content,
            tool_calls=self.tool_calls,
            reasoning=self.reasoning or None,
            provider_data=self.provider_data,
        )

    def __str__(self) -> str:
        return self.content


@dataclass(frozen=True, slots=True)
class Timeout:
    """Limits in seconds; None is no limit.

    `connect` until a connection stands, at each try, for providers that connect to something; others ignore it.
    `first_event` until the first token: the first delta or, where a provider hands a whole answer over at its end, the
    moment at which it says that it has one. `idle` between two deltas. `total` for all, retries included.
    """

    connect: float | None = None
    first_event: float | None = None
    idle: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """A checked, immutable request, as a provider receives it. None means "not given"."""

    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    stream: bool = False
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int = 1
    logprobs: bool = False
    top_logprobs: int | None = None
    logit_bias: Mapping[int, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    tool_choice: str | None = None
    response_format: Any = None
    retries: int | None = None
    reasoning: Reasoning | None = None
    timeout: Timeout | None = None
    priority: int = 0
    deterministic: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


_NEUTRAL: Mapping[str, object] = {"n": 1, "logprobs": False, "priority": 0, "deterministic": False, "stop": ()}
_PARAMETERS = tuple(
    name for name in GenerateRequest.__slots__ if name not in ("messages", "tools", "stream", "model", "options")
)
_NOTHING_ASKED = tuple(_NEUTRAL.get(name) for name in _PARAMETERS)
_values = attrgetter(*_PARAMETERS)


def given_parameters(request: GenerateRequest) -> tuple[str, ...]:
    """Return the names of the parameters that ask for something: not None, and not the value that asks for nothing."""
    values = _values(request)
    if values == _NOTHING_ASKED:
        return ()
    asked = zip(_PARAMETERS, values, _NOTHING_ASKED, strict=True)
    return tuple(name for name, value, nothing in asked if value is not None and value != nothing)


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """A checked, immutable request for vectors, as a provider receives it. None means "not given"."""

    texts: tuple[str, ...]
    model: str | None = None
    dimensions: int | None = None
    timeout: Timeout | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Embeddings(list[list[float]]):
    """One vector per text, in the order of the texts, all of one length.

    A list, unlike the other data here, because that is what vector stores, numpy, `json` and callers of `embed` take.
    `usage` is summed over all requests, or None where the service does not tell it of each; `model` is who made
    the vectors, as the service says it. What is made of it, such as a slice, is a plain list.
    """

    __slots__ = ("model", "usage")

    def __init__(
        self, vectors: Iterable[list[float]] = (), *, usage: Usage | None = None, model: str | None = None
    ) -> None:
        super().__init__(vectors)
        self.usage = usage
        self.model = model
