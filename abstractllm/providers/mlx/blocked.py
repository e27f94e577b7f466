"""Linear layers whose matrices lie as a BLAS reads them fastest, by columns or in blocks. For float32 on the CPU.

OpenBLAS packs the matrix of every product anew, which takes longer than the product itself when a step has few rows.
Where a processor has AVX-512, it reads small matrices in place: those with rows x inputs x outputs of at most 10^6
(`sgemm_small_matrix_permit` in its kernel/x86_64). `tests/benchmarks/matrix_layout.py` measures what that gives.
"""

from __future__ import annotations

import mlx.core as mx
from mlx import nn

SMALL_PRODUCT = 1_000_000
"""Rows x inputs x outputs up to which OpenBLAS packs nothing."""

ROWS = 16
"""Blocks are cut so that this many rows make a small product; more rows are multiplied in turns."""

FEW_ROWS = 8
"""A matrix that makes a small product with so many rows is left whole."""

MOST_ROWS = 64
"""More rows than this are multiplied with the whole matrix at once, put together for them where it is in blocks."""

NARROWEST = 16
"""Blocks of fewer outputs than this cost more than they save."""


def cut_into_blocks(model: nn.Module) -> None:
    """Replace the linear layers of a model whose matrices are large, and the embeddings that are used as such.

    Shapes and values stay as they are. An embedding's blocks are a copy where they are at most a quarter of the
    model, and a view, which is a little slower, where they are more.
    """
    from mlx.utils import tree_flatten, tree_map

    total = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    leaves = tree_map(lambda layer: _blocked(layer, total), model.leaf_modules(), is_leaf=nn.Module.is_module)
    model.update_modules(leaves)


def _blocked(layer: nn.Module, total: int) -> nn.Module:
    if type(layer) not in (nn.Linear, nn.Embedding) or layer.weight.dtype != mx.float32:
        return layer
    count = number_of_blocks(*layer.weight.shape)
    if count == 1:
        return layer
    if type(layer) is nn.Linear:
        blocked = BlockedLinear(layer, count)
        layer.pop("weight")  # or all old matrices would be there until the last one is cut
        return blocked
    return BlockedEmbedding(layer, count, copy=layer.weight.nbytes <= total // 4)


def number_of_blocks(outputs: int, inputs: int) -> int:
    """Return into how many blocks of equal width a matrix should be cut, 1 for none."""
    if FEW_ROWS * inputs * outputs <= SMALL_PRODUCT:
        return 1
    widest = max(NARROWEST, SMALL_PRODUCT // (ROWS * inputs))
    count = next(count for count in range(-(-outputs // widest), outputs + 1) if outputs % count == 0)
    return count if outputs // count >= NARROWEST else 1


def store_by_columns(model: nn.Module) -> None:
    """Replace the linear layers of a model that are not in blocks."""
    from mlx.utils import tree_map

    leaves = tree_map(_by_columns, model.leaf_modules(), is_leaf=nn.Module.is_module)
    model.update_modules(leaves)


def _by_columns(layer: nn.Module) -> nn.Module:
    if type(layer) is not nn.Linear or layer.weight.dtype != mx.float32:
        return layer
    return ColumnLinear(layer)


class ColumnLinear(nn.Linear):  # type: ignore[misc]
    """`nn.Linear` with its matrix in the order in which it multiplies by it, (inputs, outputs)."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.columns = mx.contiguous(layer.weight.T)
        if "bias" in layer:
            self.bias = layer.bias

    @property
    def weight(self) -> mx.array:
        """The matrix as `nn.Linear` has it, (outputs, inputs)."""
        return self.columns.T

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; some models set `weight` at every step (gemma3n)."""
        if name == "weight" and isinstance(value, mx.array):
            self.columns = value.T
        else:
            super().__setattr__(name, value)

    def __call__(self, x: mx.array) -> mx.array:
        """Return x (..., inputs) times the matrix, plus the bias: (..., outputs)."""
        return mx.addmm(self.bias, x, self.columns) if "bias" in self else x @ self.columns


class BlockedLinear(nn.Linear):  # type: ignore[misc]
    """`nn.Linear` with its transposed matrix in blocks, (blocks, inputs, outputs of a block)."""

    def __init__(self, layer: nn.Linear, count: int) -> None:
        nn.Module.__init__(self)
        self.blocks = mx.contiguous(_cut(layer.weight, count))
        mx.eval(self.blocks)
        if "bias" in layer:
            self.bias = layer.bias

    @property
    def weight(self) -> mx.array:
        """The matrix as `nn.Linear` has it, (outputs, inputs)."""
        return _whole(self.blocks).T

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute; some models set `weight` at every step (gemma3n)."""
        if name == "weight" and isinstance(value, mx.array):
            self.blocks = _cut(value, len(self.blocks))
        else:
            super().__setattr__(name, value)

    def __call__(self, x: mx.array) -> mx.array:
        """Return x (..., inputs) times the matrix, plus the bias: (..., outputs)."""
        product = times_blocks(x, self.blocks)
        return product + self.bias if "bias" in self else product


class BlockedEmbedding(nn.Embedding):  # type: ignore[misc]
    """`nn.Embedding` that has its matrix in blocks too, for the scores of all tokens."""

    def __init__(self, layer: nn.Embedding, count: int, copy: bool) -> None:
        nn.Module.__init__(self)
        self.weight = layer.weight
        self._count, self._copy = count, copy
        self._blocks: mx.array | None = None  # no parameter: the weight is

    def as_linear(self, x: mx.array) -> mx.array:
        """Return x (..., dimensions) times the transposed matrix: (..., embeddings)."""
        if x.size // x.shape[-1] > MOST_ROWS:
            scores: mx.array = super().as_linear(x)
            return scores
        if self._blocks is None:  # only now: many models have another matrix for this
            blocks = _cut(self.weight, self._count)
            self._blocks = mx.contiguous(blocks) if self._copy else blocks
        return times_blocks(x, self._blocks)


def times_blocks(x: mx.array, blocks: mx.array) -> mx.array:
    """Return x (..., inputs) times a matrix in blocks, (blocks, inputs, outputs of a block): (..., outputs)."""
    count, inputs, width = blocks.shape
    rows = x.size // inputs
    if not 0 < rows <= MOST_ROWS:
        return x @ _whole(blocks)
    most = max(1, min(ROWS, SMALL_PRODUCT // (inputs * width)))
    turns = -(-rows // most)
    each = -(-rows // turns)
    flat = x.reshape(rows, inputs)
    if turns * each > rows:
        flat = mx.pad(flat, [(0, turns * each - rows), (0, 0)])
    product = (flat.reshape(turns, 1, each, inputs) @ blocks).swapaxes(1, 2).reshape(turns * each, count * width)
    return product[:rows].reshape(*x.shape[:-1], count * width)


def _cut(weight: mx.array, count: int) -> mx.array:
    outputs, inputs = weight.shape
    return weight.reshape(count, outputs // count, inputs).swapaxes(1, 2)


def _whole(blocks: mx.array) -> mx.array:
    """Return the matrix of blocks, (inputs, outputs)."""
    count, inputs, width = blocks.shape
    return blocks.swapaxes(0, 1).reshape(inputs, count * width)
