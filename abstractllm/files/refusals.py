"""How large a file may be, and the errors that refuse one. Reads nothing."""

from __future__ import annotations

from pathlib import Path

from abstractllm.errors import FileProcessingError

MAX_BYTES = 20 * 1024 * 1024
"""Size of the largest file that is taken, in bytes."""

MAX_TEXT_BYTES = 4 * 1024 * 1024
"""Size of the largest text file that is taken: about a million tokens, more than models read."""


def failure(path: Path | str, message: str, hint: str = "") -> FileProcessingError:
    """Return the error for a file; `message` goes on after its name."""
    return FileProcessingError(f"The file {str(path)!r} {message}.{hint}", path=str(path))


def check_size(path: Path | str, size: int, limit: int) -> None:
    """Raise FileProcessingError for a file of more than `limit` bytes."""
    if size > limit:
        raise failure(path, f"is too large: {size:,} bytes, where {limit:,} are allowed; pass a part of it")
