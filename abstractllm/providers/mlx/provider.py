"""The provider itself: requests in, deltas out. The work is done by the modules beside it."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import (
    InvalidParameterError,
    MissingDependencyError,
    install_command,
)
from abstractllm.interface import MessageLike, ToolLike
from abstractllm.messages import to_messages
from abstractllm.parameters import ModelParameter
from abstractllm.providers.base import BaseProvider, Finding, ModelInfo
from abstractllm.providers.call import Call
from abstractllm.providers.local.answer import Answer, Prepared, Sink
from abstractllm.providers.local.dtypes import check_dtype
from abstractllm.providers.local.forms import SINGLE, check_form
from abstractllm.providers.local.hub import (
    common_window,
    fetch,
    find_locally,
    has_template,
    list_cached,
    read_template,
    remove,
)
from abstractllm.providers.local.preparing import MAX_TOKENS, name_of, prepare
from abstractllm.providers.local.tokenizer import no_template
from abstractllm.providers.mlx.backend import check_installed, import_mlx, load_blas, on_cpu, version
from abstractllm.providers.mlx.delivery import LoopSink, SharedSink, ThreadSink
from abstractllm.providers.mlx.exclusive import Exclusive
from abstractllm.providers.mlx.pool import LoadedModel, ModelKey, model_key, model_pool
from abstractllm.providers.mlx.worker import mlx_thread
from abstractllm.types import GenerateRequest, GenerateResponse, Message


class MLXProvider(BaseProvider):
    """Runs a model in this process with MLX.

    Settings: `model` is a folder or a Hugging Face repository id, the model that ships when left out; `dtype` is
    "auto" (float32 on the CPU if memory allows, as it is elsewhere), "float32", "float16" or "bfloat16"; `max_queue`
    is how many requests may wait for a place in the batch before a further one raises QueueFullError (no limit).
    `draft_model` is a smaller model with the same tokens, a folder or repository id; it proposes `draft_tokens` (1 to
    32, by default 3) at a time. `kv_bits` is 4 or 8 for quantised KV caches, and `kv_group_size` 32, 64 or 128 how many
    numbers share a scale there (64, or 32 where that does not divide the model's heads).
    Option: `parallel_tool_calls=False` allows one tool call in an answer.

    Requests of all providers with one model run in one batch, unless there is a `draft_model` or `kv_bits`: requests
    of those with the same ones run one after another. `max_tokens` is cut to what the context has room for.
    """

    name: ClassVar[str] = "mlx"
    default_retries: ClassVar[int] = 0
    parameters: ClassVar[frozenset[str]] = frozenset(
        {"max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "tool_choice"}
        | {"n", "priority", "deterministic", "logprobs", "top_logprobs", "logit_bias", "response_format"}
        | {"presence_penalty", "frequency_penalty", "repetition_penalty"}
    )
    settings: ClassVar[frozenset[str]] = frozenset(
        {"model", "dtype", "max_queue", "draft_model", "draft_tokens", "kv_bits", "kv_group_size"}
    )
    options: ClassVar[frozenset[str]] = frozenset({SINGLE})
    defaults: ClassVar[Mapping[str, Any]] = {"max_tokens": MAX_TOKENS, "dtype": "auto"}
    max_threads: ClassVar[int] = 8  # only prepare requests, mostly one at a time; each holds some 0.1 MB for good

    def __init__(self, config: Mapping[str | ModelParameter, Any] | None = None, **settings: Any) -> None:
        self._known: tuple[ModelKey, Capabilities] | None = None
        self._used: set[ModelKey] = set()
        self._exclusive = Exclusive()
        self._with_template: set[str | None] = set()
        super().__init__(config, **settings)
        check_installed()

    def get_capabilities(self) -> Capabilities:
        """Return what the model can do, from its config and chat template; None for one not yet on this machine.

        Raises ModelNotFoundError or ModelLoadingError when there is no model or its config cannot be read.
        """
        key = self._key(self.get_param("model"))
        if self._known is not None and self._known[0] == key:
            return self._known[1]
        path, draft = find_locally(key.model), key.exclusive.draft_model
        folders = [path, *([] if draft is None else [find_locally(draft)])]
        here = [folder for folder in folders if folder is not None]
        capabilities = _capabilities(path, common_window(*here) if here == folders else None)
        if here == folders:
            self._known = key, capabilities
        return capabilities

    def model_name(self) -> str:
        """Return the model that a request gets which names none; for the one that ships, the name of its folder."""
        return name_of(self.get_param("model"))

    def count_tokens(self, messages: str | Sequence[MessageLike], tools: Sequence[ToolLike] | None = None) -> int:
        """Return the tokens of the prompt, template and tools included; loads the model if it is not loaded."""
        from abstractllm.tools import to_tool_definitions

        self._check_open()
        turns = (Message("user", messages),) if isinstance(messages, str) else to_messages(messages)
        tokenizer = self._loading(self.get_param("model")).result().tokenizer
        return len(tokenizer.encode(tokenizer.render(turns, to_tool_definitions(tools or ()))))

    def load(self) -> None:
        """Load the model, downloading it first if it is not on this machine; raises ModelError."""
        self._check_open()
        self._loading(self.get_param("model")).result()

    def unload(self) -> None:
        """Free the weights, unless another provider uses them; the next request loads them again."""
        while self._used:
            model_pool().release(self._used.pop(), self)

    @classmethod
    def list_models(cls) -> list[ModelInfo]:
        """Return the model that ships and those in the Hugging Face cache."""
        return list_cached()

    @classmethod
    def pull_model(cls, model: str) -> str:
        """Download a model into the Hugging Face cache, with a progress bar on a terminal."""
        return str(fetch(model))

    @classmethod
    def remove_model(cls, model: str) -> int:
        """Delete a model from the Hugging Face cache; returns the bytes freed."""
        return remove(model)

    @classmethod
    def diagnose(cls) -> list[Finding]:
        """Return versions, device and BLAS, and what to install for more speed."""
        try:
            mx = import_mlx()
        except MissingDependencyError as error:
            return [Finding("mlx", "not installed", str(error))]
        versions = [Finding(name, version(name) or "unknown") for name in ("mlx", "mlx-lm", "transformers")]
        return [*versions, Finding("device", str(mx.default_device())), *_diagnose_blas(mx)]

    def _configure(self, config: Mapping[str, Any]) -> None:
        check_dtype(config["dtype"])
        _check_max_queue(config.get("max_queue"))
        self._exclusive = Exclusive.of(config)

    def _check(self, request: GenerateRequest) -> None:
        if request.model not in self._with_template:
            self._check_template(request.model)
        check_form(request)

    def _check_template(self, model: str | None) -> None:
        """Refuse a model without a chat template; one that has been looked at is not read again at every call."""
        path = find_locally(model)
        if path is None:
            return
        if not has_template(path):
            raise no_template()
        self._with_template.add(model)

    def _key(self, model: str | None) -> ModelKey:
        return model_key(model, check_dtype(self.get_param("dtype")), self._exclusive)

    def _loading(self, model: str | None) -> Future[LoadedModel]:
        mlx_thread().check()
        key = self._key(model)
        self._used.add(key)
        return model_pool().get(key, self)

    def _stream(self, request: GenerateRequest, call: Call) -> Iterator[GenerateResponse]:
        model = self._loading(request.model).result()
        sink = ThreadSink()
        with mlx_thread().waiting(sink):
            with model.expecting():
                self._submit(model, prepare(model, request), call, sink)
            yield from sink

    async def _astream(self, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
        model = await asyncio.wrap_future(self._loading(request.model))
        loop = asyncio.get_running_loop()
        sink = LoopSink(mlx_thread().outbox)
        with mlx_thread().waiting(sink):
            with model.expecting():
                prepared = await loop.run_in_executor(self._executor(), prepare, model, request)
                self._submit(model, prepared, call, sink)
            async for delta in sink:
                yield delta

    def _submit(self, model: LoadedModel, prepared: Sequence[Prepared], call: Call, sink: Sink) -> None:
        """Put the answers to one request into the batch."""
        shared = SharedSink(sink, len(prepared)) if len(prepared) > 1 else sink
        answers = [Answer(one, call, shared) for one in prepared]
        call.in_line(lambda: model.position(answers[0]))
        model.submit(answers, self.get_param("max_queue"))
        call.on_cancel(lambda: model.drop(answers))


def _check_max_queue(value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InvalidParameterError("max_queue", f"max_queue={value!r} is not valid: it must be a number from 0 on.")


def _capabilities(path: Path | None, window: int | None) -> Capabilities:
    """Return what the model in a folder can do; None for the folder of one that is not on this machine."""
    template = read_template(path) if path else None
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
        ModelCapability.CONTEXT_WINDOW: window,
        ModelCapability.TOOL_USE: None if path is None else "tools" in (template or ""),
        ModelCapability.FUNCTION_CALLING: None if path is None else "tools" in (template or ""),
    }


def _diagnose_blas(mx: Any) -> Iterator[Finding]:
    if platform.system() != "Linux" or not on_cpu(mx):
        return
    blas = load_blas()
    if blas.library is not None:
        threads = "" if blas.threads is None else f", {blas.threads} thread(s)"
        yield Finding("BLAS", f"{blas.library}{threads}")
        return
    yield Finding(
        "BLAS",
        "the one in MLX's wheel, which is slow",
        "Install an optimised BLAS: on Debian or Ubuntu 'apt-get install libopenblas0-pthread', elsewhere "
        + install_command("fast-cpu"),
    )
