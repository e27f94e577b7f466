"""Conversations in a store: kept by `chat`, and listed, shown and deleted by `sessions`."""

import json
import re

import pytest

from abstractllm.session import SQLiteStore


@pytest.fixture
def talk(run):
    def lines(*said, arguments=()):
        result = run("chat", "-m", "scripted", "--store", "s.db", *arguments, input="\n".join(said))
        assert result.exit_code == 0
        return result.stdout.splitlines(), result.stderr

    return lines


def test_a_conversation_is_gone_on_with(talk):
    assert talk("hi", arguments=["--session", "one"]) == (["1 hi"], "")
    assert talk("again", arguments=["--session", "one"]) == (["3 again"], "")
    assert talk("hi", arguments=["--session", "two"]) == (["1 hi"], "")


def test_a_conversation_without_an_id_says_its_own(talk):
    _, beside = talk("hi")
    (id,) = re.findall("--session ([0-9a-f]{32}) goes on", beside)
    assert talk("again", arguments=["--session", id]) == (["3 again"], "")


def test_the_system_prompt_is_kept_and_can_be_another(talk):
    talk("hi", arguments=["--session", "one", "-s", "Be brief."])
    assert talk("again", arguments=["--session", "one"])[0] == ["4 again"]
    talk("/system", "more", arguments=["--session", "one"])
    assert talk("more", arguments=["--session", "one"])[0] == ["7 more"]


def test_clear_load_and_failures_are_kept(talk):
    talk("hi", "/save chat.json", "fail", arguments=["--session", "one"])
    assert talk("again", "/clear", arguments=["--session", "one"])[0][0] == "3 again"
    assert talk("hi", "/load chat.json", arguments=["--session", "one"])[0][0] == "1 hi"
    assert talk("again", arguments=["--session", "one"])[0] == ["3 again"]


def test_a_chat_in_which_nothing_is_said_leaves_nothing(talk, run):
    talk("/help", arguments=["--session", "one"])
    talk("hi", arguments=["--session", "two"])
    talk(arguments=["--session", "two"])
    assert [found["id"] for found in json.loads(run("sessions", "list", "--store", "s.db", "--json").stdout)] == ["two"]


def test_list(talk, run):
    talk("hi\\", "there", arguments=["--session", "one"])
    result = run("sessions", "list", "--store", "s.db")
    assert result.stdout.split()[:5] == ["ID", "MESSAGES", "WRITTEN", "MODEL", "TITLE"]
    assert re.fullmatch(r"one +2 +\d{4}-\d\d-\d\d \d\d:\d\d +scripted +hi there", result.stdout.splitlines()[1])
    (found,) = json.loads(run("sessions", "list", "--store", "s.db", "--json").stdout)
    assert (found["length"], found["metadata"]) == (2, {"model": "scripted", "title": "hi there"})


def test_show(talk, run):
    talk("call", arguments=["--session", "one"])
    shown = run("sessions", "show", "one", "--store", "s.db").stdout.splitlines()
    assert shown[:2] == ["user: call", 'assistant: add({"a": 1})']
    assert shown[2].startswith("tool: Error: There is no tool named 'add'")
    described = json.loads(run("sessions", "show", "one", "--store", "s.db", "--json").stdout)
    assert [turn["role"] for turn in described["messages"]] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.parametrize(("flags", "answer", "left"), [(["--yes"], "", 0), ([], "y\n", 0), ([], "n\n", 1), ([], "", 1)])
def test_delete(talk, run, tmp_path, flags, answer, left):
    talk("hi", arguments=["--session", "one"])
    result = run("sessions", "delete", "one", "--store", "s.db", *flags, input=answer)
    assert result.exit_code == (1 if left else 0)
    with SQLiteStore(tmp_path / "s.db") as store:
        assert len(store.list()) == left


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sessions", "list", "--store", "none.db"], "There is no store none.db"),
        (["sessions", "show", "none", "--store", "s.db"], "There is no session 'none'"),
        (["sessions", "delete", "none", "--store", "s.db"], "There is no session 'none'"),
        (["sessions", "list", "--store", "a.txt"], "a.txt"),
        (["sessions", "list"], "--store"),
        (["chat", "-m", "echo", "--session", "one"], "--session needs --store"),
        (["chat", "-m", "echo", "--store", "a.txt"], "a.txt"),
        (["chat", "-m", "echo", "--store", "no/such/s.db"], "s.db"),
    ],
)
def test_an_error_is_one_line(talk, run, tmp_path, arguments, words):
    talk("hi", arguments=["--session", "one"])
    (tmp_path / "a.txt").write_text("no database" * 100)
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert not (tmp_path / "none.db").exists()
