"""Messages and metadata as JSON text, as files and stores keep them. Knows neither."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from abstractllm.errors import InvalidParameterError
from abstractllm.messages import message_as_dict, to_messages
from abstractllm.messages.values import read_value, written_value
from abstractllm.types import Message


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return a JSON value as text that UTF-8 can hold. Raises ValueError for one that is nested too deeply.

    Half of a surrogate pair, which a model can write, is escaped; two halves in a row become their one character.
    """
    separators = (",", ":") if indent is None else None
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent, separators=separators)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return text


def read_json(text: str | bytes) -> Any:
    """Return the JSON value in a text. Raises ValueError for what is none, or is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def message_text(message: Message) -> str:
    """Return a message as JSON text. Raises InvalidParameterError for what JSON cannot hold."""
    described = message_as_dict(message)
    try:
        return json_text(described)
    except ValueError as error:
        raise InvalidParameterError("messages", f"A message cannot be kept as JSON: {error}.") from error


def read_message(text: str) -> Message:
    """Return the message that `message_text` wrote. Raises ValueError for anything else."""
    return to_messages([read_json(text)])[0]


def metadata_as_dict(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata as a JSON object. Raises InvalidParameterError, whose parameter is the key that cannot be one."""
    return {key: _written(key, value) for key, value in metadata.items()}


def _written(key: str, value: Any) -> Any:
    try:
        described = written_value(value)
        json_text(described)
    except ValueError as error:
        raise InvalidParameterError(key, f"The metadata {key!r} cannot be kept as JSON: {error}.") from error
    return described


def read_metadata(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that `metadata_as_dict` wrote. Raises ValueError for anything else."""
    return {key: read_value(value) for key, value in described.items()}
