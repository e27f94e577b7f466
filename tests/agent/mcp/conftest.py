"""Servers for the tests, and the proof that each test leaves neither a process nor a task behind."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

import abstractllm
from abstractllm.portal import portal

PROGRAMS = Path(__file__).parent / "programs"

Serving = Callable[..., AbstractContextManager[str]]


def gone(pid: int) -> bool:
    """Return whether there is no such process, not even as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


async def tasks_after(before: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
    """Return what still runs once everything that began since had time for its end."""
    left = await tasks() - before
    return (await asyncio.wait(left, timeout=5))[1] if left else set()


@pytest.fixture(scope="module", autouse=True)
def children() -> Iterator[list[int]]:
    """The ids of the children that began since the list was cleared; after a module, none that ever began is there.

    Not after the last module of all: by then another process may have the id of one that is gone.
    """
    ever: list[int] = []
    lately: list[int] = []
    really_open = anyio.open_process

    async def opened(*arguments: Any, **named: Any) -> Any:
        process = await really_open(*arguments, **named)
        ever.append(process.pid)
        lately.append(process.pid)
        return process

    before = portal().run(tasks)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anyio, "open_process", opened)
        yield lately
    assert portal().run(lambda: tasks_after(before)) == set()
    assert [pid for pid in ever if not gone(pid)] == []


@pytest.fixture(autouse=True)
def nothing_left(children: list[int]) -> Iterator[list[int]]:
    """Fail a test that leaves a child of its own, or a task of the package's loop. Gives the ids of its children."""
    children.clear()
    before = portal().run(tasks)
    yield children
    assert portal().run(lambda: tasks_after(before)) == set()
    assert [pid for pid in children if not gone(pid)] == []


@pytest.fixture(scope="session")
def plain() -> Callable[..., list[str]]:
    """The command of a server without any library, which behaves in the ways that it is given."""
    return lambda *ways: [sys.executable, "-S", str(PROGRAMS / "plain.py"), *ways]


@pytest.fixture(scope="session")
def program() -> Callable[..., dict[str, Any]]:
    """The configuration of another program here, as a child process that finds the package."""

    def entry(name: str, *arguments: str) -> dict[str, Any]:
        environment = {"PYTHONPATH": str(Path(abstractllm.__file__).parents[1])}
        return {"command": sys.executable, "args": [str(PROGRAMS / name), *arguments], "env": environment}

    return entry


@pytest.fixture
def ours() -> ModuleType:
    """The program of that name as a module, with fresh events."""
    spec = importlib.util.spec_from_file_location("ours", PROGRAMS / "ours.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Serving:
    """Serve over HTTP, in a thread, for the length of a block, which gives the URL."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    @contextmanager
    def served(serve: Callable[..., Coroutine[Any, Any, None]]) -> Iterator[str]:
        urls: list[str] = []
        listening = threading.Event()
        running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = []

        async def main() -> None:
            running.append((asyncio.get_running_loop(), asyncio.current_task()))
            await serve(transport="http", on_listening=lambda url: (urls.append(url), listening.set()))

        def run() -> None:
            with pytest.raises(asyncio.CancelledError):
                asyncio.run(main())

        thread = threading.Thread(target=run)
        thread.start()
        assert listening.wait(30)
        try:
            yield urls[0]
        finally:
            loop, task = running[0]
            assert task is not None
            loop.call_soon_threadsafe(task.cancel)
            thread.join()

    return served
