"""The caches of one row as named arrays and a note of their structure, and back. Knows no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FORMATS = {
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "uint32": "U32",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
"""MLX's number formats, and their names in safetensors files; caches with others are not written."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is to be written of the caches of a row.

    `arrays` are NumPy arrays that share memory with the caches (bfloat16 as uint16), by name; `formats` are their
    number formats in the terms of safetensors. `layout` is JSON data: for each layer what `restored` needs.
    """

    layout: list[Any]
    arrays: dict[str, Any]
    formats: dict[str, str]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays.values())


def taken(layers: list[Any]) -> Snapshot | None:
    """Return a snapshot of evaluated caches, or None for those of which it is not known how to bring them back.

    Nothing is copied. Call on the MLX thread; the arrays may then be read on any. The caches must not be changed.
    """
    taker = _Taker()
    try:
        layout = [taker.layer(layer) for layer in layers]
    except _UnknownError:
        return None
    return Snapshot(layout, taker.arrays, taker.formats)


def restored(layout: list[Any], arrays: dict[str, Any]) -> list[Any]:
    """Return caches from the layout of a snapshot and its arrays, as MLX arrays. Raises KeyError for a strange one."""
    return [_restored_layer(layer, arrays) for layer in layout]


class _UnknownError(Exception):
    """A cache holds something else than arrays and numbers, or is of another kind."""


def _kinds() -> dict[str, Any]:
    """The classes whose state says everything about them; a subclass may know more, and is another kind."""
    from mlx_lm.models import cache

    return {kind.__name__: kind for kind in (cache.KVCache, cache.RotatingKVCache, cache.ArraysCache)}


class _Taker:
    """Collects the arrays of caches, and describes the rest."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}
        self.formats: dict[str, str] = {}
        self._kinds = _kinds()

    def layer(self, layer: Any) -> Any:
        from mlx_lm.models.cache import CacheList

        if type(layer) is CacheList:
            return {"parts": [self.layer(part) for part in layer.caches]}
        name = type(layer).__name__
        if self._kinds.get(name) is not type(layer):
            raise _UnknownError
        # A plain cache has room for tokens to come, which need not be written.
        return {"kind": name, "state": self.state(layer.state, layer.offset if name == "KVCache" else None)}

    def state(self, state: Any, tokens: int | None) -> Any:
        import mlx.core as mx

        if state is None or isinstance(state, (bool, int)):
            return state
        if isinstance(state, (list, tuple)):
            return [self.state(part, tokens) for part in state]
        if not isinstance(state, mx.array):
            raise _UnknownError
        return {"array": self.array(state, tokens)}

    def array(self, array: Any, tokens: int | None) -> str:
        """Add an array, of a plain cache only the part for so many tokens; return its name."""
        import mlx.core as mx
        import numpy as np

        kind = FORMATS.get(str(array.dtype).removeprefix("mlx.core."))
        if kind is None:
            raise _UnknownError
        if kind == "BF16":  # unknown to NumPy
            array = array.view(mx.uint16)
            mx.eval(array)
        name = f"array.{len(self.arrays)}"
        values = np.asarray(array)
        self.arrays[name] = values if tokens is None else values[:, :, :tokens]
        self.formats[name] = kind
        return name


def _restored_layer(layer: Any, arrays: dict[str, Any]) -> Any:
    from mlx_lm.models.cache import CacheList

    if "parts" in layer:
        return CacheList(*(_restored_layer(part, arrays) for part in layer["parts"]))
    return _kinds()[layer["kind"]].from_state(_restored_state(layer["state"], arrays))


def _restored_state(state: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(state, list):
        return [_restored_state(part, arrays) for part in state]
    return arrays[state["array"]] if isinstance(state, dict) else state
