"""One request on its way through the engine: tokens in, deltas out. Runs on the thread that computes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.aio import End
from abstractllm.errors import AbstractLLMError
from abstractllm.providers.call import Call
from abstractllm.providers.local.constraint import Constraint
from abstractllm.providers.local.logprobs import ScoredToken
from abstractllm.providers.local.sampling import Sampling
from abstractllm.text.reader import OutputReader
from abstractllm.types import FinishReason, GenerateResponse, Timings, TokenLogprob, Usage


class Sink(Protocol):
    """Where the deltas of an answer go, and an `End` after the last one."""

    def put(self, item: GenerateResponse | End) -> None:
        """Hand over; never waits."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request ready for the engine: token ids, limits, and what reads its output."""

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    reader: OutputReader
    constraint: Constraint | None
    token_bytes: Callable[[int], bytes]
    model: str
    stream: bool
    priority: int = 0
    exact: bool = False
    choice: int = 0


class Answer:
    """A row of the batch. Streams hand over each delta; whole answers cross to their reader once, at the end."""

    def __init__(self, prepared: Prepared, call: Call, sink: Sink) -> None:
        self.prompt = prepared.prompt
        self.generated: list[int] = []
        self.priority = prepared.priority
        self.deadline = call.deadline
        self.exact = prepared.exact
        self.cached = 0
        self.proposed = self.accepted = 0
        self.max_tokens = prepared.max_tokens
        self.sampling = prepared.sampling
        self.constraint = prepared.constraint
        self._prepared = prepared
        self._reader = prepared.reader
        self._call = call
        self._sink = sink
        self._whole = None if prepared.stream else ResponseAccumulator()
        self._submitted = time.perf_counter()
        self._started: float | None = None
        self._first: float | None = None
        self._logprobs: list[TokenLogprob] = []  # of tokens whose text has not been handed over

    @property
    def cancelled(self) -> bool:
        """Whether nobody wants the answer any more."""
        return self._call.cancelled

    def progress(self, done: int, total: int) -> None:
        """Take note of how much of the prompt is computed."""
        if self._started is None:
            self._started = time.perf_counter()
        self._call.report_progress(done, total)

    def token(self, token: int, extra: ScoredToken | None) -> bool:
        """Take the next token; True when a stop string has ended the answer."""
        if self._first is None:
            self._first = time.perf_counter()
            self._call.first_event()
        if extra is not None:
            self._logprobs.append(self._logprob(extra))
        self._emit(self._reader.add(token))
        return self._reader.stop_string is not None

    def end(self, reason: Literal["stop", "length"]) -> None:
        """Hand over what was held back, and how the answer ended."""
        if reason == "length" and self._has_its_form():
            reason = "stop"
        if self._reader.stop_string is None:
            self._emit(self._reader.flush(cut_off=reason == "length"))
        reason = "stop" if self._reader.stop_string is not None else reason
        called = reason == "stop" and self._reader.calls
        self._emit(self._last("tool_calls" if called else reason))
        if self._whole is not None:
            self._sink.put(self._whole.response)
        self._sink.put(End())

    def _has_its_form(self) -> bool:
        """Whether nothing more could come anyway, so that `max_tokens` has cut nothing off."""
        if self.constraint is None:
            return False
        constraint = self.constraint.copy()
        constraint.replay(self.generated)
        return constraint.finished

    def fail(self, error: Exception) -> None:
        """End the answer with an error."""
        if isinstance(error, AbstractLLMError) and error.provider is None:
            error.provider = "mlx"
        self._sink.put(End(error))

    def _emit(self, delta: GenerateResponse | None) -> None:
        if delta is None:
            return
        if self._prepared.choice:
            delta = replace(delta, choice=self._prepared.choice)
        if self._logprobs:
            delta = replace(delta, logprobs=tuple(self._logprobs))
            self._logprobs = []
        if self._whole is None:
            self._sink.put(delta)
        else:
            self._whole.add(delta)

    def _logprob(self, scored: ScoredToken) -> TokenLogprob:
        top = tuple(self._named(token, logprob) for token, logprob in scored.top)
        return replace(self._named(scored.token, scored.logprob), top=top)

    def _named(self, token: int, logprob: float) -> TokenLogprob:
        text = self._prepared.token_bytes(token)
        return TokenLogprob(text.decode(errors="replace"), logprob, text)

    def _last(self, reason: FinishReason) -> GenerateResponse:
        return GenerateResponse(
            finish_reason=reason,
            usage=self._usage(),
            timings=self._timings(),
            stop_string=self._reader.stop_string,
            model=self._prepared.model,
        )

    def _usage(self) -> Usage:
        return Usage(
            prompt_tokens=len(self.prompt),
            completion_tokens=len(self.generated),
            cached_tokens=self.cached,
            proposed_tokens=self.proposed,
            accepted_tokens=self.accepted,
        )

    def _timings(self) -> Timings:
        now = time.perf_counter()
        first = self._first or now
        started = min(self._started or first, first)
        return Timings(started - self._submitted, first - started, now - first)
