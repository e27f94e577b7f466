"""What a Python callable takes, as a JSON Schema, and values of its arguments from JSON.

Reads signatures, type hints and docstrings; pydantic makes schemas and values of them. Calls nothing.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from inspect import Parameter
from types import MethodType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from weakref import WeakKeyDictionary

from abstractllm.errors import InvalidParameterError
from abstractllm.hints import readable
from abstractllm.tools.docstrings import descriptions_in, documentation_of, parsed
from abstractllm.tools.signatures import bad, hint_of, injected_parameter, named, signature_of

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Callee:
    """How a callable is called.

    `schema` is the JSON Schema of its keyword arguments, `documentation` the docstring as it stands and
    `description` the part of it that is about the whole. In `model` the arguments stand under the names `p0`, `p1`
    and so on, which are the values of `names`; `names` is None where `model` is the callable itself.
    """

    documentation: str
    description: str
    schema: Mapping[str, Any]
    model: type[BaseModel]
    names: Mapping[str, str] | None = None
    own_defaults: frozenset[str] = frozenset()
    """Arguments with a `pydantic.Field` as default, which means something to pydantic alone."""
    context: str | None = None
    """The parameter that whoever calls fills in; it is in neither `schema` nor `model`."""

    def coerce(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments to call with, in the types of the hints. Raises pydantic.ValidationError.

        They are read as JSON, as pydantic reads strings as dates and the like in any case then.
        """
        if self.names is None:
            return _for_model(self.model, arguments)
        values = _read(self.model, arguments)
        named, given = self.names.items(), values.model_fields_set
        present = {name: getattr(values, key) for name, key in named if key in given or name in self.own_defaults}
        return present | (values.model_extra or {})


def _for_model(model: type[BaseModel], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a model takes to make an object of itself: the arguments as they are, or as read from JSON.

    A strict model takes a string as a date only from JSON.
    """
    from pydantic import ValidationError

    given = dict(arguments)
    try:
        model.model_validate(given)
    except ValidationError:
        values = _read(model, given)
        fields = {key: name for name, one in model.model_fields.items() for key in (name, one.alias)}
        return {key: getattr(values, fields[key]) if key in fields else value for key, value in given.items()}
    return given


def _read(model: type[BaseModel], arguments: Mapping[str, Any]) -> BaseModel:
    from pydantic import ValidationError

    given = dict(arguments)
    try:
        return model.model_validate_json(_writer()(given))
    except ValidationError as error:
        if error.errors(include_input=False, include_url=False)[0]["type"] != "json_invalid":
            raise
    except ValueError:  # not from a model, which writes JSON
        pass
    return model.model_validate(given)


@functools.cache
def _writer() -> Callable[[Any], bytes]:
    from pydantic import TypeAdapter

    return TypeAdapter(Any).dump_json


_known: WeakKeyDictionary[Any, dict[bool, Callee]] = WeakKeyDictionary()
"""By function, unbound and bound: making a pydantic model takes about a millisecond, too long for every request."""


def callable_name(place: str, function: Callable[..., Any]) -> str:
    """Return the name of a callable. Raises InvalidParameterError, which says where it stands, for a lambda."""
    name = getattr(function, "__name__", None)
    if name is None and isinstance(function, functools.partial):
        return callable_name(place, function.func)
    if name == "<lambda>":
        raise bad(f"{place} is a lambda, and a tool needs a name; define it with def, or set its __name__.")
    return str(type(function).__name__ if name is None else name)


def look_into(name: str, function: Callable[..., Any]) -> Callee:
    """Return what is to be known of the callable that is the tool `name`.

    Raises InvalidParameterError where its arguments cannot be given by name or have no JSON Schema.
    """
    documentation = documentation_of(function)
    if _is_model(function):
        return _model_callee(name, function, documentation)
    key, bound = getattr(function, "__func__", function), isinstance(function, MethodType)
    try:
        kinds = _known.setdefault(key, {})
    except TypeError:  # neither hashable nor weakly referable
        return _function_callee(name, function, documentation)
    known = kinds.get(bound)
    if known is None or known.documentation != documentation:
        known = kinds[bound] = _function_callee(name, function, documentation)
    return known


def context_parameter(name: str, function: Callable[..., Any]) -> str | None:
    """Return the parameter of the tool `name` that takes its context, if one does.

    Raises InvalidParameterError where there are two; nothing else about the function matters.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError, NameError):
        return None
    hints = {}
    for one in parameters:
        with suppress(InvalidParameterError):  # what cannot be resolved is no context
            hints[one.name] = hint_of(name, function, one)
    return injected_parameter(name, hints)


def _is_model(function: object) -> bool:
    return isinstance(function, type) and hasattr(function, "model_json_schema")


def _model_callee(name: str, model: Any, documentation: str) -> Callee:
    text = parsed(name, documentation)
    schema = _schema(name, model)
    described = descriptions_in(text)
    for key, part in schema["properties"].items():
        if key in described:
            part.setdefault("description", described[key])
    return Callee(documentation, (text.description or "").strip(), schema, model)


def _function_callee(name: str, function: Callable[..., Any], documentation: str) -> Callee:
    from pydantic import ConfigDict, create_model

    text = parsed(name, documentation)
    signature = signature_of(name, function)
    takes_any = any(one.kind is Parameter.VAR_KEYWORD for one in signature.parameters.values())
    taken = list(named(name, function, signature))
    hints = {one.name: hint_of(name, function, one) for one in taken}
    context = injected_parameter(name, hints)
    given = [one for one in taken if one.name != context]
    described = descriptions_in(text)
    fields: dict[str, Any] = {
        f"p{number}": _field(one, hints[one.name], described.get(one.name), function)
        for number, one in enumerate(given)
    }
    config = ConfigDict(extra="allow" if takes_any else "forbid", protected_namespaces=())
    model = _with_pydantic(name, lambda: create_model("Arguments", __config__=config, **fields))
    return Callee(
        documentation,
        (text.description or "").strip(),
        _schema(name, model),
        model,
        {one.name: key for one, key in zip(given, fields, strict=True)},
        frozenset(one.name for one in given if _is_field(one.default)),
        context,
    )


def _is_field(default: object) -> bool:
    from pydantic.fields import FieldInfo

    return isinstance(default, FieldInfo)


def _field(parameter: Parameter, hint: Any, described: str | None, function: object) -> tuple[Any, FieldInfo]:
    """Return the hint and the field of pydantic that stand for a parameter."""
    from pydantic import Field

    description, hint = _annotated_description(hint) or described, readable(hint)
    if _is_field(parameter.default):
        description = parameter.default.description or description
        hint = Annotated[hint, parameter.default]
    elif parameter.default is None and not _takes_none(hint):
        hint = typing.Optional[hint]  # noqa: UP045 (a hint may be a string's forward reference)
    values = _default(parameter, function) | {"alias": parameter.name}
    if description:
        values["description"] = description
    field: FieldInfo = Field(**values)
    return hint, field


def _default(parameter: Parameter, function: object) -> dict[str, Any]:
    """Return the arguments of pydantic's Field for the default of a parameter."""
    given = parameter.default
    if given is Parameter.empty:
        return {}
    if _is_field(given):
        return {"default_factory": given.default_factory} if given.default_factory else {"default": given.default}
    factory = _factory(function, parameter.name)
    return {"default_factory": factory} if factory else {"default": given}


def _factory(function: object, parameter: str) -> Callable[[], Any] | None:
    """Return what makes the default of a dataclass's field, if something does."""
    if not (dataclasses.is_dataclass(function) and isinstance(function, type)):
        return None
    made = {one.name: one.default_factory for one in dataclasses.fields(function)}
    factory = made.get(parameter, dataclasses.MISSING)
    return None if factory is dataclasses.MISSING else factory


def _annotated_description(hint: Any) -> str | None:
    """Return the text in `Annotated[..., "text"]`, or the description of a `Field` or `Doc` in its place."""
    for one in getattr(hint, "__metadata__", ()):
        text = one if isinstance(one, str) else getattr(one, "description", getattr(one, "documentation", None))
        if isinstance(text, str):
            return text
    return None


def _takes_none(hint: Any) -> bool:
    plain = hint.__origin__ if hasattr(hint, "__metadata__") else hint
    return plain in (Any, object, None) or type(None) in typing.get_args(plain)


def _with_pydantic(name: str, make: Callable[[], T]) -> T:
    from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

    try:
        return make()
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError) as error:
        reason = re.split(r"\n|\. ", str(error))[0]
        raise bad(
            f"A parameter of the tool {name!r} has no JSON Schema ({reason}); "
            "use a type of JSON, a dataclass or a pydantic model in its place."
        ) from error


def _schema(name: str, model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model, without the titles that pydantic makes of names."""
    from pydantic.json_schema import GenerateJsonSchema

    class Quiet(GenerateJsonSchema):
        ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    found = _with_pydantic(name, lambda: model.model_json_schema(schema_generator=Quiet))
    root = found.pop("$ref", None)
    if root is not None:  # a model that contains itself stands among the definitions
        found = {**found["$defs"][root.removeprefix("#/$defs/")], **found}
    if found.get("type") != "object":
        raise bad(f"The tool {name!r} takes no named arguments; use a model or function that does.")
    found.pop("description", None)
    ordered: dict[str, Any] = _untitled({"properties": {}, **found})
    return ordered


_ORDER = {"type": 0, "description": 1, "properties": 2, "required": 3}
_MAPS = frozenset({"properties", "$defs", "patternProperties", "dependentSchemas"})
_LISTS = frozenset({"anyOf", "oneOf", "allOf", "prefixItems"})
_SINGLES = frozenset({"items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else"})


def _untitled(schema: Any) -> Any:
    """Return a schema without `title` and in the order that people write it in.

    A property of that name, and a title in a default, are left alone.
    """
    if not isinstance(schema, dict):
        return schema
    keys = sorted(schema, key=lambda key: _ORDER.get(key, len(_ORDER)))
    return {key: _untitled_part(key, schema[key]) for key in keys if key != "title"}


def _untitled_part(key: str, value: Any) -> Any:
    if key in _MAPS:
        return {name: _untitled(part) for name, part in value.items()}
    if key in _LISTS:
        return [_untitled(part) for part in value]
    return _untitled(value) if key in _SINGLES else value
