"""JSON Schemas for services that hold answers to schemas whose objects are closed. Knows no service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abstractllm.wire.refusals import refusal

_OF_SCHEMAS = ("anyOf", "allOf", "oneOf", "prefixItems")
_BY_NAME = ("properties", "$defs", "definitions")


def closed(schema: Mapping[str, Any], provider: str) -> dict[str, Any]:
    """Return a schema whose objects have the properties that it names, and no others.

    Raises UnsupportedFeatureError for an object that may have any: that cannot be said with closed ones.
    """
    found: dict[str, Any] = {key: _inner(key, value, provider) for key, value in schema.items()}
    kind = schema.get("type")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind) and "properties" not in schema:
        return found
    if schema.get("additionalProperties", "properties" not in schema) is not False:
        what = "holds answers to closed objects only, and response_format has an object of any properties"
        raise refusal("response_format", what, provider)
    return found | {"additionalProperties": False}


def _inner(key: str, value: Any, provider: str) -> Any:
    if key in _OF_SCHEMAS and isinstance(value, list):
        return [closed(one, provider) if isinstance(one, Mapping) else one for one in value]
    if key in _BY_NAME and isinstance(value, Mapping):
        return {name: closed(one, provider) if isinstance(one, Mapping) else one for name, one in value.items()}
    return closed(value, provider) if key == "items" and isinstance(value, Mapping) else value
