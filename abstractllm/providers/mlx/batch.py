"""Runs the requests of one model together: waiting, prefill, decode. Knows tokens, no text.

Everything here happens on the MLX thread.
"""

from __future__ import annotations

import copy
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from abstractllm.errors import GenerationError
from abstractllm.providers.mlx.caches import can_be_merged
from abstractllm.providers.mlx.decode import DecodeBatch
from abstractllm.providers.mlx.prefill import PrefillBatch
from abstractllm.providers.mlx.sampling import Sampler

ROWS = 32
"""Requests of one model that are decoded together; more wait their turn."""

PREFILL_ROWS = 8
PREFILL_STEP = 512
"""Prompts that are computed together, and tokens per step: of each of them, or of all while running rows wait."""

BURST_SECONDS = 0.01
"""Longest wait of an idle engine for requests that are on their way, so that a burst starts as one batch."""


class Row(Protocol):
    """One request in the batch."""

    prompt: list[int]
    max_tokens: int
    sampler: Sampler | None

    @property
    def cancelled(self) -> bool:
        """Whether its tokens are no longer wanted."""

    def progress(self, done: int, total: int) -> None:
        """So many tokens of the prompt are computed."""

    def token(self, token: int) -> bool:
        """Take the next token; True when no more are wanted."""

    def end(self, reason: Literal["stop", "length"]) -> None:
        """There are no more tokens."""

    def fail(self, error: Exception) -> None:
        """There are no more tokens because of an error."""


class BatchEngine:
    """The batch of one model. `stop_tokens` end an answer and are no part of it.

    A model with caches that cannot be merged gets its requests served one after another.
    """

    def __init__(self, model: Any, stop_tokens: Iterable[int]) -> None:
        self._model = model
        self._stop_tokens = frozenset(stop_tokens)
        self._most_rows = ROWS if can_be_merged(model) else 1
        self._awaited = 0
        self._counting = threading.Lock()
        self._first_added: float | None = None
        self.on_idle: Callable[[], None] | None = None
        self._start_afresh()

    def _start_afresh(self) -> None:
        self._waiting: deque[Row] = deque()
        self._prefill: PrefillBatch[Row] = PrefillBatch(self._model)
        self._decode: DecodeBatch[Row] = DecodeBatch(self._model)

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._waiting or self._prefill.rows or self._decode.rows)

    @property
    def patience(self) -> float:
        """Seconds to wait for more requests before the next step: above 0 for an idle engine in a burst."""
        if not self._awaited or self._first_added is None:
            return 0.0
        return max(0.0, self._first_added + BURST_SECONDS - time.monotonic())

    def expect(self, number: int) -> None:
        """Say that so many requests more (or fewer) are on their way. May be called on any thread."""
        with self._counting:
            self._awaited += number

    def add(self, row: Row) -> None:
        """Take a request in; it joins the running ones at the next step."""
        if row.cancelled:
            row.fail(GenerationError("The request was cancelled before it began.", provider="mlx"))
        elif not row.prompt:
            row.fail(GenerationError("The prompt has no tokens.", provider="mlx"))
        else:
            if not self.busy:
                self._first_added = time.monotonic()
            self._waiting.append(row)
            return
        if not self.busy:
            self._rest()

    def drop(self, row: Row) -> None:
        """Take a request out, at whatever stage it is, and free its slot. One that has ended is left alone."""
        if not self._has(row):
            return
        self._remove([row])
        row.fail(GenerationError("The request was cancelled.", provider="mlx"))
        if not self.busy:
            self._rest()

    def _has(self, row: Row) -> bool:
        stages = (self._waiting, self._prefill.rows, self._decode.rows)
        return any(one is row for stage in stages for one in stage)

    def _remove(self, rows: list[Row]) -> None:
        try:
            self._decode.drop(rows)
            for row in rows:
                self._prefill.drop(row)
                self._waiting = deque(one for one in self._waiting if one is not row)
        except Exception as error:
            self.fail_all(error)

    def step(self) -> None:
        """Compute the next token of every running request and a piece of the waiting prompts."""
        self._first_added = None
        try:
            if self._decode.rows:
                self._decode_step()
            self._prefill_step()
        except Exception as error:
            self.fail_all(error)
            return
        if not self.busy:
            self._rest()

    def _decode_step(self) -> None:
        ended = [row for row, token, last in self._decode.step() if self._hand_over(row, token, last)]
        if ended:
            self._decode.drop(ended)

    def _prefill_step(self) -> None:
        room = min(PREFILL_ROWS, self._most_rows - len(self._decode.rows)) - len(self._prefill.rows)
        entering = [self._waiting.popleft() for _ in range(min(room, len(self._waiting)))]
        if entering:
            self._prefill.join(entering)
            self._move_ready()
        self._prefill.step(self._chunk())
        self._move_ready()

    def _chunk(self) -> int:
        """Return how many tokens of each prompt may be computed in this step: fewer when running rows wait for it."""
        return PREFILL_STEP // max(1, len(self._prefill.rows)) if self._decode.rows else PREFILL_STEP

    def _move_ready(self) -> None:
        ready = self._prefill.take_ready()
        if ready is not None:
            self._decode.join(*ready)

    def fail_all(self, cause: Exception) -> None:
        """End every request with an error that this one caused, and start afresh with the next one.

        Whoever keeps the error must not keep the caches, so the frames of the failure let go of them.
        """
        traceback.clear_frames(cause.__traceback__)
        self._end_all(lambda: _broken(cause))

    def _end_all(self, make_error: Callable[[], Exception]) -> None:
        rows = [*self._decode.rows, *self._prefill.rows, *self._waiting]
        self._start_afresh()
        for row in rows:
            row.fail(make_error())
        self._rest()

    def close(self, error: Exception) -> None:
        """End every request with this error, and wait for what is still being computed.

        MLX ends the process with an abort when a stream's thread goes while the stream still has work.
        """
        self._end_all(lambda: copy.copy(error))

    def _hand_over(self, row: Row, token: int, last: bool) -> bool:
        """Give a token to its request; True when that has ended."""
        try:
            if token in self._stop_tokens:
                row.end("stop")
                return True
            full = row.token(token)
            if full or last:
                row.end("stop" if full else "length")
            return full or last
        except Exception as error:
            row.fail(_broken(error))
            return True

    def _rest(self) -> None:
        """The last request has ended: give buffers back, those of a step that nobody needs any more too."""
        import mlx.core as mx

        try:
            mx.synchronize()
            mx.clear_cache()
        finally:
            if self.on_idle is not None:
                self.on_idle()


def _broken(error: Exception) -> GenerationError:
    failure = GenerationError(f"The MLX engine failed: {type(error).__name__}: {error}", provider="mlx")
    failure.__cause__ = error
    return failure
