"""The models in memory: each is loaded once, shared by the providers that use it, and computes in one thread.

A model is freed when the last provider that uses it lets it go and its last request has ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from abstractllm import embedded
from abstractllm.providers.call import Call
from abstractllm.providers.huggingface.loading import load_network
from abstractllm.providers.huggingface.tokens import load_tokenizer
from abstractllm.providers.local.constraint import ConstraintCompiler
from abstractllm.providers.local.hub import context_window, fetch, find_locally, read_config, vocabulary
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.threads import DaemonThreads, ForkSafeLock, check_not_forked

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelKey:
    """What makes two models in memory the same: folder or repository id, number format, device. From `model_key`."""

    model: str
    dtype: str
    device: str


def model_key(model: str | None, dtype: str, device: str) -> ModelKey:
    """Return the key of a model; None is the one that ships. However a folder is written, its key is the same."""
    path = os.path.expanduser(str(embedded.PATH) if model is None else model)
    return ModelKey(os.path.realpath(path) if model is None or os.path.isdir(path) else model, dtype, device)


class LoadedModel:
    """A model in memory: its tokenizer, its network, and the thread in which that computes."""

    def __init__(self, path: Path, tokenizer: ChatTokenizer, network: Any) -> None:
        config = read_config(path)
        self.tokenizer = tokenizer
        self.network = network
        self.context_window = context_window(config)
        self.vocabulary = vocabulary(config) or len(tokenizer)
        self.constraints = ConstraintCompiler(tokenizer, self.vocabulary)
        self.threads = DaemonThreads(1, "abstractllm-torch")


class Turns:
    """The turns of one request among all those that compute with one model: first come, first served.

    Each piece of work is a turn, so requests that run at the same time take turns step by step, and none waits for
    the end of another.
    """

    def __init__(self, model: LoadedModel, call: Call) -> None:
        self._threads = model.threads
        self._call = call
        self._waiting: Future[Any] | None = None
        call.on_cancel(self._cancel)

    def take(self, work: Callable[[], T]) -> T:
        """Wait for a turn, and return what `work` returns in it.

        Raises concurrent.futures.CancelledError where the call is cancelled before the turn has come.
        """
        self._waiting = turn = self._threads.submit(work)
        if self._call.cancelled:
            turn.cancel()
        try:
            return turn.result()
        finally:
            self._waiting = None

    def _cancel(self) -> None:
        turn = self._waiting
        if turn is not None:
            turn.cancel()


class SharedModel:
    """A model that is loaded when it is first needed, whoever needs it."""

    def __init__(self, key: ModelKey) -> None:
        self.key = key
        self._lock = ForkSafeLock()
        self._model: LoadedModel | None = None

    def get(self) -> LoadedModel:
        """Return the model, loaded, and downloaded before if need be. Those who come meanwhile wait.

        Raises ModelError, MissingDependencyError, or InvalidParameterError for a device that is not here. After a
        failure the next call tries again.
        """
        _check_process()
        with self._lock:
            if self._model is None:
                self._model = _load(self.key)
            return self._model


def _load(key: ModelKey) -> LoadedModel:
    path = find_locally(key.model) or fetch(key.model)
    tokenizer = load_tokenizer(path)
    return LoadedModel(path, tokenizer, load_network(path, key.dtype, key.device))


_lock = ForkSafeLock()
_models: WeakValueDictionary[ModelKey, SharedModel] = WeakValueDictionary()
_pid: int | None = None


def shared_model(key: ModelKey) -> SharedModel:
    """Return the process's model of this key, loaded or not. It is kept as long as somebody holds it."""
    with _lock:
        model = _models.get(key)
        if model is None:
            model = _models[key] = SharedModel(key)
        return model


def _check_process() -> None:
    """Raise UnsupportedOperationError in a child of the process that computed first: PyTorch's threads are not here."""
    global _pid
    if _pid is None:
        _pid = os.getpid()
    check_not_forked(_pid)
