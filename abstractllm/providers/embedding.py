"""From texts to vectors, for any provider: checks, batches sent at once, joining. Knows no service and no HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.capabilities import ModelCapability, check_options
from abstractllm.errors import (
    AbstractLLMError,
    GenerationError,
    InvalidParameterError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
    shown,
)
from abstractllm.parameters import check_parameters
from abstractllm.portal import portal
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call
from abstractllm.providers.run import limited
from abstractllm.streams import Line
from abstractllm.types import EmbeddingRequest, Embeddings, GenerateRequest, Timeout, Usage

Embedder = Callable[[tuple[str, ...]], Awaitable[Embeddings]]
"""Makes the vectors of one batch of texts."""


@dataclass(frozen=True, slots=True)
class EmbeddingService:
    """What a service has for embeddings.

    - `source`: where the facts are from.
    - `inputs`, `size`: how many texts, and how many bytes of them, one request may have. A token has at least one byte,
      so that `size` keeps a limit of tokens without counting any; a text that is longer is sent alone.
    - `at_once`: how many requests are sent at the same time.
    - `model`: the one that is asked where none is named. `needs_model`: whether a request without one is refused; where
      it is not, a server has one model, which is the configured one.
    - `dimensions`: the field for the length of vectors; None where a service does not choose it.
    - `base64`: whether it is known to send vectors as base64, which is quicker.
    - `options`: fields of its own, for `options={...}`.
    - `known`: the capability, None where it depends on which model a server has.
    """

    source: str
    inputs: int = 64
    size: int | None = None
    at_once: int = 4
    model: str | None = None
    needs_model: bool = True
    dimensions: str | None = "dimensions"
    base64: bool = False
    options: frozenset[str] = frozenset()
    known: bool | None = True


class EmbeddingProvider(BaseProvider):
    """Base of providers that have embeddings. Subclasses set `embeddings` and write `_embedder`.

    The setting `embedding_model` is the model for `embed`, which is rarely the one that answers.
    """

    settings: ClassVar[frozenset[str]] = BaseProvider.settings | {"embedding_model"}
    embeddings: ClassVar[EmbeddingService | None] = None

    # What an author writes.

    def _embedder(self, request: EmbeddingRequest, call: Call) -> Embedder:
        """Return what makes the vectors of a batch of the request's texts; called once, when the work begins.

        It is called for several batches at once, on one event loop, and must not block it.
        """
        raise NotImplementedError

    def _check_embedding(self, request: EmbeddingRequest) -> None:
        """Raise for a request that cannot work, beyond what `embeddings` tells."""

    # The two faces.

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        timeout: float | Timeout | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Embeddings:
        """Return one vector per text; see `AbstractLLMInterface.embed`."""
        request = self._embedding_request(texts, model, dimensions, timeout, options)
        return portal().run(lambda: self._embedded(request))

    def embed_async(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        dimensions: int | None = None,
        timeout: float | Timeout | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Coroutine[Any, Any, Embeddings]:
        """Return one vector per text; see `AbstractLLMInterface.embed_async`."""
        return self._embedded(self._embedding_request(texts, model, dimensions, timeout, options))

    # Checks.

    def _embedding_request(
        self,
        texts: Sequence[str],
        model: str | None,
        dimensions: int | None,
        timeout: float | Timeout | None,
        options: Mapping[str, Any] | None,
    ) -> EmbeddingRequest:
        """Build the request and refuse it here if it cannot work."""
        self._check_open()
        service = self._embedding_service()
        checked = check_parameters({"timeout": timeout, "options": options})
        own = {name: value for name, value in self._config.get("options", {}).items() if name in service.options}
        request = EmbeddingRequest(
            _checked_texts(texts),
            self._embedding_model(model, service),
            _checked_dimensions(dimensions),
            checked.get("timeout", self._config.get("timeout")),
            own | checked.get("options", {}),
        )
        check_options(request.options, declared=service.options, provider=self.name)
        if request.dimensions is not None and service.dimensions is None:
            what = "This provider does not choose the length of vectors; leave dimensions out."
            raise UnsupportedFeatureError("dimensions", what, provider=self.name)
        self._check_embedding(request)
        return request

    def _embedding_service(self) -> EmbeddingService:
        if self.embeddings is None or self.get_capabilities().get(ModelCapability.EMBEDDINGS) is False:
            raise UnsupportedFeatureError("embed", "This provider has no embeddings; use another.", provider=self.name)
        return self.embeddings

    def _embedding_model(self, given: object, service: EmbeddingService) -> str | None:
        """Return the model to ask: the one given, the one set for it, or what is known to be one."""
        if given is not None and (not isinstance(given, str) or not given):
            raise InvalidParameterError("model", f"model={shown(given)} is not valid: it must be a name.")
        configured = self.get_param("model")
        fits = configured is not None and (not service.needs_model or "embed" in configured.lower())
        found: str | None = given or self.get_param("embedding_model") or (configured if fits else service.model)
        if found is None and service.needs_model:
            what = "No embedding model is named; pass model=, or set embedding_model."
            raise InvalidParameterError("model", what, provider=self.name)
        return found

    # The work.

    async def _embedded(self, request: EmbeddingRequest) -> Embeddings:
        """Do the work within its limits; it ends with an error of ours when the provider is closed."""
        nothing = GenerateRequest((), timeout=request.timeout)  # no answer, so that observers are told nothing
        with self._run(nothing, ResponseAccumulator(), Line()) as run:
            self._check_open()
            try:
                async with aclosing(limited(self._joined(request, run.call), run.call)) as found:
                    return await anext(found)
            except AbstractLLMError as error:
                error.provider = error.provider or self.name
                raise

    async def _joined(self, request: EmbeddingRequest, call: Call) -> AsyncGenerator[Embeddings, None]:
        """Yield the vectors of all texts, once: what has limits is a stream of deltas."""
        service = self._embedding_service()
        embedder = self._embedder(request, call)
        batches = enumerate(batched(request.texts, service))
        found: dict[int, Embeddings] = {}

        async def work() -> None:
            for number, texts in batches:
                found[number] = self._counted(await embedder(texts), texts)

        await _together(work, min(service.at_once, len(request.texts)))
        if sum(map(len, found.values())) != len(request.texts):  # a group of tasks does not tell of a cancelled one
            raise UnsupportedOperationError("The request was given up while it waited.")
        yield self._checked_vectors([found[number] for number in sorted(found)], request)

    def _counted(self, vectors: Embeddings, texts: Sequence[str]) -> Embeddings:
        if len(vectors) != len(texts):
            what = f"The service sent {len(vectors)} vectors for {len(texts)} texts; is it the right kind of service?"
            raise GenerationError(what, provider=self.name)
        return vectors

    def _checked_vectors(self, parts: Sequence[Embeddings], request: EmbeddingRequest) -> Embeddings:
        """Return the vectors of all batches, which have the length that was asked for, or at least the same."""
        vectors = Embeddings(
            (vector for part in parts for vector in part),
            usage=_summed(part.usage for part in parts),
            model=next((part.model for part in parts if part.model), request.model),
        )
        lengths = {len(vector) for vector in vectors}
        wanted = lengths if request.dimensions is None else {request.dimensions}
        if vectors and (lengths != wanted or len(lengths) > 1 or 0 in lengths):
            asked = "" if request.dimensions is None else f", and dimensions={request.dimensions} was asked for"
            what = f"The service sent vectors of {sorted(lengths)} numbers{asked}; use another model."
            raise GenerationError(what, provider=self.name)
        return vectors


def batched(texts: Sequence[str], service: EmbeddingService) -> Iterator[tuple[str, ...]]:
    """Yield the texts in batches that one request may have."""
    batch: list[str] = []
    size = 0
    for text in texts:
        added = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        full = len(batch) == service.inputs or (service.size is not None and size + added > service.size)
        if batch and full:
            yield tuple(batch)
            batch, size = [], 0
        batch.append(text)
        size += added
    if batch:
        yield tuple(batch)


async def _together(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Run the work so many times at once. The first error ends them all, and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except BaseExceptionGroup as errors:
        first = errors.exceptions[0]
        raise first from first.__cause__


def _summed(usages: Iterable[Usage | None]) -> Usage | None:
    """Return the tokens of all requests; None where one is unknown, as a part of them would mislead."""
    tokens = 0
    for usage in usages:
        if usage is None:
            return None
        tokens += usage.prompt_tokens
    return Usage(tokens)


def _checked_texts(texts: object) -> tuple[str, ...]:
    if isinstance(texts, (str, bytes, Mapping)) or not isinstance(texts, Iterable):
        what = f"texts={shown(texts)} is not valid: it must be a list of strings, [text] for a single one."
        raise InvalidParameterError("texts", what)
    found = tuple(texts)
    for number, text in enumerate(found):
        if not isinstance(text, str):
            what = f"texts[{number}] is of type {type(text).__name__}; it must be a string."
            raise InvalidParameterError("texts", what)
        if not text:
            raise InvalidParameterError("texts", f"texts[{number}] is empty; an empty text has no vector.")
    return found


def _checked_dimensions(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        what = f"dimensions={shown(value)} is not valid: it must be a whole number from 1 on."
        raise InvalidParameterError("dimensions", what)
    return value
