"""Imports MLX, well prepared, and says what it runs on. The only place that loads a native library.

On Linux CPU the mlx wheel calls a reference BLAS through the dynamic linker, so that an optimised one which is loaded
first takes its place: float32 matrix products become many times faster. Only float32 products go through BLAS.
"""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import threading
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from abstractllm.errors import MissingDependencyError, install_command

logger = logging.getLogger("abstractllm.mlx")

_THREAD_SETTERS = ("openblas_set_num_threads", "MKL_Set_Num_Threads")
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")

_MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as in glibc's malloc.h
_KEPT_AT_END = 2**22
"""Bytes that the heap of each thread may keep at its end; a smaller number did not slow steps down either."""
_LARGEST_IN_HEAP = 2**25
"""Bytes from which a block is no part of the heap: the most that glibc would learn by itself, on 64 bits."""
_NOTICED = 100_000
"""Bytes of a block that is part of the heap whatever glibc has learnt, and makes it look at the end when freed."""

_lock = threading.Lock()
_blas: Blas | None = None


@dataclass(frozen=True, slots=True)
class Blas:
    """The BLAS that MLX's CPU backend uses: `library` is a file, or None for the one in MLX's wheel.

    `late` says that MLX had been imported before, so that no better one could be loaded. `core` is the kind of
    processor that OpenBLAS found, None for any other BLAS.
    """

    library: str | None
    threads: int | None = None
    late: bool = False
    core: str | None = None

    @property
    def reads_small_matrices_in_place(self) -> bool:
        """Whether it has OpenBLAS' kernels for small products, which are written for AVX-512."""
        return self.core is not None and self.core.lower() in ("skylakex", "cooperlake", "sapphirerapids")


def check_installed() -> None:
    """Raise MissingDependencyError, which names the install command, when MLX is not installed; imports nothing."""
    missing = [name for name in ("mlx", "mlx_lm") if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"{' and '.join(missing)} cannot be found. Install with: {install_command('mlx')}", provider="mlx"
        )


def import_mlx() -> Any:
    """Return the module `mlx.core`, with an optimised BLAS below it where there is one.

    Raises MissingDependencyError, which names the install command, when MLX is not installed.
    """
    load_blas()
    try:
        import mlx.core as mx
        import mlx_lm  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            f"MLX cannot be imported ({error}). Install it with: {install_command('mlx')}", provider="mlx"
        ) from error
    return mx


def load_blas() -> Blas:
    """Load an optimised BLAS once per process, on Linux, before MLX; later calls return what was found then."""
    global _blas
    with _lock:
        if _blas is None:
            _blas = _find_blas()
        return _blas


def _find_blas() -> Blas:
    if not sys.platform.startswith("linux") or os.environ.get("ABSTRACTLLM_MLX_BLAS") == "":
        return Blas(None)
    if "mlx.core" in sys.modules:
        logger.warning(
            "mlx was imported before abstractllm used it, so its slow built-in BLAS stays in use."
            " Create the provider, or call abstractllm.providers.mlx.backend.load_blas(), before importing mlx."
        )
        return Blas(None, late=True)
    for candidate in _candidates():
        try:
            library = ctypes.CDLL(candidate, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue  # not on this machine: try the next
        return Blas(candidate, _limit_threads(library), core=_core(library))
    if chosen := os.environ.get("ABSTRACTLLM_MLX_BLAS"):
        logger.warning("ABSTRACTLLM_MLX_BLAS=%s cannot be loaded; MLX's slow built-in BLAS stays in use.", chosen)
    return Blas(None)


def _candidates() -> list[str]:
    """Names of BLAS libraries, best first: what the user chose, Debian's OpenBLAS, MKL from PyPI."""
    chosen = os.environ.get("ABSTRACTLLM_MLX_BLAS")
    if chosen is not None:
        return [chosen]
    mkl = [str(path) for path in sorted(Path(sys.prefix, "lib").glob("libmkl_rt.so*"))]
    return ["libopenblas.so.0", *mkl]


def _limit_threads(library: ctypes.CDLL) -> int | None:
    """Leave one core to Python, unless the user has said how many threads BLAS may take."""
    if any(name in os.environ for name in _THREAD_VARIABLES):
        return None
    threads = max(1, available_cores() - 1)
    for name in _THREAD_SETTERS:
        setter = getattr(library, name, None)
        if setter is not None:
            setter(ctypes.c_int(threads))
            return threads
    return None


def _core(library: ctypes.CDLL) -> str | None:
    name = getattr(library, "openblas_get_corename", None)
    if name is None:
        return None
    name.restype = ctypes.c_char_p
    found = name()
    return found.decode() if isinstance(found, bytes) else None


def available_cores() -> int:
    """Return how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_cpu(mx: ModuleType) -> bool:
    """Whether MLX computes on the processor, rather than on a GPU."""
    return bool(mx.default_device() == mx.Device(mx.cpu))


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def trim_heap() -> None:
    """Give free pages of the heap back to the system, where the C library keeps them; elsewhere do nothing.

    MLX's buffers on the CPU come from `malloc`. Among many small ones that stay, such as kept prefixes, glibc holds on
    to the space of those that went: three times what is in use was seen after some hundred requests. Call it on the
    thread whose memory it is: what is free at the end of a heap goes back only there.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None)
    if not (hasattr(library, "malloc_trim") and hasattr(library, "mallopt")):  # not in every C library
        return
    library.malloc_trim(0)
    if not _user_has_set_malloc():
        _trim_end(library)


def _user_has_set_malloc() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name in os.environ for name in _MALLOC_VARIABLES)


def _trim_end(library: ctypes.CDLL) -> None:
    """Give back what is free at the end of the calling thread's heap, which `malloc_trim` leaves there.

    glibc looks at the end whenever a block of 64 KB or more is freed, but keeps up to twice the largest buffer that it
    has freed so far, 64 MB at most. To set a limit also ends its learning (man 3 mallopt) for the whole process. So
    large blocks are part of the heap as they would be in time, and little is kept, for there may be many threads.
    """
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    library.mallopt(_TRIM_THRESHOLD, 0)
    library.free(library.malloc(_NOTICED))
    library.mallopt(_TRIM_THRESHOLD, _KEPT_AT_END)
    library.mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP)
