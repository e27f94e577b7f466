"""`import abstractllm` is cheap and touches nothing, and its public names are what they say."""

from __future__ import annotations

import ast
import importlib
import json

import pytest

import abstractllm
from abstractllm import errors

WATCHED_IMPORT = """
import json, sys, _thread

modules = sys.argv[1:]
before, events = set(sys.modules), []
forbidden = ("socket.", "_thread.start", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork")
threading = sys.modules.get("threading")

def watch(event, arguments):
    if event.startswith(forbidden):
        events.append(event)
    if event == "open" and not str(arguments[0]).endswith((".py", ".pyc")):
        events.append(f"open {arguments[0]}")

def watched(start):
    def starting(*arguments, **named):
        events.append("_thread.start")
        return start(*arguments, **named)
    return starting

for module, prefix in ((_thread, ""), (threading, "_")):  # not every version of Python audits the start of a thread
    for name in ("start_new_thread", "start_joinable_thread"):
        if hasattr(module, prefix + name):
            setattr(module, prefix + name, watched(getattr(module, prefix + name)))
sys.addaudithook(watch)
for module in modules:
    __import__(module)
events = list(events)
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps({"events": events, "third_party": sorted(loaded - set(sys.stdlib_module_names) - {"abstractllm"})}))
"""


@pytest.mark.parametrize(
    "modules",
    [("abstractllm",), ("abstractllm", "abstractllm.factory", "abstractllm.registry", "abstractllm.providers.base")],
    ids=["package", "factory"],
)
def test_importing_touches_nothing(run_python, modules):
    seen = json.loads(run_python(WATCHED_IMPORT, *modules))
    assert seen["events"] == []
    assert set(seen["third_party"]) <= {"typing_extensions"}


def test_the_watch_sees_what_it_should(run_python, tmp_path):
    (tmp_path / "data.txt").write_text("x")
    (tmp_path / "guilty.py").write_text(
        "import socket, threading\n"
        f"open({str(tmp_path / 'data.txt')!r}).close()\n"
        "socket.socket().close()\n"
        "threading.Thread(target=len, args=('',)).start()\n"
    )
    seen = json.loads(run_python(WATCHED_IMPORT, "guilty", paths=(tmp_path,)))
    events = " ".join(seen["events"])
    assert "data.txt" in events
    assert "socket." in events
    assert "_thread.start" in events
    assert seen["third_party"] == ["guilty"]


def test_a_star_import_brings_every_public_name(run_python):
    program = (
        "from abstractllm import *\nimport abstractllm, json\n"
        "print(json.dumps(sorted(set(abstractllm.__all__) - set(globals()))))"
    )
    assert json.loads(run_python(program)) == []


def test_every_public_name_is_there_and_listed():
    assert list(abstractllm.__all__) == sorted(abstractllm.__all__)
    for name in abstractllm.__all__:
        assert getattr(abstractllm, name) is not None
    assert set(abstractllm.__all__) <= set(dir(abstractllm))


def test_type_checkers_see_the_same_names_from_the_same_places(package):
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname == alias.name, "only `X as X` is a re-export for type checkers"
            declared[alias.name] = statement.module
    assert sorted([*declared, "__version__"]) == abstractllm.__all__
    for name, module in declared.items():
        assert getattr(abstractllm, name) is getattr(importlib.import_module(module), name)


def test_every_error_is_public():
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert tree <= set(abstractllm.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = abstractllm.no_such_name
