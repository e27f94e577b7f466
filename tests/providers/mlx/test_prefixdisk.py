"""Computed prefixes that outlive their process: what is written, what is found, and damage without harm."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import stat
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from abstractllm.engine.engine import Engine
from abstractllm.errors import ConfigurationError
from abstractllm.providers.mlx import MLXProvider, identity as identities, prefixwriter
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.identity import files_of, identity
from abstractllm.providers.mlx.loading import load_weights
from abstractllm.providers.mlx.prefixdisk import SHORTEST_FILE, Kept, PrefixDisk, disk_place
from abstractllm.providers.mlx.prefixes import PrefixStore
from abstractllm.providers.mlx.prefixfiles import ABANDONED, Entry, PrefixFolder
from abstractllm.providers.mlx.prefixwriter import MOST_HELD, PrefixWriter, prefix_writer
from abstractllm.providers.mlx.runner import MLXRunner
from abstractllm.providers.mlx.snapshot import Snapshot, restored, taken
from abstractllm.providers.mlx.worker import mlx_thread

from .test_runner import FAMILIES, LLAMA, Recorder, random_network, served, tokens_alone

MODEL = "0" * 32
TALK = [1 + i * i % 290 for i in range(300)]
PROMPT = "The cat sat on the mat. " * 30


def on_thread(call: Callable[[], Any]) -> Any:
    return mlx_thread().run(call).result()


def settle() -> None:
    """Wait until what the MLX thread has been asked to do, and the writing that follows from it, is done."""
    on_thread(lambda: None)
    prefix_writer().wait(60)


def disk_in(folder: Path, *, model: str = MODEL, most_bytes: int = 10**9, largest: int = 10**8) -> PrefixDisk:
    return PrefixDisk(PrefixFolder(folder, most_bytes), model, largest)


def engine_on(model: Any, disk: PrefixDisk) -> Engine[Recorder]:
    """The engine of a model in what may as well be a new process."""
    return Engine(MLXRunner(model, 10**8, disk), [])


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)


# From one process to the next.


@pytest.mark.parametrize("name", FAMILIES)
def test_a_later_process_computes_only_what_is_new_and_gets_the_same_tokens(name: str, tmp_path: Path) -> None:
    family, config, _ = FAMILIES[name]

    def serve() -> None:
        model = random_network(family, config)
        first = Recorder(list(TALK), max_tokens=9)
        engine = engine_on(model, disk_in(tmp_path))
        served(engine, first)
        engine.forget()
        prefix_writer().wait(60)
        assert files_in(tmp_path)
        later = Recorder([*TALK, *first.tokens, 5, 6, 7], max_tokens=9)
        again, exact = Recorder(list(TALK), max_tokens=9), Recorder(list(TALK), max_tokens=9, exact=True)
        served(engine_on(model, disk_in(tmp_path)), later, again)
        served(engine_on(model, disk_in(tmp_path)), exact)
        assert later.cached >= len(TALK) - 1
        assert later.tokens == tokens_alone(model, later)
        assert again.tokens == exact.tokens == first.tokens
        assert (again.cached, exact.cached) == (len(TALK) - 1, 0)

    on_thread(serve)


PROGRAM = """
import json, sys
from abstractllm.providers.mlx import MLXProvider

def ask(prompt):
    answer = llm.generate(prompt, max_tokens=12, temperature=0)
    return answer.content, answer.usage.cached_tokens

llm = MLXProvider({"model": sys.argv[1]})
print(json.dumps([ask(prompt) for prompt in sys.argv[2:]]))
"""


def test_a_process_finds_what_one_before_left_without_closing_anything(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_python: Callable[..., str]
) -> None:
    monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_DIR", str(tmp_path / "new" / "folder"))
    [cold] = json.loads(run_python(PROGRAM, str(tiny_model), PROMPT))
    [warm, other] = json.loads(run_python(PROGRAM, str(tiny_model), PROMPT, "A dog ran to the tree. " * 30))

    assert cold[1] == 0
    assert warm[1] >= SHORTEST_FILE > other[1]
    assert warm[0] == cold[0]


def answer(model: Path, prompt: str, **settings: Any) -> tuple[str, int]:
    """Ask a model, loaded anew and unloaded afterwards; return the answer and the tokens that were not computed."""
    with MLXProvider({"model": str(model), **settings}) as llm:
        got = llm.generate(prompt, max_tokens=8, temperature=0)
    settle()
    return got.content or "", got.usage.cached_tokens


def test_only_the_same_model_finds_what_was_computed(
    make_model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, model, other = tmp_path / "kept", tmp_path / "model", tmp_path / "other"
    monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_DIR", str(folder))
    on_thread(lambda: [make_model(model), make_model(other, seed=1)])
    cold = answer(model, PROMPT)
    assert cold[1] == 0
    assert answer(model, PROMPT)[1] >= SHORTEST_FILE
    assert answer(model, PROMPT)[0] == cold[0]
    assert answer(other, PROMPT)[1] == 0
    assert answer(model, PROMPT, dtype="float16")[1] == 0
    shutil.copy(other / "model.safetensors", model / "model.safetensors")
    assert answer(model, PROMPT)[1] == 0


def test_without_the_variable_nothing_is_written(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ABSTRACTLLM_MLX_PREFIX_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PrefixWriter, "add", None)
    assert disk_place(tiny_model) is None
    assert answer(tiny_model, PROMPT)[1] == 0
    assert answer(tiny_model, PROMPT)[1] == 0
    assert not list(tmp_path.iterdir())


# Which model it is.


def changed_config(path: Path) -> None:
    config = path / "config.json"
    config.write_text(config.read_text().replace("10000.0", "10001.0"))


def changed_weights(path: Path) -> None:
    """Other weights in a file of the same size and time."""
    file = path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-4096:] = bytes(byte ^ 1 for byte in data[-4096:])
    times = file.stat().st_mtime_ns
    file.write_bytes(data)
    os.utime(file, ns=(times, times))


def later_weights(path: Path) -> None:
    os.utime(path / "model.safetensors", ns=(1, 1))


def another_file(path: Path) -> None:
    (path / "model-2.safetensors").write_bytes(b"")


@pytest.mark.parametrize("change", [changed_config, changed_weights, later_weights, another_file])
def test_a_change_of_the_files_makes_another_model(
    change: Callable[[Path], None], tiny_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model"
    shutil.copytree(tiny_model, path)
    model = on_thread(lambda: load_weights(path, "float32"))
    before = on_thread(lambda: identity(files_of(path), model))
    assert on_thread(lambda: identity(files_of(path), model)) == before
    change(path)
    assert on_thread(lambda: identity(files_of(path), model)) != before


def test_number_format_caches_versions_and_form_make_another_model(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_lm.models.cache import KVCache, RotatingKVCache

    def compare() -> None:
        files, model = files_of(tiny_model), load_weights(tiny_model, "float32")
        found = [identity(files, model)]
        found.append(identity(files, load_weights(tiny_model, "bfloat16")))
        for caches in ([KVCache(), RotatingKVCache(8)], [KVCache(), RotatingKVCache(9)]):
            model.make_cache = lambda caches=caches: caches
            found.append(identity(files, model))
        del model.make_cache
        with monkeypatch.context() as patch:
            patch.setattr(identities, "version", lambda name: "0.0")
            found.append(identity(files, model))
        with monkeypatch.context() as patch:
            patch.setattr(identities, "FORM", "another")
            found.append(identity(files, model))
        assert len(set(found)) == len(found)
        assert identity(files, model) == found[0]

    on_thread(compare)


# Kinds of caches.


def arrays_of(state: Any) -> Iterator[Any]:
    if isinstance(state, (list, tuple)):
        for part in state:
            yield from arrays_of(part)
    else:
        yield state


def same(one: Any, other: Any) -> bool:
    """Whether two caches hold the same, the room for more aside."""
    import mlx.core as mx

    if type(one) is not type(other):
        return False
    if hasattr(one, "caches"):
        return len(one.caches) == len(other.caches) and all(map(same, one.caches, other.caches))
    parts = [
        (part[:, :, : one.offset], twin[:, :, : one.offset])
        if isinstance(part, mx.array) and hasattr(one, "keys")
        else (part, twin)
        for part, twin in zip(arrays_of(one.state), arrays_of(other.state), strict=True)
    ]
    return all(
        (part.dtype, part.shape) == (twin.dtype, twin.shape) and bool(mx.array_equal(part, twin))
        if isinstance(part, mx.array)
        else part == twin
        for part, twin in parts
    )


def filled(cache: Any, tokens: int, dtype: Any, width: int = 4) -> Any:
    """A cache that has taken in so many tokens, one more after a first piece."""
    import mlx.core as mx

    for length in (tokens - 1, 1):
        keys, values = (mx.random.normal((1, 2, length, size)).astype(dtype) for size in (4, width))
        cache.update_and_fetch(keys, values)
    return cache


def test_all_kinds_that_can_be_merged_come_back_as_they_were(tmp_path: Path) -> None:
    from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache

    def compare() -> None:
        mx = import_mlx()
        state = ArraysCache(3)
        state[0], state[2] = mx.random.normal((1, 3, 5)), mx.array([[1, 2]], dtype=mx.int32)
        layers = [
            *(filled(KVCache(), 300, dtype) for dtype in (mx.float32, mx.float16, mx.bfloat16)),
            filled(KVCache(), 256, mx.float32, width=0),
            filled(RotatingKVCache(8), 300, mx.bfloat16),
            filled(RotatingKVCache(400), 300, mx.float32),
            KVCache(),
            state,
            CacheList(filled(KVCache(), 300, mx.float32), CacheList(RotatingKVCache(8), ArraysCache(2))),
        ]
        mx.eval([layer.state[:2] for layer in layers[:6]], state[0], layers[-1][0].state[:2])
        snapshot = taken(layers)
        assert snapshot is not None
        folder = PrefixFolder(tmp_path, 10**8)
        folder.write(MODEL, Entry(array("Q", [2**64 - 1, 7]), True), snapshot)
        (name,) = folder.names(MODEL)
        assert folder.entry(name) == Entry(array("Q", [2**64 - 1, 7]), True)
        back = restored(*folder.load(name))
        assert list(map(same, layers, back)) == [True] * len(layers)
        for layer in (layers[2], back[2]):
            assert layer.update_and_fetch(mx.ones((1, 2, 1, 4)), mx.ones((1, 2, 1, 4)))[0].shape[2] == 301

    on_thread(compare)


def test_other_kinds_are_not_written() -> None:
    from mlx_lm.models.cache import BatchKVCache, CacheList, ChunkedKVCache, KVCache, QuantizedKVCache

    class Knowing(KVCache):
        """One of which its state does not say everything."""

    def judge() -> None:
        mx = import_mlx()
        complex_one = filled(KVCache(), 3, mx.complex64)
        others = [QuantizedKVCache(), ChunkedKVCache(4), BatchKVCache([0]), Knowing(), complex_one]
        for other in others:
            assert taken([KVCache(), other]) is None
            assert taken([CacheList(other)]) is None
        assert taken([KVCache(), CacheList(KVCache())]) is not None

    on_thread(judge)


# When something is written.


class Bench:
    """A store of prefixes with a folder, used as the runner does."""

    def __init__(self, folder: Path, capacity: int = 10**8, **limits: Any) -> None:
        self.folder = folder
        self.disk = disk_in(folder, **limits)
        self.store = PrefixStore(capacity, self.disk)

    def keep(self, tokens: list[int]) -> None:
        """Have caches kept as if they had been computed: 32 bytes a token."""

        def put() -> None:
            from mlx_lm.models.cache import KVCache

            mx = import_mlx()
            cache = KVCache()
            numbers = mx.array(tokens, dtype=mx.float32)[None, None, :, None]
            cache.update_and_fetch(mx.repeat(numbers, 4, 3), mx.repeat(numbers, 4, 3))
            self.store.store(tokens, [cache], 0)

        on_thread(put)

    def idle(self) -> None:
        on_thread(self.store.save_soon)
        settle()

    def found(self, tokens: list[int]) -> int:
        """How many tokens of a prompt are known; what the caches hold must be these tokens."""

        def look() -> int:
            found = self.store.find(tokens)
            if found is None:
                return 0
            (cache,), usable = found
            keys, _ = cache.keys_and_values()
            assert keys[0, 0, :, 0].tolist() == tokens[:usable]
            return usable

        return int(on_thread(look))

    def written(self) -> list[int]:
        """The numbers of tokens in the files, as a new process finds them."""
        names = PrefixFolder(self.folder, 10**9).names(MODEL)
        return sorted(len(self.disk._folder.entry(name).tokens) for name in names)


def test_an_idle_engine_writes_what_is_long_and_new(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.keep([1] * SHORTEST_FILE)
    bench.keep([2] * (SHORTEST_FILE - 1))
    assert not files_in(tmp_path)
    bench.idle()
    assert bench.written() == [SHORTEST_FILE]
    (file,) = files_in(tmp_path)
    bench.keep([1] * SHORTEST_FILE)
    bench.idle()
    assert files_in(tmp_path) == [file]


def test_a_growing_conversation_is_written_now_and_then_and_has_one_file(tmp_path: Path) -> None:
    bench, lengths = Bench(tmp_path), []
    for length in range(1000, 2100, 100):
        bench.keep([3] * length)
        bench.idle()
        assert bench.found([3] * length) == length - 1
        lengths.append(bench.written())
    assert lengths[0] == [1000]
    assert [now for before, now in zip([[], *lengths], [*lengths, []], strict=True) if now != before] == [
        [1000],
        [1400],
        [1900],
        [],
    ]
    on_thread(lambda: bench.store.evict(10**9))
    settle()
    assert Bench(tmp_path).found([3] * 2000) == 1900  # 100 tokens more are not worth a file
    bench.keep([3] * 2200)
    on_thread(lambda: bench.store.evict(10**9))
    settle()
    assert Bench(tmp_path).found([3] * 2200) == 2199
    assert bench.written() == [2200]


def test_what_is_given_up_for_lack_of_memory_is_written_and_found_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, capacity=3 * 32 * 512)
    for number in range(1, 7):
        bench.keep([number] * 300)
    settle()
    assert len(bench.written()) == 3
    assert [bench.found([number] * 300) for number in range(1, 7)] == [299] * 6
    assert bench.store.nbytes <= 3 * 32 * 512


def test_memory_that_has_nearly_as_much_is_preferred(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.keep([1] * 2000)
    bench.idle()
    later = Bench(tmp_path)
    later.keep([1] * 1800 + [2])
    assert later.found([1] * 2000) == 1800
    assert Bench(tmp_path).found([1] * 2000) == 1999


def test_what_can_serve_only_few_of_its_tokens_is_not_read(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.keep([1] * 4000)
    bench.idle()
    assert Bench(tmp_path).found([1] * 501) == 500
    assert Bench(tmp_path).found([1] * 500) == 0
    assert Bench(tmp_path, largest=32 * 4000).found([1] * 4000) == 0


def test_forgetting_frees_memory_and_leaves_files(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.keep([1] * 300)
    bench.idle()
    on_thread(lambda: bench.store.evict(10**9))
    on_thread(bench.store.clear)
    settle()
    assert bench.store.nbytes == 0
    assert bench.written() == [300]


def test_the_writer_holds_little_and_names_only_the_first_failure(caplog: pytest.LogCaptureFixture) -> None:
    writer, done = PrefixWriter(), []

    def fail() -> None:
        assert not writer.has_room(MOST_HELD)
        raise OSError(28, "No space left on device")

    assert writer.has_room(10 * MOST_HELD)
    for call in (fail, lambda: done.append(1), fail):
        writer.add(10, call)
    writer.wait(60)
    assert done == [1]
    assert writer.has_room(10 * MOST_HELD)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left" in caplog.text


def test_while_the_interpreter_ends_writing_is_done_at_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    writer, done = PrefixWriter(), []
    monkeypatch.setattr(prefixwriter, "mlx_thread", lambda: SimpleNamespace(alive=False))
    writer.add(1, lambda: done.append(threading.current_thread()))
    assert done == [threading.current_thread()]
    monkeypatch.setattr(prefixwriter, "EXIT_GRACE", -1.0)
    late = PrefixWriter()
    late.add(1, lambda: done.append(None))
    assert len(done) == 1


def test_where_no_thread_can_be_started_writing_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    writer, done = PrefixWriter(), []
    mlx_thread()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    writer.add(10, lambda: done.append(threading.current_thread()))
    assert done == [threading.current_thread()]
    assert writer.has_room(10 * MOST_HELD)


AT_EXIT = """
import atexit
from abstractllm.providers.mlx.prefixwriter import prefix_writer
from abstractllm.providers.mlx.worker import mlx_thread

def write():
    sum(range(10_000_000))
    print("written", flush=True)

mlx_thread()
atexit.register(lambda: prefix_writer().add(1, write))
"""


def test_exit_waits_for_what_is_handed_over_at_the_end(run_python: Callable[..., str]) -> None:
    assert run_python(AT_EXIT).strip() == "written"


# Files.


def some(number: int, length: int = 300) -> tuple[Entry, Snapshot]:
    """An entry of which the arrays are 4,000 bytes."""
    import numpy as np

    values = np.full((1, 2, 125, 4), number, dtype=np.float32)
    return Entry(array("Q", [number] * length), True), Snapshot([], {"array.0": values}, {"array.0": "F32"})


def test_files_stay_within_their_bytes_and_those_used_longest_ago_go_first(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x" * 50_000)
    folder = PrefixFolder(tmp_path, 22_000)
    for number in range(1, 4):
        before = folder.names(MODEL)
        folder.write(MODEL, *some(number))
        (name,) = folder.names(MODEL) - before
        os.utime(tmp_path / name, (number, number))
    names = [path.name for path in files_in(tmp_path) if path.suffix == ".safetensors"]
    on_thread(lambda: folder.load(names[1]))
    folder.write("1" * 32, *some(4))
    assert folder.names(MODEL) == {names[1], names[2]}
    folder.write("1" * 32, *some(5))
    assert folder.names(MODEL) == {names[1]}
    assert len(folder.names("1" * 32)) == 2
    folder.write(MODEL, *some(6, length=3000))
    assert folder.names(MODEL) == {names[1]}
    PrefixFolder(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_only_the_user_may_read_what_others_may_not_know(tmp_path: Path) -> None:
    folder = PrefixFolder(tmp_path / "kept", 10**6)
    folder.write(MODEL, *some(1))
    (file,) = files_in(folder.path)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@contextmanager
def no_room_on_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, size: int) -> None:
    folder = PrefixFolder(tmp_path, 10**6)
    with no_room_on_disk(size), pytest.raises(OSError):
        folder.write(MODEL, *some(1))
    assert not files_in(tmp_path)


def test_what_a_killed_process_left_unfinished_is_cleared_away(tmp_path: Path) -> None:
    old, new, foreign = (tmp_path / name for name in ("prefix-a.tmp", "prefix-b.tmp", "other.tmp"))
    for file in (old, new, foreign):
        file.write_bytes(b"x")
    long_ago = time.time() - ABANDONED - 10
    os.utime(old, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    PrefixFolder(tmp_path, 10**6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.tmp", "prefix-b.tmp"]


# Harm.


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound file with 300 tokens."""
    bench = Bench(tmp_path_factory.mktemp("sound"))
    bench.keep(TALK)
    bench.idle()
    (file,) = files_in(bench.folder)
    return file


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_in_a_file_with_our_name_it_does_no_harm(sound: Path, tmp_path: Path, data: st.DataObject) -> None:
    content = sound.read_bytes()
    place = data.draw(st.one_of(st.integers(0, 2000), st.integers(0, len(content) - 1)))
    damaged = data.draw(
        st.one_of(
            st.just(content[:place]),
            st.binary(min_size=1, max_size=20).map(lambda new: content[:place] + new + content[place + len(new) :]),
            st.binary(max_size=200),
            st.binary(min_size=1).map(lambda more: content + more),
        )
    )
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    (tmp_path / sound.name).write_bytes(damaged)
    bench = Bench(tmp_path)
    if damaged == content:
        assert bench.found(TALK) == 299
        return
    assert bench.found(TALK) == 0
    if bench.disk._seen[sound.name] is None:
        assert not files_in(tmp_path)


def test_a_damaged_file_is_named_and_deleted(sound: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = bytearray(sound.read_bytes())
    content[-1] ^= 1
    (tmp_path / sound.name).write_bytes(content)
    bench = Bench(tmp_path)
    assert bench.found(TALK) == 0
    assert not files_in(tmp_path)
    assert "damaged" in caplog.text


def test_what_is_not_ours_is_left_alone(sound: Path, tmp_path: Path) -> None:
    (tmp_path / sound.name).mkdir()
    link = tmp_path / sound.name.replace("-0", "-1")
    link.symlink_to(tmp_path / "nowhere")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    (tmp_path / "prefix-notes.safetensors").write_bytes(b"x")
    bench = Bench(tmp_path, most_bytes=1)
    assert bench.found(TALK) == 0
    bench.keep(TALK)
    bench.idle()
    assert len(list(tmp_path.iterdir())) == 4


def test_a_file_that_vanishes_is_done_without(sound: Path, tmp_path: Path) -> None:
    """The folder seems unchanged, as it does to a process that looked just before another one made room."""
    file = tmp_path / sound.name
    shutil.copy(sound, file)
    bench = Bench(tmp_path)
    assert bench.found([2] * 300) == 0
    times = tmp_path.stat()
    file.unlink()
    os.utime(tmp_path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert bench.found(TALK) == 0


def test_a_file_that_cannot_be_read_is_named_and_left(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(sound, tmp_path / sound.name)
    bench = Bench(tmp_path)

    def refuse(self: Path, *arguments: Any, **settings: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        assert bench.found(TALK) == 0
        assert bench.found(TALK) == 0
    assert caplog.text.count("Permission denied") == 1
    assert len(files_in(tmp_path)) == 1
    assert Bench(tmp_path).found(TALK) == 299


def test_two_processes_see_what_the_other_writes(tmp_path: Path) -> None:
    one, other = Bench(tmp_path), Bench(tmp_path)
    assert other.found([1] * 400) == 0
    one.keep([1] * 300)
    one.idle()
    assert other.found([1] * 400) == 300
    other.keep([1] * 600)
    on_thread(lambda: other.store.evict(10**9))
    settle()
    assert Bench(tmp_path).found([1] * 700) == 600
    assert one.written() == [600]
    assert one.found([1] * 700) == 600


def test_a_folder_that_is_gone_or_became_a_file_harms_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "kept"

    def serve() -> None:
        model = random_network("llama", LLAMA)
        engine = engine_on(model, disk_in(place))
        place.rmdir()
        rows = [Recorder(list(TALK), max_tokens=4) for _ in range(3)]
        served(engine, rows[0])
        engine.forget()
        prefix_writer().wait(60)
        assert len(files_in(place)) == 1
        shutil.rmtree(place)
        place.write_text("in the way")
        served(engine, rows[1])
        engine.forget()
        prefix_writer().wait(60)
        served(engine, rows[2])
        assert [row.cached for row in rows] == [0, 0, 0]
        assert rows[0].tokens == rows[1].tokens == rows[2].tokens == tokens_alone(model, rows[0])

    with caplog.at_level(logging.DEBUG, "abstractllm.mlx"):
        on_thread(serve)
    assert "cannot be written" in caplog.text


# Settings.


def test_a_setting_that_cannot_be_right_is_named(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for value in (str(file), str(file / "below"), "", "  "):
        monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_DIR", value)
        with pytest.raises(ConfigurationError, match="ABSTRACTLLM_MLX_PREFIX_DIR"):
            answer(tiny_model, PROMPT)
    monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_DISK_BYTES", "much")
    with pytest.raises(ConfigurationError, match="ABSTRACTLLM_MLX_PREFIX_DISK_BYTES"):
        answer(tiny_model, PROMPT)


def test_a_folder_that_cannot_be_made_is_done_without(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_DIR", str(tmp_path / ("x" * 300)))
    assert answer(tiny_model, PROMPT)[1] == 0
    assert "No prefixes are kept on disk" in caplog.text


def test_where_memory_keeps_nothing_the_disk_does_not_either(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_BYTES", "0")
    assert answer(tiny_model, PROMPT)[1] == 0
    assert not files_in(tmp_path / "kept")


def test_kept_caches_know_their_bytes() -> None:
    from mlx_lm.models.cache import KVCache

    def measure() -> None:
        mx = import_mlx()
        cache = filled(KVCache(), 2, mx.float32)
        assert Kept(array("Q", [1, 2]), [cache], True).nbytes == cache.nbytes

    on_thread(measure)
