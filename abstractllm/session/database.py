"""One SQLite file that many threads and processes write: connections, transactions, and what its errors mean.

Knows no session; the tables are the caller's. Nothing here, nor elsewhere in a process that uses it, opens the file by
other means than SQLite: closing it again would free the locks that SQLite holds (POSIX frees them by process).
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from abstractllm.errors import AbstractLLMError, SessionStoreError, UnsupportedOperationError

KEPT = 8
"""Connections that wait for their next use; more are opened while more threads are at work."""

FORK_WAIT = 2.0
"""Seconds that a fork waits for transactions to end; after these the child cannot use the file."""

_RETRY = 0.01
"""Seconds between tries, on the average, where SQLite does not wait itself."""

_ADVICE = {
    sqlite3.SQLITE_NOTADB: "is no SQLite database. Choose another path, or move the file away",
    sqlite3.SQLITE_CORRUPT: "is damaged. Restore it from a backup, or save what can be read with sqlite3's .recover",
    sqlite3.SQLITE_FULL: "cannot grow, as the disk is full; nothing was kept. Free some space and try again",
    sqlite3.SQLITE_READONLY: "cannot be written. Check the rights of the file and of its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened. Check that it is a file, and the rights of it and of its folder",
    sqlite3.SQLITE_PERM: "cannot be opened. Check the rights of the file and of its folder",
    sqlite3.SQLITE_AUTH: "cannot be opened. Check the rights of the file and of its folder",
    sqlite3.SQLITE_IOERR: "cannot be read or written. Check the disk, its free space and limits on the size of files",
    sqlite3.SQLITE_TOOBIG: "cannot hold a row this large; nothing was kept. Keep large files elsewhere",
}


class Database:
    """A file with tables. One object serves all threads of a process, and after a fork those of the child as well.

    `tables` are the statements that lead from each version of the schema to the next one; a file that is not there is
    made. `application` is the number that marks files of this kind. `timeout` is how many seconds a transaction waits
    for other writers.

    Every transaction that was committed outlives the process, however that ends. It outlives a power cut as well, as
    each commit waits for the disk (`synchronous=FULL`; NORMAL would keep the file whole, and lose the last commits).
    That costs about a millisecond in a turn that takes a model seconds. On macOS, whose disks answer before they have
    written, the last commits can be lost in a power cut; the file stays whole there too.
    """

    def __init__(self, path: Path, *, tables: Sequence[str], application: int, timeout: float) -> None:
        self.path = path
        self._timeout = timeout
        self._idle: list[sqlite3.Connection] = []
        self._used = 0
        self._changed = threading.Condition()
        self._write_lock = threading.Lock()
        self._closed = False
        weakref.finalize(self, _close_all, self._idle)
        with _forking:
            _databases.add(self)
        with self._connection() as connection:
            self._prepare(connection, tables, application)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection whose statements all see one state. Raises SessionStoreError."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield connection
            connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection whose statements are kept all together at the end, or not at all where anything raises.

        Only one writer is at work at a time, of all threads and processes. Raises SessionStoreError.
        """
        lock = self._write_lock  # SQLite's own waiting is by trying again: only one thread of a process needs to
        if not lock.acquire(timeout=self._timeout):
            raise self._locked()
        try:
            with self._connection() as connection:
                self._begin(connection)
                yield connection
                connection.execute("COMMIT")
        finally:
            lock.release()

    def close(self) -> None:
        """Close the file, now or when what is under way has ended. Safe to call twice."""
        with self._changed:
            self._closed = True
            _close_all(self._idle)

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        connection = self._taken()
        try:
            yield connection
        except AbstractLLMError:
            self._leave(connection)
            raise
        except sqlite3.Error as error:
            self._leave(None, connection)
            raise self._said(error) from error
        except BaseException:
            self._leave(None, connection)
            raise
        self._leave(connection)

    def _taken(self) -> sqlite3.Connection:
        with self._changed:
            if self._closed:
                raise UnsupportedOperationError(f"The session store {self.path} is closed; open it again.")
            if str(self.path) in _lost:
                raise UnsupportedOperationError(
                    f"This process was forked while its parent wrote to {self.path}, and cannot use that file."
                    " Fork while nothing is being written, or start processes with multiprocessing's 'spawn' method."
                )
            self._used += 1
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect()
        except BaseException as error:
            self._leave(None)
            if isinstance(error, sqlite3.Error):
                raise self._said(error) from error
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=self._timeout, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _leave(self, kept: sqlite3.Connection | None, broken: sqlite3.Connection | None = None) -> None:
        """Take a connection back; what was not committed is undone."""
        if broken is not None:
            broken.close()
        if kept is not None and kept.in_transaction:
            kept.rollback()
        with self._changed:
            self._used -= 1
            if kept is not None and len(self._idle) < KEPT and not self._closed:
                self._idle.append(kept)
            elif kept is not None:
                kept.close()
            self._changed.notify_all()

    def _begin(self, connection: sqlite3.Connection) -> None:
        """Begin to write as soon as no other process does.

        SQLite's own waiting looks every tenth of a second in the end. Eight processes that write all the time then
        kept one out for 2.7 of 4.6 seconds; looking at random moments, as here, for 0.3.
        """
        connection.execute("PRAGMA busy_timeout = 0")
        self._patiently(connection, "BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA busy_timeout = {round(self._timeout * 1000)}")

    def _patiently(self, connection: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
        """Execute a statement for which SQLite does not wait itself."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                return connection.execute(statement)
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0, 2 * _RETRY))

    def _prepare(self, connection: sqlite3.Connection, tables: Sequence[str], application: int) -> None:
        """Make the tables, or check that they are ours. A file of another kind is left as it is."""
        connection.execute("BEGIN")
        version = self._version(connection, tables, application)
        connection.execute("COMMIT")
        if version == len(tables):
            return
        self._use_wal(connection)
        connection.execute("BEGIN IMMEDIATE")
        for number in range(self._version(connection, tables, application), len(tables)):
            connection.execute(tables[number])
        connection.execute(f"PRAGMA application_id = {application}")
        connection.execute(f"PRAGMA user_version = {len(tables)}")
        connection.execute("COMMIT")

    def _version(self, connection: sqlite3.Connection, tables: Sequence[str], application: int) -> int:
        """Return how many of the statements that make the tables were executed."""
        (kind,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (things,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        if kind != application and (kind or things):
            raise SessionStoreError(f"{self.path} is the database of another program; choose another path.")
        if version > len(tables):
            raise SessionStoreError(
                f"{self.path} was made by a newer version of this package (schema {version}, known is {len(tables)});"
                " upgrade abstractllm, or choose another path."
            )
        return int(version)

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Keep a write-ahead log from now on: readers and a writer are not in each other's way."""
        (mode,) = self._patiently(connection, "PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise SessionStoreError(
                f"{self.path} is where SQLite can keep no write-ahead log, such as a network's disk; use a local one."
            )

    def _said(self, error: sqlite3.Error) -> SessionStoreError:
        if _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return self._locked()
        if not self.path.parent.is_dir():
            return SessionStoreError(f"{self.path} cannot be made, as its folder does not exist; make that first.")
        advice = _ADVICE.get(_code(error), "could not be used")
        return SessionStoreError(f"{self.path} {advice} (SQLite: {error}).")

    def _locked(self) -> SessionStoreError:
        return SessionStoreError(
            f"{self.path} was locked by other writers for {self._timeout:g} seconds; nothing was kept. Try again, end"
            " the program that holds it, or open the store with a longer timeout."
        )

    def rest(self) -> None:
        """Before a fork: let transactions end and close all, as SQLite's state must not get into a child."""
        self._changed.acquire()
        self._changed.wait_for(lambda: not self._used, timeout=FORK_WAIT)
        _close_all(self._idle)

    def wake(self) -> None:
        """After a fork, in the parent: go on."""
        self._changed.release()

    def begin_anew(self) -> None:
        """After a fork, in the child: forget threads that are not here."""
        if self._used:
            _lost.add(str(self.path))
        self._used = 0
        self._changed = threading.Condition()
        self._write_lock = threading.Lock()


def _code(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code, which is the last byte; 0 for an error of Python's module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _close_all(connections: list[sqlite3.Connection]) -> None:
    while connections:
        connections.pop().close()


_forking = threading.RLock()
_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_resting: list[Database] = []
_lost: set[str] = set()
"""Files that a forked process cannot use: SQLite's state in it says that threads which are not there hold them."""


def _before_fork() -> None:
    _forking.acquire()
    for database in list(_databases):
        database.rest()
        _resting.append(database)


def _after_fork_in_parent() -> None:
    while _resting:
        _resting.pop().wake()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking
    while _resting:
        _resting.pop().begin_anew()
    _forking = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
