"""One request of ours -> one call of a chat model of LangChain's. Asks nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage, SystemMessage
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig

from abstractllm.integrations.langchain.outgoing import from_messages, from_tool, function
from abstractllm.integrations.langchain.traits import Traits, with_parameters
from abstractllm.schema import OutputFormat
from abstractllm.types import GenerateRequest


@dataclass(frozen=True, slots=True)
class Asked:
    """What is called: `chat`, with `messages`, and with arguments by name. `as_form` is that of `AnswerReader`."""

    chat: Runnable[Any, Any]
    messages: list[BaseMessage]
    arguments: dict[str, Any]
    config: RunnableConfig | None = None
    as_form: bool = False


def asked(chat: BaseChatModel, traits: Traits, request: GenerateRequest) -> Asked:
    """Return the call that a request means.

    An answer with a form is asked for in one of three ways. A model whose profile says that it holds to forms is told
    by `response_format`, as LangChain's agents do it; one that can be made to call a tool fills in a tool of that form;
    any other is told in words. What it answers is checked by who asks.
    """
    chat, arguments = with_parameters(chat, traits, request)
    messages = from_messages(request.messages)
    tools = [from_tool(tool) for tool in request.tools]
    form: OutputFormat | None = request.response_format
    choice, as_form = _choice(request), False
    if form is not None and traits.formed:
        arguments["response_format"] = _response_format(form)
    elif form is not None and _can_be_called(form, traits) and not tools:
        name = _name(form)
        tools, choice, as_form = [function(name, "Give the answer.", form.schema or {})], name, True
    elif form is not None:
        messages = [*messages[:-1], _instruction(form), messages[-1]]
    bound, more = _bound(chat, traits, tools, choice, arguments, request)
    config = request.options.get("config")
    return Asked(bound, messages, {**more, **dict(request.options.get("kwargs") or {})}, config, as_form)


def _choice(request: GenerateRequest) -> str | None:
    """Return a choice among tools in the word that most integrations know."""
    choice = request.tool_choice
    return None if choice == "auto" else "any" if choice == "required" else choice


def _bound(
    chat: BaseChatModel,
    traits: Traits,
    tools: Sequence[dict[str, Any]],
    choice: str | None,
    arguments: dict[str, Any],
    request: GenerateRequest,
) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    """Return what is called, and the arguments of the call with those of its tools.

    Without calls in the history, tools that must not be called are left out, which every model understands.
    """
    if choice == "none" and not any(message.tool_calls for message in request.messages):
        tools = ()
    if not tools:
        return chat, arguments
    chosen: dict[str, Any] = {} if choice is None else {"tool_choice": choice}
    bound = chat.bind_tools(list(tools), **chosen)
    if isinstance(bound, RunnableBinding) and not bound.config and isinstance(bound.bound, BaseChatModel):
        return bound.bound, {**bound.kwargs, **arguments}  # one generator less to be closed
    return bound, arguments


def _can_be_called(form: OutputFormat, traits: Traits) -> bool:
    is_object = (form.schema or {}).get("type") == "object"
    return is_object and traits.chooses and traits.calls is True


def _name(form: OutputFormat) -> str:
    return re.sub(r"[^\w-]", "_", form.name)[:64] or "response"


def _response_format(form: OutputFormat) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": _name(form), "schema": dict(form.schema or {})}}


def _instruction(form: OutputFormat) -> BaseMessage:
    return SystemMessage(f"Answer with JSON alone, without any other text, that fits this JSON Schema: {form.text}")
