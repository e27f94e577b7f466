"""Answers that have not the form that was asked for, where LangChain wants them told beside the answer.

With `include_raw`, such an answer is a message like any other, with its usage, and what reads it says what is wrong.
Knows no provider and no schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda

from abstractllm.errors import GenerationError, IncompleteOutputError, OutputValidationError, shown
from abstractllm.schema import to_output_format
from abstractllm.types import GenerateResponse

WANTED = "misfits_as_answers"
"""Argument of a call that asks for misfits as answers."""
CUT_OFF = "max_tokens ended the answer before it had its form; raise max_tokens."
Misfit = (IncompleteOutputError, OutputValidationError)


def answer_of(error: GenerationError, given: Mapping[str, Any]) -> GenerateResponse:
    """Return the answer that does not fit, if a call with these arguments wants it; else raise the error."""
    if not given.get(WANTED) or error.response is None:
        raise error
    return error.response


def checking(form: Mapping[str, Any]) -> Runnable[Mapping[str, Any], None]:
    """Return what raises, for the message that is `raw`, the error that the model would have raised for its form."""
    told = to_output_format(form)

    def check(answer: Mapping[str, Any]) -> None:
        message: BaseMessage = answer["raw"]
        try:
            told.parse(message.text)
        except OutputValidationError as error:
            if message.response_metadata.get("finish_reason") != "length":
                raise
            raise IncompleteOutputError(CUT_OFF) from error

    return RunnableLambda(check)


def check_calls(message: BaseMessage) -> None:
    """Raise IncompleteOutputError for an answer that was cut off before a call was whole.

    Raises OutputValidationError for one whose calls are no JSON. Chunks of a stream that goes on pass.
    """
    if not isinstance(message, AIMessage) or message.response_metadata.get("finish_reason") is None:
        return
    if message.tool_calls:
        return
    if message.response_metadata["finish_reason"] == "length":
        raise IncompleteOutputError(CUT_OFF)
    if message.invalid_tool_calls:
        broken = shown(message.invalid_tool_calls[0]["args"])
        raise OutputValidationError(f"The arguments of the call are no JSON object: {broken}.")
