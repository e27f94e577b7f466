"""The models loaded in this process, shared by the providers that use them; the least recently used goes first."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from abstractllm import embedded
from abstractllm.engine.engine import Engine, Limits
from abstractllm.providers.local.answer import Answer
from abstractllm.providers.local.constraint import ConstraintCompiler
from abstractllm.providers.local.hub import common_window, fetch, find_locally, read_config, vocabulary
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.budget import kv_bytes, most_models, prefix_bytes
from abstractllm.providers.mlx.exclusive import Exclusive
from abstractllm.providers.mlx.loading import shared_weights
from abstractllm.providers.mlx.paired import PairedModel, check_same_tokens
from abstractllm.providers.mlx.prefixdisk import disk_place
from abstractllm.providers.mlx.prefixwriter import prefix_writer
from abstractllm.providers.mlx.quantised import with_quantised_caches
from abstractllm.providers.mlx.runner import MLXRunner
from abstractllm.providers.mlx.tokens import load_tokenizer
from abstractllm.providers.mlx.worker import mlx_thread
from abstractllm.threads import EXIT_GRACE, ForkSafeLock


@dataclass(frozen=True, slots=True)
class ModelKey:
    """What makes two loaded models the same: folder or repository id, number format, and what rules a batch out.

    Made by `model_key`. Models that differ in `exclusive` alone have engines of their own, and share their weights.
    """

    model: str
    dtype: str
    exclusive: Exclusive = field(default_factory=Exclusive)


def model_key(model: str | None, dtype: str, exclusive: Exclusive | None = None) -> ModelKey:
    """Return the key of a model; None is the one that ships. However a folder is written, its key is the same."""
    wanted = exclusive or Exclusive()
    if wanted.draft_model is not None:
        wanted = replace(wanted, draft_model=_folder_or_id(wanted.draft_model))
    return ModelKey(_folder_or_id(str(embedded.PATH) if model is None else model), dtype, wanted)


def _folder_or_id(model: str) -> str:
    path = os.path.expanduser(model)
    return os.path.realpath(path) if os.path.isdir(path) else model


class LoadedModel:
    """A model in memory: its tokenizer, and the engine that runs its requests, with a draft model if there is one."""

    def __init__(
        self, key: ModelKey, path: Path, tokenizer: ChatTokenizer, engine: Engine[Answer], draft: Path | None
    ) -> None:
        self.key = key
        self.path = path
        self.tokenizer = tokenizer
        config = read_config(path)
        self.context_window = common_window(path, *([] if draft is None else [draft]))
        self.vocabulary = vocabulary(config) or len(tokenizer)
        self.constraints = ConstraintCompiler(tokenizer, self.vocabulary)
        self._engine = engine
        weakref.finalize(self, _clear_cache).atexit = False

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

    def submit(self, rows: Sequence[Answer], max_queue: int | None) -> None:
        """Put rows into the batch, or end them with QueueFullError where `max_queue` already wait for a place."""
        mlx_thread().post(lambda: self._enter(rows, max_queue))

    def position(self, row: Answer) -> int | None:
        """Return how many requests wait before this one; None for one that does not wait. From any thread."""
        return self._engine.position(row)

    def drop(self, rows: Sequence[Answer]) -> None:
        """Take rows out of the batch; those that have ended are left alone."""
        if mlx_thread().alive:
            mlx_thread().post(lambda: self._drop(rows))

    def retire(self) -> None:
        """Free the weights once the last request has ended, one that is still being prepared included."""
        if mlx_thread().alive:
            mlx_thread().post(self._retire)

    def _enter(self, rows: Sequence[Answer], max_queue: int | None) -> None:
        mlx_thread().add_engine(self._engine)
        for row in rows:
            self._engine.add(row, max_queue)

    def _drop(self, rows: Sequence[Answer]) -> None:
        for row in rows:
            self._engine.drop(row)

    def _retire(self) -> None:
        self._engine.on_idle = self._leave
        if not self._engine.busy:
            self._leave()

    def _leave(self) -> None:
        mlx_thread().remove_engine(self._engine)
        self._engine.forget()


def _clear_cache() -> None:
    """Give the memory of a freed model back to the system."""
    import mlx.core as mx

    if mlx_thread().alive:
        mlx_thread().post(mx.clear_cache)


class _Entry:
    """A model in the pool, loaded or on its way, and those who need it."""

    def __init__(self) -> None:
        self.future: Future[LoadedModel] = Future()
        self.users: weakref.WeakSet[Any] = weakref.WeakSet()
        self.future.set_running_or_notify_cancel()


class ModelPool:
    """Loads each model once, and keeps up to `limit` of them that are not at work."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = ForkSafeLock()
        self._entries: OrderedDict[ModelKey, _Entry] = OrderedDict()

    def get(self, key: ModelKey, user: object) -> Future[LoadedModel]:
        """Return the future of a model, which is loaded if it is not there yet; `user` keeps it from being freed."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry()
                self._start(key, entry)
            self._entries.move_to_end(key)
            entry.users.add(user)
            return entry.future

    def release(self, key: ModelKey, user: object) -> None:
        """Say that `user` needs the model no more; it is freed with its last user, after loading if need be."""
        if not mlx_thread().alive:
            return
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                entry.users.discard(user)
                self._free_unused(key, entry)

    def loaded(self) -> set[ModelKey]:
        """Return the keys of the models that are in memory."""
        with self._lock:
            return {key for key, entry in self._entries.items() if entry.future.done()}

    def _start(self, key: ModelKey, entry: _Entry) -> None:
        """Load in a thread of its own; the weights themselves on the MLX thread."""
        threading.Thread(target=self._load, args=(key, entry), name="abstractllm-mlx-load", daemon=True).start()

    def _load(self, key: ModelKey, entry: _Entry) -> None:
        try:
            loaded = load(key)
        except BaseException as error:  # handed to whoever waits; the next request tries again
            with self._lock:
                self._entries.pop(key, None)
            entry.future.set_exception(error)
            return
        entry.future.set_result(loaded)
        with self._lock:
            self._free_unused(key, entry)
            self._evict()

    def _free_unused(self, key: ModelKey, entry: _Entry) -> None:
        if entry.future.done() and not entry.users and self._entries.get(key) is entry:
            del self._entries[key]
            entry.future.result().retire()

    def _evict(self) -> None:
        """Free the least recently used models beyond the limit, except those at work."""
        ready = [key for key, entry in self._entries.items() if entry.future.done()]
        for key in ready[: max(0, len(ready) - self._limit)]:
            loaded = self._entries[key].future.result()
            if not loaded.busy:
                del self._entries[key]
                loaded.retire()


def load(key: ModelKey) -> LoadedModel:
    """Load a model from where it is, downloading it first if need be.

    Raises ModelError, MissingDependencyError or ConfigurationError; UnsupportedFeatureError and InvalidParameterError
    say that what the key asks for does not fit the model. MLX is imported on its thread: in a thread that ends, what
    the import leaves there would abort the process. What was computed by a model that has been unloaded gets a moment
    to arrive on the disk, as this one may be the same.
    """
    thread = mlx_thread()
    thread.run(import_mlx).result()
    prefix_writer().wait(EXIT_GRACE)
    path, draft = _fetched(key.model), None
    tokenizer = load_tokenizer(path, read_config(path).get("eos_token_id"))
    if key.exclusive.draft_model is not None:
        draft = _fetched(key.exclusive.draft_model)
        check_same_tokens(tokenizer, draft)

    def on_thread() -> Engine[Answer]:
        place = disk_place(path) if key.exclusive == Exclusive() else None
        model = _model(key, path, draft)
        budget = kv_bytes(import_mlx())
        most = prefix_bytes(budget)
        runner: MLXRunner[Answer] = MLXRunner(model, most, place.open(model, most) if place and most else None)
        return Engine(runner, tokenizer.stop_tokens, Limits(kv_bytes=budget))

    return LoadedModel(key, path, tokenizer, thread.run(on_thread).result(), draft)


def _fetched(model: str) -> Path:
    """Return the folder of a model, downloading it first if need be."""
    return find_locally(model) or fetch(model)


def _model(key: ModelKey, path: Path, draft: Path | None) -> Any:
    """Return what the engine runs for a key: the weights as they are, or arranged as it asks. On the MLX thread."""
    model, wanted = shared_weights(path, key.dtype), key.exclusive
    if wanted.kv_bits is not None:
        model = with_quantised_caches(model, wanted.kv_bits, wanted.kv_group_size)
    if draft is not None:
        model = PairedModel(model, shared_weights(draft, key.dtype), wanted.draft_tokens)
    return model


_pool_lock = ForkSafeLock()
_pool: ModelPool | None = None


def model_pool() -> ModelPool:
    """Return the process's pool. `ABSTRACTLLM_MLX_MAX_MODELS` says how many idle models it keeps (2)."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ModelPool(most_models())
        return _pool
