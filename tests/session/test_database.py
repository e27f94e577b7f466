"""One SQLite file and many threads and processes, some of which are killed."""

import sqlite3

import pytest

from abstractllm.errors import UnsupportedOperationError
from abstractllm.session.database import Database
from abstractllm.session.store import SQLiteStore

from .writers import Programs, check_no_turn_is_lost, check_whole


@pytest.fixture
def begin(package):
    with Programs(package) as programs:
        yield programs


def test_no_turn_is_lost_where_one_of_many_writers_is_killed(begin, tmp_path):
    check_no_turn_is_lost(begin, tmp_path / "s.db", turns=150, kills=5)


OPENING = """
import sys
from abstractllm.session.store import SQLiteStore

SQLiteStore(sys.argv[1]).create()
"""


def test_many_processes_make_the_file_at_once(begin, tmp_path):
    path = tmp_path / "s.db"
    processes = [begin(OPENING, path) for _ in range(6)]
    assert [process.wait() for process in processes] == [0] * 6
    with SQLiteStore(path) as store:
        assert len(store.list()) == 6


FORKING = """
import os, sys, threading
from abstractllm.session.store import SQLiteStore
from abstractllm.types import Message

store = SQLiteStore(sys.argv[1])
id = store.create("shared")
stop = threading.Event()

def write(name):
    number = 0
    while not stop.is_set() or number < 50:
        store.append(id, [Message("user", f"{name} {number}")] * 2)
        number += 1
    return number

counts = {}
threads = [threading.Thread(target=lambda name=name: counts.update({name: write(name)})) for name in "ab"]
for thread in threads:
    thread.start()
children = []
for child in range(5):
    pid = os.fork()
    if not pid:
        stop.set()
        code = 0 if write(f"child{child}") == 50 else 1
        store.close()
        os._exit(code)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
stop.set()
for thread in threads:
    thread.join()
texts = [message.text for message in store.messages(id)]
assert codes == [0] * 5, codes
assert texts[::2] == texts[1::2]
assert len(texts) == 2 * (sum(counts.values()) + 250), (len(texts), counts)
"""


def test_forks_while_threads_write(begin, tmp_path):
    process = begin(FORKING, tmp_path / "s.db")
    assert process.wait() == 0
    check_whole(tmp_path / "s.db")


LEFT_ALONE = """
import os, sys
from abstractllm.session.store import SQLiteStore
from abstractllm.types import Message

store = SQLiteStore(sys.argv[1])
store.create("shared")
told, tell = os.pipe()
if not os.fork():
    store.append("shared", [Message("user", "with the parent")])
    os.write(tell, b"x")
    sys.stdin.readline()
    store.append("shared", [Message("user", "alone")])
    os._exit(0)
os.read(told, 1)
store.close()
print("closed", flush=True)
os.wait()
"""


def test_a_child_goes_on_where_the_parent_has_closed_the_store(begin, tmp_path):
    """Were the parent's locks not renewed in the child, the parent would take the log away that the child writes to."""
    process = begin(LEFT_ALONE, tmp_path / "s.db")
    assert process.stdout.readline() == "closed\n"
    with SQLiteStore(tmp_path / "s.db") as store:
        assert [message.text for message in store.messages("shared")] == ["with the parent"]
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.wait() == 0
    with SQLiteStore(tmp_path / "s.db") as store:
        assert [message.text for message in store.messages("shared")] == ["with the parent", "alone"]


STUCK = """
import os, sys, threading
from pathlib import Path
from abstractllm.errors import UnsupportedOperationError
from abstractllm.session.database import Database

def opened():
    return Database(Path(sys.argv[1]), tables=["CREATE TABLE notes (text TEXT)"], application=1, timeout=1)

def write():
    with database.writing() as connection:
        connection.execute("INSERT INTO notes VALUES ('kept')")
        began.set()
        forked.wait()

database, began, forked = opened(), threading.Event(), threading.Event()
thread = threading.Thread(target=write)
thread.start()
began.wait()
if not os.fork():
    for use in (lambda: database.reading().__enter__(), opened):
        try:
            use()
        except UnsupportedOperationError as error:
            print(error, flush=True)
    os._exit(0)
os.wait()
forked.set()
thread.join()
with database.reading() as connection:
    print(*connection.execute("SELECT text FROM notes"))
"""


def test_a_fork_in_the_middle_of_a_write_leaves_a_child_that_says_so(run_python, tmp_path):
    lines = run_python(STUCK, str(tmp_path / "s.db")).splitlines()
    assert len(lines) == 3
    assert all("forked while its parent wrote" in line for line in lines[:2])
    assert lines[2] == "('kept',)"


LIMITED = """
import resource, sys
from abstractllm.errors import SessionStoreError
from abstractllm.session.store import SQLiteStore
from abstractllm.types import Message

store = SQLiteStore(sys.argv[1])
store.create("s")
store.append("s", [Message("user", "first")])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    store.append("s", [Message("user", "small"), Message("user", "x" * 500_000)])
except SessionStoreError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(store.append("s", [Message("user", "second")]))
"""


def test_a_file_that_cannot_grow_keeps_nothing_of_the_turn(run_python, tmp_path):
    error, length = run_python(LIMITED, str(tmp_path / "s.db")).splitlines()
    assert "cannot be read or written. Check the disk, its free space" in error
    assert length == "2"
    with SQLiteStore(tmp_path / "s.db") as store:
        assert [message.text for message in store.messages("s")] == ["first", "second"]
    check_whole(tmp_path / "s.db")


TABLES = ("CREATE TABLE notes (text TEXT)",)


def notes(database):
    with database.reading() as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, UnsupportedOperationError("x"), sqlite3.OperationalError])
def test_whatever_ends_a_transaction_undoes_it(tmp_path, error):
    database = Database(tmp_path / "a.db", tables=TABLES, application=1, timeout=1)
    with pytest.raises(BaseException) as caught, database.writing() as connection:  # noqa: PT012
        connection.execute("INSERT INTO notes VALUES ('lost')")
        raise error
    assert error in (caught.type, caught.value, type(caught.value.__cause__))
    with database.writing() as connection:
        connection.execute("INSERT INTO notes VALUES ('kept')")
    assert notes(database) == ["kept"]
    database.close()


def test_a_newer_schema_is_reached_step_by_step(tmp_path):
    old = Database(tmp_path / "a.db", tables=TABLES, application=1, timeout=1)
    with old.writing() as connection:
        connection.execute("INSERT INTO notes VALUES ('kept')")
    steps = (*TABLES, "ALTER TABLE notes ADD COLUMN place TEXT", "CREATE TABLE more (a)")
    new = Database(tmp_path / "a.db", tables=steps, application=1, timeout=1)
    assert notes(new) == ["kept"]
    with new.writing() as connection:
        connection.execute("INSERT INTO notes VALUES ('also', 'here')")
        connection.execute("INSERT INTO more VALUES (1)")
    assert notes(old) == ["kept", "also"]
    old.close()
    new.close()
