"""Python values as JSON values and back, without loss. Knows no message.

What JSON has stays as it is, so that plain data looks like itself. What JSON lacks is a dict of one tagged key:
`{"$bytes": base64}`, `{"$float": "inf"}`, `{"$int": hexadecimal}` for one of very many digits, `{"$tuple": [...]}`,
`{"$items": [[key, value], ...]}` for keys that are no strings, and `{"$dict": {...}}` around a dict that itself looks
like one of these.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any

_PLAIN_BITS = 2048
"""Bits of an integer that every Python writes and reads in decimal digits, whatever limit is set for these."""


def written_value(value: Any) -> Any:
    """Return a value as `json` writes it; `read_value` gives back one that is equal.

    Takes None, booleans, numbers, strings, bytes, lists, tuples and mappings of these. Raises ValueError, which names
    the place, for anything else, and for what is nested too deeply.
    """
    try:
        return _written(value, "")
    except RecursionError as error:
        raise ValueError("it is nested too deeply, or contains itself") from error


def _written(value: Any, place: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if value.bit_length() <= _PLAIN_BITS else {"$int": hex(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    if isinstance(value, Mapping):
        return _written_mapping(value, place)
    if isinstance(value, (list, tuple)):
        items = [_written(item, f"{place}[{number}]") for number, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    raise ValueError(f"it holds a {type(value).__name__} at {place or 'its top'}")


def _written_mapping(value: Mapping[Any, Any], place: str) -> dict[str, Any]:
    if not all(isinstance(key, str) for key in value):
        return {"$items": [[_written(key, place), _written(item, f"{place}[{key!r}]")] for key, item in value.items()]}
    plain = {key: _written(item, f"{place}[{key!r}]") for key, item in value.items()}
    return {"$dict": plain} if _tag(plain) else plain


def read_value(value: Any) -> Any:
    """Return what `written_value` was given. Raises ValueError for a tagged key that is none of its own."""
    try:
        return _read(value)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    tag = _tag(value)
    if not tag:
        return {key: _read(item) for key, item in value.items()}
    read = _READERS.get(tag)
    if read is None:
        raise ValueError(f"it has the key {tag!r}, which is not known")
    try:
        return read(value[tag])
    except (TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"what it has under {tag!r} is not of the right type") from error


def _tag(value: Mapping[Any, Any]) -> str:
    """Return the one key of a dict that looks tagged, or an empty string."""
    key = next(iter(value)) if len(value) == 1 else ""
    return key if isinstance(key, str) and key.startswith("$") else ""


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "$bytes": lambda text: base64.b64decode(text, validate=True),
    "$float": float,
    "$int": lambda text: int(text, 16),
    "$tuple": lambda items: tuple(_read(item) for item in items),
    "$items": lambda pairs: {_read(key): _read(item) for key, item in pairs},
    "$dict": lambda plain: {key: _read(item) for key, item in plain.items()},
}
