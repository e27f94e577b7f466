"""Requests -> bodies in Anthropic's Messages format. Knows nothing of answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, takewhile
from typing import Any, Literal

from abstractllm.errors import InvalidParameterError
from abstractllm.history import with_call_ids
from abstractllm.schema import OutputFormat
from abstractllm.types import GenerateRequest, Message, ToolDefinition
from abstractllm.wire.anthropic_blocks import assistant_blocks, part_blocks, result_block
from abstractllm.wire.dialects import ANTHROPIC, rewritten_text
from abstractllm.wire.refusals import refusal, refuse_names, refuse_parameters

_UNSAID = (
    "min_p",
    "seed",
    "n",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "deterministic",
    "priority",
)

SAMPLING = ("temperature", "top_p", "top_k")

_CALL_IDS = "[a-zA-Z0-9_-]+"
"""The form of calls' ids; the service answers 400 to others."""

SINGLE_CALLS = "disable_parallel_tool_use"
"""The one option that stands inside `tool_choice`, and not beside it."""

MIN_BUDGET = 1024
"""The fewest tokens that the service lets a model think for."""


@dataclass(frozen=True, slots=True)
class AnthropicQuirks:
    """What differs between services and models that speak this format.

    `provider` is the name in errors. `max_tokens` stands where a request has none, as the format needs one.
    `reasoning` is how it is asked for: by a "budget" of tokens, those in `budgets`, or by "effort", for models that
    find their budget themselves; with "none" it is refused. `json_output` says whether the service holds an answer to
    a JSON Schema, `sampling` whether the model takes temperature, top_p and top_k, and `later_system` whether system
    turns may stand among the others, and not only at the beginning.
    """

    provider: str = "anthropic"
    max_tokens: int = 4096
    reasoning: Literal["budget", "effort", "none"] = "budget"
    budgets: Mapping[str, int] = field(default_factory=lambda: {"low": 2048, "medium": 8192, "high": 24576})
    json_output: bool = True
    sampling: bool = True
    later_system: bool = False


def encode_request(request: GenerateRequest, quirks: AnthropicQuirks) -> dict[str, Any]:
    """Return the body of a request. Raises UnsupportedFeatureError and InvalidParameterError."""
    refuse_parameters(request, _UNSAID if quirks.sampling else (*_UNSAID, *SAMPLING), quirks.provider)
    refuse_names(request, quirks.provider)
    leading = list(takewhile(lambda message: message.role == "system", request.messages))
    body: dict[str, Any] = {} if request.model is None else {"model": request.model}
    body |= {"max_tokens": request.max_tokens or quirks.max_tokens, "stream": request.stream}
    system = _instructions(leading, quirks.provider)
    body |= {"system": system} if system else {}
    body["messages"] = _turns(with_call_ids(request.messages, _CALL_IDS), len(leading), quirks)
    body |= {name: getattr(request, name) for name in SAMPLING if getattr(request, name) is not None}
    if request.stop:
        body["stop_sequences"] = list(request.stop)
    body |= _tools(request)
    body |= _reasoning(request, quirks)
    if request.response_format is not None:
        body.setdefault("output_config", {})["format"] = _format(request, quirks)
    return _with_options(body, request.options)


def _instructions(messages: Sequence[Message], provider: str) -> str | list[dict[str, Any]]:
    """Return what system turns say."""
    if len(messages) == 1 and isinstance(messages[0].content, str):
        return messages[0].content if messages[0].content.strip() else ""
    blocks = [block for message in messages for block in part_blocks(message.content, provider)]
    if any(block["type"] != "text" for block in blocks):
        raise refusal("messages", "has nothing but text in system turns; move the rest to the user's", provider)
    return blocks


def _turns(messages: Sequence[Message], first: int, quirks: AnthropicQuirks) -> list[dict[str, Any]]:
    """Return the turns after the first system's, those of one speaker in a row as one."""
    numbered = [one for one in list(enumerate(messages))[first:] if not _empty(one[1])]
    content_by_role = {"system": _instructions, "assistant": _said, "user": _asked}
    turns = []
    for role, group in groupby(numbered, lambda one: _speaker(one[0], one[1], quirks)):
        content = content_by_role[role]([message for _, message in group], quirks.provider)
        if content:
            turns.append({"role": role, "content": content})
    if not turns:
        raise InvalidParameterError("messages", "The conversation has nothing but system turns; add a user's.")
    return turns


def _empty(message: Message) -> bool:
    said = message.content.strip() if isinstance(message.content, str) else message.content
    return not (said or message.tool_calls or message.provider_data or message.role == "tool")


def _speaker(number: int, message: Message, quirks: AnthropicQuirks) -> str:
    if message.role == "system" and not quirks.later_system:
        what = f"has system turns at the beginning only, and messages[{number}] comes later; make it a user's turn"
        raise refusal("messages", what, quirks.provider)
    if message.role == "tool" and not message.tool_call_id:
        raise InvalidParameterError("messages", f"messages[{number}] is a tool's result without tool_call_id; add it.")
    if not all(call.id for call in message.tool_calls):
        raise InvalidParameterError("messages", f"messages[{number}] has a tool call without id; give each one.")
    return "user" if message.role == "tool" else message.role


def _said(run: Sequence[Message], provider: str) -> str | list[dict[str, Any]]:
    if len(run) == 1 and isinstance(run[0].content, str) and not run[0].tool_calls and not run[0].provider_data:
        return run[0].content
    return [block for message in run for block in assistant_blocks(message, provider)]


def _asked(run: Sequence[Message], provider: str) -> str | list[dict[str, Any]]:
    """Return a user's turn, in which the results of tools must come first."""
    if len(run) == 1 and isinstance(run[0].content, str) and run[0].role == "user":
        return run[0].content
    results = [result_block(message, provider) for message in run if message.role == "tool"]
    asked = [message for message in run if message.role != "tool"]
    return [*results, *(block for message in asked for block in part_blocks(message.content, provider))]


def _tools(request: GenerateRequest) -> dict[str, Any]:
    """Return tools and the choice among them; without tools there is nothing to choose.

    A conversation with calls is refused without tools. Where none may be called, those that were stand in their place.
    """
    if not request.tools:
        names = dict.fromkeys(call.name for message in request.messages for call in message.tool_calls)
        called = [{"name": name, "input_schema": {"type": "object"}} for name in names]
        return {"tools": called, "tool_choice": {"type": "none"}} if called else {}
    choice = request.tool_choice
    kinds = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}
    chosen = {} if choice is None else {"tool_choice": kinds.get(choice, {"type": "tool", "name": choice})}
    return {"tools": [_tool(tool) for tool in request.tools], **chosen}


def _tool(tool: ToolDefinition) -> dict[str, Any]:
    description = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **description, "input_schema": dict(tool.parameters)}


def _reasoning(request: GenerateRequest, quirks: AnthropicQuirks) -> dict[str, Any]:
    """Return how long the model is to think. It is at most half of `max_tokens`."""
    wanted = request.reasoning
    if wanted is None:
        return {}
    if quirks.reasoning == "none":
        raise refusal("reasoning", "cannot ask this model to reason; leave it out", quirks.provider)
    if wanted == "none":
        return {"thinking": {"type": "disabled"}}
    if quirks.reasoning == "effort":
        return {"thinking": {"type": "adaptive"}, "output_config": {"effort": wanted}}
    budget = quirks.budgets[wanted]
    if request.max_tokens is None:
        return {"thinking": _thinking(budget), "max_tokens": quirks.max_tokens + budget}
    if request.max_tokens <= MIN_BUDGET:
        what = f"max_tokens={request.max_tokens} leaves no room to reason; make it more than {MIN_BUDGET}."
        raise InvalidParameterError("max_tokens", what, provider=quirks.provider)
    return {"thinking": _thinking(min(budget, max(MIN_BUDGET, request.max_tokens // 2)))}


def _thinking(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


def _format(request: GenerateRequest, quirks: AnthropicQuirks) -> dict[str, Any]:
    output = request.response_format
    if output.kind != "json" or not quirks.json_output:
        raise refusal("response_format", f"cannot hold an answer to a format of kind {output.kind!r}", quirks.provider)
    schema = output_schema(output)
    if schema is None:
        what = (
            "holds answers to closed objects only that do not contain themselves, and response_format is another schema"
        )
        raise refusal("response_format", what, quirks.provider)
    return {"type": "json_schema", "schema": schema}


def output_schema(output: OutputFormat) -> Mapping[str, Any] | None:
    """Return a schema that the service can hold an answer to; None where it can to none of these values alone."""
    return rewritten_text(output.text, ANTHROPIC)


def _with_options(body: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body with what is given beside the parameters; two mappings of one name become one."""
    merged = dict(body)
    for name, value in options.items():
        place = "tool_choice" if name == SINGLE_CALLS else name
        added = {name: value} if name == SINGLE_CALLS else value
        base = merged.get(place, {"type": "auto"} if name == SINGLE_CALLS else None)
        merged[place] = added if base is None else _merged(place, base, added)
    return merged


def _merged(name: str, base: object, added: object) -> dict[str, Any]:
    if not isinstance(base, Mapping) or not isinstance(added, Mapping) or base.keys() & added.keys():
        raise InvalidParameterError("options", f"options say {name!r}, which the request says already; give one.")
    return {**base, **added}
