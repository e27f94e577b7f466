"""A request -> what is computed for it: the prompt's tokens, limits, and what reads and holds each of its answers.

Loads no model and runs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from abstractllm import embedded
from abstractllm.errors import ContextWindowExceededError, InvalidParameterError
from abstractllm.providers.local.answer import Prepared
from abstractllm.providers.local.constraint import ConstraintCompiler
from abstractllm.providers.local.forms import constraint_for
from abstractllm.providers.local.sampling import Sampling, mixed
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.types import GenerateRequest

MAX_TOKENS = 2048
"""Tokens of an answer where nothing else is said, or as many as the context has room for."""


class Conversant(Protocol):
    """What is needed of a loaded model to prepare its requests."""

    @property
    def tokenizer(self) -> ChatTokenizer:
        """Its tokenizer."""

    @property
    def constraints(self) -> ConstraintCompiler:
        """What holds its answers to forms."""

    @property
    def vocabulary(self) -> int:
        """For how many tokens it gives scores."""

    @property
    def context_window(self) -> int | None:
        """Tokens of prompt and answer together, None where that is not known."""


def prepare(model: Conversant, request: GenerateRequest) -> list[Prepared]:
    """Render and tokenise a request, for each of the answers that it asks for.

    Raises ContextWindowExceededError when no room is left for an answer.
    """
    tools = () if request.tool_choice == "none" else request.tools
    prompt = model.tokenizer.render(request.messages, tools)
    tokens = model.tokenizer.encode(prompt)
    _check_bias(request.logit_bias or {}, model.vocabulary)
    first = Prepared(
        prompt=tokens,
        max_tokens=_room(model, len(tokens), request.max_tokens or MAX_TOKENS),
        sampling=Sampling.of(request),
        reader=model.tokenizer.reader(request, prompt),
        constraint=constraint_for(request, prompt, model.tokenizer, model.constraints),
        token_bytes=model.tokenizer.token_bytes,
        model=name_of(request.model),
        stream=request.stream,
        priority=request.priority,
        exact=request.deterministic,
    )
    others = (_alternative(first, model, request, prompt, choice) for choice in range(1, request.n))
    return [first, *others]


def name_of(model: str | None) -> str:
    """Return the name of a model as answers have it; None is the model that ships."""
    return model or embedded.PATH.name


def _check_bias(bias: Mapping[int, float], vocabulary: int) -> None:
    unknown = [token for token in bias if token >= vocabulary]
    if unknown:
        known = f"the model's tokens have ids below {vocabulary}"
        raise InvalidParameterError("logit_bias", f"logit_bias names the token {unknown[0]}, but {known}.")


def _alternative(first: Prepared, model: Conversant, request: GenerateRequest, prompt: str, choice: int) -> Prepared:
    """Return a further answer to the same prompt: with a seed, it has one of its own that follows from it."""
    seed = None if request.seed is None else mixed(request.seed, -choice - 1)
    sampling = replace(first.sampling, seed=seed)
    return replace(first, choice=choice, sampling=sampling, reader=model.tokenizer.reader(request, prompt))


def _room(model: Conversant, prompt_tokens: int, max_tokens: int) -> int:
    """Return how many tokens the answer may have."""
    window = model.context_window
    if window is None:
        return max_tokens
    if prompt_tokens >= window:
        raise ContextWindowExceededError(
            f"The prompt has {prompt_tokens} tokens, and the model's context holds {window}, answer included."
            " Shorten the prompt or the files, or use a model with a longer context.",
            context_window=window,
            prompt_tokens=prompt_tokens,
            provider="mlx",
        )
    return min(max_tokens, window - prompt_tokens)
