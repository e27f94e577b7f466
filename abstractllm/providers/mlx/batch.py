"""Runs the requests of one model together, in mlx-lm's `BatchGenerator`. Knows tokens, no text.

Everything here happens on the MLX thread.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal, Protocol

from abstractllm.errors import GenerationError
from abstractllm.providers.mlx.sampling import Sampler

ROWS = 32
"""Requests of one model that are decoded together; more wait their turn."""

PREFILL_ROWS = 8
PREFILL_STEP = 512
"""Prompts that are computed together, and tokens of each per step: what a running stream may have to wait for."""

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
    """The batch of one model. `stop_tokens` end an answer and are no part of it."""

    def __init__(self, model: Any, stop_tokens: Iterable[int]) -> None:
        from mlx_lm.generate import BatchGenerator

        self._make_generator = BatchGenerator
        self._model = model
        self._stop_tokens = [[token] for token in sorted(stop_tokens)]
        self._rows: dict[int, Row] = {}
        self._generator: Any = None
        self._awaited = 0
        self._counting = threading.Lock()
        self._first_added: float | None = None
        self.on_idle: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._rows)

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
        if not self._rows:
            self._first_added = time.monotonic()
        try:
            self._insert(row)
        except Exception as error:
            row.fail(error if isinstance(error, GenerationError) else _broken(error))
        if not self._rows:
            self._rest()

    def _insert(self, row: Row) -> None:
        if row.cancelled:
            raise GenerationError("The request was cancelled before it began.", provider="mlx")
        (uid,) = self._open().insert([row.prompt], [row.max_tokens], samplers=[row.sampler])
        self._rows[uid] = row

    def drop(self, row: Row) -> None:
        """Take a request out, at whatever stage it is, and free its slot. One that has ended is left alone."""
        uids = [uid for uid, one in self._rows.items() if one is row]
        if not uids:
            return
        self._remove(uids)
        row.fail(GenerationError("The request was cancelled.", provider="mlx"))
        if not self._rows:
            self._rest()

    def step(self) -> None:
        """Compute the next token of every running request and a piece of the waiting prompts."""
        self._first_added = None
        try:
            prompts, tokens = self._generator.next()
        except Exception as error:
            self.fail_all(error)
            return
        for prompt in prompts:
            if prompt.uid in self._rows:
                self._rows[prompt.uid].progress(*prompt.progress)
        unwanted = [answer.uid for answer in tokens if self._hand_over(answer)]
        if unwanted:
            self._remove(unwanted)
        if not self._rows:
            self._rest()

    def fail_all(self, cause: Exception) -> None:
        """End every request with an error that this one caused, and start afresh with the next one."""
        self._end_all(lambda: _broken(cause))

    def _end_all(self, make_error: Callable[[], Exception]) -> None:
        rows, self._rows = self._rows, {}
        self._generator = None
        for row in rows.values():
            row.fail(make_error())
        self._rest()

    def close(self, error: Exception) -> None:
        """End every request with this error, and wait for what is still being computed.

        MLX ends the process with an abort when a stream's thread goes while the stream still has work.
        """
        import mlx.core as mx

        if self._generator is not None:
            mx.synchronize(self._generator.stream)
        self._end_all(lambda: copy.copy(error))

    def _open(self) -> Any:
        if self._generator is None:
            self._generator = self._make_generator(
                self._model,
                stop_tokens=self._stop_tokens,
                completion_batch_size=ROWS,
                prefill_batch_size=PREFILL_ROWS,
                prefill_step_size=PREFILL_STEP,
            )
        return self._generator

    def _hand_over(self, answer: Any) -> bool:
        """Give a token to its request; True when the generator must be told to stop there."""
        row = self._rows.get(answer.uid)
        if row is None:
            return False
        try:
            full = answer.finish_reason != "stop" and row.token(answer.token)
            if full or answer.finish_reason is not None:
                row.end("stop" if full else answer.finish_reason)
        except Exception as error:
            row.fail(_broken(error))
            full = True
        if full or answer.finish_reason is not None:
            del self._rows[answer.uid]
        return full and answer.finish_reason is None

    def _remove(self, uids: list[int]) -> None:
        for uid in uids:
            self._rows.pop(uid, None)
        try:
            self._generator.remove(uids)
        except Exception as error:
            self.fail_all(error)

    def _rest(self) -> None:
        """The last request has ended: give buffers back."""
        import mlx.core as mx

        mx.clear_cache()
        if self.on_idle is not None:
            self.on_idle()


def _broken(error: Exception) -> GenerationError:
    failure = GenerationError(f"The MLX engine failed: {type(error).__name__}: {error}", provider="mlx")
    failure.__cause__ = error
    return failure
