"""What the engine asks of a request, and what it asks of the machine that computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar


class Row(Protocol):
    """One request. The engine appends to `generated`; all calls come from the engine's thread.

    Rows of a higher `priority` go first. `deadline` is a moment of `time.monotonic`, or None.
    """

    prompt: list[int]
    generated: list[int]
    max_tokens: int
    priority: int
    deadline: float | None

    @property
    def cancelled(self) -> bool:
        """Whether its tokens are no longer wanted."""

    def progress(self, done: int, total: int) -> None:
        """So many tokens of the prompt are computed."""

    def token(self, token: int, extra: Any) -> bool:
        """Take the next token, and what the runner has to say about it; True when no more are wanted."""

    def end(self, reason: Literal["stop", "length"]) -> None:
        """There are no more tokens."""

    def fail(self, error: Exception) -> None:
        """There are no more tokens because of an error."""


R = TypeVar("R", bound=Row)
R_co = TypeVar("R_co", bound=Row, covariant=True)


def length(row: Row) -> int:
    """Return the tokens that a row has so far."""
    return len(row.prompt) + len(row.generated)


@dataclass(frozen=True, slots=True)
class Step(Generic[R_co]):
    """What one decoding step gave one row: a token, and what else was asked for. `error` fails this row alone."""

    row: R_co
    token: int
    extra: Any = None
    error: Exception | None = None


class Runner(Protocol[R]):
    """Computes. A row enters with `enter`, runs once its prompt is computed, and goes with `drop`.

    A row that was running before, in a batch that broke, has `generated` tokens: they count as part of its prompt.
    """

    most_rows: int

    @property
    def entered(self) -> Sequence[R]:
        """Rows whose prompts are being computed."""

    @property
    def running(self) -> Sequence[R]:
        """Rows whose prompts are computed."""

    def enter(self, rows: Sequence[R]) -> None:
        """Take rows in: they are in `entered` or `running` afterwards. Where this raises, some may be in neither."""

    def prefill(self, tokens: int) -> None:
        """Compute up to so many tokens of each entered prompt. Those that are ready run from then on."""

    def decode(self) -> Sequence[Step[R]]:
        """Return the next token of each running row that has one by now."""

    def drop(self, rows: Sequence[R]) -> None:
        """Forget rows, and free their places. Unknown ones are left alone."""

    def reset(self) -> None:
        """Forget all rows and whatever may be broken. Must not raise."""

    def rest(self) -> None:
        """Give back what an idle engine does not need."""

    def bytes_for(self, rows: int, longest: int) -> int:
        """Return the bytes that so many rows of at most so many tokens take."""

    def spare_bytes(self) -> int:
        """Return the bytes that `evict` could free."""

    def evict(self, size: int) -> None:
        """Free about so many bytes of what is kept for later requests."""
