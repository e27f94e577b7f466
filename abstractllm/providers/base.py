"""From one primitive to four faces: everything that is the same for all providers.

A provider's author writes `_stream`, a sync generator of deltas, or `_astream`, an async one. This module makes
`generate` and `generate_async` of it, streamed and whole: checks, deadlines, joining, observers, clean ends.
It knows no backend.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, overload

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.aio import iterate_in_thread
from abstractllm.capabilities import check_request
from abstractllm.errors import UnsupportedFeatureError, UnsupportedOperationError
from abstractllm.interface import AbstractLLMInterface, File, ToolLike
from abstractllm.parameters import ModelParameter
from abstractllm.portal import portal
from abstractllm.providers.call import NO_LIMITS, Call
from abstractllm.providers.documents import must_become_text, with_documents_as_text, with_stand_ins
from abstractllm.providers.reask import answered, check_retries, retries
from abstractllm.providers.request import build_request, instance_config, listed, naming_variable, with_files_read
from abstractllm.providers.run import Observer, Run, limited, partial_reader
from abstractllm.providers.sources import collect, generator
from abstractllm.streams import AsyncResponseStream, Line, ResponseStream
from abstractllm.threads import DaemonThreads, ForkSafeLock
from abstractllm.types import GenerateRequest, GenerateResponse

if TYPE_CHECKING:
    from abstractllm.prices import Cost

API_VERSION = 1
"""Major version of the provider API; a provider made for another one is refused when it is asked for."""

_READERS = 16
"""Threads that read files for async callers; further ones wait for them."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that is there: its name for `model=`, its size in bytes, where it is, and when it was last changed.

    `modified` is seconds since the epoch; what is not known is None.
    """

    name: str
    size: int | None = None
    path: str | None = None
    modified: float | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis. `advice` says what to do about it; None means that nothing is wrong."""

    label: str
    value: str
    advice: str | None = None


class BaseProvider(AbstractLLMInterface):
    """Base of every provider. Subclasses set the names below and write `_stream` or `_astream`.

    `name` is the provider's, `parameters` are the request parameters that it carries out, `settings` the names that
    its configuration takes besides, `options` those that it takes in `options={...}`, `defaults` its configuration
    where nothing else is said. `max_threads` is how many `_stream`s work at once for async callers; one that is held
    back by a slow reader is not counted, so that readers who wait for each other never wait for ever.
    `default_retries` is how many times a whole answer that does not have its `response_format` is asked for again where
    `retries` is not given: 0 is for those that hold answers to everything that a form says.
    """

    name: ClassVar[str] = "unnamed"
    api_version: ClassVar[int] = API_VERSION
    parameters: ClassVar[frozenset[str]] = frozenset()
    settings: ClassVar[frozenset[str]] = frozenset({"model"})
    options: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, Any]] = {}
    max_threads: ClassVar[int] = 64
    default_retries: ClassVar[int] = 2

    def __init__(self, config: Mapping[str | ModelParameter, Any] | None = None, **settings: Any) -> None:
        given = {str(name): value for name, value in (config or {}).items()} | settings
        self.observers: list[Observer] = []
        self._closed = False
        self._calls: set[Call] = set()
        self._threads: dict[str, DaemonThreads] = {}
        self._state = ForkSafeLock()
        super().__init__(self._configured(given))

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "_answer" not in vars(cls) and not {"_stream", "_astream"}.isdisjoint(vars(cls)):
            cls._answer = BaseProvider._answer  # type: ignore[method-assign]

    # What an author writes.

    def _stream(self, request: GenerateRequest, call: Call) -> Iterator[GenerateResponse]:
        """Yield the answer's deltas; the last one carries `finish_reason` and `usage`. May block."""
        raise NotImplementedError

    def _astream(self, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
        """Yield the answer's deltas; the last one carries `finish_reason` and `usage`. Must not block."""
        raise NotImplementedError

    def _answer(self, request: GenerateRequest, call: Call) -> Coroutine[Any, Any, GenerateResponse] | None:
        """Return what gets the whole answer in one step where that is cheaper, None where there is nothing but deltas.

        It is the delta that `_stream` or `_astream` would yield alone. A class that writes one of these anew has none
        unless it writes this anew as well.
        """
        return None

    def _check(self, request: GenerateRequest) -> None:
        """Raise UnsupportedFeatureError for what this provider cannot do beyond what its names above tell."""

    def _configure(self, config: Mapping[str, Any]) -> None:
        """Take over a checked configuration; raise InvalidParameterError for a value that this provider refuses.

        Called at construction and by `set_config`, before `config` holds and with the instance's lock taken.
        """

    def missing(self) -> str | None:
        """Return what this instance needs before it can answer anything, such as a key; None when there is nothing."""
        return None

    def known_cost(self, answer: GenerateResponse) -> Cost | None:
        """Return what an answer cost, None where this provider knows no price for it. Must not raise."""
        return None

    # The four faces.

    @overload
    def generate(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        stream: Literal[False] = False,
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> GenerateResponse: ...

    @overload
    def generate(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        *,
        stream: Literal[True],
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> ResponseStream: ...

    @overload
    def generate(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        stream: bool = False,
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> GenerateResponse | ResponseStream: ...

    def generate(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        stream: bool = False,
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> GenerateResponse | ResponseStream:
        """Answer a prompt; see `AbstractLLMInterface.generate`."""
        request = self._checked(prompt, system_prompt, files, stream, tools, params)
        accumulator = ResponseAccumulator(partial_reader(request))
        line = Line()
        deltas = self._sync_deltas(request, accumulator, line)
        if stream:
            return ResponseStream(deltas, accumulator, line)
        with closing(deltas):
            for _ in deltas:
                pass
        return accumulator.response

    @overload
    def generate_async(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        stream: Literal[False] = False,
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> Coroutine[Any, Any, GenerateResponse]: ...

    @overload
    def generate_async(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        *,
        stream: Literal[True],
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> AsyncResponseStream: ...

    @overload
    def generate_async(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        stream: bool = False,
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> Coroutine[Any, Any, GenerateResponse] | AsyncResponseStream: ...

    def generate_async(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        stream: bool = False,
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> Coroutine[Any, Any, GenerateResponse] | AsyncResponseStream:
        """Answer a prompt; see `AbstractLLMInterface.generate_async`."""
        self._check_open()
        paths = listed(files)
        request = self._checked(prompt, system_prompt, paths, stream, tools, params, unread=True)
        accumulator = ResponseAccumulator(partial_reader(request))
        line = Line()
        if stream or self._retries(request):
            deltas = self._async_deltas(request, accumulator, line, paths)
            return AsyncResponseStream(deltas, accumulator, line) if stream else collect(deltas, accumulator)
        return self._whole(request, accumulator, line, paths)

    def set_config(self, **settings: Any) -> None:
        """Change the configuration for the calls that follow; raises InvalidParameterError as construction does."""
        with self._state:
            self._config = self._configured(self._config | settings)

    # Lifetime.

    def close(self) -> None:
        """End what still runs and give everything back. Safe to call twice; no request is taken afterwards."""
        with self._state:
            self._closed = True
            calls, executors = list(self._calls), list(self._threads.values())
        for call in calls:
            call.close()
        for threads in executors:
            threads.shutdown(wait=False, cancel_futures=True)
        self.unload()

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        await asyncio.to_thread(self.close)

    # What a provider's kind can say without an instance.

    @classmethod
    def list_models(cls) -> list[ModelInfo]:
        """Return the models that can be used at once, without a download. Raises UnsupportedFeatureError."""
        raise UnsupportedFeatureError("models", "This provider does not list models.", provider=cls.name)

    @classmethod
    def pull_model(cls, model: str) -> str:
        """Fetch a model with a progress bar on a terminal, and return where it is. Raises UnsupportedFeatureError."""
        raise UnsupportedFeatureError("models", "This provider does not fetch models.", provider=cls.name)

    @classmethod
    def remove_model(cls, model: str) -> int:
        """Delete a fetched model and return how many bytes that freed. Raises UnsupportedFeatureError."""
        raise UnsupportedFeatureError("models", "This provider does not remove models.", provider=cls.name)

    @classmethod
    def diagnose(cls) -> list[Finding]:
        """Return what a user with trouble should know: versions, devices, what is missing. Must not raise."""
        return []

    # Between the faces and the primitive.

    def _configured(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration that `given` makes, checked and taken over by this provider."""
        with naming_variable(type(self), given):
            config = instance_config(type(self), given)
            self._configure(config)
        return config

    def _checked(
        self,
        prompt: str | None,
        system_prompt: str | None,
        files: Sequence[File] | None,
        stream: bool,
        tools: Sequence[ToolLike] | None,
        params: Mapping[str, Any],
        *,
        unread: bool = False,
    ) -> GenerateRequest:
        """Build the request and refuse it here if it cannot work; `unread` leaves files and documents for later."""
        self._check_open()
        request = build_request(self._config, prompt, system_prompt, files, stream, tools, params, unread=unread)
        self._refuse(request)
        return request if unread else with_documents_as_text(request, self)

    def _refuse(self, request: GenerateRequest) -> None:
        """Raise if the request cannot work. What will become text is taken for text."""
        request = with_stand_ins(request, self)
        able = self.get_capabilities()
        check_request(request, able, supported=self.parameters, options=self.options, provider=self.name)
        check_retries(request, able, self.name)
        self._check(request)

    def _check_open(self) -> None:
        if self._closed:
            raise UnsupportedOperationError("This provider is closed; create a new one.", provider=self.name)

    def _sync_deltas(
        self, request: GenerateRequest, accumulator: ResponseAccumulator, line: Line
    ) -> Generator[GenerateResponse, None, None]:
        """Run the request for a sync caller: in the caller's thread where that can be done, else through the portal.

        A blocking generator cannot be interrupted, so a request with limits goes through the portal as well, and so
        does one that may be asked again.
        """
        if request.timeout is not None or not self._has("_stream") or self._retries(request):
            yield from portal().iterate(lambda: self._async_deltas(request, accumulator, line))
            return
        with self._run(request, accumulator, line) as run:
            self._check_open()
            run.start()
            with closing(generator(self._stream(request, run.call))) as source:
                for delta in source:
                    yield run.accept(delta)
            run.finish()

    async def _async_deltas(
        self, request: GenerateRequest, accumulator: ResponseAccumulator, line: Line, unread: Sequence[File] = ()
    ) -> AsyncGenerator[GenerateResponse, None]:
        """Run the request on an event loop; no step of a blocking generator runs there, and no file is read there."""
        with self._run(request, accumulator, line) as run:
            begun = self._begun_source(run, unread)
            most = self._retries(request)
            if most:
                async with aclosing(
                    answered(run, begun, lambda more: self._async_source(more, run.call), most)
                ) as taken:
                    async for delta in taken:
                        yield delta
            else:
                async with aclosing(limited(begun, run.call)) as deltas:
                    async for delta in deltas:
                        yield run.accept(delta)
            run.finish()

    async def _whole(
        self, request: GenerateRequest, accumulator: ResponseAccumulator, line: Line, unread: Sequence[File]
    ) -> GenerateResponse:
        """Do what `_async_deltas` does for a request that is asked once, and hand the answer over at its end alone."""
        with self._run(request, accumulator, line) as run:
            answer = self._begun_answer(run, unread)
            if answer is None:
                async with aclosing(limited(self._begun_source(run, unread), run.call)) as deltas:
                    async for delta in deltas:
                        run.accept(delta)
            else:
                run.accept(await answer)
            run.finish()
        return accumulator.response

    def _begun_answer(self, run: Run, unread: Sequence[File]) -> Coroutine[Any, Any, GenerateResponse] | None:
        """Start a run that can be answered in one step: nothing is to be read before, and no limit is to be kept."""
        self._check_open()
        if unread or run.call.timeout is not NO_LIMITS or must_become_text(run.request, self):
            return None
        answer = self._answer(run.request, run.call)
        if answer is not None:
            run.start()
        return answer

    def _begun_source(self, run: Run, unread: Sequence[File]) -> AsyncGenerator[GenerateResponse, None]:
        """Start a run, at once or when what is to be read has been read, and return its deltas."""
        self._check_open()
        if unread or must_become_text(run.request, self):
            return self._after_reading(run, unread)
        run.start()
        return self._async_source(run.request, run.call)

    async def _after_reading(self, run: Run, files: Sequence[File]) -> AsyncGenerator[GenerateResponse, None]:
        """Read the files and documents in a thread, then run the request with them."""
        run.request = await asyncio.wrap_future(self._readers().submit(self._read, run.request, files))
        run.start()
        async with aclosing(self._async_source(run.request, run.call)) as source:
            async for delta in source:
                yield delta

    def _read(self, request: GenerateRequest, files: Sequence[File]) -> GenerateRequest:
        request = with_files_read(request, files) if files else request
        self._refuse(request)
        return with_documents_as_text(request, self)

    def _async_source(self, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
        if self._has("_astream"):
            return self._astream(request, call)
        return iterate_in_thread(lambda: self._stream(request, call), self._executor(), on_leave=call.cancel)

    def _retries(self, request: GenerateRequest) -> int:
        return retries(request, self.default_retries, self.get_capabilities)

    def _has(self, primitive: str) -> bool:
        """Whether this class overrides `_stream` or `_astream`."""
        return getattr(type(self), primitive) is not getattr(BaseProvider, primitive)

    def _executor(self) -> DaemonThreads:
        return self._threads_named(f"abstractllm-{self.name}", self.max_threads)

    def _readers(self) -> DaemonThreads:
        """Return threads of their own for files: a slow disk must hold up no request that needs none."""
        return self._threads_named(f"abstractllm-{self.name}-files", _READERS)

    def _threads_named(self, name: str, limit: int) -> DaemonThreads:
        with self._state:
            self._check_open()
            if name not in self._threads:
                self._threads[name] = DaemonThreads(limit, name)
            return self._threads[name]

    def _run(self, request: GenerateRequest, accumulator: ResponseAccumulator, line: Line) -> Run:
        """Return what follows one request to its end, for `with`.

        In there `_check_open` comes first: either `close` finds the call that was added, or the request is refused.
        """
        run = Run(self.name, request, accumulator, self.observers, self._calls, self.known_cost, self.model_name)
        line.place = run.call
        return run
