"""What all tests share: a neutral environment, and Python programs run in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import abstractllm

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

PACKAGE = Path(abstractllm.__file__).parent

# MLX's own BLAS gives the same bits on every machine, and the same row whatever else is in the batch.
BLAS = "ABSTRACTLLM_MLX_BLAS"
os.environ.setdefault(BLAS, "")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so would the programs that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def neutral_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what the user has configured out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ABSTRACTLLM_") and name != BLAS]:
            patch.delenv(name)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder of the package under test."""
    return PACKAGE


RunPython = Callable[..., str]


@pytest.fixture(scope="session")
def run_python() -> RunPython:
    """Run a program in a fresh interpreter that finds the package under test, and return what it prints.

    `paths` are put on `sys.path` after the package's, `arguments` in `sys.argv`.
    """

    def run(program: str, *arguments: str, paths: tuple[Path, ...] = (), cwd: Path | None = None) -> str:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (PACKAGE.parent, *paths)))}
        done = subprocess.run(
            [sys.executable, "-B", "-c", program, *arguments],
            capture_output=True,
            text=True,
            env=environment,
            cwd=cwd,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
