"""Answers that have not the form that was asked for, where LangChain wants them told beside the answer.

With `include_raw`, such an answer is a message like any other, with its usage, and what reads it says what is wrong.
Knows no provider and no schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableLambda

from abstractllm.errors import GenerationError, IncompleteOutputError, OutputValidationError
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
