"""A quick look whether a value fits a JSON Schema, for the schemas that most tools have.

jsonschema takes tens of microseconds for what is nearly always right; it is asked where this look does not say yes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Fits = Callable[[Any], bool]

_KINDS: dict[object, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
    "array": (list,),
    "object": (dict,),
}
_SAY_NOTHING = frozenset({"title", "description", "default", "examples", "format", "deprecated", "$comment", "$schema"})
_DEEPEST = 20
_READ = frozenset({"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf"})


def quick_check(schema: object, depth: int = 0) -> Fits | None:
    """Return a function that is true of nothing but values that fit a sound schema; None where it says more than this.

    Of what fits it may be false. All versions of JSON Schema mean the same by what is read here. `depth` says how many
    schemas stand around this one: those that are nested deeply are left to jsonschema.
    """
    if schema is True:
        return _anything
    if not isinstance(schema, Mapping) or schema.keys() - _READ - _SAY_NOTHING or depth > _DEEPEST:
        return None
    makers = dict.fromkeys(_PARTS[key] for key in schema if key in _PARTS)
    checks = [check for check in (make(schema, depth + 1) for make in makers) if check is not None]
    if len(checks) < len(makers):
        return None
    return checks[0] if len(checks) == 1 else lambda value: all(check(value) for check in checks)


def _anything(value: Any) -> bool:
    return True


def _kind(schema: Mapping[str, Any], depth: int) -> Fits | None:
    given = schema["type"]
    names = given if isinstance(given, list) else [given]
    if not all(isinstance(name, str) and name in _KINDS for name in names):  # the first versions have other ones
        return None
    kinds = frozenset(kind for name in names for kind in _KINDS[name])
    return lambda value: type(value) in kinds  # bool is an int to isinstance


def _object(schema: Mapping[str, Any], depth: int) -> Fits | None:
    inner = {name: quick_check(part, depth) for name, part in schema.get("properties", {}).items()}
    known = {name: check for name, check in inner.items() if check is not None}
    others, needed = schema.get("additionalProperties", True), schema.get("required", ())
    if len(known) < len(inner) or not isinstance(others, bool) or not isinstance(needed, (list, tuple)):
        return None
    beside = _anything if others else _nothing

    def fits(value: Any) -> bool:
        if type(value) is not dict:
            return False
        return all(name in value for name in needed) and all(
            known.get(name, beside)(one) for name, one in value.items()
        )

    return fits


def _nothing(value: Any) -> bool:
    return False


def _items(schema: Mapping[str, Any], depth: int) -> Fits | None:
    check = quick_check(schema["items"], depth)
    return None if check is None else lambda value: type(value) is list and all(map(check, value))


def _choice(schema: Mapping[str, Any], depth: int) -> Fits | None:
    texts = frozenset(one for one in schema["enum"] if isinstance(one, str))
    return lambda value: type(value) is str and value in texts


def _any_of(schema: Mapping[str, Any], depth: int) -> Fits | None:
    checks = [check for check in (quick_check(part, depth) for part in schema["anyOf"]) if check is not None]
    return (lambda value: any(check(value) for check in checks)) if checks else None


_PARTS: dict[str, Callable[[Mapping[str, Any], int], Fits | None]] = {
    "type": _kind,
    "properties": _object,
    "required": _object,
    "additionalProperties": _object,
    "items": _items,
    "enum": _choice,
    "anyOf": _any_of,
}
