"""One SQLite file and many threads and processes, some of which are killed."""

import itertools
import random
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest

from abstractllm.errors import UnsupportedOperationError
from abstractllm.session.database import Database
from abstractllm.session.store import SQLiteStore
from abstractllm.types import Message, ToolCall

WRITERS, TURNS, KILLS = 8, 1000, 12

WRITER = """
import sys
from abstractllm.session.store import SQLiteStore
from abstractllm.types import Message, ToolCall

path, id, name, first, last = sys.argv[1:]
store = SQLiteStore(path)
for number in range(int(first), int(last)):
    label = f"{name} {number}"
    call = ToolCall(label, "f", {"text": "x" * 300})
    turn = [Message("user", label), Message("assistant", "", tool_calls=(call,)), Message("tool", label)]
    store.append(id, turn)
    print(label, flush=True)
"""


@pytest.fixture
def begin(package):
    """Start a program that finds the package; its standard output is a pipe."""
    started = []

    def start(program, *arguments):
        prelude = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n"
        command = [sys.executable, "-c", prelude + program, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def kill_again_and_again(begin, path, id):
    """Run a writer that is killed at random moments and begun anew until it has written all; return what it told."""
    told, moments = [], random.Random(7)
    for life in range(KILLS):
        process = begin(WRITER, path, id, f"killed-{life}", len(told), TURNS)
        before_kill = moments.randrange(2, TURNS // KILLS)
        told += [line.strip() for line in itertools.islice(process.stdout, before_kill)]
        process.kill()
        told += process.stdout.read().splitlines()
    process = begin(WRITER, path, id, "last", len(told), TURNS)
    return told + process.stdout.read().splitlines()


def check_whole(path):
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    other.close()


def test_no_turn_is_lost_where_one_of_many_writers_is_killed(begin, tmp_path):
    path = tmp_path / "s.db"
    with SQLiteStore(path) as store:
        ids = [store.create("shared"), store.create("other")]
        writers = [begin(WRITER, path, ids[number % 2], number, 0, TURNS) for number in range(1, WRITERS)]
        told = kill_again_and_again(begin, path, ids[0])
        outputs = [writer.stdout.read().splitlines() for writer in writers]
        assert [writer.wait() for writer in writers] == [0] * (WRITERS - 1)
        assert [len(output) for output in outputs] == [TURNS] * (WRITERS - 1)
        kept = [turn for id in ids for turn in split(store.messages(id))]
    check_whole(path)
    assert len(told) == TURNS
    assert all(count == 1 for count in Counter(kept).values())
    assert set(itertools.chain(told, *outputs)) <= set(kept)
    assert len(kept) - WRITERS * TURNS <= KILLS  # written, and killed before it could be told


def split(messages):
    """Return the label of each turn, after a look that it is whole: no message of another between its own."""
    assert len(messages) % 3 == 0
    for number in range(0, len(messages), 3):
        label = messages[number].text
        call = ToolCall(label, "f", {"text": "x" * 300})
        turn = (Message("user", label), Message("assistant", "", tool_calls=(call,)), Message("tool", label))
        assert messages[number : number + 3] == turn
        yield label


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


def test_a_child_goes_on_where_the_parent_has_closed_the_store(package, tmp_path):
    """Were the parent's locks the child's as well, the parent would take the log away that the child writes to."""
    prelude = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n"
    command = [sys.executable, "-c", prelude + LEFT_ALONE, str(tmp_path / "s.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "closed\n"
        with SQLiteStore(tmp_path / "s.db") as store:
            assert [message.text for message in store.messages("shared")] == ["with the parent"]
        process.communicate("\n")
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
