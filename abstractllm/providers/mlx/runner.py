"""Runs the rows of one model for the engine: which of them share a batch, and what their caches take.

Everything here happens on the MLX thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from abstractllm.engine.rows import Step, length
from abstractllm.providers.mlx.backend import trim_heap
from abstractllm.providers.mlx.caches import KVSize, can_be_merged, measured
from abstractllm.providers.mlx.decode import DecodeBatch
from abstractllm.providers.mlx.paired import PairedModel
from abstractllm.providers.mlx.prefill import PrefillBatch, Prompted
from abstractllm.providers.mlx.prefixdisk import PrefixDisk
from abstractllm.providers.mlx.prefixes import PrefixStore
from abstractllm.providers.mlx.speculative import Proposed, SpeculativeBatch

EXACT_CHUNK = 256
"""Prompt tokens per step of a row that is computed alone: always the same, so that its numbers are too."""

TRIM_EVERY = 32
"""Steps after which an idle runner gives free pages of the heap back, which takes some milliseconds."""


class Computed(Proposed, Prompted, Protocol):
    """What this module needs of a request. One that is `exact` never shares a computation with another."""


R = TypeVar("R", bound=Computed)


class _Lane(Generic[R]):
    """Rows that are computed together, from their prompts to their last tokens."""

    def __init__(self, model: Any, prefixes: PrefixStore) -> None:
        self.prefill: PrefillBatch[R] = PrefillBatch(model, prefixes)
        self.decode: DecodeBatch[R] | SpeculativeBatch[R] = (
            SpeculativeBatch(model) if isinstance(model, PairedModel) else DecodeBatch(model)
        )
        self._prefixes = prefixes

    @property
    def empty(self) -> bool:
        return not (self.prefill.rows or self.decode.rows)

    def enter(self, rows: Sequence[R]) -> None:
        self.prefill.join(list(rows))
        self.move_ready()

    def compute(self, tokens: int) -> None:
        self.prefill.step(tokens)
        self.move_ready()

    def move_ready(self) -> None:
        ready = self.prefill.take_ready()
        if ready is None:
            return
        rows, caches = ready
        self.decode.join(rows, caches)
        if not caches.can_be_cut:
            for row in rows:
                self.keep_prefix(row)

    def keep_prefix(self, row: R) -> None:
        """Keep what is computed of a row for later ones that begin alike."""
        if not self._prefixes.wants(length(row)):
            return
        found = self.decode.extract(row) or self.prefill.extract(row)
        if found is None:
            return
        layers, held = found
        tokens = [*row.prompt, *row.generated][:held]
        if self._prefixes.wants(len(tokens)):
            self._prefixes.store(tokens, layers, held - len(tokens))

    def drop(self, rows: Sequence[R]) -> None:
        for row in rows:
            self.keep_prefix(row)
        self.decode.drop(rows)
        for row in rows:
            self.prefill.drop(row)


class MLXRunner(Generic[R]):
    """The machine under the engine of one model.

    Rows share one batch, except those that must be exact: each of these has its own, since with an optimised BLAS or
    on a GPU the last bits of a row depend on how many rows are computed with it. A model with caches that cannot be
    merged, or one paired with a draft model, gets its requests served one after another. Up to `prefix_bytes` of what
    is computed are kept for later, and longer with a `disk`.
    """

    def __init__(self, model: Any, prefix_bytes: int = 0, disk: PrefixDisk | None = None) -> None:
        self._model = model
        self._prefixes = PrefixStore(prefix_bytes, disk)
        one_by_one = isinstance(model, PairedModel) or not can_be_merged(model)
        self.most_rows = 1 if one_by_one else 1_000_000
        self._size: KVSize | None = None
        self._untrimmed = 0  # steps
        self._together: _Lane[R] = self._new_lane()
        self._alone: list[_Lane[R]] = []

    def _new_lane(self) -> _Lane[R]:
        return _Lane(self._model, self._prefixes)

    @property
    def _lanes(self) -> list[_Lane[R]]:
        return [self._together, *self._alone]

    @property
    def entered(self) -> list[R]:
        """Rows whose prompts are being computed."""
        return [row for lane in self._lanes for row in lane.prefill.rows]

    @property
    def running(self) -> list[R]:
        """Rows whose prompts are computed."""
        return [row for lane in self._lanes for row in lane.decode.rows]

    def enter(self, rows: Sequence[R]) -> None:
        """Take rows in, with empty caches."""
        for row in rows:
            if row.exact:
                self._alone.append(self._new_lane())
                self._alone[-1].enter([row])
        shared = [row for row in rows if not row.exact]
        if shared:
            self._together.enter(shared)

    def prefill(self, tokens: int) -> None:
        """Compute up to so many further tokens of each entered prompt."""
        self._together.compute(tokens)
        for lane in self._alone:
            lane.compute(EXACT_CHUNK)

    def decode(self) -> list[Step[R]]:
        """Return the next token of each running row that has one by now."""
        self._untrimmed += 1
        return [step for lane in self._lanes if lane.decode.rows for step in lane.decode.step()]

    def drop(self, rows: Sequence[R]) -> None:
        """Forget rows, and free their places in the caches."""
        for lane in self._lanes:
            lane.drop(rows)
        self._alone = [lane for lane in self._alone if not lane.empty]

    def reset(self) -> None:
        """Forget all rows and everything that was computed for them."""
        self._together = self._new_lane()
        self._alone = []

    def rest(self) -> None:
        """Give buffers back, those of a step that nobody needs any more too, and see to what the disk is to keep."""
        import mlx.core as mx

        mx.synchronize()
        mx.clear_cache()
        self._prefixes.save_soon()
        if self._untrimmed >= TRIM_EVERY:
            self._untrimmed = 0
            trim_heap()

    def bytes_for(self, rows: int, longest: int) -> int:
        """Return the bytes that the caches of so many rows take, as measured with a prompt of one token."""
        if self._size is None:
            self._size = measured(self._model)
        return rows * self._size.of_row(longest)

    def spare_bytes(self) -> int:
        """Return the bytes that `evict` could free."""
        return self._prefixes.nbytes

    def evict(self, size: int) -> None:
        """Free about so many bytes of what is kept for later requests."""
        self._prefixes.evict(size)
