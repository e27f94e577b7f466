"""The engine: admits requests, steps the runner, hands tokens over, and recovers when a step breaks.

Synchronous and without threads: whoever owns it calls `step` while it is `busy`. Knows neither MLX nor text.
"""

from __future__ import annotations

import copy
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic

from abstractllm.engine.rows import R, Runner, Step, length
from abstractllm.engine.waiting import WaitingLine
from abstractllm.errors import GenerationError, MemoryLimitError, QueueFullError, RequestTimeoutError


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine may use.

    `rows` are decoded together. `prefill_rows` prompts are computed together, and more while all of them, padded to the
    longest, have at most `prefill_tokens`; `prefill_step` tokens a step: of each of them, or of all while running rows
    wait. `kv_bytes` bounds the KV caches, those kept for later included; None is no
    bound. `burst` is the longest wait in seconds of an idle engine for requests that are on their way.
    """

    rows: int = 32
    prefill_rows: int = 8
    prefill_tokens: int = 2048
    prefill_step: int = 512
    kv_bytes: int | None = None
    burst: float = 0.01


class Engine(Generic[R]):
    """Runs the requests of one model together. `stop_tokens` end an answer and are no part of it.

    When a step breaks, its rows start again from their prompts and the tokens they have, half as many at a time; a row
    that breaks a step in which it is alone ends with the error. Every row that ends well doubles the number again.
    """

    def __init__(self, runner: Runner[R], stop_tokens: Iterable[int], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.on_idle: Callable[[], None] | None = None
        self._runner = runner
        self._stop_tokens = frozenset(stop_tokens)
        self._waiting: WaitingLine[R] = WaitingLine()
        self._most_rows = self._cap
        self._awaited = 0
        self._counting = threading.Lock()
        self._first_added: float | None = None

    @property
    def _cap(self) -> int:
        return min(self.limits.rows, self._runner.most_rows)

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self._waiting or self._runner.entered or self._runner.running)

    @property
    def patience(self) -> float:
        """Seconds to wait for more requests before the next step: above 0 for an idle engine in a burst."""
        if not self._awaited or self._first_added is None:
            return 0.0
        return max(0.0, self._first_added + self.limits.burst - time.monotonic())

    def expect(self, number: int) -> None:
        """Say that so many requests more (or fewer) are on their way. May be called on any thread."""
        with self._counting:
            self._awaited += number

    def position(self, row: R) -> int | None:
        """Return how many requests wait before this one; None for one that does not wait.

        May be called on any thread: it is what was true at some moment of the call.
        """
        return next((place for place, one in enumerate(list(self._waiting)) if one is row), None)

    def add(self, row: R, max_queue: int | None = None) -> None:
        """Take a request in; it joins the running ones at a step to come.

        With `max_queue` it is refused with QueueFullError when so many already wait for whom there is no place.
        """
        refusal = self._refusal(row, max_queue)
        if refusal is not None:
            row.fail(refusal)
            self._rest_if_idle()
            return
        if not self.busy:
            self._first_added = time.monotonic()
        self._waiting.add(row)

    def _refusal(self, row: R, max_queue: int | None) -> Exception | None:
        if row.cancelled:
            return GenerationError("The request was cancelled before it began.")
        if not row.prompt:
            return GenerationError("The prompt has no tokens.")
        without_place = len(self._active()) + len(self._waiting) - self._cap
        if max_queue is not None and without_place >= max_queue:
            return QueueFullError(f"{without_place} requests wait already; try again later, or raise max_queue.")
        return None

    def _active(self) -> list[R]:
        return [*self._runner.running, *self._runner.entered]

    def drop(self, row: R) -> None:
        """Take a request out, at whatever stage it is, and free its slot. One that has ended is left alone."""
        if self._waiting.position(row) is None and all(one is not row for one in self._active()):
            return
        self._end_early(row, GenerationError("The request was cancelled."))
        self._rest_if_idle()

    def _end_early(self, row: R, error: Exception) -> None:
        """Free the places of a row, and then end it."""
        self._waiting.remove(row)
        try:
            self._runner.drop([row])
        except Exception as failure:
            self._recover(failure, ended=[row])
        row.fail(error)

    def step(self) -> None:
        """Compute the next token of every running request and a piece of the waiting prompts."""
        self._first_added = None
        self._end_late_ones()
        try:
            self._make_room()
            self._decode()
            self._admit()
            self._prefill()
        except Exception as error:
            self._recover(error)
        self._rest_if_idle()

    def _end_late_ones(self) -> None:
        now = time.monotonic()
        for row in [*self._waiting, *self._active()]:
            if row.deadline is not None and row.deadline <= now:
                self._end_early(row, _too_late())

    def _decode(self) -> None:
        if not self._runner.running:
            return
        ended = [step.row for step in self._runner.decode() if self._hand_over(step)]
        if not ended:
            return
        for row in ended:
            self._waiting.forget(row)
        self._most_rows = min(self._cap, self._most_rows << len(ended))
        try:
            self._runner.drop(ended)
        except Exception as error:
            self._recover(error, ended)

    def _hand_over(self, step: Step[R]) -> bool:
        """Give a token to its request; True when that has ended."""
        row = step.row
        try:
            if step.error is not None:
                row.fail(step.error)
                return True
            if step.token in self._stop_tokens:
                row.end("stop")
                return True
            row.generated.append(step.token)
            full = row.token(step.token, step.extra)
            last = len(row.generated) >= row.max_tokens
            if full or last:
                row.end("stop" if full else "length")
            return full or last
        except Exception as error:
            row.fail(_broken(error))
            return True

    def _admit(self) -> None:
        """Let those enter for whom there are places and bytes."""
        entering: list[R] = []
        room = self._most_rows - len(self._active())
        while self._waiting and len(entering) < room and self._can_enter(entering) and self._fits(entering):
            entering.append(self._waiting.take())
        if entering:
            self._enter(entering)

    def _can_enter(self, entering: list[R]) -> bool:
        """Whether the next waiting prompt can be computed together with those that are there."""
        together = [*self._runner.entered, *entering]
        if len(together) < self.limits.prefill_rows:
            return True
        longest = max(length(one) for one in [*together, self._waiting.first])
        return (len(together) + 1) * longest <= self.limits.prefill_tokens

    def _enter(self, rows: list[R]) -> None:
        try:
            self._runner.enter(rows)
        except Exception:
            inside = {id(row) for row in self._active()}
            for row in rows:
                if id(row) not in inside:
                    self._waiting.add(row)
            raise

    def _fits(self, entering: list[R]) -> bool:
        """Whether the next waiting row fits beside those that are there. One that can never fit is ended.

        A batch that others join is there twice for a moment.
        """
        budget, row = self.limits.kv_bytes, self._waiting.first
        if budget is None:
            return True
        if self._runner.bytes_for(1, length(row) + 1) > budget:
            self._waiting.remove(row)
            row.fail(_too_long(budget))
            return False
        company = [*self._active(), *entering]
        longest = max(length(one) for one in [*company, row]) + 1
        needed = self._runner.bytes_for(len(company) + 1, longest) * (2 if company else 1)
        self._evict_for(needed)
        return needed + self._runner.spare_bytes() <= budget or not company

    def _evict_for(self, needed: int) -> None:
        assert self.limits.kv_bytes is not None
        surplus = needed + self._runner.spare_bytes() - self.limits.kv_bytes
        if surplus > 0 and self._runner.spare_bytes():
            self._runner.evict(surplus)

    def _make_room(self) -> None:
        """Keep the batch within its bytes as it grows: first by forgetting prefixes, then by sending rows back."""
        budget = self.limits.kv_bytes
        while budget is not None and (rows := self._active()):
            needed = self._runner.bytes_for(len(rows), max(map(length, rows)) + 1)
            if needed <= budget:
                self._evict_for(needed)
                return
            self._send_back(rows, budget)

    def _send_back(self, rows: list[R], budget: int) -> None:
        """Have the row that came last wait again; the tokens it has are kept. The only row is ended."""
        last = max(rows, key=self._waiting.age)
        if len(rows) == 1:
            self._end_early(last, _too_long(budget))
            return
        self._runner.drop([last])
        self._waiting.add(last)

    def _prefill(self) -> None:
        entered = len(self._runner.entered)
        if entered:
            most = self.limits.prefill_step
            self._runner.prefill(max(1, most // entered) if self._runner.running else most)

    def _recover(self, cause: Exception, ended: Sequence[R] = ()) -> None:
        """Start again without whatever a failure may have broken, with half as many rows at a time.

        Rows that have `ended` were only to be dropped when it broke: they do not start again, and nobody is blamed.
        Whoever keeps the error must not keep the caches, so the frames of the failure let go of them.
        """
        traceback.clear_frames(cause.__traceback__)
        rows = [row for row in self._active() if all(row is not one for one in ended)]
        self._runner.reset()
        if len(rows) == 1 and not ended:
            self._waiting.forget(rows[0])
            rows[0].fail(_broken(cause))
            return
        for row in rows:
            self._waiting.add(row)
        self._most_rows = max(1, len(rows) // 2)

    def fail_all(self, cause: Exception) -> None:
        """End every request with an error that this one caused, and start afresh with the next one."""
        traceback.clear_frames(cause.__traceback__)
        self._end_all(lambda: _broken(cause))

    def forget(self) -> None:
        """Give up all that is kept for later requests."""
        self._runner.evict(self._runner.spare_bytes())

    def close(self, error: Exception) -> None:
        """End every request with this error."""
        self._end_all(lambda: copy.copy(error))

    def _end_all(self, make_error: Callable[[], Exception]) -> None:
        rows = [*self._active(), *self._waiting]
        self._runner.reset()
        self._waiting = WaitingLine()
        self._most_rows = self._cap
        for row in rows:
            row.fail(make_error())
        self._rest_if_idle()

    def _rest_if_idle(self) -> None:
        """After the last request: give back what nobody needs now."""
        if self.busy:
            return
        self._most_rows = self._cap
        try:
            self._runner.rest()
        finally:
            if self.on_idle is not None:
                self.on_idle()


def _broken(error: Exception) -> GenerationError:
    failure = GenerationError(f"The engine failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _too_late() -> RequestTimeoutError:
    return RequestTimeoutError("The deadline passed; raise timeout or ask for fewer tokens.", limit="total")


def _too_long(budget: int) -> MemoryLimitError:
    return MemoryLimitError(
        f"The KV cache of this request alone needs more than the {budget:,} bytes that it may have; shorten the"
        " prompt, lower max_tokens, or allow the caches more memory."
    )
