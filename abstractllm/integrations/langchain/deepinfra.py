"""DeepInfra's embeddings, which Maritaca recommends beside its models: it has none of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from abstractllm.errors import InvalidParameterError
from abstractllm.integrations.langchain.embeddings import AbstractLLMEmbeddings
from abstractllm.types import Timeout

MODEL = "intfloat/multilingual-e5-large"
ADDRESS = "https://api.deepinfra.com/v1/openai"
KEY, PLACE = "DEEPINFRA_API_KEY", "DEEPINFRA_API_BASE"

_PREFIXES: Mapping[str, tuple[str, str]] = {"e5": ("query: ", "passage: ")}
"""By the family of a model, what its questions and its documents must begin with.

Source: the model card of intfloat/multilingual-e5-large, "Each input text should start with 'query: ' or 'passage: '".
"""


class DeepInfraEmbeddings(AbstractLLMEmbeddings):
    """Vectors of texts by DeepInfra, in the format of OpenAI's service; `multilingual-e5-large` where none is named.

    The key is `api_key` or the environment variable DEEPINFRA_API_KEY, the address `base_url` or DEEPINFRA_API_BASE.
    Questions and documents begin with `query_prefix` and `document_prefix`; where these are not given, with those that
    models of the family E5 need, and with nothing for others.

    Raises InvalidParameterError without a key.
    """

    def __init__(
        self,
        model: str = MODEL,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        dimensions: int | None = None,
        timeout: float | Timeout | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        **settings: Any,
    ) -> None:
        key = api_key or os.environ.get(KEY)
        if not key:
            raise InvalidParameterError("api_key", f"No key; set the environment variable {KEY} or pass api_key=.")
        family = "e5" if "e5-" in model.rpartition("/")[2] else ""
        query, document = _PREFIXES.get(family, ("", ""))
        self.query_prefix = query if query_prefix is None else query_prefix
        self.document_prefix = document if document_prefix is None else document_prefix
        place = base_url or os.environ.get(PLACE) or ADDRESS
        asked: dict[str, Any] = {"model": model, "dimensions": dimensions, "timeout": timeout}
        super().__init__("compatible", **asked, api_key=key, base_url=place, **settings)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per document, in their order."""
        return super().embed_documents([self.document_prefix + text for text in texts])

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a question."""
        return super().embed_documents([self.query_prefix + text])[0]

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Do what `embed_documents` does, without blocking the event loop."""
        return await super().aembed_documents([self.document_prefix + text for text in texts])

    async def aembed_query(self, text: str) -> list[float]:
        """Do what `embed_query` does, without blocking the event loop."""
        return (await super().aembed_documents([self.query_prefix + text]))[0]
