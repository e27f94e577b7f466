"""JSON Schema as the grammar engine takes it: what it would get wrong is refused, or written in another way.

What comes out allows no value that the schema does not allow, with few exceptions that are checked afterwards. Knows
llguidance's limits (found with version 1.9.1; some of them would end the process), and does not import it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown

# fmt: off
_REFUSED = frozenset({
    "not", "if", "contains", "uniqueItems", "propertyNames", "dependencies", "dependentRequired", "dependentSchemas",
    "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef", "divisibleBy", "disallow", "extends",
    "x-guidance",
})
"""Keywords that mean something, and that no grammar is made of."""

_EFFECTLESS: Mapping[str, Any] = {"uniqueItems": False, "unevaluatedItems": True, "unevaluatedProperties": True}

_MAPS = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLES = frozenset({"items", "additionalItems", "additionalProperties"})
_BOUNDS = {"minimum": True, "exclusiveMinimum": True, "maximum": False, "exclusiveMaximum": False}
"""Whether each is a lower bound."""
_PLAIN = frozenset({
    "type", "required", "minLength", "maxLength", "pattern", "minItems", "maxItems", "minProperties", "maxProperties",
    "multipleOf", "$ref", "$id", "$anchor", "$schema",
})
_FORMATS = frozenset({
    "date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri",
})
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
# fmt: on

_MOST_REFERENCES = 300
"""Different references in a schema: the engine follows them in recursion, and near 1,000 its stack overflows."""

_LARGEST = 2**53
_WIDEST = 2**63
_SMALLEST = 1e-9
"""Numbers are 64-bit floats inside the engine, ranges of integers 64-bit integers; at their ends it overflows."""


def engine_schema(schema: Mapping[str, Any], *, typed: bool) -> dict[str, Any]:
    """Return a sound JSON Schema in the engine's dialect.

    With `typed` the values are checked by a Python type afterwards, to which unknown formats, unique items and
    exclusive alternatives are left. Objects that name their properties get no others, unless schemas are combined such
    that this could make a value fit that did not.

    Raises UnsupportedFeatureError with the keyword and its place, or InvalidParameterError where no value fits.
    """
    if "draft-03" in str(schema.get("$schema")):
        raise unsupported("$schema", "", "draft 3 of JSON Schema is too old")
    references = {part["$ref"] for part in _schemas(schema) if "$ref" in part}
    if len(references) > _MOST_REFERENCES:
        raise unsupported("$ref", "", f"{len(references)} different references are too many")
    found = _Translation(schema, typed).translate(schema, "")
    if not _Existence(schema).of(schema):
        raise InvalidParameterError("response_format", "No finite value fits response_format: it contains itself.")
    assert isinstance(found, dict)
    return found


def unsupported(keyword: str, path: str, reason: str = "it cannot be enforced") -> UnsupportedFeatureError:
    """Return the error for a keyword in the schema at `path`."""
    place = f" in {path}" if path else ""
    what = f"The JSON Schema's {keyword!r}{place} is not supported: {reason.rstrip('.')}."
    hint = "Leave it out, or say it in another way."
    return UnsupportedFeatureError("response_format", f"{what} {hint}", provider="mlx")


def _schemas(schema: object) -> Iterator[Mapping[str, Any]]:
    """Yield every schema in a schema, itself included, but not what stands in `const`, `enum` or `default`."""
    if not isinstance(schema, Mapping):
        return
    yield schema
    for key, value in schema.items():
        inner: Any = ()
        if key in _MAPS:
            inner = value.values()
        elif key in _LISTS or (key == "items" and isinstance(value, list)):
            inner = value
        elif key in _SINGLES:
            inner = (value,)
        for part in inner:
            yield from _schemas(part)


def _resolve(root: Mapping[str, Any], schema: Any) -> Any:
    """Return what a schema that is a plain reference refers to; None where that cannot be told here."""
    for _ in range(_MOST_REFERENCES):
        if not isinstance(schema, Mapping) or "$ref" not in schema:
            return schema
        schema = _lookup(root, schema["$ref"])
    return None


def _lookup(root: Any, reference: str) -> Any:
    if reference != "#" and not reference.startswith("#/"):
        return None
    for step in reference.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(root, list) and name.isdecimal():
            root = root[int(name)]
        else:
            root = root.get(name) if isinstance(root, Mapping) else None
    return root


class _Translation:
    """Translates the schemas within one."""

    def __init__(self, root: Mapping[str, Any], typed: bool) -> None:
        self._root = root
        self._typed = typed
        self._closing = typed or _is_plain(root)
        self._tagged = dict(self._find_tagged()) if typed else {}

    def _find_tagged(self) -> Iterator[tuple[int, str]]:
        """Yield the alternatives that a type tells apart by a property, with its name; it may have a default there."""
        for schema in _schemas(self._root):
            tag: Any = schema.get("discriminator", {})
            for option in schema.get("oneOf", ()) if "propertyName" in tag else ():
                yield id(_resolve(self._root, option)), tag["propertyName"]

    def translate(self, schema: Any, path: str) -> Any:
        """Return one schema, and those within it; `path` is its place."""
        if not isinstance(schema, Mapping):
            return schema
        found: dict[str, Any] = {}
        for key, value in self._prepared(schema).items():
            if (key in _REFUSED and _EFFECTLESS.get(key) is not value) or (self._typed and key == "contentSchema"):
                raise unsupported(key, path)
            self._add(found, key, value, path)
        if "format" in schema:
            self._add_format(found, schema["format"], path)
        if self._closing and _names_properties(found):
            found["additionalProperties"] = False
        _keep_from_zero(found)
        return found

    def _add(self, found: dict[str, Any], key: str, value: Any, path: str) -> None:
        inner = f"{path}.{key}".removeprefix(".")
        if key in _MAPS:
            found[key] = {name: self.translate(one, f"{inner}.{name}") for name, one in value.items()}
        elif key in _LISTS or (key == "items" and isinstance(value, list)):
            found[key] = [self.translate(one, f"{inner}[{number}]") for number, one in enumerate(value)]
        elif key in _SINGLES:
            found[key] = self.translate(value, inner)
        elif key in _BOUNDS:
            found[key] = _bound(key, value, path)
        elif key in ("const", "enum"):
            _check_literal(key, value, path)
            found[key] = value
        elif key in _PLAIN:
            found[key] = int(value) if key in _COUNTS else value

    def _add_format(self, found: dict[str, Any], name: str, path: str) -> None:
        """Add a format; one that is not of strings means nothing, as in JSON Schema."""
        if name in _FORMATS:
            found["format"] = name
            if self._typed and "time" in name:  # a leap second is in the format, and in no Python type
                found.setdefault("pattern", "^[^:]*:[^:]*:[0-5]")
        elif not self._typed and "string" in found.get("type", "string"):
            raise unsupported("format", path, f"the format {shown(name)} is not one of {', '.join(sorted(_FORMATS))}")

    def _prepared(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a schema in which keywords stand for others that say the same, and are supported."""
        found = dict(schema)
        if "oneOf" in found and "anyOf" not in found and (self._typed or self._is_tagged(found["oneOf"])):
            found = {"anyOf" if key == "oneOf" else key: value for key, value in found.items()}
        if "propertyNames" in found:
            found = _with_names(found, _resolve(self._root, found["propertyNames"]))
        if not self._typed:
            return found
        found.pop("uniqueItems", None)
        if id(schema) in self._tagged:
            found["required"] = sorted({*found.get("required", ()), self._tagged[id(schema)]})
        return found

    def _is_tagged(self, options: list[Any]) -> bool:
        """Whether it can be seen that no value fits two of these schemas."""
        tags = [dict(_tags(_resolve(self._root, option))) for option in options]
        return all(_are_apart(one, other) for one, other in combinations(tags, 2))


def _tags(schema: Any) -> Iterator[tuple[str, set[str]]]:
    """Yield what tells a schema from others, with the values that it may have there.

    These are the type (under an empty name), the whole value ("=") and properties that are required.
    """
    if not isinstance(schema, Mapping):
        return
    kind = schema.get("type", [])
    if kind:
        yield "", {"number" if one == "integer" else one for one in ([kind] if isinstance(kind, str) else kind)}
    candidates = {"=": schema}
    if kind == "object":
        named = schema.get("properties", {})
        candidates |= {f".{name}": named.get(name) for name in schema.get("required", ())}
    for name, one in candidates.items():
        values = _listed(one)
        if values and all(isinstance(value, (str, int)) and not isinstance(value, bool) for value in values):
            yield name, set(map(repr, values))


def _listed(schema: Any) -> list[Any]:
    """Return the values that a schema lists."""
    if not isinstance(schema, Mapping):
        return []
    return [schema["const"]] if "const" in schema else list(schema.get("enum", ()))


def _are_apart(one: Mapping[str, set[str]], other: Mapping[str, set[str]]) -> bool:
    return any(not one[name] & other[name] for name in one.keys() & other.keys())


def _with_names(schema: dict[str, Any], names: Any) -> dict[str, Any]:
    """Return a map whose names are listed, or have a pattern, in other words; anything else as it is."""
    if not isinstance(names, Mapping) or any(key in schema for key in ("properties", "patternProperties", "required")):
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("propertyNames", "additionalProperties")}
    value = schema.get("additionalProperties", {})
    listed = _listed(names)
    if listed and all(isinstance(name, str) for name in listed):
        return {**rest, "type": "object", "properties": dict.fromkeys(listed, value), "additionalProperties": False}
    if names.keys() - {"title", "description"} in ({"pattern"}, {"pattern", "type"}):
        return {**rest, "patternProperties": {names["pattern"]: value}, "additionalProperties": False}
    return schema


def _names_properties(schema: Mapping[str, Any]) -> bool:
    """Whether an object says what properties it has, and may be held to that."""
    if "additionalProperties" in schema or not ("properties" in schema or "patternProperties" in schema):
        return False
    known = schema.get("properties", {})
    return not {"minProperties", "$ref"} & schema.keys() and all(name in known for name in schema.get("required", ()))


def _is_plain(root: Mapping[str, Any]) -> bool:
    """Whether no schema combines with another one, so that objects can be closed without closing out a value.

    With `oneOf`, a value that only one closed object fits may fit two of them as they are.
    """
    for schema in _schemas(root):
        if "allOf" in schema or "oneOf" in schema:
            return False
        if schema.keys() & {"anyOf", "$ref"} and schema.keys() & {"properties", "patternProperties", "required"}:
            return False
    return True


# Numbers.


def _bound(key: str, value: Any, path: str) -> Any:
    """Return a bound that the engine keeps to: itself or, where it cannot be told exactly, one a little tighter."""
    if isinstance(value, bool):  # in draft 4, for the bound beside it
        return value
    if abs(value) > _WIDEST or 0 < abs(value) < _SMALLEST:
        raise unsupported(key, path, f"{shown(value)} is out of the range of numbers")
    if abs(value) <= _LARGEST:
        return value
    lower = _BOUNDS[key]
    near = float(value)
    outside = near < value if lower else near > value
    if outside or "exclusive" in key:  # between floats that are more than 1 apart, the engine cannot leave out one end
        near = math.nextafter(near, math.inf if lower else -math.inf)
    if abs(near) < _WIDEST:
        return int(near)
    if (near < 0) is lower:
        return int(math.nextafter(near, 0.0))
    raise unsupported(key, path, f"{shown(value)} is out of the range of numbers")


def _keep_from_zero(schema: dict[str, Any]) -> None:
    """Move the end of a range that ends just before zero a little further in.

    The engine would let a number between 0 and 1, or between -1 and 0, be 0 all the same.
    """
    if schema.get("type") == "integer":
        return
    for end, other, sign in (("exclusiveMinimum", "aximum", 1), ("exclusiveMaximum", "inimum", -1)):
        bounds = [schema[key] for key in (f"m{other}", f"exclusiveM{other}") if _is_number(schema.get(key))]
        if _is_number(schema.get(end)) and schema[end] == 0 and any(0 < sign * bound < 1 for bound in bounds):
            del schema[end]
            schema["minimum" if sign > 0 else "maximum"] = sign * _SMALLEST


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_literal(key: str, value: Any, path: str) -> None:
    """Refuse numbers that the engine would change."""
    if _is_number(value) and (abs(value) > _LARGEST or 0 < abs(value) < _SMALLEST):
        raise unsupported(key, path, f"{shown(value)} is out of the range of numbers")
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for one in inner:
        _check_literal(key, one, path)


# Finite values.


class _Existence:
    """Finds out whether a schema has a finite value; one that needs itself has none."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._known: set[str] = set()
        self._open: set[str] = set()

    def of(self, schema: Any) -> bool:
        """Whether there may be a value: False only where every way to one leads in a circle."""
        if not isinstance(schema, Mapping):
            return schema is not False
        parts = [self.of(one) for one in self._needed(schema)]
        choices = [schema[key] for key in ("anyOf", "oneOf") if key in schema]
        return all(parts) and all(any(self.of(one) for one in options) for options in choices) and self._ref(schema)

    def _needed(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        """Yield the schemas that must have a value too."""
        yield from schema.get("allOf", ())
        properties = schema.get("properties", {})
        if _must_be(schema, "object"):
            yield from (properties[name] for name in schema.get("required", ()) if name in properties)
        least = int(schema.get("minItems", 0))
        if _must_be(schema, "array") and least:
            first = list(schema.get("prefixItems", ()))[:least]
            yield from first
            yield from (
                schema[key] for key in ("items",) if len(first) < least and isinstance(schema.get(key), Mapping)
            )

    def _ref(self, schema: Mapping[str, Any]) -> bool:
        reference = schema.get("$ref")
        target = None if reference is None else _lookup(self._root, reference)
        if reference is None or target is None or reference in self._known:
            return True
        if reference in self._open:
            return False
        self._open.add(reference)
        found = self.of(target)
        self._open.discard(reference)
        self._known |= {reference} if found else set()
        return found


def _must_be(schema: Mapping[str, Any], kind: str) -> bool:
    return schema.get("type") in (kind, [kind])
