"""The one place that joins deltas into whole answers. Knows no provider and no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from operator import add, attrgetter
from typing import Any

from abstractllm.types import GenerateResponse, TokenLogprob, ToolCall, ToolCallDelta, Usage


def decode_arguments(text: str) -> dict[str, Any] | None:
    """Return the JSON object in `text`, `{}` for blank text, or None when it is not a JSON object."""
    if not text.strip():
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def call_deltas(calls: Iterable[ToolCall], *, first: int = 0) -> tuple[ToolCallDelta, ...]:
    """Return whole calls as one delta each, numbered from `first`; the inverse of what the accumulator does."""
    return tuple(
        ToolCallDelta(index, call.id, call.name, _argument_text(call)) for index, call in enumerate(calls, first)
    )


def _argument_text(call: ToolCall) -> str:
    if call.invalid is not None:
        return call.invalid
    return json.dumps(dict(call.arguments), ensure_ascii=False, separators=(",", ":"))


class _CallBuilder:
    """Collects the deltas of one tool call."""

    def __init__(self, index: int) -> None:
        self.id = f"call_{index}"
        self.name = ""
        self.pieces: list[str] = []

    def add(self, delta: ToolCallDelta) -> None:
        self.id = delta.id or self.id
        self.name = delta.name or self.name
        self.pieces.append(delta.arguments)

    def build(self) -> ToolCall:
        text = "".join(self.pieces)
        arguments = decode_arguments(text)
        if arguments is None or not self.name:
            return ToolCall(self.id, self.name, {}, invalid=text)
        return ToolCall(self.id, self.name, arguments)


def join_calls(pieces: Iterable[ToolCallDelta]) -> tuple[ToolCall, ...]:
    """Return the calls that `pieces` are those of, decoded, in the order of their numbers."""
    calls: dict[int, _CallBuilder] = {}
    for piece in pieces:
        calls.setdefault(piece.index, _CallBuilder(piece.index)).add(piece)
    return tuple(calls[index].build() for index in sorted(calls))


_LATEST = ("finish_reason", "usage", "timings", "stop_string", "model", "parsed", "raw_response")
_latest = attrgetter(*_LATEST)
_NOTHING_LATEST = (None,) * len(_LATEST)


class _ChoiceBuilder:
    """Collects the deltas of one answer; later facts replace earlier ones, texts are joined.

    A delta that stays alone is the answer, as it is; nothing is taken apart and put together for it.
    """

    __slots__ = ("calls", "choice", "content", "latest", "logprobs", "provider_data", "reasoning", "sole")

    def __init__(self, first: GenerateResponse) -> None:
        self.choice = first.choice
        self.sole: GenerateResponse | None = None
        if first.tool_call_deltas or first.tool_calls or first.provider_data is not None:
            self._begin()
            self._join(first)
        else:
            self.sole = first

    def _begin(self) -> None:
        self.content: list[str] = []
        self.reasoning: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.calls: dict[int, _CallBuilder] = {}
        self.provider_data: dict[str, Any] = {}
        self.latest: dict[str, Any] = {}

    @property
    def finished(self) -> bool:
        """Whether the reason of the answer's end is known."""
        return "finish_reason" in self.latest if self.sole is None else self.sole.finish_reason is not None

    def add(self, delta: GenerateResponse) -> None:
        first, self.sole = self.sole, None
        if first is not None:
            self._begin()
            self._join(first)
        self._join(delta)

    def _join(self, delta: GenerateResponse) -> None:
        if delta.content:
            self.content.append(delta.content)
        if delta.reasoning:
            self.reasoning.append(delta.reasoning)
        if delta.logprobs:
            self.logprobs.extend(delta.logprobs)
        if delta.tool_call_deltas or delta.tool_calls:
            self._add_calls(delta)
        if delta.provider_data:
            self.provider_data.update(delta.provider_data)
        latest = _latest(delta)
        if latest == _NOTHING_LATEST:
            return
        for name, value in zip(_LATEST, latest, strict=True):
            if value is not None:
                self.latest[name] = value

    def _add_calls(self, delta: GenerateResponse) -> None:
        first = max((*self.calls, *(call.index for call in delta.tool_call_deltas)), default=-1) + 1
        for call in (*delta.tool_call_deltas, *call_deltas(delta.tool_calls, first=first)):
            self.calls.setdefault(call.index, _CallBuilder(call.index)).add(call)

    def build(self) -> GenerateResponse:
        if self.sole is not None:
            return self.sole
        return GenerateResponse(
            content="".join(self.content),
            reasoning="".join(self.reasoning),
            tool_calls=tuple(self.calls[index].build() for index in sorted(self.calls)),
            logprobs=tuple(self.logprobs),
            choice=self.choice,
            provider_data=dict(self.provider_data) or None,
            **self.latest,
        )


class ResponseAccumulator:
    """Joins deltas. `response` may be read at any time and shows what has arrived.

    `read` makes of an unfinished text what is certain of the value that it is to be.
    """

    def __init__(self, read: Callable[[str], Any] | None = None) -> None:
        self._read = read
        self._choices: dict[int, _ChoiceBuilder] = {}
        self._spent: Usage | None = None  # on answers that were given up

    def add(self, delta: GenerateResponse) -> None:
        """Take the next delta; one that is a whole answer with several `choices` stands for all of them."""
        for one in delta.choices:
            self.add(one)
        if delta.choices:
            return
        choice = self._choices.get(delta.choice)
        if choice is None:
            self._choices[delta.choice] = _ChoiceBuilder(delta)
        else:
            choice.add(delta)

    def restart(self) -> None:
        """Forget the answer so far, and begin another one; `usage` will be of both together."""
        self._spent = self.response.usage
        self._choices.clear()

    @property
    def finished(self) -> bool:
        """Whether every answer that has begun has its finish_reason, and at least one has begun."""
        return bool(self._choices) and all(one.finished for one in self._choices.values())

    @property
    def partial(self) -> Any:
        """What is certain by now of the value that was asked for; None where none was."""
        return None if self._read is None else self._read(self.response.content)

    @property
    def response(self) -> GenerateResponse:
        """The answer so far: the first one, with all of them in `choices` when there are several."""
        built = [self._choices[number].build() for number in sorted(self._choices)]
        if not built:
            return GenerateResponse(usage=self._spent)
        if self._spent is not None:
            built[0] = replace(built[0], usage=added(self._spent, built[0].usage))
        return built[0] if len(built) == 1 else replace(built[0], choices=tuple(built))


_counts = attrgetter(*(count.name for count in fields(Usage)))


def added(one: Usage, other: Usage | None) -> Usage:
    """Return the counts of both together; `other` may not be known."""
    if other is None:
        return one
    return Usage(*map(add, _counts(one), _counts(other)))


def join(deltas: Iterable[GenerateResponse]) -> GenerateResponse:
    """Return the whole answer that `deltas` are the pieces of."""
    accumulator = ResponseAccumulator()
    for delta in deltas:
        accumulator.add(delta)
    return accumulator.response
