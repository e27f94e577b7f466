"""The contract that every backend fulfils, as docstrings. Knows no backend."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, overload

from abstractllm.batch import BatchItem, Progress, run_batch, run_batch_async
from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import UnsupportedFeatureError
from abstractllm.parameters import ModelParameter
from abstractllm.streams import AsyncResponseStream, ResponseStream
from abstractllm.types import Embeddings, GenerateResponse, Message, Timeout, ToolDefinition

File = str | Path


class ExecutedTool(Protocol):
    """An object that is a tool, such as one of a `BaseTool`; it may have a `description` and `parameters` as well."""

    @property
    def name(self) -> str:
        """The name by which the model calls it."""

    @property
    def execute(self) -> Callable[..., Any]:
        """The method that is called, sync or async."""


ToolLike = Callable[..., Any] | Mapping[str, Any] | ToolDefinition | ExecutedTool
"""A tool as users give it; a `Tool` is one of the callables. `to_tool_definitions` says what each of them means."""
MessageLike = Message | Mapping[str, Any]
BatchPrompt = str | Sequence[MessageLike] | Mapping[str, Any]


class AbstractLLMInterface(ABC):
    """A language model behind one provider.

    Configuration given at construction holds for every call that does not say otherwise.
    """

    def __init__(self, config: Mapping[str | ModelParameter, Any] | None = None) -> None:
        self._config: dict[str, Any] = {str(name): value for name, value in (config or {}).items()}

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

    @abstractmethod
    def generate(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        stream: bool = False,
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> GenerateResponse | ResponseStream:
        """Answer a prompt, whole or as a stream of deltas.

        `prompt` is the user's turn; `system_prompt` goes before everything; `files` are attached to the user's
        turn; `tools` are functions, JSON Schemas or `ToolDefinition`s that the model may call. `messages=` is a
        conversation, to which a `prompt` beside it is added as the last turn. `params` are those of
        `ModelParameter`; None means "not given".

        The request is checked here, whole, before any work. With `stream=True` it starts when the stream is first
        iterated or entered with `with`; the last delta carries `finish_reason` and `usage`.

        Raises InvalidParameterError, FileProcessingError or UnsupportedFeatureError before any work, and any
        other AbstractLLMError from the work itself.
        """

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

    @abstractmethod
    def generate_async(
        self,
        prompt: str | None = None,
        system_prompt: str | None = None,
        files: Sequence[File] | None = None,
        stream: bool = False,
        tools: Sequence[ToolLike] | None = None,
        **params: Any,
    ) -> Coroutine[Any, Any, GenerateResponse] | AsyncResponseStream:
        """Answer a prompt without blocking the event loop; the same arguments, checks and results as `generate`.

        The result is a coroutine for the answer and, with `stream=True`, also an async iterator over its deltas,
        so that the `await` before `async for` may be left out. Cancelling it ends the request. Files are read
        in a thread when the work starts, so FileProcessingError is raised then.
        """

    def generate_batch(
        self,
        prompts: Iterable[BatchPrompt],
        *,
        concurrency: int = 8,
        progress: Progress = False,
        **params: Any,
    ) -> list[BatchItem]:
        """Answer many prompts, at most `concurrency` at a time; return one item for each, in their order.

        A prompt is a string, a conversation as a list of messages, or a dict of arguments for `generate`, which beat
        `params`, the arguments of all calls; `stream` is none of them. The prompts are iterated over in the calling
        thread, each drawn when there is room for it, so that they need not all be there. What `generate` would raise
        for one is that item's `error`, and the others go on.

        With `progress=True` a line on a terminal shows how far it is; a function is called with a `BatchProgress`
        after each item, as they end. An error of that function or of the iterable, or a KeyboardInterrupt, ends
        everything that still runs and is raised.

        Raises InvalidParameterError before any work for wrong arguments of its own.
        """
        return run_batch(self, prompts, concurrency, progress, params)

    def generate_batch_async(
        self,
        prompts: Iterable[BatchPrompt],
        *,
        concurrency: int = 8,
        progress: Progress = False,
        **params: Any,
    ) -> Coroutine[Any, Any, list[BatchItem]]:
        """Do what `generate_batch` does without blocking the event loop, on which the prompts are iterated over.

        Its own arguments are checked at the call. Cancelling it ends everything that still runs.
        """
        return run_batch_async(self, prompts, concurrency, progress, params)

    def get_capabilities(self) -> Capabilities:
        """Return what the model can do: True, False, or None where it is not known; no weights are loaded."""
        return {ModelCapability.STREAMING: True, ModelCapability.ASYNC: True}

    def model_name(self) -> str | None:
        """Return the model that a request gets which names none, as `response.model` has it; None where unknown."""
        name = self.get_param("model")
        return None if name is None else str(name)

    def count_tokens(self, messages: str | Sequence[MessageLike], tools: Sequence[ToolLike] | None = None) -> int:
        """Return how many tokens a conversation takes as a prompt, template and tools included."""
        raise UnsupportedFeatureError("count_tokens", f"{type(self).__name__} cannot count tokens.")

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        timeout: float | Timeout | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Embeddings:
        """Return one vector per text, in their order; none for no texts.

        Many texts are sent in several requests at once. `model` is an embedding model; without it, it is the setting
        `embedding_model`, or what the provider has for that. `dimensions` is how long the vectors shall be, where the
        model can choose. `timeout` holds for all of it, tries included. `options` are the provider's own.

        Raises InvalidParameterError for a text that is empty or none, UnsupportedFeatureError for what the provider
        cannot do, both before any work; and any other AbstractLLMError from the work itself.
        """
        raise UnsupportedFeatureError("embed", f"{type(self).__name__} has no embeddings.")

    def embed_async(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        timeout: float | Timeout | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Coroutine[Any, Any, Embeddings]:
        """Do what `embed` does, without blocking the event loop. Cancelling it ends the requests."""
        raise UnsupportedFeatureError("embed", f"{type(self).__name__} has no embeddings.")

    def load(self) -> None:
        """Get ready to answer, such as by loading weights; the first request does it otherwise."""

    def unload(self) -> None:
        """Give back what `load` took; the next request loads again."""

    def close(self) -> None:
        """End what still runs and give everything back. Safe to call twice; no request is taken afterwards."""

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def get_config(self) -> dict[str, Any]:
        """Return a copy of this instance's configuration."""
        return dict(self._config)

    def set_config(self, **settings: Any) -> None:
        """Change this instance's configuration for the calls that follow."""
        self._config.update(settings)

    def get_param(self, name: str | ModelParameter, default: Any = None) -> Any:
        """Return one value of this instance's configuration, or `default` where it is not set."""
        value = self._config.get(str(name))
        return default if value is None else value
