"""How MLX is imported. Each case needs a process of its own: a BLAS is loaded once, and before MLX."""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

import pytest

from abstractllm.providers.local.memory import available_memory
from abstractllm.providers.mlx.backend import available_cores, trim_heap, version

REPORT = """
import json, logging, sys
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
from abstractllm.providers.mlx import backend
blas = backend.load_blas()
import mlx.core
print(json.dumps([blas.library, blas.threads, blas.late]))
"""


@pytest.fixture
def blas(monkeypatch: pytest.MonkeyPatch):
    """Sets what the user has chosen, None for nothing, and clears limits of threads."""
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def choose(library: str | None) -> None:
        if library is None:
            monkeypatch.delenv("ABSTRACTLLM_MLX_BLAS", raising=False)
        else:
            monkeypatch.setenv("ABSTRACTLLM_MLX_BLAS", library)

    return choose


def libc() -> str:
    """A library that is on every Linux machine and is no BLAS."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        file = line.rpartition(" ")[2]
        if os.path.basename(file).startswith(("libc.so", "libc-", "ld-musl")):
            return file
    raise AssertionError("no C library")


def test_an_empty_choice_is_the_one_in_the_wheel(blas, run_python):
    blas("")
    assert run_python(REPORT) == "[null, null, false]\n"


def test_an_empty_choice_needs_no_warning_when_mlx_came_first(blas, run_python):
    blas("")
    assert run_python("import mlx.core\n" + REPORT) == "[null, null, false]\n"


def test_a_warning_says_that_mlx_came_first(blas, run_python):
    blas(None)
    warning, report = run_python("import mlx.core\n" + REPORT).splitlines()
    assert warning.startswith("WARNING mlx was imported before")
    assert report == "[null, null, true]"


def test_a_chosen_library_that_is_missing_is_skipped_and_told(blas, run_python):
    blas("libno-such-blas.so.7")
    warning, report = run_python(REPORT).splitlines()
    assert "libno-such-blas.so.7" in warning
    assert report == "[null, null, false]"


def test_a_missing_library_is_skipped_silently_when_nobody_chose_it(blas, run_python, tmp_path):
    blas(None)
    program = f"""
import ctypes, sys
load = ctypes.CDLL
def refuse(name, *arguments, **settings):
    if name and ("blas" in str(name) or "mkl" in str(name)):
        raise OSError(name)
    return load(name, *arguments, **settings)
ctypes.CDLL = refuse
{REPORT}"""
    assert run_python(program) == "[null, null, false]\n"


def test_a_chosen_library_is_loaded(blas, run_python):
    blas(libc())
    assert run_python(REPORT) == f'["{libc()}", null, false]\n'


def test_one_core_is_left_to_python(run_python):
    """With a stand-in for the library, as not every machine has one that takes a limit."""
    program = """
import ctypes
from abstractllm.providers.mlx import backend
class Library:
    def __init__(self, name):
        self.limits = []
        setattr(self, name, lambda threads: self.limits.append(threads.value))
for name in ("openblas_set_num_threads", "MKL_Set_Num_Threads"):
    library = Library(name)
    print(backend._limit_threads(library) == max(1, backend.available_cores() - 1) == library.limits[0])
print(backend._limit_threads(object()))
"""
    assert run_python(program).split() == ["True", "True", "None"]


def test_a_limit_of_the_user_stays(blas, run_python, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    program = """
from abstractllm.providers.mlx import backend
class Library:
    def openblas_set_num_threads(self, threads):
        raise AssertionError
print(backend._limit_threads(Library()))
"""
    assert run_python(program) == "None\n"


@pytest.mark.parametrize("module", ["mlx", "mlx.core", "mlx_lm"])
def test_without_mlx_the_error_says_how_to_install_it(module, run_python):
    program = f"""
import sys
sys.modules[{module!r}] = None
from abstractllm.errors import MissingDependencyError
from abstractllm.providers.mlx.backend import import_mlx
try:
    import_mlx()
except MissingDependencyError as error:
    print(error)
"""
    message = run_python(program)
    assert "MLX cannot be imported" in message
    assert 'pip install "abstractllm-mlx[mlx]"' in message.replace("'", '"')


def test_importing_the_provider_does_not_import_mlx(run_python):
    program = "import sys, abstractllm.providers.mlx; print([m for m in sys.modules if m.startswith(('mlx', 'numpy'))])"
    assert run_python(program).strip() in ("[]", "['mlx']")


def test_what_the_machine_has():
    assert 1 <= available_cores() <= (os.cpu_count() or 1)
    memory = available_memory()
    assert memory is None or memory > 2**20


def test_versions():
    assert version("mlx-lm")
    assert version("no-such-distribution") is None


def resident() -> int:
    """The bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc holds on to what is free")
def test_what_is_free_between_what_stays_goes_back_to_the_system() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    blocks = [library.malloc(60_000) for _ in range(2000)]
    for block in blocks:
        ctypes.memset(block, 1, 60_000)
    for number, block in enumerate(blocks):
        if number % 50:
            library.free(block)
    before = resident()
    trim_heap()
    assert resident() < before - 80_000_000
    for block in blocks[::50]:
        library.free(block)


FREE_END = """
import ctypes, os, threading
from pathlib import Path
from abstractllm.providers.mlx.backend import trim_heap

library = ctypes.CDLL(None)
library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]
sizes = []

def measure():
    sizes.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

def work():
    library.free(library.malloc(24_000_000))  # from now on glibc keeps 48 MB at the end of every heap
    measure()
    for _ in range(2):
        block = library.malloc(20_000_000)
        ctypes.memset(block, 1, 20_000_000)
        library.free(block)
        measure()
        trim_heap()
        measure()

def beside():
    block = library.malloc(20_000_000)
    ctypes.memset(block, 1, 20_000_000)
    library.free(block)
    measure()

for task in (work, beside):
    thread = threading.Thread(target=task)
    thread.start()
    thread.join()
print(*(round((size - sizes[0]) / 10e6) for size in sizes[1:]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc holds on to what is free")
def test_what_is_free_at_the_end_of_a_threads_heap_goes_back_to_the_system(run_python, monkeypatch) -> None:
    """From then on nothing large stays there, in any thread. In a process of its own: it depends on what was freed."""
    for name in ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    assert run_python(FREE_END).split() == ["2", "0", "0", "0", "0"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc holds on to what is free")
def test_a_limit_of_what_glibc_keeps_that_the_user_has_set_stays(run_python, monkeypatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", str(2**26))
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(2**25))
    *before, last = run_python(FREE_END).split()
    assert before == ["2", "2", "2", "2"]
    assert last in ("2", "4")  # the second thread may have a heap of its own
