"""Loaded models: shared, kept for a while, and freed."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from abstractllm import embedded
from abstractllm.errors import ModelNotFoundError
from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.pool import ModelKey, ModelPool, model_key, model_pool
from abstractllm.providers.mlx.worker import mlx_thread


class User:
    """Something that uses a model."""


@pytest.fixture
def key(tiny_model: Path, tmp_path: Path) -> Callable[[str], ModelKey]:
    """A function that makes a copy of a model and returns its key."""

    def make(name: str) -> ModelKey:
        shutil.copytree(tiny_model, tmp_path / name)
        return model_key(str(tmp_path / name), "auto")

    return make


def test_a_model_is_loaded_once_for_all_who_ask_at_the_same_time(key: Callable[[str], ModelKey]) -> None:
    pool, one, users = ModelPool(limit=2), key("one"), [User() for _ in range(4)]
    futures = [pool.get(one, user) for user in users]

    assert len({id(future.result()) for future in futures}) == 1


def test_a_folder_has_one_key_however_it_is_written(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_model.parent)

    assert model_key(tiny_model.name, "auto") == model_key(str(tiny_model), "auto")
    assert model_key(None, "auto") == model_key(str(embedded.PATH), "auto")
    assert model_key("some/repository", "auto").model == "some/repository"


def test_the_least_recently_used_goes_first(key: Callable[[str], ModelKey]) -> None:
    pool, keys, user = ModelPool(limit=2), [key(name) for name in "abc"], User()
    first, second = (pool.get(one, user).result() for one in keys[:2])
    assert pool.get(keys[0], user).result() is first
    pool.get(keys[2], user).result()

    assert pool.loaded() == {keys[0], keys[2]}
    assert pool.get(keys[0], user).result() is first
    assert pool.get(keys[1], user).result() is not second


def test_a_model_goes_with_its_last_user(key: Callable[[str], ModelKey]) -> None:
    pool, one, users = ModelPool(limit=2), key("one"), [User(), User()]
    for user in users:
        pool.get(one, user).result()
    pool.release(one, users[0])
    assert pool.loaded() == {one}
    pool.release(one, users[1])
    assert pool.loaded() == set()
    pool.release(one, users[1])


def test_a_failed_load_is_tried_again(tmp_path: Path, tiny_model: Path) -> None:
    pool, user = ModelPool(limit=2), User()
    missing = model_key(str(tmp_path / "later"), "auto")
    with pytest.raises(ModelNotFoundError):
        pool.get(missing, user).result()
    shutil.copytree(tiny_model, tmp_path / "later")

    assert pool.get(missing, user).result().path == tmp_path / "later"


def test_providers_of_one_model_share_its_weights(tiny_model: Path) -> None:
    one, other = MLXProvider(model=str(tiny_model)), MLXProvider(model=str(tiny_model))
    one.load()
    other.load()
    key = model_key(str(tiny_model), "auto")
    loaded = model_pool().get(key, one).result()
    one.close()
    assert model_pool().get(key, other).result() is loaded
    other.close()


def test_an_evicted_model_comes_back_at_the_next_request(tiny_model: Path) -> None:
    llm = MLXProvider(model=str(tiny_model), max_tokens=2)
    before = llm.generate("Hello").content
    llm.unload()

    assert llm.generate("Hello").content == before
    llm.close()


def test_a_model_that_nobody_needs_any_more_is_freed_when_it_has_loaded(key: Callable[[str], ModelKey]) -> None:
    pool, one, user = ModelPool(limit=2), key("one"), User()
    future = pool.get(one, user)
    pool.release(one, user)
    future.result()
    pool.get(one, user).result()
    pool.release(one, user)

    assert pool.loaded() == set()


def test_the_pool_does_not_keep_its_users_alive(key: Callable[[str], ModelKey]) -> None:
    pool, one, user = ModelPool(limit=2), key("one"), User()
    pool.get(one, user).result()
    seen = weakref.ref(user)
    del user
    gc.collect()

    assert seen() is None


class Quiet:
    """A row that only waits for its end."""

    cancelled = exact = False
    deadline = constraint = None
    sampling = Sampling()
    priority = cached = 0

    def __init__(self) -> None:
        self.prompt = [1, 2, 3]
        self.generated: list[int] = []
        self.max_tokens = 3
        self.ended: Future[str] = Future()

    def progress(self, done: int, total: int) -> None:
        """Nothing to note."""

    def token(self, token: int, extra: object) -> bool:
        return False

    def end(self, reason: str) -> None:
        self.ended.set_result(reason)

    def fail(self, error: Exception) -> None:
        self.ended.set_exception(error)


def test_a_request_that_comes_after_its_model_was_retired_is_still_answered(key: Callable[[str], ModelKey]) -> None:
    pool, one, user, row = ModelPool(limit=2), key("one"), User(), Quiet()
    loaded = pool.get(one, user).result()
    pool.release(one, user)
    loaded.submit([row], None)

    assert row.ended.result(timeout=60) == "length"


@pytest.mark.parametrize("dropped", [False, True])
def test_a_retired_model_is_let_go_with_its_last_request(key: Callable[[str], ModelKey], dropped: bool) -> None:
    pool, one, user, row = ModelPool(limit=2), key("one"), User(), Quiet()
    loaded = pool.get(one, user).result()
    engine = weakref.ref(loaded._engine)
    row.max_tokens = 2000 if dropped else 3
    loaded.submit([row], None)
    pool.release(one, user)
    if dropped:
        loaded.drop([row])
    row.ended.exception(timeout=60)
    mlx_thread().run(lambda: None).result()
    del loaded
    mlx_thread().run(gc.collect).result()

    assert engine() is None
