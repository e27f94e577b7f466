"""Callbacks that measure how long LangChain's chat models take. They work with any chat model.

They are called at once and on the thread or loop that answers, which is why they only count. Each run is kept apart, so
that any number may run at the same time.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult

from abstractllm.observing.distribution import percentile

KEPT = 10_000
"""Calls that are remembered one by one; all are in the totals."""

Token = str | list[str | dict[str, Any]]


class CountingCallback(BaseCallbackHandler):
    """Base of these callbacks and of those of costs. LangChain would else call them in threads, late, in any order."""

    run_inline = True

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything that was counted."""

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> Any:
        """Begin a run."""


class LatencyTrackingCallback(CountingCallback):
    """Measures seconds from the start of a call to its end and, of one that streams, to the first token.

    Failed calls are counted in `error_count` and not measured. Percentiles are of the latest 10,000 calls; what there
    is none of is 0.
    """

    def reset(self) -> None:
        """Forget everything that was measured, and what runs."""
        with self._lock:
            self._started: dict[UUID, float] = {}
            self._waiting: set[UUID] = set()
            self._latencies: deque[float] = deque(maxlen=KEPT)
            self._first: deque[float] = deque(maxlen=KEPT)
            self.call_count = self.error_count = 0
            self.total_latency = self.min_latency = self.max_latency = 0.0

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> Any:
        """Begin to measure a run."""
        with self._lock:
            self._started[run_id] = time.perf_counter()
            self._waiting.add(run_id)

    def on_llm_new_token(self, token: Token, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> Any:
        """Take the time of a run's first token."""
        if run_id in self._waiting and _says_something(token, chunk):
            with self._lock:
                self._waiting.discard(run_id)
                if run_id in self._started:
                    self._first.append(time.perf_counter() - self._started[run_id])

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> Any:
        """End a run."""
        seconds = self._end(run_id)
        if seconds is None:
            return
        with self._lock:
            self.min_latency = min(self.min_latency, seconds) if self.call_count else seconds
            self.max_latency = max(self.max_latency, seconds)
            self.total_latency += seconds
            self.call_count += 1
            self._latencies.append(seconds)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Any:
        """Forget a run that failed."""
        if self._end(run_id) is not None:
            with self._lock:
                self.error_count += 1

    def _end(self, run_id: UUID) -> float | None:
        with self._lock:
            self._waiting.discard(run_id)
            started = self._started.pop(run_id, None)
        return None if started is None else time.perf_counter() - started

    @property
    def latencies(self) -> list[float]:
        """Seconds of the latest 10,000 calls, in the order of their ends."""
        with self._lock:
            return list(self._latencies)

    @property
    def times_to_first_token(self) -> list[float]:
        """Seconds to the first token of the latest 10,000 calls that streamed."""
        with self._lock:
            return list(self._first)

    @property
    def average_latency(self) -> float:
        """Mean seconds of a call."""
        return self.total_latency / self.call_count if self.call_count else 0.0

    @property
    def p50_latency(self) -> float:
        """Seconds that half of the calls did not exceed."""
        return _percentile(self.latencies, 50)

    @property
    def p95_latency(self) -> float:
        """Seconds that 95 of 100 calls did not exceed."""
        return _percentile(self.latencies, 95)

    @property
    def p99_latency(self) -> float:
        """Seconds that 99 of 100 calls did not exceed."""
        return _percentile(self.latencies, 99)

    def get_summary(self) -> dict[str, Any]:
        """Return all numbers of calls, and the percentiles of the times to their first tokens."""
        names = ("call_count", "error_count", "total_latency", "average_latency", "min_latency", "max_latency")
        spread = {name: getattr(self, name) for name in (*names, "p50_latency", "p95_latency", "p99_latency")}
        first = self.times_to_first_token
        return spread | {f"p{percent}_time_to_first_token": _percentile(first, percent) for percent in (50, 95, 99)}


@dataclass(slots=True)
class StreamedRun:
    """What has come of one stream: `pieces` of text, when it began, and when the first and the last of them came."""

    started: float
    pieces: list[str]
    first: float | None = None
    last: float | None = None

    @property
    def elapsed_time(self) -> float:
        """Seconds from the start to the last piece."""
        return 0.0 if self.last is None else self.last - self.started

    @property
    def tokens_per_second(self) -> float:
        """Pieces in a second, of those after the first, as the first is waited for; 0 where there is one at most."""
        if self.first is None or self.last is None or self.last <= self.first:
            return 0.0
        return (len(self.pieces) - 1) / (self.last - self.first)


class TokenStreamingCallback(CountingCallback):
    """Counts the pieces of text of streams, which are tokens with most services, apart for each run.

    `runs` has the latest 10,000 by run id; the other numbers are of them all together.
    """

    def reset(self) -> None:
        """Forget all streams."""
        with self._lock:
            self.runs: dict[UUID, StreamedRun] = {}
            self.tokens: deque[str] = deque(maxlen=KEPT)
            self.token_count = 0

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> Any:
        """Begin a run."""
        with self._lock:
            self.runs[run_id] = StreamedRun(time.perf_counter(), [])
            if len(self.runs) > KEPT:
                del self.runs[next(iter(self.runs))]

    def on_llm_new_token(self, token: Token, *, chunk: Any = None, run_id: UUID, **kwargs: Any) -> Any:
        """Count a piece that has text."""
        text = token if isinstance(token, str) else "".join(_texts(token))
        if not text:
            return
        with self._lock:
            self.token_count += 1
            self.tokens.append(text)
            run = self.runs.get(run_id)
            if run is not None:
                run.pieces.append(text)
                run.last = time.perf_counter()
                run.first = run.last if run.first is None else run.first

    @property
    def elapsed_time(self) -> float:
        """Seconds of all runs together, each to its last piece."""
        with self._lock:
            return sum(run.elapsed_time for run in self.runs.values())

    @property
    def tokens_per_second(self) -> float:
        """Mean pieces in a second of a run."""
        elapsed = self.elapsed_time
        return self.token_count / elapsed if elapsed else 0.0


def _says_something(token: Token, chunk: GenerationChunk | ChatGenerationChunk | None) -> bool:
    calls = getattr(getattr(chunk, "message", None), "tool_call_chunks", None)
    return bool(token or calls)


def _texts(blocks: Iterable[str | dict[str, Any]]) -> Iterable[str]:
    for block in blocks:
        yield block if isinstance(block, str) else str(block.get("text") or "")


def _percentile(values: Iterable[float], percent: int) -> float:
    return percentile(sorted(values), percent) or 0.0
