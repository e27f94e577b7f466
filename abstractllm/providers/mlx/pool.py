"""The models loaded in this process, shared by the providers that use them; the least recently used goes first."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abstractllm import embedded
from abstractllm.errors import ConfigurationError
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.batch import BatchEngine, Row
from abstractllm.providers.mlx.hub import context_window, fetch, find_locally, read_config
from abstractllm.providers.mlx.loading import load_weights
from abstractllm.providers.mlx.tokenizer import ChatTokenizer
from abstractllm.providers.mlx.worker import mlx_thread


@dataclass(frozen=True, slots=True)
class ModelKey:
    """What makes two loaded models the same: folder or repository id, and number format. Made by `model_key`."""

    model: str
    dtype: str


def model_key(model: str | None, dtype: str) -> ModelKey:
    """Return the key of a model; None is the one that ships. However a folder is written, its key is the same."""
    path = str(embedded.PATH) if model is None else os.path.expanduser(model)
    return ModelKey(os.path.realpath(path) if model is None or os.path.isdir(path) else model, dtype)


class LoadedModel:
    """A model in memory: its tokenizer, and the engine that runs its requests."""

    def __init__(self, key: ModelKey, path: Path, tokenizer: ChatTokenizer, engine: BatchEngine) -> None:
        self.key = key
        self.path = path
        self.tokenizer = tokenizer
        self.context_window = context_window(read_config(path))
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        self._engine = engine

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return self._engine.busy

    @contextmanager
    def expecting(self) -> Iterator[None]:
        """Have the engine know that a request is being prepared, so that an idle one waits a little for it."""
        self._engine.expect(1)
        try:
            yield
        finally:
            self._engine.expect(-1)

    def submit(self, row: Row) -> None:
        """Put a request into the batch."""
        mlx_thread().post(lambda: self._enter(row))

    def drop(self, row: Row) -> None:
        """Take a request out of the batch; one that has ended is left alone."""
        if mlx_thread().alive:
            mlx_thread().post(lambda: self._engine.drop(row))

    def retire(self) -> None:
        """Free the weights once the last request has ended, one that is still being prepared included."""
        if mlx_thread().alive:
            mlx_thread().post(self._retire)

    def _enter(self, row: Row) -> None:
        mlx_thread().add_engine(self._engine)
        self._engine.add(row)

    def _retire(self) -> None:
        self._engine.on_idle = self._leave
        if not self._engine.busy:
            self._leave()

    def _leave(self) -> None:
        mlx_thread().remove_engine(self._engine)


class ModelPool:
    """Loads each model once, and keeps up to `limit` of them that are not in use."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._models: OrderedDict[ModelKey, Future[LoadedModel]] = OrderedDict()

    def get(self, key: ModelKey, user: object) -> Future[LoadedModel]:
        """Return the future of a model, which is loaded if it is not there yet; `user` keeps it from being freed."""
        with self._lock:
            found = self._models.get(key)
            if found is None:
                found = self._models[key] = self._start(key)
            self._models.move_to_end(key)
        found.add_done_callback(lambda loaded: _add_user(loaded, user))
        return found

    def release(self, key: ModelKey, user: object) -> None:
        """Say that `user` needs the model no more; it is freed with its last user."""
        with self._lock:
            found = self._models.get(key)
            if found is None or not found.done():
                return
            loaded = found.result()
            loaded.users.discard(user)
            if not loaded.users:
                del self._models[key]
                loaded.retire()

    def loaded(self) -> set[ModelKey]:
        """Return the keys of the models that are in memory."""
        with self._lock:
            return {key for key, model in self._models.items() if model.done()}

    def _start(self, key: ModelKey) -> Future[LoadedModel]:
        """Load in a thread of its own; the weights themselves on the MLX thread."""
        future: Future[LoadedModel] = Future()
        future.set_running_or_notify_cancel()
        threading.Thread(target=self._load, args=(key, future), name="abstractllm-mlx-load", daemon=True).start()
        return future

    def _load(self, key: ModelKey, future: Future[LoadedModel]) -> None:
        try:
            loaded = load(key)
        except BaseException as error:  # handed to whoever waits; the next request tries again
            with self._lock:
                self._models.pop(key, None)
            future.set_exception(error)
            return
        future.set_result(loaded)
        self._evict()

    def _evict(self) -> None:
        """Free the least recently used models beyond the limit, except those at work."""
        with self._lock:
            ready = [key for key, model in self._models.items() if model.done()]
            for key in ready[: max(0, len(ready) - self._limit)]:
                loaded = self._models[key].result()
                if not loaded.busy:
                    del self._models[key]
                    loaded.retire()


def _add_user(loaded: Future[LoadedModel], user: object) -> None:
    if loaded.exception() is None:
        loaded.result().users.add(user)


def load(key: ModelKey) -> LoadedModel:
    """Load a model from where it is, downloading it first if need be. Raises ModelError or MissingDependencyError."""
    import_mlx()
    path = find_locally(key.model)
    if path is None:
        path = fetch(key.model)
    config = read_config(path)
    tokenizer = ChatTokenizer.load(path, config.get("eos_token_id"))
    thread = mlx_thread()

    def on_thread() -> BatchEngine:
        return BatchEngine(load_weights(path, key.dtype), tokenizer.stop_tokens)

    return LoadedModel(key, path, tokenizer, thread.run(on_thread).result())


def _limit() -> int:
    text = os.environ.get("ABSTRACTLLM_MLX_MAX_MODELS", "2")
    if not text.isdigit() or int(text) < 1:
        raise ConfigurationError(f"ABSTRACTLLM_MLX_MAX_MODELS={text!r} is not valid: it must be a number from 1 on.")
    return int(text)


_pool_lock = threading.Lock()
_pool: ModelPool | None = None


def model_pool() -> ModelPool:
    """Return the process's pool. `ABSTRACTLLM_MLX_MAX_MODELS` says how many idle models it keeps (2)."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ModelPool(_limit())
        return _pool
