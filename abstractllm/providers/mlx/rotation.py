"""Rotary positions from a table, for decoding on the CPU.

There `mx.fast.rope` is made of some 25 operations, sines and cosines among them, twice for each layer and step, which
is a third of a small model's operations. A table brings the rotation of one token down to four. The numbers are equal.
"""

from __future__ import annotations

import mlx.core as mx
from mlx import nn

LARGEST_TABLE = 2**25
"""Bytes. Models with longer contexts keep computing their rotations."""

BEYOND = 64
"""Positions after the context window that the table has too, for what a draft model proposes there."""


def tabulate_rotations(model: nn.Module, window: int | None) -> None:
    """Replace the `nn.RoPE` layers of a model with a context of `window` tokens; None leaves them as they are."""
    from mlx.utils import tree_map

    if window is None:
        return
    tables: dict[tuple[object, ...], mx.array] = {}

    def replaced(layer: nn.Module) -> nn.Module:
        if type(layer) is not nn.RoPE or layer.traditional or 8 * layer.dims * (window + BEYOND) > LARGEST_TABLE:
            return layer
        kind = (layer.dims, layer.base, layer.scale)
        if kind not in tables:
            tables[kind] = table_of(layer, window + BEYOND)
        return TabulatedRotation(layer, tables[kind])

    model.update_modules(tree_map(replaced, model.leaf_modules(), is_leaf=nn.Module.is_module))


def table_of(rope: nn.RoPE, positions: int) -> mx.array:
    """Return cosines and sines as `rope` computes them: (2, positions, dims), both halves of the dims alike."""
    half = rope.dims // 2
    ones = mx.concatenate([mx.ones((1, 1, positions, half)), mx.zeros((1, 1, positions, half))], axis=-1)
    cosines, sines = mx.split(rope(ones)[0, 0], 2, axis=-1)
    table = mx.stack([mx.tile(cosines, (1, 2)), mx.tile(sines, (1, 2))])
    mx.eval(table)
    return table


class TabulatedRotation(nn.Module):  # type: ignore[misc]
    """Rotates one token of each row by a table, and more than one as the layer in whose place it is.

    Of several rows, those that are beyond the table are rotated as at its last position; it reaches to the end of the
    context, where answers end.
    """

    def __init__(self, rope: nn.RoPE, table: mx.array) -> None:
        super().__init__()
        self._rope = rope
        self._dims = rope.dims
        self._last = table.shape[1] - 1
        self._tables = [table[0], table[1]]
        mx.eval(self._tables)
        self._swap = _half_turn(rope.dims)
        self._offset: int | mx.array | None = None
        self._rows: list[mx.array] = []

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        """Return x (rows, heads, tokens, dims) rotated by the positions from `offset` on, one for all rows or each."""
        far = isinstance(offset, int) and offset > self._last
        if far or x.shape[-2] != 1 or x.shape[-1] != self._dims or x.dtype != mx.float32:
            rotated: mx.array = self._rope(x, offset=offset)
            return rotated
        cosines, sines = self._rows_at(offset)
        return x * cosines + (x @ self._swap) * sines

    def _rows_at(self, offset: int | mx.array) -> list[mx.array]:
        """Return cosines and sines. Queries and keys ask one after the other for the same, which is found once."""
        if self._offset is offset:
            self._offset = None  # an array could have been changed in its place when the next step asks
            return self._rows
        places = offset if isinstance(offset, int) else mx.minimum(offset, self._last)  # MLX checks no bounds
        self._offset, self._rows = offset, [_rows(table, places) for table in self._tables]
        return self._rows


def _rows(table: mx.array, offset: int | mx.array) -> mx.array:
    """Return what a table has for one position, (1, dims), or for one of each row, (rows, 1, 1, dims)."""
    return table[offset : offset + 1] if isinstance(offset, int) else table[offset][:, None, None, :]


def _half_turn(dims: int) -> mx.array:
    """Return the matrix that takes (first half, second half) to (minus second half, first half)."""
    half = dims // 2
    nothing, one = mx.zeros((half, half)), mx.eye(half)
    matrix = mx.concatenate([mx.concatenate([nothing, one], 1), mx.concatenate([-one, nothing], 1)], 0)
    mx.eval(matrix)
    return matrix
