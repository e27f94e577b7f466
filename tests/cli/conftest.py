"""The command line under test: in this process, as a program, and as a program on a terminal."""

import functools
import importlib.util
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

import abstractllm
from abstractllm.cli import cli
from abstractllm.errors import GenerationError
from abstractllm.providers.base import ModelInfo
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.registry import register_provider
from abstractllm.types import ToolCall

COMMAND = Path(__file__).with_name("command.py")
PATIENCE = 60


def scripted(request):
    replies = {
        "call": Reply(tool_calls=[ToolCall("c1", "add", {"a": 1})]),
        "think": Reply("done", reasoning="hmm"),
        "fail": Reply("a b", error=GenerationError("it broke\nin two"), error_after=1),
        "crash": Reply("a b", error=ZeroDivisionError("oops"), error_after=0),
    }
    text = request.messages[-1].text
    return replies.get(text, f"{len(request.messages)} {text}")


class Scripted(EchoProvider):
    """Answers by a table, and otherwise with the number of turns and the text."""

    name = "scripted"
    defaults = {"model": "scripted", "replies": scripted}
    removed = []

    @classmethod
    def list_models(cls):
        return [ModelInfo("small", 1_500_000, "somewhere", 0.0), ModelInfo("other")]

    @classmethod
    def pull_model(cls, model):
        return f"fetched/{model}"

    @classmethod
    def remove_model(cls, model):
        cls.removed.append(model)
        return 1_500_000


@functools.cache
def command():
    """The program's module."""
    spec = importlib.util.spec_from_file_location("command", COMMAND)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TOOLS = '''
import asyncio

from abstractllm.tools import BaseTool, StopRun, tool


def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Exactly.
    """
    return a + b


def fail() -> str:
    """Fail."""
    raise RuntimeError("it is\\nbroken")


def rude() -> str:
    return "a\\x1b[2Jb\\rc\\u202ed"


def talkative() -> str:
    print("I am printing")
    return "done"


async def hang() -> None:
    await asyncio.Event().wait()


def leave(word: str) -> None:
    raise StopRun(word)


@tool(approval=True)
def remove(path: str) -> str:
    """Remove a file."""
    return f"removed {path}"


class Clock(BaseTool):
    """Say the time."""

    name = "clock"

    def __init__(self, time: str = "noon") -> None:
        self.time = time

    def execute(self) -> str:
        return self.time


class Picky(Clock):
    def __init__(self, time: str) -> None:
        self.time = time


evening = Clock("evening")
several = [add, evening]
number = 5
'''


@pytest.fixture
def tools(tmp_path):
    """A file of tools, in the present folder."""
    path = tmp_path / "toolfile.py"
    path.write_text(TOOLS)
    return path


@pytest.fixture(autouse=True)
def _same_path():
    """Imports look where they looked before, whatever a command added."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(autouse=True)
def _clean(tmp_path, monkeypatch):
    """No configuration, no history and no variables but the test's own."""
    for name in list(os.environ):
        if name.startswith("ABSTRACTLLM_"):
            monkeypatch.delenv(name)
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(abstractllm.__file__).parents[1]))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.chdir(tmp_path)
    register_provider("scripted", Scripted, replace=True)
    register_provider("calling", command().Calling, replace=True)
    Scripted.removed.clear()


@pytest.fixture
def run():
    """Run a command in this process."""

    def invoke(*arguments, **more):
        return CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="abstractllm", **more)

    return invoke


class Program(subprocess.Popen):
    """A program whose streams are pipes."""

    def expect(self, text):
        """Read exactly `text`."""
        seen = b""
        while text.startswith(seen) and seen != text:
            piece = self.stdout.read(len(text) - len(seen))
            assert piece, f"the program ended after {seen!r}"
            seen += piece
        assert seen == text


@pytest.fixture
def start():
    """Start a program whose streams are pipes."""
    started = []

    def popen(*arguments, program=COMMAND):
        command = [sys.executable, *([str(program)] if isinstance(program, Path) else program), *arguments]
        pipe = subprocess.PIPE
        started.append(Program(command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0))
        return started[-1]

    yield popen
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, arguments):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(COMMAND), *arguments], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.seen = ""

    def send(self, text):
        os.write(self.master, text.encode())

    def interrupt(self, text):
        """Press Ctrl-C until `text` comes: Python's line editor misses one that comes as it echoes a key."""
        for _ in range(PATIENCE):
            self.send("\x03")
            if self._comes(text, 1):
                return self.expect(text)
        raise AssertionError(f"Ctrl-C did not bring {text!r}, but {self.seen!r}")

    def expect(self, text):
        """Read until `text` has come; return all since the last call."""
        assert self._comes(text, PATIENCE), f"{text!r} did not come, but {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def finish(self):
        """Read to the end and return the rest and the exit code."""
        while piece := self._read():
            self.seen += piece
        return self.seen, self.process.wait(PATIENCE)

    def _comes(self, text, patience):
        end = time.monotonic() + patience
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            if not ready:
                return False
            piece = self._read()
            assert piece, f"the program ended without {text!r}, with {self.seen!r}"
            self.seen += piece
        return True

    def _read(self):
        try:
            return os.read(self.master, 4096).decode(errors="replace")
        except OSError:  # Linux says so when the last program has left the terminal
            return ""

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal():
    """Start a program on a terminal."""
    opened = []

    def start(*arguments):
        opened.append(Terminal(arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()
