"""What a tool returned -> what the model reads. Knows no tool and no model."""

from __future__ import annotations

from typing import Any

from abstractllm.errors import InvalidParameterError
from abstractllm.types import Part


def to_content(value: object) -> str | tuple[Part, ...]:
    """Return a tool's value as the content of a message.

    Text stays as it is; an image, a document or a list of parts is shown as such; anything else is written as JSON:
    mappings, sequences, dataclasses, pydantic models, dates. Raises InvalidParameterError for what has no JSON.
    """
    if isinstance(value, str):
        return str.__str__(value)  # plain also of a subclass, such as the answer of another agent
    if isinstance(value, Part):
        return (value,)
    if isinstance(value, (list, tuple)) and value and all(isinstance(one, Part) for one in value):
        return tuple(value)
    return _as_json(value)


def _as_json(value: object) -> str:
    from pydantic import TypeAdapter
    from pydantic_core import PydanticSerializationError

    adapter: TypeAdapter[Any] = TypeAdapter(Any)
    try:
        return adapter.dump_json(value).decode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise InvalidParameterError(
            "tools",
            f"A tool returned a {type(value).__name__}, which cannot be written as JSON ({error}); return a str.",
        ) from error
