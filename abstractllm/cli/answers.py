"""Asking a model and showing its answer while it arrives."""

from __future__ import annotations

import json
from typing import Any

from abstractllm.capabilities import ModelCapability
from abstractllm.cli.failures import print_note
from abstractllm.cli.output import AnswerWriter
from abstractllm.interface import AbstractLLMInterface
from abstractllm.types import GenerateResponse, ToolCall


class Interrupted(Exception):
    """The user stopped an answer; `response` is what had arrived."""

    def __init__(self, response: GenerateResponse) -> None:
        super().__init__("The answer was stopped.")
        self.response = response


def can_stream(llm: AbstractLLMInterface) -> bool:
    """Whether an answer can be shown as it arrives: the model streams, and one answer is asked for."""
    return llm.get_capabilities().get(ModelCapability.STREAMING) is not False and llm.get_param("n", 1) == 1


def show_answer(llm: AbstractLLMInterface, *, stream: bool, **request: Any) -> GenerateResponse:
    """Ask, write the answer to standard output, and return it. Raises Interrupted on Ctrl-C in a stream."""
    writer = AnswerWriter()
    try:
        response = _streamed(llm, writer, request) if stream else _whole(llm, writer, request)
    finally:
        writer.end()
    for call in response.tool_calls:
        print_note(f"the model asks for {_call_text(call)}")
    if response.finish_reason == "length":
        print_note("the answer was cut off at its longest length; --max-tokens raises it")
    return response


def _streamed(llm: AbstractLLMInterface, writer: AnswerWriter, request: dict[str, Any]) -> GenerateResponse:
    stream = llm.generate(stream=True, **request)
    try:
        with stream:
            for delta in stream:
                writer.write(delta.content)
    except KeyboardInterrupt as error:
        raise Interrupted(stream.response) from error
    return stream.response


def _whole(llm: AbstractLLMInterface, writer: AnswerWriter, request: dict[str, Any]) -> GenerateResponse:
    response = llm.generate(stream=False, **request)
    for number, choice in enumerate(response.choices or (response,), 1):
        if response.choices:
            writer.write(f"[{number}]\n")
        writer.write(choice.content)
        writer.end()
    return response


def _call_text(call: ToolCall) -> str:
    arguments = call.invalid if call.invalid is not None else json.dumps(dict(call.arguments), ensure_ascii=False)
    return f"{call.name}({arguments})"
