"""The provider of services that speak OpenAI's Chat Completions: one class that serves any row of `services`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from abstractllm.capabilities import Capabilities
from abstractllm.errors import InvalidParameterError
from abstractllm.providers.call import Call
from abstractllm.providers.embedding import EmbeddingService
from abstractllm.providers.http.embeddings import HTTPEmbeddings
from abstractllm.providers.http.provider import HTTPProvider
from abstractllm.providers.services import ANY, SERVICES, Service
from abstractllm.providers.stopping import cut_at_stop
from abstractllm.types import GenerateRequest, GenerateResponse
from abstractllm.wire.asking import as_asked
from abstractllm.wire.codec import Codec
from abstractllm.wire.openai_chat import OpenAIChat
from abstractllm.wire.openai_chat_way import codec_for
from abstractllm.wire.openai_embeddings import OpenAIEmbeddings


class CompatibleProvider(HTTPEmbeddings):
    """A service that speaks OpenAI's Chat Completions; this class itself asks whatever answers at `base_url`.

    A subclass is one service: `class Mine(CompatibleProvider, service=Service(...))` takes everything from the row.
    """

    service: ClassVar[Service] = ANY
    path: ClassVar[str] = "/chat/completions"
    name: ClassVar[str] = ANY.name
    key_variable: ClassVar[str | None] = ANY.key_variable
    needs_key: ClassVar[bool] = ANY.needs_key
    parameters: ClassVar[frozenset[str]] = ANY.quirks.accepted
    options: ClassVar[frozenset[str]] = ANY.options
    defaults: ClassVar[Mapping[str, Any]] = ANY.defaults
    embeddings: ClassVar[EmbeddingService | None] = ANY.embeddings

    def __init_subclass__(cls, *, service: Service | None = None, **more: Any) -> None:
        super().__init_subclass__(**more)
        if service is None:
            return
        cls.service, cls.name = service, service.name
        cls.key_variable, cls.needs_key = service.key_variable, service.needs_key
        cls.parameters, cls.options = service.quirks.accepted, service.options
        cls.defaults, cls.embeddings, cls.attachments = service.defaults, service.embeddings, service.attachments
        cls.settings = HTTPProvider.settings if service.embeddings is None else HTTPEmbeddings.settings

    def get_capabilities(self) -> Capabilities:
        """Return what is known of all models of the service; None stands for what depends on the model."""
        return self.service.capabilities

    def _configure(self, config: Mapping[str, Any]) -> None:
        super()._configure(config)
        self._chat = OpenAIChat(self.service.quirks, self.name)

    def _codec(self) -> OpenAIChat:
        return self._chat

    def _embedding_codec(self) -> OpenAIEmbeddings:
        return openai_embeddings(self._embedding_service(), self.name)

    def _codec_for(self, request: GenerateRequest) -> Codec:
        return codec_for(self._chat, request, self.service.quirks)

    def _astream(self, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
        if self.service.finds_stops or not request.stop:
            return super()._astream(request, call)
        return cut_at_stop(super()._astream(replace(request, stop=(), stream=True), call), request.stop)

    def _answer(self, request: GenerateRequest, call: Call) -> Coroutine[Any, Any, GenerateResponse] | None:
        return super()._answer(request, call) if self.service.finds_stops or not request.stop else None

    def _check(self, request: GenerateRequest) -> None:
        super()._check(request)
        if self.service.needs_model and request.model is None:
            raise no_model()
        self._chat.check_request(as_asked(self._codec_for(request), request))


def openai_embeddings(service: EmbeddingService, provider: str) -> OpenAIEmbeddings:
    """Return the format of a service's embeddings."""
    return OpenAIEmbeddings(provider, service.dimensions, service.base64)


def no_model() -> InvalidParameterError:
    """Return the error for a request without a model, where the service has none of its own."""
    return InvalidParameterError("model", "No model is named, and this service chooses none; pass model=.")


class VLLM(CompatibleProvider, service=SERVICES["vllm"]):
    """A vLLM server, by default on this machine."""


class LMStudio(CompatibleProvider, service=SERVICES["lmstudio"]):
    """LM Studio's server, by default on this machine."""


class MLXServer(CompatibleProvider, service=SERVICES["mlx-lm"]):
    """The server of mlx-lm, by default on this machine."""


class OpenRouter(CompatibleProvider, service=SERVICES["openrouter"]):
    """OpenRouter, a gateway to many services."""


class Groq(CompatibleProvider, service=SERVICES["groq"]):
    """Groq."""


class Mistral(CompatibleProvider, service=SERVICES["mistral"]):
    """Mistral's own models."""


class DeepSeek(CompatibleProvider, service=SERVICES["deepseek"]):
    """DeepSeek's own models."""


class Together(CompatibleProvider, service=SERVICES["together"]):
    """Together AI."""


class Fireworks(CompatibleProvider, service=SERVICES["fireworks"]):
    """Fireworks AI."""


class XAI(CompatibleProvider, service=SERVICES["xai"]):
    """xAI's Grok models."""


class Gemini(CompatibleProvider, service=SERVICES["gemini"]):
    """Google's Gemini models, through its endpoint of this format."""


class Azure(CompatibleProvider, service=SERVICES["azure"]):
    """Deployments of Azure OpenAI; `base_url` is the resource's, with `/openai/v1` at its end."""
