"""JSON from outside -> typed values, with this package's errors. Knows no format and raises nothing of msgspec's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from abstractllm.errors import GenerationError, InvalidRequestError, ProviderConnectionError, shown
from abstractllm.schema import OutputFormat, to_output_format

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, no UTF-8, nested too deeply, or not of the type asked for."""

T = TypeVar("T")


def read_answer(body: bytes, kind: type[T], provider: str) -> tuple[Any, T]:
    """Return a whole answer as it is and as a `kind`. Raises GenerationError for what is none."""
    try:
        raw = msgspec.json.decode(body)
        return raw, msgspec.convert(raw, kind)
    except MALFORMED as error:
        raise malformed(body, error, provider) from error


def malformed(data: bytes, error: Exception | str, provider: str) -> GenerationError:
    """Return the error for data that is not what the format says."""
    return GenerationError(
        f"The service sent what this package cannot read ({error}): {shown(data)}. Is it the right kind of service?",
        provider=provider,
    )


def cut_off(provider: str) -> ProviderConnectionError:
    """Return the error for a stream that ended before its end marker."""
    return ProviderConnectionError(
        "The answer was cut off: the connection ended before the answer did. Try again.", provider=provider
    )


def read_request(body: object, kind: type[T]) -> T:
    """Return JSON values as a `kind`. Raises InvalidRequestError, which names the place that is wrong."""
    try:
        return msgspec.convert(body, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise InvalidRequestError(f"The request is not valid: {error}.") from error


def schema_format(schema: Mapping[str, Any], name: str = "response") -> OutputFormat:
    """Return the form of an answer that a JSON Schema describes. Raises InvalidParameterError."""
    return to_output_format({"type": "json_schema", "json_schema": {"name": name, "schema": schema}})


def json_text(value: object) -> str:
    """Return JSON values as compact JSON text."""
    return msgspec.json.encode(value).decode("utf-8")
