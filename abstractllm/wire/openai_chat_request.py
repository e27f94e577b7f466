"""Requests as OpenAI's Chat Completions writes them, both ways, and what services make of them differently."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from abstractllm.errors import InvalidParameterError, InvalidRequestError, UnsupportedFeatureError, shown
from abstractllm.history import with_call_ids
from abstractllm.parameters import check_parameters
from abstractllm.schema import Grammar, OutputFormat, Regex, to_output_format
from abstractllm.tools import to_tool_definitions
from abstractllm.types import GenerateRequest, ToolDefinition, given_parameters
from abstractllm.wire.dialects import GEMINI_TOOLS, rewritten
from abstractllm.wire.openai_chat_messages import check_parts, read_messages, write_messages
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

STANDARD = frozenset(
    {
        *("max_tokens", "temperature", "top_p", "seed", "stop", "n", "logprobs", "top_logprobs", "logit_bias"),
        *("presence_penalty", "frequency_penalty", "tool_choice", "response_format", "reasoning"),
    }
)
"""Parameters that OpenAI's own models take; those that reason refuse some of them."""

EXTENDED = STANDARD | {"top_k", "min_p", "repetition_penalty"}
"""Parameters that servers such as vLLM take."""

_PLAIN = (
    *("temperature", "top_p", "top_k", "min_p", "top_logprobs"),
    *("presence_penalty", "frequency_penalty", "repetition_penalty"),
)
"""Parameters that have the same name and form here as in a request of ours."""


@dataclass(frozen=True, slots=True)
class ChatQuirks:
    """How one service's Chat Completions differ from OpenAI's.

    - `accepted`: the parameters that it takes; another one raises UnsupportedFeatureError.
    - `max_tokens`: the field for the bound of an answer; OpenAI's own is `max_completion_tokens`.
    - `system`: the word for the system's role.
    - `any_tool`: the word for "some tool must be called". `named_tool`: whether one tool can be forced by its name.
    - `seed`: the field for the seed.
    - `names`: whether turns may have the names of their speakers; with a tool's name they always may.
    - `reasoning`: where the effort is said: `reasoning_effort: "low"`, `reasoning: {"effort": "low"}`, or
      `chat_template_kwargs: {"enable_thinking": true}`, which knows only on and off, so any effort turns it on.
    - `efforts`: the efforts that it takes.
    - `reasoning_field`: where answers have their reasoning when we encode them. `reasoning_back`: where earlier
      reasoning is sent back, None for a service that does not want it.
    - `schemas`: the most that `response_format` can ask for. With "tool" a form is asked for as a tool's parameters,
      with "json_object" by the prompt besides, with None by the prompt alone; see `openai_chat_way`. `json_object`:
      whether any object can be asked for; without it, one is asked for by its schema.
    - `form_clashes`: what `response_format` is refused beside; there a form is asked for as a tool's parameters too.
    - `schema_prompted`: whether a schema is to be said in the prompt as well, since models do not see it otherwise.
    - `dialect`: "strict" where schemas are rewritten to what `strict` takes, "plain" where they are sent as they are.
      `strict`: which models take `strict`, as a pattern of their whole names.
    - `call_ids`: the form of calls' ids, as a pattern of the whole of them; others are replaced.
    - `tool_schemas`: what the parameters of tools are written in.
    - `structured_outputs`: the kinds of format, "regex" and "grammar", that vLLM's field of this name takes.
    - `stream_usage`: whether usage is asked for in a stream; old servers answer 400 to that.
    - `done_marker`: whether a stream must end with `[DONE]`; without it one is whole once every answer is finished.
    """

    accepted: frozenset[str] = STANDARD
    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    system: Literal["system", "developer"] = "system"
    any_tool: Literal["required", "any"] = "required"
    named_tool: bool = True
    seed: Literal["seed", "random_seed"] = "seed"
    names: bool = True
    reasoning: Literal["reasoning_effort", "reasoning", "enable_thinking"] = "reasoning_effort"
    efforts: frozenset[str] = frozenset({"none", "low", "medium", "high"})
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    reasoning_back: Literal["reasoning_content", "reasoning"] | None = None
    schemas: Literal["json_schema", "tool", "json_object"] | None = "json_schema"
    json_object: bool = True
    form_clashes: frozenset[Literal["tools", "stream"]] = frozenset()
    schema_prompted: bool = False
    dialect: Literal["plain", "strict"] = "plain"
    strict: str = ".*"
    call_ids: str = "(?s).{1,40}"
    tool_schemas: Literal["plain", "gemini"] = "plain"
    structured_outputs: frozenset[str] = frozenset()
    stream_usage: bool = True
    done_marker: bool = True


def write_request(request: GenerateRequest, quirks: ChatQuirks) -> dict[str, Any]:
    """Return a body. Raises UnsupportedFeatureError for what the service cannot be told."""
    asks = bool(given_parameters(request))
    _check(request, quirks, asks=asks)
    history = with_call_ids(request.messages, quirks.call_ids)
    messages = write_messages(history, system=quirks.system, reasoning=quirks.reasoning_back)
    body: dict[str, Any] = {"model": request.model, "messages": messages}
    if asks or request.tools:
        body |= _write_wishes(request, quirks)
    if request.stream:
        body |= {"stream": True} | _stream_options(quirks)
    said = {name: value for name, value in body.items() if value is not None}
    return with_options(said, without_own(request.options)) if request.options else said


def _write_wishes(request: GenerateRequest, quirks: ChatQuirks) -> dict[str, Any]:
    """Return what a request asks for beside its conversation; None stands for nothing."""
    wishes: dict[str, Any] = {name: getattr(request, name) for name in _PLAIN}
    wishes[quirks.seed] = request.seed
    wishes |= _write_limits(request, quirks) | _write_tools(request, quirks) | _write_format(request, quirks)
    return wishes if request.reasoning is None else wishes | _write_reasoning(request.reasoning, quirks)


def check_request(request: GenerateRequest, quirks: ChatQuirks) -> None:
    """Raise UnsupportedFeatureError for what the service cannot be told, without writing what may be long."""
    _check(request, quirks, asks=bool(given_parameters(request)))


def _check(request: GenerateRequest, quirks: ChatQuirks, *, asks: bool) -> None:
    """Do what `check_request` does; `asks` says whether any parameters are given."""
    if asks:
        check_sayable(request, quirks.accepted, "This service's Chat Completions")
    check_parts(request.messages)
    _check_names(request, quirks)
    if asks:
        _write_choice(request.tool_choice, quirks)
        _write_format(request, quirks)
        if request.reasoning is not None:
            _write_reasoning(request.reasoning, quirks)


def _check_names(request: GenerateRequest, quirks: ChatQuirks) -> None:
    if quirks.names:
        return
    for number, message in enumerate(request.messages):
        if message.name is not None and message.role != "tool":
            raise UnsupportedFeatureError(
                "name", f"This service takes no names of speakers; leave that of messages[{number}] out."
            )


def _stream_options(quirks: ChatQuirks) -> dict[str, Any]:
    return {"stream_options": {"include_usage": True}} if quirks.stream_usage else {}


def _write_limits(request: GenerateRequest, quirks: ChatQuirks) -> dict[str, Any]:
    bias = request.logit_bias
    return {
        quirks.max_tokens: request.max_tokens,
        "stop": list(request.stop) or None,
        "n": request.n if request.n > 1 else None,
        "logprobs": request.logprobs or None,
        "logit_bias": None if bias is None else {str(token): value for token, value in bias.items()},
    }


def _write_tools(request: GenerateRequest, quirks: ChatQuirks) -> dict[str, Any]:
    tools = [{"type": "function", "function": _write_tool(tool, request, quirks)} for tool in request.tools]
    return {"tools": tools or None, "tool_choice": _write_choice(said_choice(request), quirks)}


def _write_tool(tool: ToolDefinition, request: GenerateRequest, quirks: ChatQuirks) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    strict = strict_tool(tool, request.options)
    if strict is not None:
        return {"name": tool.name, **described, "parameters": strict, "strict": True}
    parameters = rewritten(tool.parameters, GEMINI_TOOLS) if quirks.tool_schemas == "gemini" else None
    return {"name": tool.name, **described, "parameters": dict(tool.parameters) if parameters is None else parameters}


def _write_choice(choice: str | None, quirks: ChatQuirks) -> str | dict[str, Any] | None:
    if choice is None or choice in ("auto", "none"):
        return choice
    if choice == "required":
        return quirks.any_tool
    if not quirks.named_tool:
        raise UnsupportedFeatureError(
            "tool_choice",
            f"This service cannot be told to call {choice!r}; use 'required', and give that tool alone.",
        )
    return {"type": "function", "function": {"name": choice}}


def _write_format(request: GenerateRequest, quirks: ChatQuirks) -> dict[str, Any]:
    output = checked_output(request)
    if output is None:
        return {}
    if output.kind in quirks.structured_outputs:
        return {"structured_outputs": {output.kind: output.text}}
    if is_any_object(output) and quirks.schemas and quirks.json_object:
        return {"response_format": {"type": "json_object"}}
    if output.kind != "json" or quirks.schemas != "json_schema":
        what = "a JSON Schema" if output.kind == "json" else f"a {output.kind}"
        raise UnsupportedFeatureError(
            "response_format", f"This service cannot be told {what} for its answer; use another response_format."
        )
    takes_strict = re.fullmatch(quirks.strict, request.model or "") is not None
    described = described_schema(output, rewrites=quirks.dialect == "strict", strict=takes_strict)
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def _write_reasoning(effort: str, quirks: ChatQuirks) -> dict[str, Any]:
    if effort not in quirks.efforts:
        known = ", ".join(sorted(quirks.efforts)) or "none at all"
        raise UnsupportedFeatureError("reasoning", f"This service has no reasoning={effort!r}; it has: {known}.")
    if quirks.reasoning == "reasoning_effort":
        return {"reasoning_effort": effort}
    if quirks.reasoning == "reasoning":
        return {"reasoning": {"effort": effort}}
    return {"chat_template_kwargs": {"enable_thinking": effort != "none"}}


# The other direction.

_READ = frozenset(_PLAIN) | {
    *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "n"),
    *("logprobs", "logit_bias", "tools", "tool_choice", "response_format", "reasoning_effort"),
}
_READ_IN = {
    "reasoning": {"effort"},
    "chat_template_kwargs": {"enable_thinking"},
    "structured_outputs": {"regex", "grammar"},
}
"""Fields of which only these parts are read; what else stands in them are options."""


def read_request(body: Mapping[str, Any], quirks: ChatQuirks) -> GenerateRequest:
    """Return the request in a body. Fields that requests do not have stand in `options`.

    `stream_options` is one of them where it says something else than a request of ours would: the encoder of the
    stream looks there. Raises InvalidRequestError.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequestError("The body of a request must be a JSON object.")
    given = check_parameters(_parameters(body, quirks))
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise InvalidParameterError("model", "model must be a string.")
    return GenerateRequest(
        read_messages(body.get("messages")),
        tools=to_tool_definitions(body["tools"]) if body.get("tools") else (),
        stream=_flag(body, "stream"),
        model=model,
        options=_read_options(body, quirks),
        **given,
    )


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidParameterError(name, f"{name}={shown(value)} is not valid: it must be true or false.")
    return bool(value)


def _parameters(body: Mapping[str, Any], quirks: ChatQuirks) -> dict[str, Any]:
    """Return the parameters of a body by our names, not checked yet."""
    limit = body.get("max_completion_tokens")
    given = {name: body.get(name) for name in _PLAIN}
    given |= {name: body.get(name) for name in ("stop", "n", "logprobs", "logit_bias")}
    given["seed"] = body.get(quirks.seed)
    given["max_tokens"] = body.get("max_tokens") if limit is None else limit
    given["tool_choice"] = read_choice(body.get("tool_choice"))
    given["reasoning"] = _read_reasoning(body)
    given["response_format"] = _read_format(body)
    return given


def read_choice(choice: object) -> object:
    """Return which tool a client wants called, in our words; both of OpenAI's formats are understood."""
    if choice == "any":
        return "required"
    if not isinstance(choice, Mapping):
        return choice
    inner = choice.get("function", choice)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if choice.get("type") != "function" or not isinstance(name, str):
        raise InvalidParameterError(
            "tool_choice", f"tool_choice={shown(choice)} is not valid: it must be auto, none, required or a function."
        )
    return name


def _read_reasoning(body: Mapping[str, Any]) -> object:
    inner = body.get("reasoning")
    if body.get("reasoning_effort") is not None:
        return read_effort(body["reasoning_effort"])
    if isinstance(inner, Mapping):
        return read_effort(inner.get("effort"))
    template = body.get("chat_template_kwargs")
    thinking = template.get("enable_thinking") if isinstance(template, Mapping) else None
    return None if thinking is None else "high" if thinking else "none"


def read_effort(effort: object) -> object:
    """Return an effort in our words; the finer ones that some models take become the nearest."""
    return {"minimal": "low", "xhigh": "high", "max": "high"}.get(effort, effort) if isinstance(effort, str) else effort


def _read_format(body: Mapping[str, Any]) -> OutputFormat | None:
    constraint = body.get("structured_outputs")
    if isinstance(constraint, Mapping) and isinstance(constraint.get("regex"), str):
        return to_output_format(Regex(constraint["regex"]))
    if isinstance(constraint, Mapping) and isinstance(constraint.get("grammar"), str):
        return to_output_format(Grammar(constraint["grammar"]))
    return read_format(body.get("response_format"))


def read_format(given: object) -> OutputFormat | None:
    """Return the form that a client wants an answer in, None for plain text."""
    if given is None or (isinstance(given, Mapping) and given.get("type") == "text"):
        return None
    if not isinstance(given, Mapping) or given.get("type") not in ("json_object", "json_schema"):
        raise InvalidParameterError("response_format", f"response_format={shown(given)} is none that is known.")
    return to_output_format(given)


def _read_options(body: Mapping[str, Any], quirks: ChatQuirks) -> dict[str, Any]:
    options = {name: value for name, value in body.items() if name not in _READ | {quirks.seed} and value is not None}
    for name in _READ_IN.keys() & options.keys():
        if isinstance(options[name], Mapping):
            options[name] = {key: value for key, value in options[name].items() if key not in _READ_IN[name]}
        if not options[name]:
            del options[name]
    said = body.get("stream_options") or {"include_usage": False}
    usual = _stream_options(quirks).get("stream_options", {"include_usage": False})
    if body.get("stream") and said != usual:
        options["stream_options"] = said
    return options
