"""Requests as OpenAI's Responses API writes them, both ways, and what services make of them differently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from abstractllm.errors import InvalidParameterError, InvalidRequestError, UnsupportedFeatureError, shown
from abstractllm.history import with_call_ids
from abstractllm.parameters import check_parameters
from abstractllm.schema import OutputFormat
from abstractllm.tools import to_tool_definitions
from abstractllm.types import GenerateRequest, Message, ToolDefinition
from abstractllm.wire.openai_chat_request import read_choice, read_effort, read_format
from abstractllm.wire.openai_facts import (
    check_sayable,
    checked_output,
    described_schema,
    is_any_object,
    said_choice,
    strict_tool,
    with_options,
    without_own,
)
from abstractllm.wire.openai_responses_items import read_items, write_items

RESPONSES_STANDARD = frozenset(
    {"max_tokens", "temperature", "top_p", "logprobs", "top_logprobs", "tool_choice", "response_format", "reasoning"}
)
"""Parameters that the Responses API has; models that reason refuse some of them."""

_LOGPROBS = "message.output_text.logprobs"
_ENCRYPTED = "reasoning.encrypted_content"

_CALL_IDS = "(?s).{1,64}"
"""The form of calls' ids; the service answers 400 to longer ones."""


@dataclass(frozen=True, slots=True)
class ResponsesQuirks:
    """How one service's Responses API differs from OpenAI's.

    - `accepted`: the parameters that it takes; another one raises UnsupportedFeatureError.
    - `system`: the word for the system's role.
    - `efforts`: the efforts of reasoning that it takes.
    - `encrypted_reasoning`: whether reasoning is asked for in a form that can be sent back; models that do not reason
      answer 400 to that.
    - `summary`: how reasoning is to be summarised, such as "auto"; None for not at all.
    """

    accepted: frozenset[str] = RESPONSES_STANDARD
    system: Literal["system", "developer"] = "system"
    efforts: frozenset[str] = frozenset({"none", "low", "medium", "high"})
    encrypted_reasoning: bool = True
    summary: str | None = None


def write_request(request: GenerateRequest, quirks: ResponsesQuirks) -> dict[str, Any]:
    """Return a body, which asks the service to store nothing unless `options` say so.

    Raises UnsupportedFeatureError for what the service cannot be told.
    """
    check_request(request, quirks)
    include = ([_ENCRYPTED] if quirks.encrypted_reasoning else []) + ([_LOGPROBS] if request.logprobs else [])
    body = {
        "model": request.model,
        "input": write_items(with_call_ids(request.messages, _CALL_IDS), quirks.system),
        "include": include or None,
        "max_output_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "top_logprobs": request.top_logprobs,
        "tools": [_write_tool(tool, request) for tool in request.tools] or None,
        "tool_choice": _write_choice(said_choice(request)),
        "text": _write_format(request),
        "reasoning": _write_reasoning(request, quirks) or None,
        "stream": request.stream or None,
    }
    said = {name: value for name, value in body.items() if value is not None}
    return {"store": False, **with_options(said, without_own(request.options))}


def check_request(request: GenerateRequest, quirks: ResponsesQuirks) -> None:
    """Raise UnsupportedFeatureError for what the service cannot be told, without writing what may be long.

    Parts of turns are not looked at.
    """
    check_sayable(request, quirks.accepted, "The Responses API")
    _write_format(request)
    _write_reasoning(request, quirks)


def _write_tool(tool: ToolDefinition, request: GenerateRequest) -> dict[str, Any]:
    """Return a tool; it is not strict unless that is asked for, as the service refuses most schemas then."""
    described = {"description": tool.description} if tool.description else {}
    strict = strict_tool(tool, request.options)
    parameters = dict(tool.parameters) if strict is None else strict
    said = {"parameters": parameters, "strict": strict is not None}
    return {"type": "function", "name": tool.name, **described, **said}


def _write_choice(choice: str | None) -> str | dict[str, Any] | None:
    return choice if choice in (None, "auto", "none", "required") else {"type": "function", "name": choice}


def _write_format(request: GenerateRequest) -> dict[str, Any] | None:
    output = checked_output(request)
    if output is None:
        return None
    if is_any_object(output):
        return {"format": {"type": "json_object"}}
    if output.kind != "json":
        raise UnsupportedFeatureError(
            "response_format", f"The Responses API cannot be told a {output.kind} for its answer; use a JSON Schema."
        )
    described = described_schema(output, rewrites=True, strict=True)
    return {"format": {"type": "json_schema", **described}}


def _write_reasoning(request: GenerateRequest, quirks: ResponsesQuirks) -> dict[str, Any]:
    effort = request.reasoning
    if effort is not None and effort not in quirks.efforts:
        known = ", ".join(sorted(quirks.efforts)) or "none at all"
        raise UnsupportedFeatureError("reasoning", f"This service has no reasoning={effort!r}; it has: {known}.")
    said = {"effort": effort, "summary": quirks.summary}
    return {name: value for name, value in said.items() if value is not None}


# The other direction.

_READ = {
    *("model", "input", "instructions", "max_output_tokens", "temperature", "top_p", "top_logprobs", "tools"),
    *("tool_choice", "text", "reasoning", "stream", "store", "include"),
}


def read_request(body: Mapping[str, Any], quirks: ResponsesQuirks) -> GenerateRequest:
    """Return the request in a body. Fields that requests do not have stand in `options`, `store` if it is true.

    Raises InvalidRequestError.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequestError("The body of a request must be a JSON object.")
    given = check_parameters(_parameters(body))
    for name, kind in (("model", str), ("instructions", str), ("stream", bool)):
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise InvalidParameterError(name, f"{name}={shown(body[name])} is not valid: it must be a {kind.__name__}.")
    instructions = body.get("instructions")
    system = (Message("system", instructions),) if instructions else ()
    return GenerateRequest(
        system + read_items(body.get("input")),
        tools=_read_tools(body.get("tools")),
        stream=bool(body.get("stream")),
        model=body.get("model"),
        options=_read_options(body, quirks),
        **given,
    )


def _parameters(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of a body by our names, not checked yet."""
    reasoning, include = body.get("reasoning"), body.get("include")
    return {
        "max_tokens": body.get("max_output_tokens"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "top_logprobs": body.get("top_logprobs"),
        "logprobs": True if isinstance(include, list) and _LOGPROBS in include else None,
        "tool_choice": read_choice(body.get("tool_choice")),
        "response_format": _read_format(body.get("text")),
        "reasoning": read_effort(reasoning.get("effort")) if isinstance(reasoning, Mapping) else None,
    }


def _read_format(text: object) -> OutputFormat | None:
    given = text.get("format") if isinstance(text, Mapping) else None
    if not isinstance(given, Mapping) or given.get("type") != "json_schema":
        return read_format(given)
    return read_format({"type": "json_schema", "json_schema": {k: v for k, v in given.items() if k != "type"}})


def _read_tools(tools: object) -> tuple[ToolDefinition, ...]:
    if not tools:
        return ()
    if not isinstance(tools, list):
        raise InvalidParameterError("tools", "tools must be a list.")
    return to_tool_definitions(tools)


def _read_options(body: Mapping[str, Any], quirks: ResponsesQuirks) -> dict[str, Any]:
    options = {name: value for name, value in body.items() if name not in _READ and value is not None}
    if body.get("store"):
        options["store"] = True
    for name, read in (("text", {"format"}), ("reasoning", {"effort"})):
        inner = body.get(name)
        parts = inner.items() if isinstance(inner, Mapping) else ()
        rest = {key: value for key, value in parts if key not in read and value is not None}
        if name == "reasoning" and rest.get("summary") == quirks.summary:
            rest.pop("summary", None)
        options |= {name: rest} if rest else {}
    given = body.get("include")
    include = [one for one in given if one not in (_LOGPROBS, _ENCRYPTED)] if isinstance(given, list) else given
    return options | ({"include": include} if include else {})
