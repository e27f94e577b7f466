"""What our chat model costs in LangChain, beside a bare model of LangChain's own that answers at once.

    python tests/benchmarks/langchain_overhead.py [--calls 60] [--chunks 200] [--rounds 80]

All answer with the same text and do no work. "bare model" has native async methods and nothing else, not even usage.
"echo alone" is our provider without LangChain. "ours on echo" is our chat model on it. "instant" is another provider,
which is async by itself, as MLX and the services are; echo is a sync generator that async callers run in a
thread. Times are CPU time of all threads, so that other work on the machine counts little; contestants take turns.

Two differences are printed. "ours - bare model" is all that a user pays beyond LangChain, our provider included.
"ours - echo alone" is what LangChain and the adapter cost beyond the provider.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from measure import interleave, machine

from abstractllm.integrations.langchain import ChatAbstractLLM
from abstractllm.interface import AbstractLLMInterface
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call
from abstractllm.providers.echo import EchoProvider
from abstractllm.types import GenerateRequest, GenerateResponse, Usage

PROMPT = "Hello there"
_BEYOND_LANGCHAIN = "all that is ours, provider and adapter, on top of LangChain"
_BEYOND_PROVIDER = "LangChain and the adapter, on top of the provider"


class Bare(BaseChatModel):
    """A model of LangChain's that answers at once, in pieces."""

    pieces: list[str]

    @property
    def _llm_type(self) -> str:
        return "bare"

    def _result(self) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(self.pieces)))])

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._result()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._result()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for piece in self.pieces:
            yield ChatGenerationChunk(message=AIMessageChunk(content=piece))


class Instant(BaseProvider):
    """A provider that answers at once, in pieces, on the event loop."""

    name: ClassVar[str] = "instant"

    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces
        super().__init__()

    async def _astream(self, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
        for piece in self.pieces:
            yield GenerateResponse(piece)
        yield GenerateResponse(finish_reason="stop", usage=Usage(2, len(self.pieces)), model="instant")


def per_call(ask: Callable[[], Awaitable[object]], calls: int) -> Callable[[], float]:
    """Return a function that measures microseconds of CPU time, of all threads, for one of `calls` calls in a row."""

    async def run() -> float:
        start = time.process_time()
        for _ in range(calls):
            await ask()
        return (time.process_time() - start) / calls * 1e6

    return lambda: asyncio.run(run())


def drain(stream: Callable[[], AsyncIterator[object]]) -> Callable[[], Awaitable[None]]:
    """Return a function that reads a stream to its end."""

    async def read() -> None:
        async for _ in stream():
            pass

    return read


def contest(pieces: list[str]) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Return, by name, a call and a stream of everyone."""
    bare: Any = Bare(pieces=pieces)
    found: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "bare model": (lambda: bare.ainvoke(PROMPT), drain(lambda: bare.astream(PROMPT)))
    }
    providers: dict[str, AbstractLLMInterface] = {
        "echo": EchoProvider(replies=lambda _: "".join(pieces)),
        "instant": Instant(pieces),
    }
    for name, llm in providers.items():
        found |= faces(name, llm)
    return found


def faces(name: str, llm: AbstractLLMInterface) -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Return a provider alone, and our chat model on it."""
    model = ChatAbstractLLM(llm)
    return {
        f"{name} alone": (lambda: llm.generate_async(PROMPT), drain(lambda: llm.generate_async(PROMPT, stream=True))),
        f"ours on {name}": (lambda: model.ainvoke(PROMPT), drain(lambda: model.astream(PROMPT))),
    }


def report(title: str, results: dict[str, list[float]], divisor: int = 1) -> None:
    """Print medians, and the two differences for each provider."""
    medians = {name: statistics.median(values) / divisor for name, values in results.items()}
    lowest = {name: min(values) / divisor for name, values in results.items()}
    print(f"### {title}\n\n| | us, median | lowest | highest |\n|---|---|---|---|")
    for name, values in results.items():
        print(f"| {name} | {medians[name]:.1f} | {lowest[name]:.1f} | {max(values) / divisor:.1f} |")
    for name in ("echo", "instant"):
        for other, meaning in (("bare model", _BEYOND_LANGCHAIN), (f"{name} alone", _BEYOND_PROVIDER)):
            cost = [told[f"ours on {name}"] - told[other] for told in (medians, lowest)]
            print(f"\nours on {name} - {other}: {cost[0]:.1f} us by medians, {cost[1]:.1f} us by the lowest: {meaning}")
    print()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--chunks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=80)
    given = parser.parse_args()
    print(machine(), "\n")
    short = {name: per_call(call, given.calls) for name, (call, _) in contest(["Hi"]).items()}
    report("One ainvoke", interleave(short, given.rounds))
    pieces = ["word "] * given.chunks
    few = {name: per_call(stream, max(1, given.calls // 20)) for name, (_, stream) in contest(["word "]).items()}
    many = {name: per_call(stream, max(1, given.calls // 20)) for name, (_, stream) in contest(pieces).items()}
    begun, whole = interleave(few, given.rounds), interleave(many, given.rounds)
    grown = {name: [b - a for a, b in zip(begun[name], whole[name], strict=True)] for name in whole}
    report("One chunk of an astream", grown, given.chunks - 1)


if __name__ == "__main__":
    main()
