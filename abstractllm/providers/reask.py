"""Asks again where a whole answer does not have its form. Knows no provider, no thread and no wire format.

A service that holds its answers to a schema is never asked twice, as its answers fit. Others are, with what is wrong as
the user's next turn, and so are those whose answers fit the schema as far as the service understands it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import OutputValidationError, UnsupportedFeatureError
from abstractllm.providers.run import Run, limited
from abstractllm.types import GenerateRequest, GenerateResponse, Message

Source = AsyncGenerator[GenerateResponse, None]


def check_retries(request: GenerateRequest, capabilities: Capabilities, provider: str) -> None:
    """Raise UnsupportedFeatureError for `retries` that are asked for where nothing can be asked again."""
    if not request.retries or request.response_format is None:
        return
    if request.n > 1:
        what = f"n={request.n} answers are not asked for again one by one; use retries=0, or n=1 several times."
        raise UnsupportedFeatureError("retries", what, provider=provider)
    if capabilities.get(ModelCapability.MULTI_TURN) is False:
        what = "This provider or model answers single prompts only, and cannot be told what was wrong; use retries=0."
        raise UnsupportedFeatureError("retries", what, provider=provider)


def retries(request: GenerateRequest, default: int, capabilities: Callable[[], Capabilities]) -> int:
    """Return how many times a request may be asked again; `default` counts where the request does not say.

    Never in a stream, whose reader has seen the answer, and never where several answers are asked for: then one that
    is misshapen raises.
    """
    form = request.response_format
    if form is None or form.kind != "json" or request.stream or request.n > 1:
        return 0
    most = default if request.retries is None else request.retries
    return most if most and capabilities().get(ModelCapability.MULTI_TURN) is not False else 0


async def answered(
    run: Run, first: Source, ask: Callable[[GenerateRequest], Source], most: int
) -> AsyncGenerator[GenerateResponse, None]:
    """Yield the deltas of `first` as `run` takes them; have `ask` ask at most `most` times more for a fitting answer.

    The last answer that does not fit raises OutputValidationError, with it as `response`. Every other error ends the
    request at once. The limits of `timeout` hold for each try, but `total` for all of them together.
    """
    source, request = first, None
    while True:
        failure: OutputValidationError | None = None
        async with aclosing(limited(source, run.call)) as deltas:
            async for delta in deltas:
                try:
                    taken = run.accept(delta)
                except OutputValidationError as error:
                    if not most:
                        raise
                    failure = error  # what may follow is read as well: leaving early would close the connection
                    continue
                yield taken
        if failure is None:
            return
        most -= 1
        request = corrected(request or run.request, failure)
        run.again()
        source = ask(request)


def corrected(request: GenerateRequest, failure: OutputValidationError) -> GenerateRequest:
    """Return the request that asks again: with the answer that failed, and a user's turn that says why."""
    answer = failure.response.to_message() if failure.response is not None else Message("assistant")
    said = (answer,) if answer.text or answer.provider_data else ()
    return replace(request, messages=(*request.messages, *said, Message("user", _complaint(request, failure))))


def _complaint(request: GenerateRequest, failure: OutputValidationError) -> str:
    """Return what is wrong, and the schema once more, since a service may never have shown it to its model."""
    wanted = f"Give the whole answer again, as JSON alone that fits this JSON Schema: {request.response_format.text}"
    return f"{failure.message}\n{wanted}"
