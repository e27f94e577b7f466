"""Asking a model and showing its answer while it arrives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TypedDict

from abstractllm.capabilities import ModelCapability
from abstractllm.cli.failures import print_note
from abstractllm.cli.output import AnswerWriter
from abstractllm.interface import AbstractLLMInterface
from abstractllm.types import GenerateResponse, Message, ToolCall


class Question(TypedDict, total=False):
    """What `generate` is asked."""

    prompt: str | None
    messages: Sequence[Message]
    system_prompt: str | None
    files: Sequence[str]


class Interrupted(Exception):
    """The user stopped an answer; `response` is what had arrived."""

    def __init__(self, response: GenerateResponse) -> None:
        super().__init__("The answer was stopped.")
        self.response = response


def can_stream(llm: AbstractLLMInterface) -> bool:
    """Whether an answer can be shown as it arrives: the model streams, and one answer is asked for."""
    return llm.get_capabilities().get(ModelCapability.STREAMING) is not False and llm.get_param("n", 1) == 1


def show_answer(llm: AbstractLLMInterface, request: Question, *, stream: bool) -> GenerateResponse:
    """Ask, write the answer to standard output, and return it. Raises Interrupted on Ctrl-C in a stream."""
    writer = AnswerWriter()
    try:
        response = _streamed(llm, writer, request) if stream else _whole(llm, writer, request)
    finally:
        writer.end()
    for call in response.tool_calls:
        print_note(f"the model asks for {call.name}({argument_text(call)})")
    if response.finish_reason == "length":
        print_note("the answer was cut off at its longest length; --max-tokens raises it")
    return response


def _streamed(llm: AbstractLLMInterface, writer: AnswerWriter, request: Question) -> GenerateResponse:
    stream = llm.generate(stream=True, **request)
    try:
        with stream:
            for delta in stream:
                writer.write(delta.content)
    except KeyboardInterrupt as error:
        raise Interrupted(stream.response) from error
    return stream.response


def _whole(llm: AbstractLLMInterface, writer: AnswerWriter, request: Question) -> GenerateResponse:
    response = llm.generate(stream=False, **request)
    for number, choice in enumerate(response.choices or (response,), 1):
        if response.choices:
            writer.write(f"[{number}]\n")
        writer.write(choice.content)
        writer.end()
    return response


def argument_text(call: ToolCall) -> str:
    """Return a call's arguments as JSON, or the model's text where that is none."""
    return call.invalid if call.invalid is not None else json.dumps(dict(call.arguments), ensure_ascii=False)
