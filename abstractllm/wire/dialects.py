"""JSON Schemas in the words that a service understands. Knows what dialects there are, and no wire format.

A rewritten schema describes no value that the given one refuses, but for what `Dialect` says. What a dialect has no
keyword for becomes part of the description, for the model to read: answers are checked against the given schema anyway.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_BASE = {"type", "enum", "const", "description", "title", "properties", "required", "items", "anyOf", "$ref", "$defs"}
_SILENT = {
    "title",
    "$schema",
    "$id",
    "$comment",
    "$anchor",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "discriminator",
}
"""Keywords that say nothing about values, and that nobody misses."""

_STRING_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_REFERENCE = re.compile(r"#(?:/(?:\$defs|definitions)/(?P<name>[^/~%]+))?")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a service understands of JSON Schema.

    `keywords` are kept, `formats` are those of strings that are; `closed` says that objects have the properties that
    they name and no others. With `complete` all of these must be required: one that may be left out may be null
    instead, also where the given schema has no null there. `recursive` says that a schema may refer to itself, `typed`
    that every part of it must say what kind of value it is. `most_least` is the greatest `minItems`. `proto` says
    that it is read as a message of Protocol Buffers: one type a place, which may be `nullable`, texts alone in `enum`,
    and no references, in whose place stands what they lead to.
    """

    keywords: frozenset[str]
    formats: frozenset[str]
    closed: bool = True
    complete: bool = False
    recursive: bool = True
    typed: bool = True
    most_least: int | None = None
    proto: bool = False


STRICT = Dialect(
    frozenset(
        _BASE
        | {"pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
        | {"minItems", "maxItems"}
    ),
    _STRING_FORMATS,
    complete=True,
)
"""What OpenAI's `strict` asks for: the guide to structured outputs, "Supported schemas"; Groq's page says the same.

Lengths of strings are not in that list. `default` and look-around in a pattern are refused: see the class
`OpenAIJsonSchemaTransformer` of pydantic-ai, profiles/openai.py.
"""

ANTHROPIC = Dialect(frozenset(_BASE | {"format", "minItems"}), _STRING_FORMATS | {"uri"}, recursive=False, most_least=1)
"""platform.claude.com, build-with-claude/structured-outputs, "JSON Schema limitations"; `transform_schema` of
anthropic-sdk-python, src/anthropic/lib/_parse/_transform.py, which moves the rest into descriptions too."""

GEMINI_TOOLS = Dialect(
    frozenset(
        (_BASE - {"const", "title"})
        | {"format", "nullable", "minimum", "maximum", "minItems", "maxItems", "minLength", "maxLength", "pattern"}
    ),
    frozenset({"date-time"}),
    closed=False,
    typed=False,
    proto=True,
)
"""Parameters of functions: the fields of `Schema` at ai.google.dev/api/caching. Others are answered with 400, "Cannot
find field", which users of qwen-code, openswarm and AstrBot saw for $schema, additionalProperties and examples, those
of litellm and Portkey for $defs and $ref; a list of types with "Proto field is not repeating", numbers in an enum with
"only allowed for STRING type"."""

_MOST_SPELT_OUT = 1000
"""References that are replaced in one schema; a few that refer to each other twice would otherwise become millions."""


class _Unsayable(Exception):
    """A part of a schema has no place in a dialect, and cannot be left out either."""


def rewritten(schema: Mapping[str, Any], dialect: Dialect) -> dict[str, Any] | None:
    """Return a schema of an object in a dialect; None where the dialect cannot say it."""
    whole = rooted(schema)
    if whole is None:
        return None
    try:
        made = _rewritten(whole, dialect)
        if dialect.proto:
            made = _spelt_out(made, made.get("$defs", {}), (), iter(range(_MOST_SPELT_OUT)))
    except (_Unsayable, RecursionError):
        return None
    return made if dialect.recursive or not _refers_to_itself(made) else None


@lru_cache(maxsize=256)
def rewritten_text(text: str, dialect: Dialect) -> Mapping[str, Any] | None:
    """Do what `rewritten` does for a schema as JSON text; remembered, as it takes some 0.3 ms and forms repeat."""
    return rewritten(json.loads(text), dialect)


def rooted(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema of an object that says so at its root, where references are followed; None for other schemas."""
    seen: set[str] = set()
    whole = dict(schema)
    while isinstance(whole.get("$ref"), str) and whole["$ref"] not in seen:
        seen.add(whole["$ref"])
        found = _REFERENCE.fullmatch(whole["$ref"])
        name = found["name"] if found else None
        inner = (whole.get("$defs") or whole.get("definitions") or {}).get(name)
        if not isinstance(inner, Mapping):
            return None
        whole = {**{key: value for key, value in whole.items() if key != "$ref"}, **inner}
    return whole if whole.get("type") == "object" else None


def _rewritten(schema: object, dialect: Dialect) -> dict[str, Any]:
    if not isinstance(schema, Mapping):
        if dialect.typed or schema is not True:
            raise _Unsayable
        return {}
    given = _single(_plainer(schema)) if dialect.proto else _plainer(schema)
    made = {key: _part(key, value, dialect) for key, value in given.items() if _is_kept(key, value, dialect)}
    if "format" in made and "type" not in made:
        del made["format"]
    left = {key: value for key, value in given.items() if key not in made and key not in _SILENT}
    if _is_object(given):
        _check_closed(given, dialect)
        made |= _object(made, dialect)
        left = {
            key: value for key, value in left.items() if key != "additionalProperties" or isinstance(value, Mapping)
        }
    if dialect.typed and not made.keys() & {"type", "enum", "const", "anyOf", "$ref"}:
        raise _Unsayable
    if dialect.typed and _has(given, "array") and "items" not in made:
        raise _Unsayable
    return _alone(_described(made, left))


def _plainer(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema with one word for each thing: anyOf, $defs, and nothing that says what is so anyway."""
    given = {key: value for key, value in schema.items() if not (key == "default" and value is None)}
    if "definitions" in given:
        if "$defs" in given:
            raise _Unsayable
        given["$defs"] = given.pop("definitions")
    for word in ("oneOf", "allOf"):
        several = given.get(word)
        if not isinstance(several, list) or (word == "allOf" and len(several) > 1):
            continue
        if "anyOf" in given:
            raise _Unsayable
        given["anyOf"] = given.pop(word)
    if "allOf" in given:
        raise _Unsayable
    return given


def _single(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with one type where it has but one beside null, and with that of texts where only they are."""
    kinds = schema.get("type")
    if isinstance(kinds, list):
        others = [kind for kind in kinds if kind != "null"]
        nullable = {"nullable": True} if len(others) < len(kinds) else {}
        return {**schema, "type": others[0], **nullable} if len(others) == 1 else schema
    values = schema.get("enum")
    if kinds is None and isinstance(values, list) and all(isinstance(one, str) for one in values):
        return {"type": "string", **schema}
    return schema


def _is_kept(key: str, value: object, dialect: Dialect) -> bool:
    if key == "format":
        return key in dialect.keywords and value in dialect.formats
    if key == "pattern":
        return key in dialect.keywords and not re.search(r"\(\?<?[=!]", str(value))
    if key == "minItems" and dialect.most_least is not None:
        return key in dialect.keywords and isinstance(value, int) and value <= dialect.most_least
    if dialect.proto and isinstance(value, list) and key in ("type", "enum"):
        return key == "enum" and all(isinstance(one, str) for one in value)
    return key in dialect.keywords


def _part(key: str, value: Any, dialect: Dialect) -> Any:
    """Return what stands under a keyword."""
    if key in ("properties", "$defs"):
        return {name: _rewritten(one, dialect) for name, one in value.items()}
    if key == "anyOf":
        return [_rewritten(one, dialect) for one in value]
    if key == "items":
        return _rewritten(value, dialect)
    if key == "$ref":
        found = _REFERENCE.fullmatch(value)
        if found is None:
            raise _Unsayable
        return f"#/$defs/{found['name']}" if found["name"] else "#"
    if key == "enum" and dialect.typed and any(isinstance(one, (dict, list)) for one in value):
        raise _Unsayable
    return value


def _has(schema: Mapping[str, Any], kind: str) -> bool:
    said = schema.get("type")
    return said == kind or (isinstance(said, list) and kind in said)


def _is_object(schema: Mapping[str, Any]) -> bool:
    return _has(schema, "object") or "properties" in schema


def _check_closed(schema: Mapping[str, Any], dialect: Dialect) -> None:
    """Refuse an object that may have properties that it does not name."""
    if not dialect.closed:
        return
    others = schema.get("additionalProperties", "properties" not in schema)
    if others is not False or schema.get("patternProperties"):
        raise _Unsayable
    if not set(schema.get("required", ())) <= set(schema.get("properties", ())):
        raise _Unsayable


def _object(made: Mapping[str, Any], dialect: Dialect) -> dict[str, Any]:
    """Return the keywords of an object anew."""
    found: dict[str, Any] = {"additionalProperties": False} if dialect.closed else {}
    if not dialect.complete:
        return found
    required = made.get("required", ())
    properties = {name: one if name in required else _nullable(one) for name, one in made.get("properties", {}).items()}
    return found | {"properties": properties} | ({"required": list(properties)} if properties else {})


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema that takes null besides."""
    kind, alternatives = schema.get("type"), schema.get("anyOf")
    if _has(schema, "null") and None in schema.get("enum", (None,)) and "const" not in schema:
        return schema
    if isinstance(kind, (str, list)) and schema.keys().isdisjoint({"enum", "const", "anyOf", "$ref"}):
        return {**schema, "type": [*([kind] if isinstance(kind, str) else kind), "null"]}
    if isinstance(alternatives, list) and kind is None and schema.keys() <= {"anyOf", "description", "title"}:
        nothing = {"type": "null"}
        return schema if nothing in alternatives else {**schema, "anyOf": [*alternatives, nothing]}
    return {"anyOf": [schema, {"type": "null"}]}


def _alone(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema in which a reference has nothing beside it."""
    if "$ref" not in schema or len(schema) == 1:
        return schema
    if "anyOf" in schema:
        raise _Unsayable
    return {**{key: value for key, value in schema.items() if key != "$ref"}, "anyOf": [{"$ref": schema["$ref"]}]}


def _described(made: dict[str, Any], left: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema whose description says what has no keyword."""
    if not left:
        return made
    notes = ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in left.items())
    said = made.get("description")
    return {**made, "description": f"{said} ({notes})" if said else notes}


def _spelt_out(
    schema: Mapping[str, Any], defined: Mapping[str, Any], led: tuple[str, ...], budget: Iterator[int]
) -> dict[str, Any]:
    """Return a rewritten schema with what references lead to in their place. Raises _Unsayable for a circle."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in led or name not in defined or next(budget, None) is None:
            raise _Unsayable
        return _spelt_out(defined[name], defined, (*led, name), budget)
    made = {key: value for key, value in schema.items() if key != "$defs"}
    if "properties" in made:
        made["properties"] = {name: _spelt_out(one, defined, led, budget) for name, one in made["properties"].items()}
    if "items" in made:
        made["items"] = _spelt_out(made["items"], defined, led, budget)
    if "anyOf" in made:
        made["anyOf"] = [_spelt_out(one, defined, led, budget) for one in made["anyOf"]]
        only = made["anyOf"][0] if len(made["anyOf"]) == 1 else None
        if only is not None and made.keys() <= {"anyOf", "description"}:  # a reference that was described
            made = {**only, **{key: value for key, value in made.items() if key != "anyOf"}}
    return made


def _refers_to_itself(schema: Mapping[str, Any]) -> bool:
    """Whether following references leads in a circle."""
    led = {f"#/$defs/{name}": set(_references(one)) for name, one in schema.get("$defs", {}).items()}
    if "#" in {*_references(schema), *(one for found in led.values() for one in found)}:
        return True
    while led:
        ends = {name for name, found in led.items() if not found & led.keys()}
        if not ends:
            return True
        led = {name: found for name, found in led.items() if name not in ends}
    return False


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        inner: Iterable[Any] = schema.values()
    else:
        inner = schema if isinstance(schema, list) else ()
    for one in inner:
        yield from _references(one)
