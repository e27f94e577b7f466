"""The prefixes of one model that outlive its process: which files there are, when one is read, what is written.

Knows tokens and caches. Belongs to the MLX thread.
"""

from __future__ import annotations

import logging
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abstractllm.engine.prefix import Match, PrefixTree
from abstractllm.providers.mlx.budget import prefix_disk_bytes, prefix_folder
from abstractllm.providers.mlx.identity import files_of, identity
from abstractllm.providers.mlx.prefixfiles import BrokenFileError, Entry, PrefixFolder
from abstractllm.providers.mlx.prefixwriter import prefix_writer
from abstractllm.providers.mlx.snapshot import restored, taken

logger = logging.getLogger("abstractllm.mlx")

SHORTEST_FILE = 256
"""Fewer tokens than these are neither written nor read.

Reading is faster long before: with the model that ships, on two busy CPU cores, 64 tokens were computed in 10 ms and
read in 1, 256 in 58 and at most 6, 2000 in 7200 and 9. But shorter prompts gain little, which a slower disk or a faster
processor may undo, and their files would be many, while the index is made of all files when a model is loaded.
"""

SHARE = 8
"""A file is read only if it spares at least one in so many of its tokens: reading takes time for all of them."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Caches that hold exactly these tokens, and whether they can be cut to fewer."""

    tokens: array[int]
    layers: list[Any]
    trimmable: bool

    @property
    def nbytes(self) -> int:
        """Bytes of the caches."""
        return sum(int(layer.nbytes) for layer in self.layers)


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    entry: Entry


class PrefixDisk:
    """The files of one model in a folder; `largest` is how many bytes one may have to be read.

    The index of their tokens is brought up to date whenever the folder has changed, so that what other processes write
    is found as well. A file whose tokens are the beginning of another's, which can be cut, is deleted.
    """

    def __init__(self, folder: PrefixFolder, model: str, largest: int) -> None:
        self._folder = folder
        self._model = model
        self._largest = largest
        self._seen: dict[str, _File | None] = {}  # None for files that are not used
        self._index: PrefixTree[_File] = PrefixTree(sys.maxsize, self._make_way)
        self._changed: int | None = None

    def find(self, tokens: Sequence[int], known: int) -> Match[Kept] | None:
        """Return what the disk has for a prompt, if that is worth reading where `known` tokens are in memory.

        The caches are evaluated. A file that cannot be read is passed over, one that is damaged is deleted too.
        """
        self.refresh()
        while (match := self._index.find(tokens, longest=len(tokens) - 1)) is not None:
            if match.usable - known < max(SHORTEST_FILE, match.length // SHARE):
                return None
            kept = self._load(match.value)
            if kept is not None:
                return Match(kept, match.usable, match.length)
        return None

    def offer(self, kept: Kept, *, last: bool) -> bool:
        """Have caches written, unless the disk has nearly as much; nobody may change them. False to ask again later.

        A prefix that grows would be written again at each step. So what is on the disk must be a quarter short
        of it, or 256 tokens if this is the `last` opportunity: then all writing of one conversation is at most
        about four times the last file. Writing happens in the background, and what waits for it is bounded.
        """
        try:
            return self._offer(kept, last)
        except Exception as error:  # the request that was computed has its answer; it must not fail here
            logger.warning("A computed prefix is not kept on disk: %s: %s", type(error).__name__, error)
            return True

    def _offer(self, kept: Kept, last: bool) -> bool:
        self.refresh()
        found = self._index.find(kept.tokens)
        missing = len(kept.tokens) - (found.usable if found else 0)
        if missing < SHORTEST_FILE:
            return True
        if not last and 4 * missing < len(kept.tokens):
            return False
        writer = prefix_writer()
        if not writer.has_room(kept.nbytes):
            return False
        snapshot = taken(kept.layers)
        if snapshot is not None:
            entry, folder, model = Entry(kept.tokens, kept.trimmable), self._folder, self._model
            writer.add(kept.nbytes, lambda: folder.write(model, entry, snapshot))
        return True

    def _load(self, file: _File) -> Kept | None:
        """Read a file; one that cannot be read is left out of the index from now on."""
        try:
            layout, arrays = self._folder.load(file.name)
            return Kept(file.entry.tokens, restored(layout, arrays), file.entry.trimmable)
        except FileNotFoundError:
            self._leave_out(file)  # another process made room
        except BrokenFileError as error:
            self._leave_out(file)
            self._remove_broken(file.name, error)
        except Exception as error:  # whatever it is, the prompt can be computed
            self._leave_out(file)
            _warn_unreadable(file.name, error)
        return None

    def _leave_out(self, file: _File) -> None:
        self._index.drop(file.entry.tokens)
        self._seen[file.name] = None

    def _remove_broken(self, name: str, error: Exception) -> None:
        logger.warning("The prefix file %s is damaged and will be deleted: %s", name, error)
        self._folder.remove(name)

    def refresh(self) -> None:
        """Bring the index up to date, if anything in the folder has changed."""
        changed = self._folder.changed()
        if changed is not None and changed == self._changed:
            return
        names = self._folder.names(self._model)
        for name in self._seen.keys() - names:
            file = self._seen.pop(name)
            if file is not None:
                self._index.drop(file.entry.tokens)
        for name in names - self._seen.keys():
            self._seen[name] = self._described(name)
            self._enter(self._seen[name])
        self._changed = changed

    def _described(self, name: str) -> _File | None:
        """Return what a file says of itself, or None if it is of no use."""
        try:
            if self._folder.size(name) <= self._largest:
                return _File(name, self._folder.entry(name))
        except FileNotFoundError:
            pass  # another process made room
        except OSError as error:
            _warn_unreadable(name, error)
        except BrokenFileError as error:
            self._remove_broken(name, error)
        return None

    def _enter(self, file: _File | None) -> None:
        if file is None:
            return
        found = self._index.find(file.entry.tokens)
        if found is not None and found.usable == len(file.entry.tokens):
            self._make_way(file, covered=True)
        else:
            self._index.store(file.entry.tokens, file, 0, trimmable=file.entry.trimmable)

    def _make_way(self, file: _File, covered: bool) -> None:
        """Delete a file instead of which another one serves."""
        self._seen[file.name] = None
        self._folder.remove(file.name)


def _warn_unreadable(name: str, error: Exception) -> None:
    logger.warning("The prefix file %s cannot be read: %s: %s", name, type(error).__name__, error)


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """The folder for prefixes, and the files of a model that is about to be loaded, as `files_of` describes them."""

    folder: PrefixFolder
    files: list[Any]

    def open(self, model: Any, largest: int) -> PrefixDisk:
        """Return what is there for the model that was loaded from these files. Call on the MLX thread."""
        disk = PrefixDisk(self.folder, identity(self.files, model), largest)
        disk.refresh()
        return disk


def disk_place(path: Path) -> DiskPlace | None:
    """Return where prefixes of the model in the folder `path` are kept on disk; None where they are not.

    Also None, with a warning, where the folder for them cannot be made. Raises ConfigurationError.
    """
    place = prefix_folder()
    if place is None:
        return None
    try:
        return DiskPlace(PrefixFolder(place, prefix_disk_bytes()), files_of(path))
    except OSError as error:
        logger.warning("No prefixes are kept on disk, for the folder cannot be used: %s", error)
        return None
