"""Asking a provider through its four faces. Knows no rule but that a request must end, and be refused in time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar, cast

from abstractllm.accumulator import join
from abstractllm.interface import AbstractLLMInterface
from abstractllm.streams import AsyncResponseStream, ResponseStream
from abstractllm.testing.checks import require
from abstractllm.types import GenerateResponse

T = TypeVar("T")


class Face(Enum):
    """The four ways to ask."""

    WHOLE = "generate"
    STREAM = "generate(stream=True)"
    ASYNC = "generate_async"
    ASYNC_STREAM = "generate_async(stream=True)"

    @property
    def streams(self) -> bool:
        """Whether the answer comes in deltas."""
        return self in (Face.STREAM, Face.ASYNC_STREAM)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one face gave: the whole answer, and in a stream its deltas and what the stream says that it holds."""

    whole: GenerateResponse
    deltas: tuple[GenerateResponse, ...] = ()
    held: GenerateResponse | None = None


def call(llm: AbstractLLMInterface, face: Face, prompt: str | None, **arguments: Any) -> Any:
    """Make the call alone: nothing is awaited or iterated."""
    if face in (Face.WHOLE, Face.STREAM):
        return llm.generate(prompt, stream=face.streams, **arguments)
    return llm.generate_async(prompt, stream=face.streams, **arguments)


def ask(llm: AbstractLLMInterface, face: Face, prompt: str | None, **arguments: Any) -> Answer:
    """Ask and take the whole answer."""
    if face is Face.WHOLE:
        return Answer(call(llm, face, prompt, **arguments))
    if face is Face.STREAM:
        stream = cast(ResponseStream, call(llm, face, prompt, **arguments))
        deltas = tuple(stream)
        return Answer(join(deltas), deltas, stream.response)
    return asyncio.run(ask_async(llm, face, prompt, **arguments))


async def ask_async(llm: AbstractLLMInterface, face: Face, prompt: str | None, **arguments: Any) -> Answer:
    """Ask one of the two async faces and take the whole answer."""
    if face is Face.ASYNC:
        return Answer(await call(llm, face, prompt, **arguments))
    stream = cast(AsyncResponseStream, await call(llm, face, prompt, **arguments))
    deltas = tuple([delta async for delta in stream])
    return Answer(join(deltas), deltas, stream.response)


def within(seconds: float, what: str, work: Callable[[], T]) -> T:
    """Return the result of `work`, which runs in a thread; raise AssertionError when it takes longer."""
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # handed to the caller, who raises it
            outcome.set_exception(error)

    threading.Thread(target=run, name="abstractllm-conformance", daemon=True).start()
    concurrent.futures.wait([outcome], timeout=seconds)
    require(outcome.done(), f"{what} did not end within {seconds:g} s.")
    return outcome.result()


def refused(
    error: type[Exception], llm: AbstractLLMInterface, face: Face, prompt: str | None, **arguments: Any
) -> None:
    """Raise AssertionError unless the call itself raises `error`."""
    asked = ", ".join(f"{name}={value!r:.60}" for name, value in arguments.items()) or f"prompt={prompt!r:.60}"
    try:
        result = call(llm, face, prompt, **arguments)
    except error:
        return
    except Exception as other:
        raise AssertionError(f"{face.value} with {asked} must raise {error.__name__}, not {other!r}.") from other
    if isinstance(result, Coroutine):
        result.close()
    raise AssertionError(f"{face.value} with {asked} must raise {error.__name__} at the call, before any work.")
