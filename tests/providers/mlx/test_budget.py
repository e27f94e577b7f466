"""What the environment and the machine allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from abstractllm.errors import ConfigurationError
from abstractllm.providers.local.memory import available_memory
from abstractllm.providers.mlx import budget
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.worker import mlx_thread

VARIABLES = (
    "ABSTRACTLLM_MLX_MAX_MODELS",
    "ABSTRACTLLM_MLX_KV_BYTES",
    "ABSTRACTLLM_MLX_PREFIX_BYTES",
    "ABSTRACTLLM_MLX_PREFIX_DISK_BYTES",
    "ABSTRACTLLM_MLX_STEP_TIMEOUT",
)


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_without_a_word_caches_may_take_half_of_what_is_free_and_prefixes_a_part_of_that() -> None:
    found = mlx_thread().run(lambda: budget.kv_bytes(import_mlx())).result()
    free = available_memory()
    assert (found is None) == (free is None)
    assert found is None or free is None or 0 < found <= free
    assert budget.prefix_bytes(4000) == 1000
    assert budget.prefix_bytes(2**40) == budget.prefix_bytes(None) == 2**30
    assert budget.most_models() == 2
    assert budget.prefix_disk_bytes() == 2**32
    assert budget.step_timeout() is None


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("5", "1000", "0", "7", "90"), strict=True):
        monkeypatch.setenv(name, value)
    assert mlx_thread().run(lambda: budget.kv_bytes(import_mlx())).result() == 1000
    assert budget.prefix_bytes(1000) == 0
    assert budget.prefix_disk_bytes() == 7
    assert budget.most_models() == 5
    assert budget.step_timeout() == 90


class Gpu:
    """As much of MLX as is asked when it does not compute on the processor."""

    cpu = "cpu"

    def __init__(self, **info: int) -> None:
        self.device_info = lambda: info
        self.get_active_memory = lambda: 100
        self.default_device = lambda: "gpu"
        self.Device = lambda name: name


def test_on_a_gpu_what_mlx_holds_already_is_not_free() -> None:
    assert budget.kv_bytes(Gpu(max_recommended_working_set_size=1100, memory_size=5000)) == 500
    assert budget.kv_bytes(Gpu(total_memory=50)) == 0
    assert budget.kv_bytes(Gpu()) is None


@pytest.mark.parametrize("value", ["", "many", "-1", "1.5"])
def test_nonsense_in_the_environment_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, value)
    calls = (
        budget.most_models,
        budget.step_timeout,
        lambda: budget.kv_bytes(None),
        lambda: budget.prefix_bytes(1),
        budget.prefix_disk_bytes,
    )
    for call in calls:
        with pytest.raises(ConfigurationError, match="ABSTRACTLLM_MLX"):
            call()


def test_the_folder_for_prefixes_is_none_or_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ABSTRACTLLM_MLX_PREFIX_DIR", raising=False)
    assert budget.prefix_folder() is None
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ana")
    for value, expected in (("/a/b", Path("/a/b")), ("~/b", Path("/home/ana/b")), ("b", tmp_path / "b")):
        monkeypatch.setenv("ABSTRACTLLM_MLX_PREFIX_DIR", value)
        assert budget.prefix_folder() == expected
