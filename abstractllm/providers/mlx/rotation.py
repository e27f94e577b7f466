"""Rotary positions from a table, for decoding on the CPU.

There `mx.fast.rope` is made of some 25 operations, sines and cosines among them, twice for each layer and step, which
is a third of a small model's operations. A table brings the rotation of one token down to four. The numbers are equal.
"""

from __future__ import annotations

from dataclasses import dataclass

import mlx.core as mx
from mlx import nn

Kind = tuple[int, float, float]

LARGEST_TABLE = 2**25
"""Bytes. Models with longer contexts keep computing their rotations."""

BEYOND = 64
"""Positions after the context window that the table has too, for what a draft model proposes there."""


def tabulate_rotations(model: nn.Module, window: int | None) -> None:
    """Replace the `nn.RoPE` layers of a model with a context of `window` tokens; None leaves them as they are."""
    from mlx.utils import tree_map

    if window is None:
        return
    tables: dict[Kind, mx.array] = {}

    def replaced(layer: nn.Module) -> nn.Module:
        if type(layer) is not nn.RoPE or layer.traditional or 8 * layer.dims * (window + BEYOND) > LARGEST_TABLE:
            return layer
        kind = kind_of(layer)
        if kind not in tables:
            tables[kind] = table_of(layer, window + BEYOND)
        return TabulatedRotation(layer, tables[kind])

    model.update_modules(tree_map(replaced, model.leaf_modules(), is_leaf=nn.Module.is_module))


def kind_of(rope: nn.RoPE) -> Kind:
    """Return what two layers must have in common to rotate alike."""
    return (rope.dims, rope.base, rope.scale)


def table_of(rope: nn.RoPE, positions: int) -> mx.array:
    """Return cosines and sines as `rope` computes them: (2, positions, dims), both halves of the dims alike."""
    half = rope.dims // 2
    ones = mx.concatenate([mx.ones((1, 1, positions, half)), mx.zeros((1, 1, positions, half))], axis=-1)
    cosines, sines = mx.split(rope(ones)[0, 0], 2, axis=-1)
    table = mx.stack([mx.tile(cosines, (1, 2)), mx.tile(sines, (1, 2))])
    mx.eval(table)
    return table


@dataclass(frozen=True, slots=True)
class Rotation:
    """How the rows of a batch are turned at their positions: cosines and sines that broadcast to them."""

    cosines: mx.array
    sines: mx.array
    swap: mx.array

    def of(self, x: mx.array) -> mx.array:
        """Return x (rows, heads, 1, dims) turned."""
        return x * self.cosines + (x @ self.swap) * self.sines


class TabulatedRotation(nn.Module):  # type: ignore[misc]
    """Rotates one token of each row by a table, and more than one as the layer in whose place it is.

    Those of one `kind` rotate alike.

    Of several rows, those that are beyond the table are rotated as at its last position; it reaches to the end of the
    context, where answers end.
    """

    def __init__(self, rope: nn.RoPE, table: mx.array) -> None:
        super().__init__()
        self.kind = kind_of(rope)
        self._rope = rope
        self._dims = rope.dims
        self._last = table.shape[1] - 1
        self._tables = [table[0], table[1]]
        mx.eval(self._tables)
        self._swap = _half_turn(rope.dims)

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        """Return x (rows, heads, tokens, dims) rotated by the positions from `offset` on, one for all rows or each."""
        rotation = self.at(offset) if x.shape[-2] == 1 and x.shape[-1] == self._dims else None
        if rotation is None or x.dtype != mx.float32:
            rotated: mx.array = self._rope(x, offset=offset)
            return rotated
        return rotation.of(x)

    def at(self, offset: int | mx.array) -> Rotation | None:
        """Return the rotation of one token of each row, given the position of all or each; None beyond the table."""
        if isinstance(offset, int) and offset > self._last:
            return None
        places = offset if isinstance(offset, int) else mx.minimum(offset, self._last)  # MLX checks no bounds
        cosines, sines = (_rows(table, places) for table in self._tables)
        return Rotation(cosines, sines, self._swap)


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
