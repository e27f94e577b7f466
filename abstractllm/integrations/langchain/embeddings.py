"""LangChain's embeddings on a provider that has them. Knows no provider."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.embeddings import Embeddings

from abstractllm.integrations.langchain.backends import Backend, Holder, Spec
from abstractllm.integrations.langchain.failing import told_to_langchain
from abstractllm.types import Timeout


class AbstractLLMEmbeddings(Embeddings):
    """Vectors of texts, from any provider that has embeddings.

    `llm` is a config string such as "ollama", a profile, or a provider, which stays the caller's to close. `model` is
    the embedding model, `dimensions` how long the vectors shall be, `timeout` as in `embed`, `options` the provider's
    own; `settings` are what the provider is made with (`api_key`, `base_url`, ...).

    Methods raise what `AbstractLLMInterface.embed` raises, in LangChain's classes too.
    """

    def __init__(
        self,
        llm: Spec,
        *,
        model: str | None = None,
        dimensions: int | None = None,
        timeout: float | Timeout | None = None,
        options: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self._holder = Holder()
        self._spec, self._settings = llm, settings
        self._backend()
        self._asked: dict[str, Any] = {"model": model, "dimensions": dimensions, "timeout": timeout, "options": options}

    def _backend(self) -> Backend:
        return self._holder.get(self._spec, self._settings)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text, in their order."""
        with told_to_langchain():
            return list(self._backend().provider().embed(texts, **self._asked))

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text."""
        return self.embed_documents([text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Do what `embed_documents` does, without blocking the event loop."""
        with told_to_langchain():
            return list(await self._backend().provider().embed_async(texts, **self._asked))

    async def aembed_query(self, text: str) -> list[float]:
        """Do what `embed_query` does, without blocking the event loop."""
        return (await self.aembed_documents([text]))[0]

    def close(self) -> None:
        """Close the provider, unless it is the caller's or others have it."""
        for provider in self._holder.close():
            provider.close()

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        for provider in self._holder.close():
            await provider.aclose()
