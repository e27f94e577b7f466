"""The store of sessions in one process: what it keeps, and what it says when it cannot."""

import asyncio
import sqlite3
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from abstractllm.errors import (
    InvalidParameterError,
    SessionConflictError,
    SessionNotFoundError,
    SessionStoreError,
    UnsupportedOperationError,
)
from abstractllm.session.store import SessionStore, SQLiteStore
from abstractllm.types import Message, ToolCall

from ..messages.strategies import messages, values

TURN = (Message("user", "Hi"), Message("assistant", "Hello"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "sessions.db"


@pytest.fixture
def store(path):
    with SQLiteStore(path) as store:
        yield store


class Sessions(RuleBasedStateMachine):
    """Compares a store with a dict of lists."""

    ids = Bundle("ids")
    turns = st.lists(messages, max_size=3)

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.store: SessionStore = SQLiteStore(self.folder.name + "/s.db")
        self.known = {}

    @rule(target=ids, metadata=st.dictionaries(st.sampled_from("abc"), values))
    def create(self, metadata):
        id = self.store.create(**metadata)
        self.known[id] = [], {key: value for key, value in metadata.items() if value is not None}
        return id

    @rule(id=ids, turn=turns, known=st.booleans())
    def append(self, id, turn, known):
        kept = self.known[id][0]
        assert self.store.append(id, turn, after=len(kept) if known else None) == len(kept) + len(turn)
        kept += turn

    @rule(id=ids, turn=turns)
    def replace(self, id, turn):
        assert self.store.replace(id, turn) == len(turn)
        self.known[id][0][:] = turn

    @rule(id=ids, turn=turns, distance=st.integers(-2, 2).filter(bool))
    def clash(self, id, turn, distance):
        length = len(self.known[id][0])
        for write in (self.store.append, self.store.replace):
            with pytest.raises(SessionConflictError) as caught:
                write(id, turn, after=length + distance)
            assert caught.value.length == length

    @rule(id=ids, metadata=st.dictionaries(st.sampled_from("abc"), values))
    def describe(self, id, metadata):
        self.store.set_metadata(id, **metadata)
        merged = self.known[id][1] | metadata
        self.known[id] = self.known[id][0], {key: value for key, value in merged.items() if value is not None}

    @rule(id=consumes(ids))
    def delete(self, id):
        self.store.delete(id)
        del self.known[id]
        with pytest.raises(SessionNotFoundError):
            self.store.messages(id)

    @rule()
    def reopen(self):
        self.store.close()
        self.store = SQLiteStore(self.folder.name + "/s.db")

    @invariant()
    def is_what_was_written(self):
        for id, (kept, metadata) in self.known.items():
            assert self.store.messages(id) == tuple(kept)
            assert self.store.messages(id, start=2) == tuple(kept[2:])
            assert self.store.metadata(id) == metadata
        found = {info.id: (info.length, info.metadata) for info in self.store.list()}
        assert found == {id: (len(kept), metadata) for id, (kept, metadata) in self.known.items()}

    def teardown(self):
        self.store.close()
        self.folder.cleanup()


Sessions.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestSessions = Sessions.TestCase


def test_the_times_of_a_session(store):
    before = datetime.now(UTC)
    first, second = store.create(title="one"), store.create("mine")
    assert [info.id for info in store.list()] == [second, first]
    store.append(first, TURN)
    assert [info.id for info in store.list()] == [first, second]
    info = store.info(first)
    assert before <= info.created < info.updated <= datetime.now(UTC)
    assert (info.length, info.metadata) == (2, {"title": "one"})


def test_an_id_can_be_taken_once(store):
    store.create("mine")
    store.append("mine", TURN)
    with pytest.raises(SessionConflictError, match="session 'mine' already"):
        store.create("mine")
    assert store.messages("mine") == TURN


@pytest.mark.parametrize("id", ["", 3, "\ud83d"])
def test_ids_that_are_none(store, id):
    with pytest.raises(InvalidParameterError, match="id of a session"):
        store.create(id)
    with pytest.raises(InvalidParameterError, match="id of a session"):
        store.messages(id)


def test_a_session_that_is_not_there(store):
    uses = [store.messages, store.info, store.metadata, store.delete, store.set_metadata]
    for use in [*uses, lambda id: store.append(id, TURN), lambda id: store.replace(id, TURN)]:
        with pytest.raises(SessionNotFoundError, match="no session 'x'"):
            use("x")


def test_a_turn_with_what_json_cannot_hold_is_not_kept_at_all(store):
    id = store.create()
    for bad in (
        Message("user", "x", provider_data={"a": object()}),
        Message("assistant", "", tool_calls=(ToolCall("1", "f", {"a": {1, 2}}),)),
        Message("king", "x"),
    ):
        with pytest.raises(InvalidParameterError):
            store.append(id, [*TURN, bad])
    with pytest.raises(InvalidParameterError) as caught:
        store.set_metadata(id, good=1, bad=object())
    assert caught.value.parameter == "bad"
    assert (store.messages(id), store.metadata(id)) == ((), {})


def test_half_a_surrogate_pair_is_kept(store):
    turn = Message("assistant", "\ud83d", provider_data={"\ud83d": "\ude00"})
    id = store.create(title="\ud83d")
    store.append(id, [turn])
    assert (store.messages(id), store.metadata(id)) == ((turn,), {"title": "\ud83d"})


def test_threads_that_write_to_one_session(store):
    id = store.create()

    def write(thread):
        for number in range(20):
            text = f"{thread} {number}"
            store.append(id, [Message("user", text), Message("assistant", text)])
            assert Message("assistant", text) in store.messages(id)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    texts = [message.text for message in store.messages(id)]
    assert texts[::2] == texts[1::2]
    assert sorted(texts[::2]) == sorted(f"{thread} {number}" for thread in range(8) for number in range(20))


def test_of_two_that_write_after_the_same_message_one_is_kept(path):
    """Each adds its message after what it has read, again until it is the first: none is lost, none is written over."""
    with SQLiteStore(path) as store:
        id = store.create()
    clashes = []

    def write(thread):
        with SQLiteStore(path) as store:
            for number in range(10):
                while True:
                    kept = store.messages(id)
                    try:
                        store.append(id, [Message("user", f"{thread} {number} {len(kept)}")], after=len(kept))
                        break
                    except SessionConflictError as error:
                        assert error.length > len(kept)
                        clashes.append(error)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    with SQLiteStore(path) as store:
        assert [int(message.text.split()[2]) for message in store.messages(id)] == list(range(40))


def lock(path):
    """Return a connection that keeps all others from writing."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


async def test_a_write_that_waits_in_a_thread_holds_up_no_loop(store, path):
    id = store.create()
    other = lock(path)
    writing = asyncio.create_task(asyncio.to_thread(store.append, id, TURN))
    for _ in range(100):
        await asyncio.sleep(0)
        assert store.messages(id) == ()
    assert not writing.done()
    other.execute("COMMIT")
    other.close()
    assert await writing == 2


def test_a_lock_that_is_held_too_long(path):
    with SQLiteStore(path, timeout=0.05) as store:
        id = store.create()
        other = lock(path)
        with pytest.raises(SessionStoreError, match=r"locked by other writers for 0\.05 seconds.*Try again"):
            store.append(id, TURN)
        assert store.messages(id) == ()
        other.close()
        assert store.append(id, TURN) == 2


def test_a_closed_store(path):
    store = SQLiteStore(path)
    id = store.create()
    store.close()
    store.close()
    with pytest.raises(UnsupportedOperationError, match="is closed; open it again"):
        store.messages(id)


def test_a_store_that_is_closed_while_a_thread_writes(path):
    """The write ends as it would have, and its connection is closed then: no file of the log stays."""
    store = SQLiteStore(path)
    id = store.create()
    other = lock(path)
    writing = threading.Thread(target=store.append, args=(id, TURN))
    writing.start()
    store.close()
    other.execute("COMMIT")
    other.close()
    writing.join()
    with SQLiteStore(path) as again:
        assert len(again.messages(id)) in (0, 2)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_store_that_is_let_go_of_closes_its_file(path):
    store = SQLiteStore(path)
    store.create()
    assert len(list(path.parent.iterdir())) == 3
    del store
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def foreign(path):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE sessions (a)")
    other.close()


def marked(path):
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA application_id = 7")
    other.close()


def newer(path):
    SQLiteStore(path).close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_text("Once upon a time " * 100), "no SQLite database. Choose another path"),
        (foreign, "database of another program; choose another path"),
        (marked, "database of another program; choose another path"),
        (newer, "schema 99, known is 2.*; upgrade abstractllm"),
        (lambda path: path.mkdir(), "cannot be opened. Check that it is a file"),
    ],
    ids=["text", "foreign", "marked", "newer", "folder"],
)
def test_files_of_another_kind_are_left_alone(path, make, words):
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(SessionStoreError, match=words):
        SQLiteStore(path)
    assert not before or path.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(SessionStoreError, match="its folder does not exist"):
        SQLiteStore(tmp_path / "no" / "s.db")


@pytest.mark.parametrize("path", ["", ":memory:"])
def test_a_store_is_a_file(path):
    with pytest.raises(InvalidParameterError, match="is a file"):
        SQLiteStore(path)


def test_an_empty_file_becomes_a_store(path):
    path.touch()
    with SQLiteStore(path) as store:
        assert store.list() == ()


def test_a_damaged_file_is_told(path):
    with SQLiteStore(path) as store:
        id = store.create()
        store.append(id, [Message("user", "x" * 3000)] * 50)
    data = path.read_bytes()
    path.write_bytes(data[: 4096 * 3] + b"\xff" * (len(data) - 4096 * 3))
    with SQLiteStore(path) as store, pytest.raises(SessionStoreError, match=r"is damaged. Restore it"):
        store.messages(id)


def test_a_message_of_a_newer_version_is_told(store, path):
    id = store.create()
    store.append(id, TURN)
    with sqlite3.connect(path) as other:
        other.execute("""UPDATE messages SET message = '{"role": "oracle", "content": ""}' WHERE number = 1""")
        other.execute("""UPDATE sessions SET metadata = '{"a": {"$new": 1}}'""")
    other.close()
    with pytest.raises(SessionStoreError, match="Message 1 of session .*'oracle'.*Upgrade abstractllm"):
        store.messages(id)
    with pytest.raises(SessionStoreError, match="metadata of session .*new.*Upgrade abstractllm"):
        store.list()
