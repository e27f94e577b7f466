"""A folder of files with computed prefixes: their names and their form, writing, reading, and the bound on their bytes.

A file is in the safetensors format: an array `tokens`, the arrays of the caches, and text on their structure. It is
named for the model that computed it and for the hash of all that is in it, so that damage is noticed before anything
is used, and no name ever stands for two contents. Several processes may share a folder: a file appears whole, by
renaming, and whoever finds one gone goes without. Knows bytes and NumPy arrays, not what caches are.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from abstractllm.errors import ConfigurationError
from abstractllm.providers.mlx.snapshot import Snapshot

logger = logging.getLogger("abstractllm.mlx")

FORM = "abstractllm prefix 1"
"""Stands in every file; files that say something else are of another version, and not used."""

NAME = re.compile(r"prefix-([0-9a-f]{32})-([0-9a-f]{64})\.safetensors")
UNFINISHED = re.compile(r"prefix-.*\.tmp")
ABANDONED = 3600.0
"""Seconds after which nobody writes to an unfinished file any more."""

LONGEST_HEADER = 2**26


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file says of itself: the tokens, and whether its caches can be cut to fewer of them."""

    tokens: array[int]
    trimmable: bool


class BrokenFileError(Exception):
    """A file that has a name of ours has not the content of that name."""


class PrefixFolder:
    """The files in the folder `path`, of at most `most_bytes` in all; those used longest ago go first.

    The folder is made, for the user alone, if it is not there. Raises ConfigurationError where it is no folder, and
    OSError where it cannot be made.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self.most_bytes = most_bytes
        self._make()
        self.make_room(0)

    def _make(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigurationError(
                f"ABSTRACTLLM_MLX_PREFIX_DIR={str(self.path)!r} is not a folder: name one, or a place for a new one."
            ) from error

    def changed(self) -> int | None:
        """Return a number that changes when files come or go; None where the folder is gone or cannot be read."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return None

    def names(self, identity: str) -> set[str]:
        """Return the names of all files of a model, as `identity` tells them apart."""
        start = f"prefix-{identity}-"
        return {one.name for one in self._listed() if one.name.startswith(start) and NAME.fullmatch(one.name)}

    def _listed(self) -> list[os.DirEntry[str]]:
        """Return the plain files in the folder, whosever they are."""
        try:
            return [one for one in os.scandir(self.path) if one.is_file(follow_symlinks=False)]
        except OSError as error:
            logger.debug("The folder of prefix files cannot be read: %s", error)
            return []

    def size(self, name: str) -> int:
        """Return the bytes of a file. Raises OSError."""
        return (self.path / name).stat().st_size

    def entry(self, name: str) -> Entry:
        """Return what a file says of itself. Raises OSError where it cannot be read, or BrokenFileError."""
        with (self.path / name).open("rb") as file:
            try:
                header, start = _header(file)
                tokens = array("Q", _tokens(file, header, start))
                return Entry(tokens, header["__metadata__"]["trimmable"] == "yes")
            except OSError:
                raise
            except Exception as error:  # anything may come of damaged bytes
                raise BrokenFileError(f"{type(error).__name__}: {error}") from error

    def load(self, name: str) -> tuple[list[Any], dict[str, Any]]:
        """Return the layout and the arrays of a file as MLX arrays, evaluated; it counts as just used.

        The whole file is compared with its hash first. From then on the open file is read, whatever becomes of its
        name. Call on the MLX thread. Raises OSError where it cannot be read, or BrokenFileError.
        """
        import mlx.core as mx

        with (self.path / name).open("rb") as file:
            if f"-{hashlib.file_digest(file, 'sha256').hexdigest()}." not in name:
                raise BrokenFileError("its content is not the one that was written")
            file.seek(0)
            loaded: Any = mx.load(file, format="safetensors", return_metadata=True)
        arrays, notes = loaded
        mx.eval(arrays)
        self._touch(name)
        return json.loads(notes["layout"]), arrays

    def _touch(self, name: str) -> None:
        try:
            os.utime(self.path / name)
        except OSError as error:  # gone, or the folder is only to be read
            logger.debug("The prefix file %s cannot be marked as used: %s", name, error)

    def write(self, identity: str, entry: Entry, snapshot: Snapshot) -> None:
        """Write a file, for the user alone, making room for it first. One larger than the bound is left out.

        It takes its name when it is whole. May be called on any thread. Raises OSError.
        """
        header = _new_header(entry, snapshot)
        size = len(header) + 8 * len(entry.tokens) + snapshot.nbytes
        if size > self.most_bytes:
            return
        self._make()
        self.make_room(size)
        handle, temporary = tempfile.mkstemp(prefix="prefix-", suffix=".tmp", dir=self.path)
        try:
            digest = hashlib.sha256()
            with os.fdopen(handle, "wb") as file:
                for piece in _content(header, entry.tokens, snapshot):
                    digest.update(piece)
                    file.write(piece)
            os.replace(temporary, self.path / f"prefix-{identity}-{digest.hexdigest()}.safetensors")
        except BaseException:
            _unlink(Path(temporary))
            raise

    def remove(self, name: str) -> None:
        """Delete a file, if it can be deleted."""
        _unlink(self.path / name)

    def make_room(self, size: int) -> None:
        """Delete what was used longest ago, whichever model it is of, until so many bytes fit into the bound."""
        files = sorted(self._ours())
        total = sum(nbytes for _, nbytes, _ in files)
        for _, nbytes, path in files:
            if total + size <= self.most_bytes:
                return
            _unlink(path)
            total -= nbytes

    def _ours(self) -> Iterator[tuple[float, int, Path]]:
        """Yield the time of the last use, the size and the path of each file of ours; abandoned ones are deleted.

        Those that somebody is still writing are not among them.
        """
        for one in self._listed():
            unfinished = UNFINISHED.fullmatch(one.name)
            if not unfinished and not NAME.fullmatch(one.name):
                continue
            try:
                status = one.stat(follow_symlinks=False)
            except OSError:
                continue  # another process was faster
            if not unfinished:
                yield status.st_mtime, status.st_size, Path(one.path)
            elif status.st_mtime < time.time() - ABANDONED:
                _unlink(Path(one.path))


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("The prefix file %s cannot be deleted: %s", path, error)


def _header(file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where its arrays begin. Raises ValueError."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(size, LONGEST_HEADER):
        raise ValueError("the header is longer than the file")
    header: dict[str, Any] = json.loads(file.read(length))
    if header["__metadata__"]["form"] != FORM:
        raise ValueError("another form")
    end = max(facts["data_offsets"][1] for name, facts in header.items() if name != "__metadata__")
    if 8 + length + end != size:
        raise ValueError(f"{size} bytes where {8 + length + end} were written")
    return header, 8 + length


def _tokens(file: BinaryIO, header: dict[str, Any], start: int) -> Sequence[int]:
    begin, end = header["tokens"]["data_offsets"]
    file.seek(start + begin)
    tokens = array("Q")
    tokens.frombytes(file.read(end - begin))
    if not tokens or [len(tokens)] != header["tokens"]["shape"]:
        raise ValueError("tokens are missing")
    return tokens


def _new_header(entry: Entry, snapshot: Snapshot) -> bytes:
    """Return the header, with its length before it; the arrays begin at a multiple of eight bytes."""
    notes = {"form": FORM, "trimmable": "yes" if entry.trimmable else "no", "layout": json.dumps(snapshot.layout)}
    end = 8 * len(entry.tokens)
    header: dict[str, Any] = {"__metadata__": notes}
    header["tokens"] = {"dtype": "U64", "shape": [len(entry.tokens)], "data_offsets": [0, end]}
    for name, values in snapshot.arrays.items():
        offsets = [end, end + values.nbytes]
        header[name] = {"dtype": snapshot.formats[name], "shape": list(values.shape), "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _content(header: bytes, tokens: array[int], snapshot: Snapshot) -> Iterator[Any]:
    """Yield the bytes of a file, in pieces of one attention head, which need no copy."""
    import numpy as np

    yield header
    yield tokens.tobytes()
    for values in snapshot.arrays.values():
        for index in np.ndindex(values.shape[:-2]):
            yield np.ascontiguousarray(values[index]).data.cast("B") if values.size else b""
