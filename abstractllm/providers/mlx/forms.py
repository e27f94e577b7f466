"""The form that a request demands of its answer -> the constraint that holds the model to it."""

from __future__ import annotations

from abstractllm.errors import UnsupportedFeatureError
from abstractllm.providers.mlx.constraint import Constraint, ConstraintCompiler
from abstractllm.providers.mlx.tokenizer import ChatTokenizer
from abstractllm.text.toolgrammar import call_grammar, can_force
from abstractllm.types import GenerateRequest

FREE_CHOICES = (None, "auto", "none")
"""Values of `tool_choice` that force nothing."""


def check_form(request: GenerateRequest) -> None:
    """Raise UnsupportedFeatureError for forms that cannot go together."""
    if request.response_format is not None and request.tools and request.tool_choice != "none":
        raise UnsupportedFeatureError(
            "response_format",
            "An answer cannot be held to a response_format while it may call tools; leave one of them out, or use"
            " tool_choice='none'.",
            provider="mlx",
        )


def constraint_for(
    request: GenerateRequest, prompt: str, tokenizer: ChatTokenizer, compiler: ConstraintCompiler
) -> Constraint | None:
    """Return what holds the answer to the form that the request demands, None where it demands none.

    What a model thinks before is free. Raises UnsupportedFeatureError for a form that cannot be enforced, or a forced
    call in a family whose calls have no grammar here; InvalidParameterError for a bad expression or grammar.
    """
    gate = tokenizer.gate(prompt)
    if request.response_format is not None:
        return compiler.compile(request.response_format, gate)
    if request.tool_choice in FREE_CHOICES:
        return None
    return compiler.compile(_forced_call(request, tokenizer), gate)


def _forced_call(request: GenerateRequest, tokenizer: ChatTokenizer) -> str:
    syntax = tokenizer.call_syntax() if can_force(tokenizer.tool_format) else None
    if syntax is None:
        raise UnsupportedFeatureError(
            "tool_choice",
            "This model writes its tool calls in a way that cannot be forced; use tool_choice='auto'.",
            provider="mlx",
        )
    return call_grammar(request.tools, syntax, str(request.tool_choice), lenient=True)
