"""The MLX thread: order, failures, forks, and the end of the process."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from abstractllm.providers.mlx.worker import mlx_thread

FORK = """
import os, sys
from abstractllm import UnsupportedOperationError, create_llm
llm = create_llm("mlx", max_tokens=2)
llm.generate("Hello")
child = os.fork()
if child == 0:
    try:
        llm.generate("Hello")
    except UnsupportedOperationError as error:
        os._exit(0 if "fork" in str(error) else 1)
    os._exit(2)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

UNFINISHED = """
from abstractllm import create_llm
llm = create_llm("mlx", max_tokens=2000)
stream = llm.generate("Hello", stream=True)
next(stream)
print("leaving")
"""


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


def test_a_forked_child_gets_a_typed_error() -> None:
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], timeout=120, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("time", range(3))
def test_a_process_ends_with_a_stream_unfinished(time: int) -> None:
    result = subprocess.run([sys.executable, "-c", UNFINISHED], timeout=120, capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "leaving"
    assert "Traceback" not in result.stderr
