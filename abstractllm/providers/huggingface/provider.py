"""The provider itself: requests in, deltas out. The work is done by the modules beside it, which load torch lazily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.interface import MessageLike, ToolLike
from abstractllm.messages import to_messages
from abstractllm.parameters import ModelParameter
from abstractllm.providers.base import BaseProvider, Finding, ModelInfo
from abstractllm.providers.call import Call
from abstractllm.providers.huggingface.backend import (
    NAME,
    check_device,
    check_installed,
    find_device,
    missing_libraries,
    own_errors,
    version,
)
from abstractllm.providers.huggingface.decoding import answer_all
from abstractllm.providers.huggingface.models import LoadedModel, ModelKey, SharedModel, model_key, shared_model
from abstractllm.providers.local.dtypes import check_dtype
from abstractllm.providers.local.forms import check_form
from abstractllm.providers.local.hub import (
    context_window,
    fetch,
    find_locally,
    list_cached,
    read_config,
    read_template,
    remove,
)
from abstractllm.providers.local.preparing import MAX_TOKENS, name_of, prepare
from abstractllm.providers.local.tokenizer import no_template
from abstractllm.text.markers import call_format
from abstractllm.types import GenerateRequest, GenerateResponse, Message


class HuggingFaceProvider(BaseProvider):
    """Runs a model in this process with transformers and PyTorch.

    Settings: `model` is a folder or a Hugging Face repository id, the model that ships when left out; `dtype` is
    "auto" (float32 on the processor if memory allows, as it is elsewhere), "float32", "float16" or "bfloat16"; `device`
    is "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1" and so on, "mps" or "xpu". Only safetensors are
    loaded, and code that comes with a model is never run.

    Providers with the same model, dtype and device share its weights. Requests that run at the same time take turns
    token by token, each computed alone: company never changes an answer, so every request is a `deterministic` one.
    `max_tokens` is cut to what the context has room for.
    """

    name: ClassVar[str] = NAME
    default_retries: ClassVar[int] = 0
    parameters: ClassVar[frozenset[str]] = frozenset(
        {"max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "tool_choice"}
        | {"n", "deterministic", "logprobs", "top_logprobs", "logit_bias", "response_format"}
        | {"presence_penalty", "frequency_penalty", "repetition_penalty"}
    )
    settings: ClassVar[frozenset[str]] = frozenset({"model", "dtype", "device"})
    defaults: ClassVar[Mapping[str, Any]] = {"max_tokens": MAX_TOKENS, "dtype": "auto", "device": "auto"}
    max_threads: ClassVar[int] = 8  # so many requests have caches at a time; more would only take more memory

    def __init__(self, config: Mapping[str | ModelParameter, Any] | None = None, **settings: Any) -> None:
        self._shared: SharedModel | None = None
        self._known: tuple[str | None, Capabilities] | None = None
        self._with_template: set[str | None] = set()
        super().__init__(config, **settings)
        check_installed()

    def get_capabilities(self) -> Capabilities:
        """Return what the model can do, from its config and chat template; None for one not yet on this machine.

        Raises ModelNotFoundError or ModelLoadingError when there is no model or its config cannot be read.
        """
        model = self.get_param("model")
        if self._known is not None and self._known[0] == model:
            return self._known[1]
        with own_errors():
            path = find_locally(model)
            capabilities = capabilities_of(path)
        if path is not None:
            self._known = model, capabilities
        return capabilities

    def model_name(self) -> str:
        """Return the model that a request gets which names none; for the one that ships, the name of its folder."""
        return name_of(self.get_param("model"))

    def count_tokens(self, messages: str | Sequence[MessageLike], tools: Sequence[ToolLike] | None = None) -> int:
        """Return the tokens of the prompt, template and tools included; loads the model if it is not loaded."""
        from abstractllm.tools import to_tool_definitions

        self._check_open()
        turns = (Message("user", messages),) if isinstance(messages, str) else to_messages(messages)
        tokenizer = self._loaded(self.get_param("model")).tokenizer
        with own_errors():
            return len(tokenizer.encode(tokenizer.render(turns, to_tool_definitions(tools or ()))))

    def load(self) -> None:
        """Load the model, downloading it first if it is not on this machine; raises ModelError."""
        self._check_open()
        self._loaded(self.get_param("model"))

    def unload(self) -> None:
        """Free the weights once no request runs, unless another provider uses them; the next request loads them."""
        self._shared = None

    @classmethod
    def list_models(cls) -> list[ModelInfo]:
        """Return the model that ships and those in the Hugging Face cache."""
        with own_errors():
            return list_cached()

    @classmethod
    def pull_model(cls, model: str) -> str:
        """Download a model into the Hugging Face cache, with a progress bar on a terminal."""
        with own_errors():
            return str(fetch(model))

    @classmethod
    def remove_model(cls, model: str) -> int:
        """Delete a model from the Hugging Face cache; returns the bytes freed."""
        with own_errors():
            return remove(model)

    @classmethod
    def diagnose(cls) -> list[Finding]:
        """Return versions and the device, or what is not installed."""
        missing = missing_libraries()
        if missing is not None:
            return [Finding("not installed", missing)]
        versions = [Finding(name, version(name) or "unknown") for name in ("torch", "transformers")]
        return [*versions, Finding("device", _device())]

    def _configure(self, config: Mapping[str, Any]) -> None:
        check_dtype(config["dtype"])
        check_device(config["device"])

    def _check(self, request: GenerateRequest) -> None:
        with own_errors():
            if request.model not in self._with_template:
                self._check_template(request.model)
            check_form(request)

    def _check_template(self, model: str | None) -> None:
        """Refuse a model without a chat template; one that has been looked at is not read again at every call."""
        path = find_locally(model)
        if path is None:
            return
        if read_template(path) is None:
            raise no_template()
        self._with_template.add(model)

    def _key(self, model: str | None) -> ModelKey:
        return model_key(model, self.get_param("dtype"), self.get_param("device"))

    def _loaded(self, model: str | None) -> LoadedModel:
        """Return the model, loading it if need be. One that this provider used before it lets go of."""
        key = self._key(model)
        shared = self._shared
        if shared is None or shared.key != key:
            shared = self._shared = shared_model(key)
        with own_errors():
            return shared.get()

    def _stream(self, request: GenerateRequest, call: Call) -> Iterator[GenerateResponse]:
        model = self._loaded(request.model)
        with own_errors():
            yield from answer_all(model, prepare(model, request), call)


def capabilities_of(path: Path | None) -> Capabilities:
    """Return what the model in a folder can do; None for the folder of one that is not on this machine."""
    tools = None if path is None else call_format(read_template(path)) is not None
    return {
        ModelCapability.STREAMING: True,
        ModelCapability.ASYNC: True,
        ModelCapability.MULTI_TURN: True,
        ModelCapability.PARALLEL_INFERENCE: True,
        ModelCapability.SYSTEM_PROMPT: True,
        ModelCapability.VISION: False,
        ModelCapability.DOCUMENTS: False,
        ModelCapability.EMBEDDINGS: False,
        ModelCapability.STRUCTURED_OUTPUT: True,
        ModelCapability.MAX_TOKENS: MAX_TOKENS,
        ModelCapability.CONTEXT_WINDOW: None if path is None else context_window(read_config(path)),
        ModelCapability.TOOL_USE: tools,
        ModelCapability.FUNCTION_CALLING: tools,
    }


def _device() -> str:
    """Return what "auto" is here, or why it cannot be told: a diagnosis never raises."""
    try:
        return str(find_device("auto"))
    except Exception as error:
        return f"unknown ({type(error).__name__}: {error})"
