"""What answers and deltas must look like. Knows no provider; a broken rule is an AssertionError that names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from abstractllm.types import FinishReason, GenerateResponse, ToolCall, ToolCallDelta, Usage


def require(holds: bool, message: str) -> None:
    """Raise AssertionError with `message` unless `holds`."""
    if not holds:
        raise AssertionError(message)


def check_answer(answer: GenerateResponse, face: str) -> None:
    """Check that there is an answer at all."""
    require(isinstance(answer, GenerateResponse), f"{face} gave a {type(answer).__name__}.")


def check_whole(answer: GenerateResponse, face: str) -> None:
    """Check that an answer has all that the contract promises."""
    check_answer(answer, face)
    require(isinstance(answer.content, str), f"{face}: content is a {type(answer.content).__name__}, not a str.")
    require(answer.finish_reason in get_args(FinishReason), f"{face}: finish_reason is {answer.finish_reason!r}.")
    usage = answer.usage
    if not isinstance(usage, Usage):
        raise AssertionError(f"{face}: usage is {usage!r}, not a Usage.")
    require(usage.prompt_tokens > 0, f"{face}: usage.prompt_tokens is {usage.prompt_tokens}.")
    if answer.content or answer.tool_calls:
        require(usage.completion_tokens > 0, f"{face}: usage.completion_tokens is {usage.completion_tokens}.")


def check_delta(delta: GenerateResponse, face: str) -> None:
    """Check the types of one delta of a stream."""
    require(isinstance(delta, GenerateResponse), f"{face} yielded a {type(delta).__name__}.")
    for name in ("content", "reasoning"):
        text = getattr(delta, name)
        require(isinstance(text, str), f"{face}: {name} of a delta is {text!r}, not a str.")
    require(delta.tool_calls == (), f"{face}: a delta holds whole tool calls; use tool_call_deltas.")
    for piece in delta.tool_call_deltas:
        require(isinstance(piece, ToolCallDelta), f"{face}: {piece!r} is no ToolCallDelta.")


def check_same(first: GenerateResponse, second: GenerateResponse, what: str) -> None:
    """Check that two answers to one request are the same; `what` says which."""
    for name in ("content", "finish_reason", "usage"):
        one, other = getattr(first, name), getattr(second, name)
        if name == "usage" and one is not None and other is not None:  # what was cached depends on what came before
            one, other = (one.prompt_tokens, one.completion_tokens), (other.prompt_tokens, other.completion_tokens)
        require(one == other, f"{what}: {name} is {other!r}, and was {one!r}.")
    calls = [[(made.name, made.arguments, made.invalid) for made in answer.tool_calls] for answer in (first, second)]
    require(calls[0] == calls[1], f"{what}: tool_calls are {calls[1]!r}, and were {calls[0]!r}.")


def check_calls(answer: GenerateResponse, face: str) -> None:
    """Check that an answer asks for tool calls that can be carried out."""
    require(answer.has_tool_calls(), f"{face}: tool_prompt was answered without a tool call.")
    require(answer.finish_reason == "tool_calls", f"{face}: finish_reason is {answer.finish_reason!r}.")
    for made in answer.tool_calls:
        require(isinstance(made, ToolCall) and bool(made.name), f"{face}: {made!r} is no named ToolCall.")
        require(isinstance(made.arguments, Mapping), f"{face}: arguments are {made.arguments!r}, not a mapping.")
    names = [made.id for made in answer.tool_calls]
    require(all(names) and len(set(names)) == len(names), f"{face}: tool calls need ids of their own: {names}.")


def check_logprobs(answer: GenerateResponse, top: int, face: str) -> None:
    """Check log-probabilities that were asked for, with at most `top` alternatives each."""
    require(bool(answer.logprobs) or not answer.content, f"{face}: logprobs were asked for, and none came.")
    for one in answer.logprobs:
        ranked = [other.logprob for other in one.top]
        require(one.logprob <= 0, f"{face}: the logprob of {one.token!r} is {one.logprob}, above 0.")
        require(len(ranked) <= top, f"{face}: {one.token!r} has {len(ranked)} alternatives, and {top} were asked for.")
        require(ranked == sorted(ranked, reverse=True), f"{face}: the alternatives of {one.token!r} are not in order.")
