"""The form that a request demands of its answer -> the constraint that holds the model to it."""

from __future__ import annotations

import logging

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.providers.local.constraint import Constraint, ConstraintCompiler
from abstractllm.providers.local.grammar import json_block
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.providers.local.vocabulary import Gate
from abstractllm.schema import OutputFormat
from abstractllm.text.toolgrammar import call_grammar, can_force
from abstractllm.types import GenerateRequest

logger = logging.getLogger("abstractllm.mlx")

SINGLE = "parallel_tool_calls"
"""The option that, when it is False, allows one call in an answer; the name is OpenAI's."""


def check_form(request: GenerateRequest) -> None:
    """Raise UnsupportedFeatureError for forms that cannot go together, InvalidParameterError for a wrong option.

    JSON may stand beside tools that the model may call of its own accord: the answer is one or the other.
    """
    single = request.options.get(SINGLE)
    if single is not None and not isinstance(single, bool):
        raise InvalidParameterError(f"options.{SINGLE}", f"{SINGLE}={shown(single)} is not valid: it is True or False.")
    form: OutputFormat | None = request.response_format
    if form is None or not request.tools or request.tool_choice == "none":
        return
    if form.kind != "json" or request.tool_choice not in (None, "auto"):
        raise UnsupportedFeatureError(
            "response_format",
            "An answer that must call tools cannot be held to a response_format, and one that may call tools only to"
            " JSON; leave one of them out, or use tool_choice='none'.",
            provider="mlx",
        )


def constraint_for(
    request: GenerateRequest, prompt: str, tokenizer: ChatTokenizer, compiler: ConstraintCompiler
) -> Constraint | None:
    """Return what holds the answer to the form that the request demands, None where it demands none.

    What a model thinks before is free. Calls of its own accord are held to the tools' names and the types of their
    arguments where there is a grammar for it; elsewhere they come as the model writes them. Raises
    UnsupportedFeatureError for a form that cannot be enforced, or a forced call in a family whose calls have no
    grammar here; InvalidParameterError for a bad expression or grammar.
    """
    gate = tokenizer.gate(prompt)
    callable_now = bool(request.tools) and request.tool_choice != "none"
    if request.response_format is not None and callable_now:
        return compiler.compile(_grammar(request, "auto", tokenizer), gate)
    if request.response_format is not None:
        return compiler.compile(request.response_format, gate)
    if not callable_now:
        return None
    if request.tool_choice in (None, "auto"):
        return _own_calls(request, gate, tokenizer, compiler)
    return compiler.compile(_grammar(request, str(request.tool_choice), tokenizer), gate)


def _own_calls(
    request: GenerateRequest, gate: Gate | None, tokenizer: ChatTokenizer, compiler: ConstraintCompiler
) -> Constraint | None:
    """Return what holds calls that nobody forces, None where the grammar engine cannot take them."""
    try:
        return compiler.compile(_grammar(request, "auto", tokenizer), gate)
    except (UnsupportedFeatureError, InvalidParameterError) as error:
        logger.info("tool calls are not held to their schemas: %s", error)
        return None


def _grammar(request: GenerateRequest, choice: str, tokenizer: ChatTokenizer) -> str:
    if not can_force(tokenizer.tool_format):
        formed = request.response_format is not None
        raise UnsupportedFeatureError(
            "response_format" if formed else "tool_choice",
            "This model writes its tool calls in a way that cannot be forced; "
            + ("leave out tools or response_format." if formed else "use tool_choice='auto'."),
            provider="mlx",
        )
    return call_grammar(
        request.tools,
        tokenizer.call_syntax,
        choice,
        lenient=True,
        single=request.options.get(SINGLE) is False,
        form=None if request.response_format is None else json_block(request.response_format),
    )
