"""Programs that write to a store at the same time, one of which is killed again and again."""

import itertools
import random
import sqlite3
import subprocess
import sys
from collections import Counter

from abstractllm.session.store import SQLiteStore
from abstractllm.types import Message, ToolCall

WRITERS = 8

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


class Programs:
    """Starts programs that find the package, their standard output being a pipe, and ends them."""

    def __init__(self, package):
        self.prelude = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n"
        self.started = []

    def __enter__(self):
        return self

    def __call__(self, program, *arguments):
        command = [sys.executable, "-c", self.prelude + program, *map(str, arguments)]
        self.started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return self.started[-1]

    def __exit__(self, *error):
        for process in self.started:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def check_no_turn_is_lost(begin, path, turns, kills):
    """Have eight writers write so many turns each, kill one of them again and again, and look for every turn."""
    with SQLiteStore(path) as store:
        ids = [store.create("shared"), store.create("other")]
        writers = [begin(WRITER, path, ids[number % 2], number, 0, turns) for number in range(1, WRITERS)]
        told = kill_again_and_again(begin, path, ids[0], turns, kills)
        outputs = [writer.stdout.read().splitlines() for writer in writers]
        assert [writer.wait() for writer in writers] == [0] * (WRITERS - 1)
        assert [len(output) for output in outputs] == [turns] * (WRITERS - 1)
        kept = [turn for id in ids for turn in split(store.messages(id))]
    check_whole(path)
    assert len(told) == turns
    assert all(count == 1 for count in Counter(kept).values())
    assert set(itertools.chain(told, *outputs)) <= set(kept)
    assert len(kept) - WRITERS * turns <= kills  # written, and killed before it could be told


def kill_again_and_again(begin, path, id, turns, kills):
    """Run a writer that is killed at random moments and begun anew until it has written all; return what it told."""
    told, moments = [], random.Random(7)
    for life in range(kills):
        process = begin(WRITER, path, id, f"killed-{life}", len(told), turns)
        before_kill = moments.randrange(2, turns // kills)
        told += [line.strip() for line in itertools.islice(process.stdout, before_kill)]
        process.kill()
        told += process.stdout.read().splitlines()
    process = begin(WRITER, path, id, "last", len(told), turns)
    return told + process.stdout.read().splitlines()


def split(messages):
    """Return the label of each turn, after a look that it is whole: no message of another between its own."""
    assert len(messages) % 3 == 0
    for number in range(0, len(messages), 3):
        label = messages[number].text
        call = ToolCall(label, "f", {"text": "x" * 300})
        turn = (Message("user", label), Message("assistant", "", tool_calls=(call,)), Message("tool", label))
        assert messages[number : number + 3] == turn
        yield label


def check_whole(path):
    other = sqlite3.connect(path)
    assert other.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    other.close()
