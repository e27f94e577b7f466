"""What OpenAI's two formats share: token counts, log probabilities, urls of content, schemas of answers."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError
from abstractllm.schema import OutputFormat, to_output_format
from abstractllm.types import (
    DocumentPart,
    GenerateRequest,
    ImagePart,
    TokenLogprob,
    ToolDefinition,
    given_parameters,
)
from abstractllm.wire.dialects import STRICT, rewritten, rewritten_text

LEAST_LOGPROB = -9999.0
"""What these formats say for a probability of nothing, since JSON has no infinity."""


class Logprob(msgspec.Struct, gc=False):
    """A token as both formats write it; `bytes` may be missing, then they are the token's own."""

    token: str
    logprob: float | None = None
    bytes: list[int] | None = None
    top_logprobs: list[Logprob] | None = None


def read_logprobs(found: Iterable[Logprob] | None) -> tuple[TokenLogprob, ...]:
    """Return the tokens of an answer."""
    return tuple(map(_read_logprob, found or ()))


def _read_logprob(one: Logprob) -> TokenLogprob:
    try:
        raw = one.token.encode() if one.bytes is None else bytes(one.bytes)
    except ValueError:  # numbers that are no bytes
        raw = one.token.encode()
    value = LEAST_LOGPROB if one.logprob is None else one.logprob
    return TokenLogprob(one.token, value, raw, read_logprobs(one.top_logprobs))


def write_logprobs(tokens: Iterable[TokenLogprob]) -> list[dict[str, Any]]:
    """Return tokens as both formats write them."""
    return [{**_plain(one), "top_logprobs": [_plain(other) for other in one.top]} for one in tokens]


def _plain(one: TokenLogprob) -> dict[str, Any]:
    return {"token": one.token, "logprob": max(one.logprob, LEAST_LOGPROB), "bytes": list(one.bytes)}


def mappings(value: object) -> list[Mapping[str, Any]]:
    """Return the objects in what should be a list of them."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def string(value: object) -> str:
    """Return what should be a text, empty for what is none."""
    return value if isinstance(value, str) else ""


def data_url(media_type: str, data: bytes) -> str:
    """Return bytes as a `data:` URL (RFC 2397)."""
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def image_url(part: ImagePart) -> str:
    """Return where an image is: its own URL where it has no bytes."""
    return part.url if part.url and not part.data else data_url(part.media_type, part.data)


def document_url(part: DocumentPart) -> str:
    """Return where a document is: its own URL where it has no bytes."""
    return part.url if part.url and not part.data else data_url(part.media_type, part.data)


def file_name(part: DocumentPart) -> str:
    """Return a document's name, which the service asks for, made from its kind where it has none."""
    return part.name or f"document{mimetypes.guess_extension(part.media_type) or ''}"


def read_document(name: object, data: object) -> DocumentPart:
    """Return the document in a `data:` URL, or at another. Raises InvalidParameterError for anything else."""
    title = name if isinstance(name, str) and name else None
    if isinstance(data, str) and re.match(r"https?://", data):
        return DocumentPart(b"", "application/pdf", title, url=data)
    found = re.fullmatch(r"data:([^;,]+);base64,(.*)", data, re.DOTALL) if isinstance(data, str) else None
    try:
        if found:
            data_bytes = base64.b64decode(found[2], validate=True)
            return DocumentPart(data_bytes, found[1], title)
    except ValueError as error:
        raise InvalidParameterError("messages", "A file in messages is not valid base64.") from error
    raise InvalidParameterError("messages", "A file in messages must have file_data: data:TYPE;base64,DATA.")


# Schemas of answers.


def format_name(output: OutputFormat) -> str:
    """Return the name of a format as the service takes it: 1 to 64 of a-z, A-Z, 0-9, '_' and '-'."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", output.name)[:64] or "response"


_NEVER_STRICT = {"allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas"} | {
    "patternProperties",
    "uniqueItems",
}


_VALUES = {"enum", "const", "default", "examples"}


def is_strict(schema: object) -> bool:
    """Whether a schema keeps to what `strict` asks for: one object, and every object in it lists its keys as required.

    A service refuses one that does not, so that it can only be asked for without `strict`.
    """
    return isinstance(schema, Mapping) and schema.get("type") == "object" and _is_closed(schema)


def _is_closed(schema: object) -> bool:
    """Whether every object in a schema has all of its keys and no others."""
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    if not _NEVER_STRICT.isdisjoint(schema):
        return False
    if not all(_is_closed(inner) for key, inner in schema.items() if key not in _VALUES):
        return False
    if schema.get("type") != "object" and "properties" not in schema:
        return True
    required, properties = schema.get("required") or [], schema.get("properties") or {}
    return schema.get("additionalProperties") is False and set(required) == set(properties)


def described_schema(output: OutputFormat, *, rewrites: bool, strict: bool) -> dict[str, Any]:
    """Return a form's name and schema, and whether it is strict, as both formats write them.

    With `rewrites`, the schema is one that `strict` takes, if there is such a one; else it stays as it is, and is
    strict if it happens to be right.
    """
    schema = output.schema or {}
    made = rewritten_text(output.text, STRICT) if strict and rewrites else None
    sent, is_so = (schema, strict and is_strict(schema)) if made is None else (made, True)
    return {"name": format_name(output), "schema": sent, "strict": is_so}


STRICT_TOOLS = "strict_tools"
"""An option of ours: with true, calls are held to the parameters of their tools, as far as `strict` takes these."""


def strict_tool(tool: ToolDefinition, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a tool's parameters as `strict` takes them, None where it is not asked for.

    Raises InvalidParameterError for parameters that cannot be strict, and for an option that is neither true nor false.
    """
    wanted = options.get(STRICT_TOOLS, False)
    if not isinstance(wanted, bool):
        raise InvalidParameterError(f"options.{STRICT_TOOLS}", f"options.{STRICT_TOOLS} must be True or False.")
    made = rewritten(tool.parameters, STRICT) if wanted else None
    if wanted and made is None:
        what = f"The parameters of the tool {tool.name!r} cannot be strict, as they are not of closed objects alone"
        raise InvalidParameterError("tools", f"{what}; change them, or leave strict_tools out.")
    return made


def said_choice(request: GenerateRequest) -> str | None:
    """Return which tool is to be called; without tools there is nothing to choose, and services refuse to be told."""
    choice = request.tool_choice
    return None if not request.tools and choice in ("auto", "none") else choice


def without_own(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options that are fields of a body."""
    return {name: value for name, value in options.items() if name != STRICT_TOOLS}


def is_any_object(output: OutputFormat) -> bool:
    """Whether a format asks for no more than some JSON object."""
    return output.kind == "json" and output.schema == {"type": "object"}


def checked_output(request: GenerateRequest) -> OutputFormat | None:
    """Return the format that a request asks for, made from whatever it was given as."""
    return None if request.response_format is None else to_output_format(request.response_format)


# What a format can say.

_UNSAID = frozenset({"retries", "timeout"})


def check_sayable(request: GenerateRequest, accepted: frozenset[str], service: str) -> None:
    """Raise UnsupportedFeatureError for the first parameter of a request that is given and not in `accepted`."""
    for name in given_parameters(request):
        if name not in accepted and name not in _UNSAID:
            raise UnsupportedFeatureError(name, f"{service} has no parameter {name!r}; leave it out.")


def with_options(body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body with a provider's own fields in it. Raises InvalidParameterError for one that is set already."""
    for name, value in options.items():
        there = body.get(name)
        if isinstance(there, dict) and isinstance(value, Mapping):
            body[name] = {**there, **value}
        elif isinstance(there, list) and isinstance(value, list) and name == "include":
            body[name] = there + value
        elif name in body:
            raise InvalidParameterError(
                f"options.{name}", f"options may not set {name!r}, which the request itself says; leave it out there."
            )
        else:
            body[name] = value
    return body
