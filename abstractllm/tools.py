"""Tools as users give them -> `ToolDefinition`s, and the arguments of a call -> checked values.

JSON Schemas are checked by `schema`; `callables` knows what Python callables take. Nothing here calls a tool or
knows a model's way to ask for it.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from abstractllm.callables import Callee, callable_name, look_into
from abstractllm.errors import InvalidParameterError, ToolArgumentError, did_you_mean
from abstractllm.schema import check_sound, dialect_of, line_of_error, problem_of, without_nulls
from abstractllm.types import ToolDefinition

if TYPE_CHECKING:
    from abstractllm.interface import Tool

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SCHEMA_KEYS = ("parameters", "input_schema", "inputSchema")
_KNOWN_KEYS = frozenset(
    {"type", "name", "description", "strict", "title", "annotations", "outputSchema", *_SCHEMA_KEYS}
)
_PLAINER = {"missing": "is missing", "extra_forbidden": "is not one of the parameters"}
"""What some kinds of pydantic's errors say here."""


def to_tool_definitions(tools: Iterable[Tool]) -> tuple[ToolDefinition, ...]:
    """Return one definition per tool, in order.

    A tool is one of
    - a callable: function, async function, bound method, `functools.partial` (bound arguments are not shown), object
      with `__call__`, pydantic model, dataclass or other class. Its parameters come from type hints and defaults,
      the descriptions from `Annotated[..., "text"]`, `pydantic.Field` and the docstring (Google, NumPy, Sphinx);
    - a mapping `{"type": "function", "function": {"name", "description", "parameters"}}`, or that inner mapping alone,
      where the schema may also be called `input_schema` or `inputSchema`. `strict` and MCP's `title`, `annotations`
      and `outputSchema` are accepted and change nothing, as arguments are always validated;
    - a `ToolDefinition`.

    Raises InvalidParameterError (parameter `tools`) for anything else: a name that models cannot write, two tools of
    one name, a parameter without a JSON Schema, a schema that is not one of an object, a reference out of a schema.
    """
    if isinstance(tools, (str, bytes, Mapping, ToolDefinition)) or callable(tools) or not isinstance(tools, Iterable):
        raise _bad(f"tools is a single {type(tools).__name__}; pass a list of tools: tools=[...].")
    definitions = tuple(_definition(number, tool) for number, tool in enumerate(tools))
    seen: set[str] = set()
    for definition in definitions:
        if definition.name in seen:
            raise _bad(f"Two tools are named {definition.name!r}; give each a name of its own.")
        seen.add(definition.name)
    return definitions


def validate_arguments(definition: ToolDefinition, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments to call a tool's function with.

    Where the definition was made from its function, they are validated and coerced to the types of its hints
    (`"2025-01-01"` to a date, an object to a dataclass); arguments that were not given are left to the function's own
    defaults. Where the schema was written by hand, they are validated against it and handed over as they are.

    An argument that may be left out counts as left out where it is null and null does not fit, as models write that
    must say something of every argument.

    Raises ToolArgumentError, which lists everything that is wrong in one line each.
    """
    if not isinstance(arguments, Mapping):
        raise ToolArgumentError(definition.name, [f"must be an object, not {type(arguments).__name__}"])
    try:
        return _fitting(definition, arguments)
    except ToolArgumentError:
        shorter = _without_nulls(definition, arguments)
        if shorter is not None:
            with suppress(ToolArgumentError):  # what was wrong with the arguments as they are says more
                return _fitting(definition, shorter)
        raise


def _without_nulls(definition: ToolDefinition, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        shorter = without_nulls(json.dumps(dict(definition.parameters)), json.dumps(dict(arguments)))
    except (TypeError, ValueError, RecursionError):  # not from a model, which writes JSON
        return None
    return None if shorter is None else json.loads(shorter)


def _fitting(definition: ToolDefinition, arguments: Mapping[str, Any]) -> dict[str, Any]:
    callee = _own_callee(definition)
    if callee is not None:
        return _coerced(definition.name, callee, arguments)
    _validate(definition, arguments)
    return dict(arguments)


def _own_callee(definition: ToolDefinition) -> Callee | None:
    """Return what is known of a definition's function, if the schema was made from it."""
    if definition.function is None:
        return None
    try:
        callee = look_into(definition.name, definition.function)
    except InvalidParameterError:
        return None  # no schema can be made from this function, so it was written by hand
    return callee if callee.schema == definition.parameters else None


def _coerced(tool: str, callee: Callee, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        return callee.coerce(arguments)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [line_of_error(one["loc"], _PLAINER.get(one["type"], one["msg"])) for one in found]
        raise ToolArgumentError(tool, problems) from error


def _bad(message: str) -> InvalidParameterError:
    return InvalidParameterError("tools", message)


def _definition(number: int, tool: object) -> ToolDefinition:
    if isinstance(tool, ToolDefinition):
        checked = _checked(f"tools[{number}]", tool.name, tool.description, tool.parameters)
        return tool if checked.parameters == tool.parameters else replace(tool, parameters=checked.parameters)
    if isinstance(tool, Mapping):
        return _from_mapping(f"tools[{number}]", tool)
    if callable(tool):
        return _from_callable(f"tools[{number}]", tool)
    raise _bad(
        f"tools[{number}] is of type {type(tool).__name__}; it must be a function, a JSON Schema or a ToolDefinition."
    )


def _check_name(place: str, name: object) -> str:
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise _bad(
        f"{place} has the name {name!r}, and models can only write 1 to 64 of a-z, A-Z, 0-9, '_' and '-'; "
        "define it with such a name, or pass ToolDefinition(name, description, parameters, function)."
    )


def _from_callable(place: str, function: Callable[..., Any]) -> ToolDefinition:
    name = _check_name(place, callable_name(place, function))
    callee = look_into(name, function)
    return ToolDefinition(name, callee.description, copy.deepcopy(callee.schema), function)


# JSON Schemas.


def _from_mapping(place: str, tool: Mapping[str, Any]) -> ToolDefinition:
    kind = tool.get("type", "function")
    if kind != "function":
        raise _bad(f"{place} has the type {kind!r}; only 'function' is known.")
    inner = tool.get("function", tool)
    if not isinstance(inner, Mapping):
        raise _bad(f"{place} has a 'function' that is not a mapping; pass {{'name', 'description', 'parameters'}}.")
    _check_keys(place, inner)
    given = [inner[key] for key in _SCHEMA_KEYS if key in inner]
    if len(given) > 1:
        raise _bad(f"{place} has more than one of {', '.join(_SCHEMA_KEYS)}; give one.")
    return _checked(place, inner.get("name"), inner.get("description"), given[0] if given else {})


def _check_keys(place: str, tool: Mapping[str, Any]) -> None:
    for key in tool:
        if key not in _KNOWN_KEYS:
            raise _bad(f"{place} has the unknown key {key!r}.{did_you_mean(str(key), _KNOWN_KEYS)}")


def _checked(place: str, name: object, description: object, parameters: object) -> ToolDefinition:
    """Return a definition of parts that came from outside."""
    name = _check_name(place, name)
    if description is not None and not isinstance(description, str):
        raise _bad(f"The description of the tool {name!r} is a {type(description).__name__}; it must be a string.")
    return ToolDefinition(name, description or "", _checked_schema(name, {} if parameters is None else parameters))


def _checked_schema(name: str, schema: object) -> dict[str, Any]:
    """Return a schema of an object that refers to nothing outside itself, as dicts and lists alone."""
    if not isinstance(schema, Mapping):
        raise _bad(f"The parameters of the tool {name!r} are of type {type(schema).__name__}, not a JSON Schema.")
    if schema.get("type") != "object" and ("type" in schema or schema.keys() - {"properties", "required", "$schema"}):
        raise _bad(f'The parameters of the tool {name!r} must be a JSON Schema with "type": "object".')
    try:
        whole = {**schema, "type": "object", "properties": schema.get("properties", {})}  # in the order that was given
        text = json.dumps(whole, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise _bad(f"The parameters of the tool {name!r} cannot be written as JSON: {error}") from error
    check_sound("tools", _subject(name), text)
    plain: dict[str, Any] = json.loads(text)
    return plain


def _subject(name: str) -> str:
    return f"The parameters of the tool {name!r}"


def _validate(definition: ToolDefinition, arguments: Mapping[str, Any]) -> None:
    from referencing import Registry

    schema = _checked_schema(definition.name, definition.parameters)
    validator = dialect_of("tools", _subject(definition.name), schema)(schema, registry=Registry())
    problems = [problem_of(error) for error in validator.iter_errors(dict(arguments))]
    if problems:
        raise ToolArgumentError(definition.name, sorted(problems))
