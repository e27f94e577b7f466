"""Which tokens the constrained rows of a batch may have next: masks, filled in a thread beside the forward pass.

A constraint that fails fails its row alone: the row's mask lets everything pass, and the error goes with its token.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from functools import cache
from typing import Any, Protocol

from abstractllm.providers.mlx.adjusting import Masks
from abstractllm.threads import DaemonThreads


class Constraint(Protocol):
    """What is needed of a constraint. `providers.mlx.constraint` makes them."""

    def copy(self) -> Constraint:
        """Return a constraint at the same place that moves on by itself."""

    def replay(self, tokens: Iterable[int]) -> None:
        """Go back to the beginning, and accept these tokens."""

    def accept(self, token: int) -> None:
        """Move on by one token."""

    def fill(self, mask: Any) -> None:
        """Write the tokens that may come next into a row of uint32 words."""


class ConstrainedRow(Protocol):
    """What this module needs of a row: its constraint at the beginning, or None, and the tokens it has by now."""

    @property
    def constraint(self) -> Constraint | None:
        """Left as it is: the batch moves a copy."""

    @property
    def generated(self) -> list[int]:
        """Token ids."""


Filled = tuple[Masks, dict[int, Exception]]
"""Masks for the constrained rows, and what went wrong, by the numbers of the rows."""


class Masking:
    """The constraints of the rows of a batch, in the order of the rows."""

    def __init__(self) -> None:
        self._constraints: list[Constraint | None] = []
        self._broken: dict[int, Exception] = {}  # by the number of the row

    def join(self, rows: Sequence[ConstrainedRow]) -> None:
        """Take in rows at the end of the batch."""
        for row in rows:
            constraint = None if row.constraint is None else row.constraint.copy()
            self._constraints.append(constraint)
            if constraint is not None and row.generated:
                self._guard(len(self._constraints) - 1, lambda one=constraint, row=row: one.replay(row.generated))

    def keep(self, indices: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self._constraints = [self._constraints[i] for i in indices]
        self._broken = {new: self._broken[old] for new, old in enumerate(indices) if old in self._broken}

    def copy(self) -> Masking:
        """Return constraints at the same places that move on by themselves."""
        twin = Masking()
        twin._constraints = [None if one is None else one.copy() for one in self._constraints]
        twin._broken = dict(self._broken)
        return twin

    def advance(self, row: int, token: int) -> None:
        """Move a row's constraint on by one token, without asking what may come after it."""
        constraint = self._constraints[row]
        if constraint is not None:
            self._guard(row, lambda: constraint.accept(token))

    @property
    def needed(self) -> bool:
        """Whether any row is constrained."""
        return any(constraint is not None for constraint in self._constraints)

    def begin(self, tokens: Sequence[int], vocabulary: int) -> Future[Filled]:
        """Start to fill the masks for the tokens that follow; `tokens` are the new ones of the first rows."""
        return _threads().submit(self._fill, tokens, vocabulary)

    def _fill(self, tokens: Sequence[int], vocabulary: int) -> Filled:
        import numpy as np

        rows = [i for i, constraint in enumerate(self._constraints) if constraint is not None]
        bits: Any = np.full((len(rows), -(-vocabulary // 32)), 0xFFFFFFFF, dtype=np.uint32)
        for mask, i in zip(bits, rows, strict=True):
            self._guard(i, lambda i=i, mask=mask: self._advance(i, tokens, mask))
            if i in self._broken:
                mask[:] = 0xFFFFFFFF
        return Masks(rows, bits), dict(self._broken)

    def _advance(self, row: int, tokens: Sequence[int], mask: Any) -> None:
        constraint = self._constraints[row]
        assert constraint is not None
        if row < len(tokens):
            constraint.accept(tokens[row])
        constraint.fill(mask)

    def _guard(self, row: int, call: Any) -> None:
        """Do what may fail for one row, unless it has failed before."""
        if row in self._broken:
            return
        try:
            call()
        except Exception as error:  # told to the row's reader
            self._broken[row] = error


@cache
def _threads() -> DaemonThreads:
    return DaemonThreads(1, "abstractllm-mlx-masks")
