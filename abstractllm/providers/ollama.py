"""Ollama's native API: chat, and the models that it keeps. Knows where the service is; the format is in `wire`."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing
from typing import Any, ClassVar

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import AuthenticationError, InvalidParameterError, UnsupportedFeatureError
from abstractllm.portal import portal
from abstractllm.providers import intake
from abstractllm.providers.base import ModelInfo
from abstractllm.providers.embedding import EmbeddingService
from abstractllm.providers.http.attachments import Attachments
from abstractllm.providers.http.embeddings import HTTPEmbeddings
from abstractllm.providers.http.endpoint import Endpoint, read_endpoint
from abstractllm.providers.http.errands import ErrandProvider
from abstractllm.providers.http.rehearsal import rehearse
from abstractllm.providers.ollama_address import HOST_VARIABLE, base_url_of, is_hosted, is_on_this_machine
from abstractllm.types import GenerateRequest
from abstractllm.wire import ollama_embeddings, ollama_request
from abstractllm.wire.ollama import OllamaChat
from abstractllm.wire.ollama_embeddings import OllamaEmbeddings
from abstractllm.wire.ollama_models import LocalModel, ModelFacts, PullDecoder, PullProgress, decode_show, decode_tags
from abstractllm.wire.ollama_request import OllamaQuirks

_LEVELLED = "gpt-oss"
"""In the names of models that think at a level, and never not: https://docs.ollama.com/capabilities/thinking."""


_EMBEDDINGS = EmbeddingService(
    "docs.ollama.com/api/embed and server/routes.go: any model may be asked, no limit of texts, which are worked on as"
    " many at once as the service has been told to.",
    at_once=2,
    options=ollama_embeddings.BESIDE | {"num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap"},
)


class _ByModel(OllamaChat):
    """The codec with the quirks of each request's model."""

    def encode_request(self, request: GenerateRequest) -> Mapping[str, Any]:
        quirks = OllamaQuirks(think_levels=_has_levels(request.model))
        return ollama_request.encode_request(request, quirks)


class OllamaProvider(HTTPEmbeddings, ErrandProvider):
    """Asks an Ollama service, which runs models on this machine or another.

    Settings: `model` has no default; `base_url`, or the environment variable OLLAMA_HOST, may lack scheme and port;
    `api_key` is needed for ollama.com alone; `max_retries`. OLLAMA_API_KEY is read only for another machine that is
    spoken to over https: it must not go over a network in the clear.

    Options: `keep_alive`, `truncate` and `shift` stand beside the others, which are those of a Modelfile, such as
    `num_ctx`: the service's own default for that cuts long prompts without a word. `reasoning` only switches thinking
    on and off, except for models that know levels.

    `embed` has a text that is too long for the model refused, unless the option `truncate` lets it be cut.

    What a model can do is unknown until `show` was asked; constructing and answering never ask.
    """

    name: ClassVar[str] = "ollama"
    path: ClassVar[str] = "/api/chat"
    key_variable: ClassVar[str | None] = "OLLAMA_API_KEY"
    attachments: ClassVar[Attachments] = intake.OLLAMA
    needs_key: ClassVar[bool] = False
    parameters: ClassVar[frozenset[str]] = frozenset(
        {"max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "tool_choice", "response_format"}
        | {"logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning"}
    )
    options: ClassVar[frozenset[str]] = ollama_request.BESIDE | {
        *("num_ctx", "num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap"),
        *("typical_p", "repeat_last_n", "draft_num_predict"),
    }

    embeddings: ClassVar[EmbeddingService | None] = _EMBEDDINGS
    embedding_path: ClassVar[str] = "/api/embed"

    def __init__(self, config: Mapping[str | Any, Any] | None = None, **settings: Any) -> None:
        self._facts: dict[tuple[str, str], ModelFacts] = {}
        super().__init__(config, **settings)

    def get_capabilities(self) -> Capabilities:
        """Return what is known: of the model what the last `show` of it said, None where it was not asked."""
        place = (self._endpoint.base_url, _tagged(self.get_param("model") or ""))
        facts = self._facts.get(place, ModelFacts())
        window = (self.get_param("options") or {}).get("num_ctx")
        return {
            ModelCapability.STREAMING: True,
            ModelCapability.ASYNC: True,
            ModelCapability.MULTI_TURN: True,
            ModelCapability.PARALLEL_INFERENCE: True,
            ModelCapability.SYSTEM_PROMPT: True,
            ModelCapability.TOOL_USE: _can(facts, "tools"),
            ModelCapability.FUNCTION_CALLING: _can(facts, "tools"),
            ModelCapability.VISION: _can(facts, "vision"),
            ModelCapability.DOCUMENTS: False,
            ModelCapability.EMBEDDINGS: _can(facts, "embedding") or None,  # other models are not refused
            ModelCapability.JSON_MODE: True,
            ModelCapability.STRUCTURED_OUTPUT: True,
            ModelCapability.REASONING: _can(facts, "thinking"),
            ModelCapability.MAX_TOKENS: None,
            ModelCapability.CONTEXT_WINDOW: window if isinstance(window, int) else None,
        }

    # The service's models.

    def models(self) -> tuple[LocalModel, ...]:
        """Return the models that the service has. Raises ProviderAPIError and its like."""
        return portal().run(self.models_async)

    async def models_async(self) -> tuple[LocalModel, ...]:
        """Do what `models` does, for async code."""
        with self._telling():
            return decode_tags(await self._fetched("GET", "/api/tags"), self.name)

    def show(self, model: str | None = None) -> ModelFacts:
        """Return what a model is and can do, and remember it for `get_capabilities`. Raises ModelNotFoundError."""
        return portal().run(lambda: self.show_async(model))

    async def show_async(self, model: str | None = None) -> ModelFacts:
        """Do what `show` does, for async code."""
        named = self._named(model)
        place = (self._endpoint.base_url, _tagged(named))
        with self._telling():
            facts = decode_show(await self._fetched("POST", "/api/show", {"model": named}), self.name)
        self._facts[place] = facts
        return facts

    def pull(self, model: str | None = None) -> Generator[PullProgress, None, None]:
        """Have the service download a model, and yield how far it is.

        Leaving early ends the request, and so does `close`, after which this raises UnsupportedOperationError.
        """
        named = self._named(model)
        return portal().iterate(lambda: self.pull_async(named))

    async def pull_async(self, model: str | None = None) -> AsyncGenerator[PullProgress, None]:
        """Do what `pull` does, for async code."""
        decoder = PullDecoder(self.name)
        body = {"model": self._named(model), "stream": True}
        with self._telling():
            async with aclosing(self._pieces("POST", "/api/pull", body)) as pieces:
                async for piece in pieces:
                    for step in decoder.feed(piece):
                        yield step
            for step in decoder.end():
                yield step

    @classmethod
    def list_models(cls) -> list[ModelInfo]:
        """Return the models of the service that the environment names; an instance's own are `models()`."""
        with cls() as llm:
            return [ModelInfo(model.name, model.size) for model in llm.models()]

    @classmethod
    def pull_model(cls, model: str) -> str:
        """Have the service that the environment names download a model, and return where it is."""
        with cls() as llm:
            for step in llm.pull(model):
                _report(step)
            return f"{model} at {llm._endpoint.base_url}"

    # One request.

    def _codec(self) -> OllamaChat:
        return _CODEC

    def _embedding_codec(self) -> OllamaEmbeddings:
        return OllamaEmbeddings(self.name)

    def _place(self, config: Mapping[str, Any]) -> Endpoint:
        return _endpoint(config, self.key_variable)

    def _check(self, request: GenerateRequest) -> None:
        super()._check(request)
        if not request.model:
            raise _no_model()
        if request.reasoning == "none" and _has_levels(request.model):
            what = "This model always reasons; leave reasoning out, or say 'low'."
            raise UnsupportedFeatureError("reasoning", what, provider=self.name)
        if request.reasoning not in (None, "none") and self.get_capabilities()[ModelCapability.REASONING] is False:
            raise UnsupportedFeatureError("reasoning", "This model cannot reason; leave it out.", provider=self.name)
        rehearse(_CODEC, request)

    def _check_key(self) -> None:
        super()._check_key()
        if self._endpoint.key is None and is_hosted(self._endpoint.base_url):
            what = "ollama.com wants a key; set the environment variable OLLAMA_API_KEY or pass api_key=."
            raise AuthenticationError(what, provider=self.name)

    def _named(self, model: str | None) -> str:
        named = model or self.get_param("model")
        if not isinstance(named, str):
            raise _no_model()
        return named


_CODEC = _ByModel()


def _endpoint(config: Mapping[str, Any], variable: str | None) -> Endpoint:
    """Return where requests go; a key from the service's own variable only where it is safe."""
    given = config.get("base_url")
    named = os.environ.get(HOST_VARIABLE, "") if given is None else given
    placed = {**config, "base_url": base_url_of(named) if isinstance(named, str) else named}
    endpoint = read_endpoint(placed, None)
    if endpoint.key is not None or not endpoint.is_secure or is_on_this_machine(endpoint.base_url):
        return endpoint
    return read_endpoint(placed, variable)


def _has_levels(model: str | None) -> bool:
    return _LEVELLED in (model or "").lower()


def _tagged(model: str) -> str:
    """Return a model's name with its tag, which is "latest" where it has none."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _can(facts: ModelFacts, word: str) -> bool | None:
    return None if facts.capabilities is None else word in facts.capabilities


def _no_model() -> InvalidParameterError:
    return InvalidParameterError("model", "No model; pass model=, one of those that models() lists.", provider="ollama")


def _report(step: PullProgress) -> None:
    """Show a download's progress on a terminal."""
    if not sys.stderr.isatty():
        return
    share = f" {100 * (step.completed or 0) // step.total}%" if step.total else ""
    end = "\n" if step.status == "success" else ""
    print(f"\r\x1b[K{step.status:.70}{share}", end=end, file=sys.stderr, flush=True)
