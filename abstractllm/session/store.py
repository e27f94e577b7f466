"""Where sessions are kept: the `SessionStore` protocol, and `SQLiteStore`, one file for many sessions and writers."""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, Self

from abstractllm.errors import InvalidParameterError, SessionConflictError, SessionNotFoundError, SessionStoreError
from abstractllm.messages import to_messages
from abstractllm.session.database import Database
from abstractllm.session.encoding import (
    json_text,
    message_text,
    metadata_as_dict,
    read_json,
    read_message,
    read_metadata,
)
from abstractllm.types import Message

TIMEOUT = 30.0
"""Seconds that a write waits for other writers."""

_APPLICATION = 0x61_6C_6C_6D  # "allm"

_TABLES = (
    """CREATE TABLE sessions (
        key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, created REAL NOT NULL, updated REAL NOT NULL,
        metadata TEXT NOT NULL)""",
    """CREATE TABLE messages (
        session INTEGER NOT NULL REFERENCES sessions (key), number INTEGER NOT NULL, message TEXT NOT NULL,
        UNIQUE (session, number))""",
)
"""Each statement leads to the next version of the schema. Numbers of messages begin at 0 and have no gaps."""


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session without its messages: how many there are, when it was made and last written, and its metadata."""

    id: str
    length: int
    created: datetime
    updated: datetime
    metadata: Mapping[str, Any] = field(default_factory=dict)


class SessionStore(Protocol):
    """Where sessions are kept. Every method is safe in any thread and blocks: in async code use `asyncio.to_thread`.

    A method raises SessionNotFoundError for an id that is not there (but for `create`), SessionStoreError where the
    store cannot be used, and UnsupportedOperationError once it is closed. What a method has returned from is kept.
    """

    def create(self, id: str | None = None, **metadata: Any) -> str:
        """Make an empty session and return its id, a new one if none is given.

        `metadata` are JSON values, bytes and tuples; by custom `model`, `system_prompt` and `title` are among them.
        Raises SessionConflictError for an id that is there already, and InvalidParameterError.
        """

    def append(self, id: str, messages: Sequence[Message], *, after: int | None = None) -> int:
        """Add messages, all of them or, where this raises, none, and return how many the session has then.

        With `after` they are added only if the session has that many messages; otherwise another writer was faster,
        and SessionConflictError is raised. Raises InvalidParameterError for messages that JSON cannot hold.
        """

    def messages(self, id: str, *, start: int = 0) -> tuple[Message, ...]:
        """Return the messages, from number `start` on."""

    def replace(self, id: str, messages: Sequence[Message], *, after: int | None = None) -> int:
        """Put messages in the place of all that there are, as `append` adds them; return how many there are."""

    def list(self) -> tuple[SessionInfo, ...]:
        """Return all sessions, the one that was written last first."""

    def delete(self, id: str) -> None:
        """Remove a session with its messages."""

    def info(self, id: str) -> SessionInfo:
        """Return a session without its messages."""

    def metadata(self, id: str) -> dict[str, Any]:
        """Return a session's metadata."""

    def set_metadata(self, id: str, **metadata: Any) -> None:
        """Set these of a session's metadata and leave the others; None removes one."""

    def close(self) -> None:
        """Let go of what the store holds. Safe to call twice."""


class SQLiteStore:
    """A `SessionStore` in one SQLite file, for any number of threads and processes on one machine.

    A message is a row, so that a turn costs the same however long its session is. `path` is a file in a folder that
    exists, on a local disk, with two more files beside it while it is open (`-wal`, `-shm`); it is made if it is not
    there. `timeout` is how many seconds a write waits for others. What `append` has returned from outlives a killed
    process and, where the disk keeps its word, a power cut: see `Database`. A store may be used after a fork.
    """

    def __init__(self, path: str | os.PathLike[str], *, timeout: float = TIMEOUT) -> None:
        if str(path) in ("", ":memory:"):
            raise InvalidParameterError("path", "A session store is a file; keep messages in a list for memory alone.")
        place = Path(path).expanduser().absolute()
        self._database = Database(place, tables=_TABLES, application=_APPLICATION, timeout=timeout)

    def create(self, id: str | None = None, **metadata: Any) -> str:
        """Make an empty session; see `SessionStore.create`."""
        name = uuid.uuid4().hex if id is None else _checked(id)
        now, text = time.time(), _metadata_text(metadata)
        with self._database.writing() as connection:
            if connection.execute("SELECT 1 FROM sessions WHERE id = ?", (name,)).fetchone():
                raise SessionConflictError(f"There is a session {name!r} already; open it, or choose another id.")
            connection.execute(
                "INSERT INTO sessions (id, created, updated, metadata) VALUES (?, ?, ?, ?)", (name, now, now, text)
            )
        return name

    def append(self, id: str, messages: Sequence[Message], *, after: int | None = None) -> int:
        """Add messages, all of them or none; see `SessionStore.append`."""
        texts = _texts(messages)
        with self._changing(id, after) as (connection, key, length):
            return _insert(connection, key, length, texts)

    def replace(self, id: str, messages: Sequence[Message], *, after: int | None = None) -> int:
        """Put messages in the place of all that there are; see `SessionStore.replace`."""
        texts = _texts(messages)
        with self._changing(id, after) as (connection, key, _):
            connection.execute("DELETE FROM messages WHERE session = ?", (key,))
            return _insert(connection, key, 0, texts)

    def messages(self, id: str, *, start: int = 0) -> tuple[Message, ...]:
        """Return the messages, from number `start` on; see `SessionStore.messages`."""
        with self._database.reading() as connection:
            key, _ = _found(connection, id)
            rows = connection.execute(
                "SELECT number, message FROM messages WHERE session = ? AND number >= ? ORDER BY number", (key, start)
            ).fetchall()
        return tuple(self._message(id, number, text) for number, text in rows)

    def list(self) -> tuple[SessionInfo, ...]:
        """Return all sessions, the one that was written last first; see `SessionStore.list`."""
        with self._database.reading() as connection:
            rows = connection.execute(f"{_INFO} ORDER BY updated DESC, key DESC").fetchall()
        return tuple(self._info(row) for row in rows)

    def info(self, id: str) -> SessionInfo:
        """Return a session without its messages; see `SessionStore.info`."""
        with self._database.reading() as connection:
            _found(connection, id)
            return self._info(connection.execute(f"{_INFO} WHERE id = ?", (id,)).fetchone())

    def metadata(self, id: str) -> dict[str, Any]:
        """Return a session's metadata; see `SessionStore.metadata`."""
        return dict(self.info(id).metadata)

    def set_metadata(self, id: str, **metadata: Any) -> None:
        """Set these of a session's metadata; see `SessionStore.set_metadata`."""
        described = metadata_as_dict(metadata)
        with self._changing(id, None) as (connection, key, _):
            (text,) = connection.execute("SELECT metadata FROM sessions WHERE key = ?", (key,)).fetchone()
            changed = {name: value for name, value in (read_json(text) | described).items() if value is not None}
            connection.execute("UPDATE sessions SET metadata = ? WHERE key = ?", (json_text(changed), key))

    def delete(self, id: str) -> None:
        """Remove a session; see `SessionStore.delete`."""
        with self._changing(id, None) as (connection, key, _):
            connection.execute("DELETE FROM messages WHERE session = ?", (key,))
            connection.execute("DELETE FROM sessions WHERE key = ?", (key,))

    def close(self) -> None:
        """Close the file; see `SessionStore.close`."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @contextmanager
    def _changing(self, id: str, after: int | None) -> Iterator[tuple[sqlite3.Connection, int, int]]:
        """Lend a connection for a change of a session, with the session's key and its length, which is checked."""
        with self._database.writing() as connection:
            key, length = _found(connection, id)
            if after is not None and after != length:
                raise SessionConflictError(
                    f"Session {id!r} has {length} messages, not {after}: another writer was faster, and nothing was"
                    " kept. Read its messages again, then decide.",
                    length=length,
                )
            connection.execute("UPDATE sessions SET updated = ? WHERE key = ?", (time.time(), key))
            yield connection, key, length

    def _message(self, id: str, number: int, text: str) -> Message:
        try:
            return read_message(text)
        except ValueError as error:
            raise self._unreadable(f"Message {number} of session {id!r}", error) from error

    def _info(self, row: tuple[str, int, float, float, str]) -> SessionInfo:
        id, length, created, updated, text = row
        try:
            metadata = read_metadata(read_json(text))
        except ValueError as error:
            raise self._unreadable(f"The metadata of session {id!r}", error) from error
        made, written = (datetime.fromtimestamp(seconds, UTC) for seconds in (created, updated))
        return SessionInfo(id, length, made, written, metadata)

    def _unreadable(self, what: str, error: ValueError) -> SessionStoreError:
        return SessionStoreError(
            f"{what} in {self._database.path} cannot be read: {error} Upgrade abstractllm, if a newer version wrote it."
        )


_INFO = """SELECT id, (SELECT COALESCE(MAX(number), -1) + 1 FROM messages WHERE session = key), created, updated,
    metadata FROM sessions"""


def _found(connection: sqlite3.Connection, id: str) -> tuple[int, int]:
    """Return a session's key, and how many messages it has."""
    row = connection.execute("SELECT key FROM sessions WHERE id = ?", (_checked(id),)).fetchone()
    if row is None:
        raise SessionNotFoundError(f"There is no session {id!r}; `create` makes one, `list` shows which there are.")
    (last,) = connection.execute("SELECT MAX(number) FROM messages WHERE session = ?", row).fetchone()
    return row[0], 0 if last is None else last + 1


def _insert(connection: sqlite3.Connection, key: int, length: int, texts: Sequence[str]) -> int:
    rows = [(key, number, text) for number, text in enumerate(texts, length)]
    connection.executemany("INSERT INTO messages (session, number, message) VALUES (?, ?, ?)", rows)
    return length + len(rows)


def _texts(messages: Iterable[Message]) -> Sequence[str]:
    given = tuple(messages)
    return [message_text(message) for message in to_messages(given)] if given else []


def _metadata_text(metadata: Mapping[str, Any]) -> str:
    return json_text({key: value for key, value in metadata_as_dict(metadata).items() if value is not None})


def _checked(id: object) -> str:
    try:
        if isinstance(id, str) and id.encode():
            return id
    except UnicodeEncodeError:
        pass  # half of a surrogate pair
    raise InvalidParameterError("id", f"The id of a session is a text that is not empty, not {id!r}.")
