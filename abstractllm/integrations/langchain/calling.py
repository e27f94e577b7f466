"""A call of LangChain's -> the arguments of `generate`. Knows no provider by name, and sends nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.integrations.langchain.configured import name_of
from abstractllm.integrations.langchain.misfits import WANTED
from abstractllm.integrations.langchain.reading import to_messages
from abstractllm.interface import AbstractLLMInterface

_OF_LANGCHAIN = frozenset({"stream", "ls_structured_output_format", "model", "strict", WANTED})
"""What LangChain puts into a call for itself, and what is read elsewhere."""
_SINGLE = "parallel_tool_calls"
"""What LangChain's users say to every `bind_tools`; here it is an option of the providers that have it."""
_WORDS: Mapping[str, str] = {"any": "required", "required": "required", "auto": "auto", "none": "none"}


def arguments(
    llm: AbstractLLMInterface,
    defaults: Mapping[str, Any],
    messages: Sequence[BaseMessage],
    stop: Sequence[str] | None,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the arguments of `generate` for one call.

    `defaults` are the chat model's, `given` the call's own, which beat them; `stop` beats both. A name that the
    provider declares among its options goes there. Raises UnsupportedFeatureError for `parallel_tool_calls` where it
    is none of them, and InvalidParameterError for messages and choices that cannot be sent.
    """
    call = {**defaults, "messages": to_messages(messages)}
    if stop is not None:
        call["stop"] = list(stop)
    if given:
        _add_given(call, llm, given)
    return call


def _add_given(call: dict[str, Any], llm: AbstractLLMInterface, given: Mapping[str, Any]) -> None:
    own: frozenset[str] = getattr(llm, "options", frozenset())
    options = dict(call.get("options") or {})
    for name, value in given.items():
        if name in _OF_LANGCHAIN or (name in ("stop", _SINGLE) and value is None):
            continue
        if name == _SINGLE and name not in own:
            known = ", ".join(sorted(own)) or "none"
            what = f"There is no {_SINGLE} here: leave it out, and expect several calls. Options are: {known}."
            raise UnsupportedFeatureError(_SINGLE, what, provider=name_of(llm))
        if name in own:
            options[name] = value
        elif name == "options":
            options |= value
        else:
            call[name] = value
    if given.get("strict") and "strict_tools" in own and given.get("tools"):
        options["strict_tools"] = True
    if options:
        call["options"] = options
    if "tools" in given or "tool_choice" in given:
        _add_tools(call, given.get("tools"), given.get("tool_choice"))


def _add_tools(call: dict[str, Any], tools: Sequence[Any] | None, choice: object) -> None:
    """Put tools and the choice among them in our form; those that are bound already are in OpenAI's."""
    formatted = [tool if _is_formatted(tool) else convert_to_openai_tool(tool) for tool in tools or ()]
    call["tools"] = formatted or None
    call["tool_choice"] = to_tool_choice(choice, [tool["function"]["name"] for tool in formatted])


def _is_formatted(tool: object) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function" and "function" in tool


def to_tool_choice(choice: object, names: Sequence[str]) -> str | None:
    """Return a choice among the tools of these names in our form; None is the model's own.

    It is one of: None or False; True, "any" or "required" for one or more calls; "auto"; "none"; the name of a tool;
    `{"type": "function", "function": {"name": ...}}` and `{"type": "tool", "name": ...}` for one of a name,
    `{"type": "any" | "auto" | "none" | "required"}`. Raises InvalidParameterError for any other, and for a tool that
    is not there.
    """
    if choice is None or choice is False:
        return None
    wanted = "required" if choice is True else _named(choice) if isinstance(choice, Mapping) else choice
    if isinstance(wanted, str):
        if wanted in names:
            return wanted
        word = _WORDS.get(wanted)
        if word is not None and (names or word in ("auto", "none")):
            return word
    known = ", ".join(names) or "none are given"
    raise InvalidParameterError(
        "tool_choice",
        f"tool_choice={shown(choice)} is not valid: it must be 'auto', 'none', 'any', 'required', True, False or the"
        f" name of a tool; the tools: {known}.",
    )


def _named(choice: Mapping[Any, Any]) -> object:
    function = choice.get("function")
    inner = function if isinstance(function, Mapping) else choice
    return inner.get("name") or choice.get("type")
