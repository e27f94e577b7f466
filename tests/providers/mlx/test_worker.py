"""The MLX thread: order, failures, forks, and the end of the process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from abstractllm.providers.mlx.worker import mlx_thread

FORK = """
import asyncio, os, sys
from abstractllm import UnsupportedOperationError, create_llm
llm = create_llm("mlx", max_tokens=200)
running = llm.generate("Hello", stream=True)
next(running)
child = os.fork()
if child == 0:
    asks = [
        lambda: llm.generate("Hello"),
        lambda: next(llm.generate("Hello", stream=True)),
        lambda: asyncio.run(llm.generate_async("Hello")),
        lambda: create_llm("mlx", max_tokens=2).generate("Hello"),
        lambda: llm.count_tokens("Hello"),
    ]
    for number, ask in enumerate(asks, 1):
        try:
            ask()
            os._exit(10 + number)
        except UnsupportedOperationError as error:
            if "fork" not in str(error):
                os._exit(number)
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert [delta.finish_reason for delta in running][-1], "the parent goes on"
sys.exit(status)
"""

UNFINISHED = """
import asyncio, threading
from abstractllm import Regex, create_llm
llm = create_llm("mlx", max_tokens=2000)
stream = llm.generate("Hello", stream=True)
next(stream)
"""

CROWD = """
async def many():
    form = Regex("[a-z]{1,400}")
    forms = [form if i % 7 == 0 else None for i in range(60)]
    asked = [llm.generate_async(f"Say {i}. " * (i + 1), response_format=forms[i]) for i in range(60)]
    await asyncio.gather(*asked, return_exceptions=True)

begun = threading.Event()
def run():
    asyncio.run(begin())
async def begin():
    asyncio.get_running_loop().call_soon(begun.set)
    await many()
threading.Thread(target=run, daemon=True).start()
begun.wait()
for _ in range(3):
    next(stream)
"""

ENDINGS = {
    "a stream that nobody reads": UNFINISHED,
    "a crowd on a loop in a thread": UNFINISHED + CROWD,
    "a loop that ends with a task under way": UNFINISHED
    + """
async def begin():
    task = asyncio.ensure_future(llm.generate_async("And you?"))
    await anext(aiter(llm.generate_async("And they?", stream=True)))
asyncio.run(begin())
""",
}


NOT_FOUND = """
from abstractllm import ModelError, create_llm
try:
    create_llm("mlx", model=MODEL).generate("Hello")
except ModelError as error:
    print(type(error).__name__)
"""


class Broken:
    """An engine whose every step fails."""

    patience = 0.0

    def __init__(self) -> None:
        self.busy = True
        self.failed: Future[Exception] = Future()

    def step(self) -> None:
        raise MemoryError("no room")

    def fail_all(self, cause: Exception) -> None:
        self.busy = False
        self.failed.set_result(cause)

    def close(self, error: Exception) -> None:
        self.busy = False


class Hopeless(Broken):
    """An engine that fails once more while it ends its requests, as one whose device is lost does."""

    def fail_all(self, cause: Exception) -> None:
        super().fail_all(cause)
        raise RuntimeError("the device is lost")


def test_everything_runs_in_one_thread_in_order() -> None:
    thread = mlx_thread()
    names: list[str] = []
    futures = [thread.run(lambda: names.append(threading.current_thread().name)) for _ in range(20)]
    for future in futures:
        future.result()

    assert names == ["abstractllm-mlx"] * 20
    assert mlx_thread() is thread


def test_a_failure_reaches_whoever_waits_and_harms_nothing() -> None:
    def fail() -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        mlx_thread().run(fail).result()
    assert mlx_thread().run(lambda: 1).result() == 1


def test_a_posted_call_that_fails_leaves_the_thread_working() -> None:
    def fail() -> None:
        raise KeyError("lost")

    mlx_thread().post(fail)

    assert mlx_thread().run(lambda: 1).result(timeout=60) == 1


def test_an_engine_that_fails_is_told_and_leaves_the_thread_working() -> None:
    engine = Broken()
    mlx_thread().run(lambda: mlx_thread().add_engine(engine)).result()

    assert isinstance(engine.failed.result(timeout=60), MemoryError)
    mlx_thread().run(lambda: mlx_thread().remove_engine(engine)).result(timeout=60)


async def test_what_an_idle_thread_puts_out_is_sent_at_once() -> None:
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    mlx_thread().post(lambda: mlx_thread().outbox.put(loop, arrived.set))

    await asyncio.wait_for(arrived.wait(), timeout=60)


CORRUPT = {"config.json": '{"model_type": "llama"}', "tokenizer.json": "{", "chat_template.jinja": ""}


@pytest.mark.parametrize(("files", "error"), [({}, "ModelNotFoundError"), (CORRUPT, "ModelLoadingError")])
def test_a_process_ends_well_after_a_model_could_not_be_loaded(
    tmp_path: Path, files: dict[str, str], error: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    model = str(tmp_path) if files else "nobody/nothing"
    code = NOT_FOUND.replace("MODEL", repr(model))
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True, env=environment)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == error


def test_a_forked_child_gets_a_typed_error() -> None:
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=120, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ENDINGS)
def test_a_process_ends_well_with_work_under_way(name: str) -> None:
    code = ENDINGS[name] + "print('leaving')"
    result = subprocess.run([sys.executable, "-c", code], timeout=120, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "leaving"
    assert "Traceback" not in result.stderr


def test_an_engine_that_fails_twice_leaves_the_thread_working() -> None:
    thread, engine = mlx_thread(), Hopeless()
    thread.post(lambda: thread.add_engine(engine))

    assert isinstance(engine.failed.result(), MemoryError)
    assert thread.run(lambda: 7).result(10) == 7
    thread.run(lambda: thread.remove_engine(engine)).result(10)
