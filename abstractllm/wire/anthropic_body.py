"""Bodies in Anthropic's Messages format -> requests, for a server. Knows nothing of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from msgspec import Struct

from abstractllm.errors import InvalidRequestError
from abstractllm.parameters import check_parameters
from abstractllm.tools import to_tool_definitions
from abstractllm.types import GenerateRequest, Message, Reasoning, TextPart, ToolDefinition
from abstractllm.wire.anthropic_blocks import answer_of, content_of, result_of
from abstractllm.wire.anthropic_request import SAMPLING, SINGLE_CALLS, AnthropicQuirks
from abstractllm.wire.bodies import read_request, schema_format


class _Turn(Struct):
    role: Literal["user", "assistant", "system"]
    content: str | list[dict[str, Any]]


class _Tool(Struct):
    name: str
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    type: str | None = None


class _Choice(Struct):
    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Thinking(Struct):
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int = 0


class _Format(Struct):
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _Body(Struct):
    messages: list[_Turn]
    model: str | None = None
    system: str | list[dict[str, Any]] = ""
    max_tokens: int | None = None
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[_Tool] | None = None
    tool_choice: _Choice | None = None
    thinking: _Thinking | None = None
    output_config: dict[str, Any] | None = None


def decode_request(body: Mapping[str, Any], quirks: AnthropicQuirks) -> GenerateRequest:
    """Return the request in a body. What is not the format's own goes to `options`, for the server to judge.

    Marks for caching on single blocks are hints that change no answer, and are left out. Raises InvalidRequestError,
    and UnsupportedFeatureError for what no request of ours can say.
    """
    read = read_request(body, _Body)
    options = {name: value for name, value in body.items() if name not in _Body.__struct_fields__}
    config = dict(read.output_config or {})
    output = config.pop("format", None)
    values = {name: getattr(read, name) for name in ("max_tokens", *SAMPLING)}
    values |= {"stop": read.stop_sequences, "reasoning": _level(read.thinking, config, quirks)}
    choice = read.tool_choice
    if choice is not None:
        values["tool_choice"] = _chosen(choice)
    if choice is not None and choice.disable_parallel_tool_use is not None:
        options[SINGLE_CALLS] = choice.disable_parallel_tool_use
    shown = {
        name: value for name, value in (body.get("thinking") or {}).items() if name not in _Thinking.__struct_fields__
    }
    if shown:
        options["thinking"] = shown
    if output is not None:
        values["response_format"] = schema_format(read_request(output, _Format).schema)
    return GenerateRequest(
        messages=_messages(read),
        tools=_definitions(read.tools or ()),
        stream=read.stream,
        model=read.model,
        options=options | ({"output_config": config} if config else {}),
        **check_parameters(values),
    )


def _level(thinking: _Thinking | None, config: dict[str, Any], quirks: AnthropicQuirks) -> Reasoning | None:
    """Return how much reasoning is asked for. An effort without thinking of a free budget is left in the config."""
    if thinking is None:
        return None
    if thinking.type == "disabled":
        return "none"
    if thinking.type != "enabled":
        efforts: Mapping[Any, Reasoning] = {"low": "low", "medium": "medium"}
        return efforts.get(config.pop("effort", "high"), "high")
    if thinking.budget_tokens <= quirks.budgets["low"]:
        return "low"
    return "medium" if thinking.budget_tokens <= quirks.budgets["medium"] else "high"


def _chosen(choice: _Choice) -> str:
    if choice.type == "tool":
        if not choice.name:
            raise InvalidRequestError("tool_choice has the type 'tool' and no name; name the tool.")
        return choice.name
    return "required" if choice.type == "any" else choice.type


def _definitions(tools: Iterable[_Tool]) -> tuple[ToolDefinition, ...]:
    found = []
    for tool in tools:
        if tool.type not in (None, "custom"):
            raise InvalidRequestError(f"The tool {tool.name!r} is of type {tool.type!r}; only 'custom' is known here.")
        parameters = {"parameters": tool.input_schema or {}}
        found.append({"name": tool.name, "description": tool.description, **parameters})
    return to_tool_definitions(found)


def _messages(body: _Body) -> tuple[Message, ...]:
    messages = [message for turn in body.messages for message in _of_turn(turn)]
    return (_system(body.system), *messages) if body.system else tuple(messages)


def _system(given: str | list[dict[str, Any]]) -> Message:
    content = content_of(given)
    if not isinstance(content, str) and not all(isinstance(part, TextPart) for part in content):
        raise InvalidRequestError("A system prompt has a block that is not text.")
    return Message("system", content)


def _of_turn(turn: _Turn) -> list[Message]:
    """Return the messages of one turn: the results of tools each by itself, before the rest."""
    if turn.role == "system":
        return [_system(turn.content)]
    if isinstance(turn.content, str):
        return [Message(turn.role, turn.content)]
    if turn.role == "assistant":
        return [answer_of(turn.content)]
    results = [block for block in turn.content if block.get("type") == "tool_result"]
    rest = [block for block in turn.content if block.get("type") != "tool_result"]
    asked = [Message("user", content_of(rest))] if rest or not results else []
    return [*map(result_of, results), *asked]
