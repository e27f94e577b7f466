"""Definitions of tools from callables and from mappings, each checked for what models and services can take."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from abstractllm.errors import did_you_mean
from abstractllm.schema import check_sound
from abstractllm.tools.callables import context_parameter, look_into
from abstractllm.tools.docstrings import description_of
from abstractllm.tools.signatures import bad, check_fit
from abstractllm.types import ToolDefinition

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_SCHEMA_KEYS = ("parameters", "input_schema", "inputSchema")
_KNOWN_KEYS = frozenset(
    {"type", "name", "description", "strict", "title", "annotations", "outputSchema", *_SCHEMA_KEYS}
)


def check_name(place: str, name: object) -> str:
    """Return the name of the tool at `place`. Raises InvalidParameterError for one that models cannot write."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise bad(
        f"{place} has the name {name!r}, and models can only write 1 to 64 of a-z, A-Z, 0-9, '_' and '-'; "
        "define it with such a name, or pass ToolDefinition(name, description, parameters, function)."
    )


def _check_description(name: str, description: object) -> str:
    if isinstance(description, str):
        return description
    raise bad(f"The description of the tool {name!r} is a {type(description).__name__}; it must be a string.")


def define(
    function: Callable[..., Any], name: str, description: str | None, parameters: Mapping[str, Any] | None
) -> tuple[ToolDefinition, str | None]:
    """Return the definition of a function and the parameter that takes its context.

    The description is in its docstring and the parameters in its hints where they are not given.
    """
    if parameters is None:
        callee = look_into(name, function)
        text = callee.description if description is None else _check_description(name, description)
        return ToolDefinition(name, text, copy.deepcopy(dict(callee.schema)), function), callee.context
    found = checked("A tool", name, description_of(name, function) if description is None else description, parameters)
    context = context_parameter(name, function)
    check_fit(name, found.parameters, function, context)
    return replace(found, function=function), context


# JSON Schemas.


def from_mapping(place: str, tool: Mapping[str, Any]) -> ToolDefinition:
    """Return the definition that a mapping is, in any of the forms that services use. Raises InvalidParameterError."""
    kind = tool.get("type", "function")
    if kind != "function":
        raise bad(f"{place} has the type {kind!r}; only 'function' is known.")
    inner = tool.get("function", tool)
    if not isinstance(inner, Mapping):
        raise bad(f"{place} has a 'function' that is not a mapping; pass {{'name', 'description', 'parameters'}}.")
    _check_keys(place, inner)
    given = [inner[key] for key in _SCHEMA_KEYS if key in inner]
    if len(given) > 1:
        raise bad(f"{place} has more than one of {', '.join(_SCHEMA_KEYS)}; give one.")
    return checked(place, inner.get("name"), inner.get("description"), given[0] if given else {})


def _check_keys(place: str, tool: Mapping[str, Any]) -> None:
    for key in tool:
        if key not in _KNOWN_KEYS:
            raise bad(f"{place} has the unknown key {key!r}.{did_you_mean(str(key), _KNOWN_KEYS)}")


def checked(place: str, name: object, description: object, parameters: object) -> ToolDefinition:
    """Return a definition of parts that came from outside."""
    name = check_name(place, name)
    text = "" if description is None else _check_description(name, description)
    return ToolDefinition(name, text, checked_schema(name, {} if parameters is None else parameters))


def checked_schema(name: str, schema: object) -> dict[str, Any]:
    """Return a schema of an object that refers to nothing outside itself, as dicts and lists alone."""
    if not isinstance(schema, Mapping):
        raise bad(f"The parameters of the tool {name!r} are of type {type(schema).__name__}, not a JSON Schema.")
    if schema.get("type") != "object" and ("type" in schema or schema.keys() - {"properties", "required", "$schema"}):
        raise bad(f'The parameters of the tool {name!r} must be a JSON Schema with "type": "object".')
    try:
        whole = {**schema, "type": "object", "properties": schema.get("properties", {})}  # in the order that was given
        text = json.dumps(whole, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise bad(f"The parameters of the tool {name!r} cannot be written as JSON: {error}") from error
    check_sound("tools", subject_of(name), text)
    plain: dict[str, Any] = json.loads(text)
    return plain


def subject_of(name: str) -> str:
    """Return how messages speak of the schema of the tool `name`."""
    return f"The parameters of the tool {name!r}"
