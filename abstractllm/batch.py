"""Many prompts, a few at a time: one answer or one error for each, in order.

Prompts are drawn in the caller's thread or loop, one whenever there is room; requests run on an event loop. Knows no
provider: whoever has `generate_async` will do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import aclosing, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from abstractllm.errors import GenerationError, InvalidParameterError, shown
from abstractllm.portal import portal
from abstractllm.progressline import ProgressLine
from abstractllm.types import GenerateResponse

if TYPE_CHECKING:
    from abstractllm.interface import AbstractLLMInterface

_END = object()
"""What is fed where there is no prompt left."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """What became of the prompt number `index`, from 0 on: a `response`, or the `error` that `generate` would raise."""

    index: int
    response: GenerateResponse | None = None
    error: BaseException | None = None

    def unwrap(self) -> GenerateResponse:
        """Return the response, or raise the error."""
        if self.error is not None:
            raise self.error
        assert self.response is not None
        return self.response


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """How far a batch is: `item` has just ended; `done` have by now, `failed` of them with an error.

    `total` is how many there are, or None where the prompts do not say.
    """

    item: BatchItem
    done: int
    failed: int
    total: int | None


Progress = bool | Callable[[BatchProgress], None]


@dataclass(frozen=True, slots=True)
class Job:
    """A batch as it was asked for, checked; `params` are the arguments that all of its calls share."""

    llm: AbstractLLMInterface
    prompts: Iterable[Any]
    concurrency: int
    progress: Progress
    params: Mapping[str, Any]

    def __post_init__(self) -> None:
        limit = self.concurrency
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise _bad("concurrency", f"concurrency={shown(limit)} is not valid: it must be a whole number from 1 on.")
        if not isinstance(self.progress, bool) and not callable(self.progress):
            raise _bad("progress", f"progress={shown(self.progress)} is not valid: it must be a bool or a function.")
        if isinstance(self.prompts, (str, bytes, Mapping)) or not isinstance(self.prompts, Iterable):
            kind = type(self.prompts).__name__
            raise _bad("prompts", f"The prompts are a {kind}; pass a list of them, or anything else to iterate over.")
        if "stream" in self.params:
            raise _bad(
                "stream", "A batch has whole answers; leave stream out, and see progress= for items as they end."
            )

    def run(self) -> list[BatchItem]:
        """Return an item for each prompt, in order."""
        crew, source, items = _Crew(self), iter(self.prompts), []
        with self._reporting() as report, closing(portal().iterate(crew.work)) as events:
            for item in events:
                if item is None:
                    crew.feed(next(source, _END))
                else:
                    items.append(item)
                    report(item)
        return sorted(items, key=lambda item: item.index)

    async def run_async(self) -> list[BatchItem]:
        """Return an item for each prompt, in order, without blocking the event loop."""
        crew, source, items = _Crew(self), iter(self.prompts), []
        with self._reporting() as report:
            async with aclosing(crew.work()) as events:
                async for item in events:
                    if item is None:
                        crew.feed(next(source, _END))
                    else:
                        items.append(item)
                        report(item)
        return sorted(items, key=lambda item: item.index)

    @contextmanager
    def _reporting(self) -> Iterator[Callable[[BatchItem], None]]:
        """Yield what to call with each item that has ended."""
        total = len(self.prompts) if isinstance(self.prompts, Sized) else None
        line = ProgressLine(total) if self.progress is True else None
        done = failed = 0

        def report(item: BatchItem) -> None:
            nonlocal done, failed
            done, failed = done + 1, failed + (item.error is not None)
            if line is not None:
                line.show(done, failed)
            elif callable(self.progress):
                self.progress(BatchProgress(item, done, failed, total))

        try:
            yield report
        finally:
            if line is not None:
                line.end()


class _Crew:
    """The requests of a batch, in tasks of one event loop."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._fed: asyncio.Queue[Any] = asyncio.Queue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._more = True

    def feed(self, prompt: object) -> None:
        """Hand over the prompt that was asked for, from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._fed.put_nowait, prompt)

    async def work(self) -> AsyncGenerator[BatchItem | None, None]:
        """Yield items as they end, and None where a prompt is to be fed. Whoever leaves ends what still runs."""
        self._loop = asyncio.get_running_loop()
        running: set[asyncio.Task[BatchItem]] = set()
        try:
            while True:
                while self._more and len(running) < self._job.concurrency:
                    yield None
                    running |= self._started(await self._fed.get())
                if not running:
                    return
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    def _started(self, prompt: object) -> set[asyncio.Task[BatchItem]]:
        """Return the task that answers what was fed, if it is a prompt."""
        if prompt is _END:
            self._more = False
            return set()
        self._count += 1
        return {asyncio.create_task(self._one(self._count - 1, prompt))}

    async def _one(self, index: int, prompt: object) -> BatchItem:
        """Return what becomes of one prompt; nothing leaves but a cancellation, or an interrupt of the whole program.

        A SystemExit, as any error of a provider, is the item's: it would end the event loop and with it all others.
        """
        try:
            arguments = {**self._job.params, **_arguments(index, prompt)}
            return BatchItem(index, await self._job.llm.generate_async(**arguments))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            failure = GenerationError("The provider ended this request by itself.")
            failure.__cause__ = error
            return BatchItem(index, error=failure)
        except (Exception, SystemExit) as error:
            return BatchItem(index, error=error)


def _arguments(index: int, prompt: object) -> Mapping[str, Any]:
    """Return the arguments of the call that a prompt stands for."""
    if isinstance(prompt, str):
        return {"prompt": prompt}
    if isinstance(prompt, Mapping):
        if "stream" in prompt:
            raise _bad("stream", f"prompts[{index}] says stream, and a batch has whole answers; leave it out.")
        return prompt
    if isinstance(prompt, Sequence):
        return {"messages": prompt}
    kind = type(prompt).__name__
    raise _bad("prompts", f"prompts[{index}] is a {kind}; it must be a string, a list of messages or a dict.")


def _bad(parameter: str, message: str) -> InvalidParameterError:
    return InvalidParameterError(parameter, message)


def run_batch(
    llm: AbstractLLMInterface, prompts: Iterable[Any], concurrency: int, progress: Progress, params: Mapping[str, Any]
) -> list[BatchItem]:
    """Do what `AbstractLLMInterface.generate_batch` says."""
    return Job(llm, prompts, concurrency, progress, params).run()


def run_batch_async(
    llm: AbstractLLMInterface, prompts: Iterable[Any], concurrency: int, progress: Progress, params: Mapping[str, Any]
) -> Coroutine[Any, Any, list[BatchItem]]:
    """Do what `AbstractLLMInterface.generate_batch_async` says; the arguments are checked here."""
    return Job(llm, prompts, concurrency, progress, params).run_async()
