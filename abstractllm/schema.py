"""What a `response_format` asks for, as an `OutputFormat` that reads and checks answers; and the check of JSON Schemas.

pydantic makes schemas of Python types and values of texts; jsonschema checks schemas that were written by hand. Nothing
is ever fetched, and nothing here knows an engine or how an answer is made to fit.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from abstractllm.errors import InvalidParameterError, OutputValidationError, shown
from abstractllm.hints import readable
from abstractllm.text.partial import partial_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_PARAMETER = "response_format"
_SUBJECT = "The contents of response_format"
_ACCEPTED = (
    "a pydantic model, dataclass, TypedDict or other type, a JSON Schema as a mapping, {'type': 'json_object'}, "
    "{'type': 'json_schema', 'json_schema': {'name': ..., 'schema': ...}}, Regex('...') or Grammar('...')"
)
_MOST_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Regex:
    """A `response_format`: the whole answer matches this regular expression, in Rust's syntax without look-around."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Grammar:
    """A `response_format`: the answer is what rule `start` of this grammar, in Lark's syntax, derives."""

    text: str


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """The form that an answer is to have.

    `kind` says what `text` is: for "json" the JSON Schema as JSON text, which is also in `schema`, with its
    references; for "regex" and "grammar" the expression. `name` is a name for the schema. `adapter` makes the values
    where the format was given as a Python type; then pydantic checks them, and the schema need not say everything.
    """

    kind: Literal["json", "regex", "grammar"]
    text: str
    schema: Mapping[str, Any] | None = field(default=None, compare=False)
    name: str = "response"
    adapter: TypeAdapter[Any] | None = field(default=None, repr=False)

    @property
    def typed(self) -> bool:
        """Whether values are checked and made by a Python type."""
        return self.adapter is not None

    def parse(self, text: str) -> Any:
        """Return the value of a whole answer.

        For a Python type its instance, for a JSON Schema what `json.loads` makes of the text, for a regex or grammar
        the text as it is, which is not checked again. Raises OutputValidationError, which says where in the text it is
        no JSON, or which parts of the value do not fit, one line each; `format` is no reason.

        A property that may be left out counts as left out where it is null and null does not fit: services that have
        every property written can say so in no other way.
        """
        if self.kind != "json":
            return text
        try:
            return self._value(text)
        except OutputValidationError:
            shorter = without_nulls(self.text, text)
            if shorter is not None:
                with suppress(OutputValidationError):  # what was wrong with the text as it is says more
                    return self._value(shorter)
            raise

    def _value(self, text: str) -> Any:
        return _validated(self.adapter, text) if self.adapter is not None else _checked(self.text, text)

    def partial(self, text: str) -> Any:
        """Return what is certain of an answer of which this is the beginning, as plain JSON values; never raises.

        None while nothing is. See `partial_json`. For a regex or grammar, the text as it is.
        """
        return partial_json(text) if self.kind == "json" else text


def to_output_format(response_format: object) -> OutputFormat:
    """Return what a `response_format` asks for.

    It is one of those that the message names for anything else. Raises InvalidParameterError for that, for a type that
    has no JSON Schema, for a mapping that is none, and for references that lead nowhere or out of it.
    """
    if isinstance(response_format, OutputFormat):
        return response_format
    if isinstance(response_format, Regex):
        return OutputFormat("regex", _text("Regex", response_format.pattern))
    if isinstance(response_format, Grammar):
        return OutputFormat("grammar", _text("Grammar", response_format.text))
    if isinstance(response_format, Mapping):
        return _from_mapping(response_format)
    plain = isinstance(response_format, (str, bytes, int, float, list, tuple, set))
    if response_format is None or plain or inspect.isroutine(response_format):
        raise _bad(f"response_format={shown(response_format)} is not valid: it must be {_ACCEPTED}.")
    return _from_type(response_format)


def _bad(message: str) -> InvalidParameterError:
    return InvalidParameterError(_PARAMETER, message)


def _text(kind: str, text: object) -> str:
    if isinstance(text, str) and text:
        return text
    raise _bad(f"{kind}({shown(text)}) is not valid: give it a string that is not empty.")


def _from_mapping(given: Mapping[str, Any]) -> OutputFormat:
    kind = given.get("type")
    if kind == "json_object":
        _check_keys("response_format", given, {"type"})
        return _from_schema({"type": "object"})
    if kind != "json_schema":
        return _from_schema(given)
    _check_keys("response_format", given, {"type", "json_schema"})
    inner = given.get("json_schema")
    if not isinstance(inner, Mapping) or not isinstance(inner.get("schema"), Mapping):
        raise _bad("response_format['json_schema'] must be a mapping {'name': ..., 'schema': a JSON Schema}.")
    _check_keys("response_format['json_schema']", inner, {"name", "schema", "strict", "description"})
    return _from_schema(inner["schema"], str(inner.get("name", "response")))


def _check_keys(place: str, given: Mapping[str, Any], known: set[str]) -> None:
    for key in given:
        if key not in known:
            raise _bad(f"{place} has the key {key!r}, which it cannot have; it may have {', '.join(sorted(known))}.")


def _from_schema(schema: Mapping[str, Any], name: str = "response") -> OutputFormat:
    text = _json_text(schema)
    check_sound(_PARAMETER, _SUBJECT, text)
    return OutputFormat("json", text, json.loads(text), name)


def _json_text(schema: Mapping[str, Any]) -> str:
    try:
        text = json.dumps(dict(schema), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _bad(f"{_SUBJECT} cannot be written as JSON: {error}") from error
    return text


# Formats from Python types.


def _from_type(hint: Any) -> OutputFormat:
    try:
        return _known_type(hint, repr(hint))
    except TypeError:  # not hashable
        return _make_type(hint)


@functools.lru_cache(maxsize=256)
def _known_type(hint: Any, _: str) -> OutputFormat:
    """Making a schema takes a millisecond. Types that are equal may still differ in the order of a union: `_` does."""
    return _make_type(hint)


def _make_type(hint: Any) -> OutputFormat:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    try:
        adapter = hint if isinstance(hint, TypeAdapter) else TypeAdapter(readable(hint))
        schema = adapter.json_schema(schema_generator=_generator())
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError, NameError) as error:
        reason = re.split(r"\n|\. ", str(error))[0]
        raise _bad(f"response_format={shown(hint)} has no JSON Schema ({reason}); it must be {_ACCEPTED}.") from error
    text = _json_text(schema)
    check_sound(_PARAMETER, _SUBJECT, text, python_patterns=False)
    return OutputFormat("json", text, json.loads(text), getattr(hint, "__name__", "response"), adapter)


@functools.cache
def _generator() -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    class Generator(GenerateJsonSchema):
        """Decimals are written as numbers, not as strings of any kind; and nothing is printed."""

        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

        def decimal_schema(self, schema: Any) -> Any:
            bounds = {key: float(schema[key]) for key in ("multiple_of", "le", "ge", "lt", "gt") if key in schema}
            return self.float_schema({"type": "float", **bounds})  # type: ignore[typeddict-item]

    return Generator


# Values.


def _validated(adapter: TypeAdapter[Any], text: str) -> Any:
    from pydantic import ValidationError

    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        if found[0]["type"] == "json_invalid":
            raise _no_json(str(found[0]["ctx"]["error"])) from error
        raise _unfit(line_of_error(one["loc"], one["msg"]) for one in found) from error


def _checked(schema_text: str, text: str) -> Any:
    try:
        value = json.loads(text, parse_constant=_no_constant)
        problems = [problem_of(error) for error in _validator(schema_text).iter_errors(value)]
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno} (character {error.pos})"
        raise _no_json(f"{error.msg} at {where}") from error
    except ValueError as error:
        raise _no_json(str(error)) from error
    except RecursionError as error:
        raise _no_json("it is nested too deeply") from error
    if problems:
        raise _unfit(sorted(problems))
    return value


def without_nulls(schema_text: str, text: str) -> str | None:
    """Return a JSON text without the properties that are null and must not be; None where there are none."""
    if "null" not in text:
        return None
    try:
        value = json.loads(text)
        places = {tuple(error.absolute_path) for error in _causes(_validator(schema_text).iter_errors(value))}
    except (ValueError, RecursionError):
        return None
    nulls = [(holder, place[-1]) for place in places if place and (holder := _null_at(value, place)) is not None]
    for holder, name in nulls:
        del holder[name]
    return json.dumps(value, ensure_ascii=False) if nulls else None


def _causes(errors: Iterable[Any]) -> Iterator[Any]:
    """Yield errors of jsonschema, and those of the alternatives that they are made of."""
    for error in errors:
        yield error
        yield from _causes(error.context)


def _null_at(value: Any, place: Sequence[str | int]) -> dict[Any, Any] | None:
    """Return the object in `value` whose property at this place is null; None where there is no such thing."""
    *way, last = place
    for step in way:
        value = value[step]
    return value if isinstance(value, dict) and value.get(last, 0) is None else None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _no_json(reason: str) -> OutputValidationError:
    return OutputValidationError(f"The answer is not the JSON that response_format asks for: {reason}.")


def _unfit(problems: Iterable[str]) -> OutputValidationError:
    found = list(problems)
    more = [f"and {len(found) - _MOST_PROBLEMS} more"] if len(found) > _MOST_PROBLEMS else []
    lines = "".join(f"\n- {one}" for one in [*found[:_MOST_PROBLEMS], *more])
    return OutputValidationError(f"The answer does not have the form that response_format asks for:{lines}")


@functools.lru_cache(maxsize=64)
def _validator(schema_text: str) -> Any:
    """Return jsonschema's validator for a schema that has been checked, with exact `multipleOf`."""
    from jsonschema import validators
    from referencing import Registry

    schema = json.loads(schema_text)
    kind = validators.extend(dialect_of(_PARAMETER, _SUBJECT, schema), {"multipleOf": _multiple_of})
    return kind(schema, registry=Registry())


def _multiple_of(validator: Any, factor: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """Do what jsonschema does, with the decimal numbers as they are written: 39.3 is a multiple of 0.01."""
    from jsonschema import ValidationError

    if not validator.is_type(instance, "number"):
        return
    if not math.isfinite(instance) or Fraction(repr(instance)) % Fraction(repr(factor)):
        yield ValidationError(f"{instance!r} is not a multiple of {factor}")


# JSON Schemas, wherever they come from. `parameter` and `subject` are for messages: "SUBJECT are no JSON Schema".


@functools.lru_cache(maxsize=256)
def check_sound(parameter: str, subject: str, text: str, *, python_patterns: bool = True) -> None:
    """Refuse a text that is no JSON Schema; remembered, as it takes milliseconds and requests repeat their schemas.

    Raises InvalidParameterError, for references that lead nowhere or out of the schema too and, unless others will
    match the patterns, for those that Python cannot match.
    """
    from jsonschema import FormatChecker, SchemaError

    schema = json.loads(text)
    try:
        formats = FormatChecker(["regex"] if python_patterns else [])
        dialect_of(parameter, subject, schema).check_schema(schema, format_checker=formats)
        _check_references(parameter, subject, schema)
    except SchemaError as error:
        raise InvalidParameterError(parameter, f"{subject} are no JSON Schema: {problem_of(error)}") from error
    except RecursionError as error:
        raise InvalidParameterError(parameter, f"{subject} are nested too deeply; make them flatter.") from error


def dialect_of(parameter: str, subject: str, schema: Mapping[str, Any]) -> Any:
    """Return jsonschema's validator class for the version of JSON Schema that a schema is written in."""
    from jsonschema.validators import Draft202012Validator, validator_for

    if "$schema" not in schema:
        return Draft202012Validator
    try:
        known = validator_for(schema, default=None)
    except (TypeError, ValueError):  # what stands there is no URL
        known = None
    if known is None:
        version = shown(schema["$schema"])
        raise InvalidParameterError(parameter, f"{subject} have the unknown $schema {version}; leave it out.")
    return known


def _check_references(parameter: str, subject: str, schema: Mapping[str, Any]) -> None:
    """Refuse references that lead nowhere or out of the schema: nothing is ever fetched."""
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    keys = ("$ref", "$dynamicRef")
    for reference in [part[key] for part in _parts(schema) for key in keys if isinstance(part.get(key), str)]:
        try:
            resolver.lookup(reference)
        except (Unresolvable, ValueError) as error:
            raise InvalidParameterError(
                parameter,
                f"{subject} refer to {reference!r}, which is not in them; "
                'put it under "$defs" and refer to "#/$defs/NAME".',
            ) from error


def _parts(schema: object) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping in a schema, itself included."""
    if isinstance(schema, Mapping):
        yield schema
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list) else ()
    for value in inner:
        yield from _parts(value)


def problem_of(error: Any) -> str:
    """Return one line for an error of jsonschema."""
    return line_of_error(error.absolute_path, error.message)


def line_of_error(location: Iterable[str | int], message: str) -> str:
    """Return `a.b[0]: message` as one line of bearable length."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
    text = " ".join(f"{path}: {message}".split() if path else message.split())
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-80:]}"
