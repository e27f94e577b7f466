"""Tools in chats and in `generate`: which there are, how calls are shown, asked about and stopped."""

import json
import subprocess
import sys

import pytest

from abstractllm.history import unanswered
from abstractllm.messages import to_messages

CHAT = ("chat", "-m", "calling")
ALL = ["add", "fail", "rude", "hang", "leave", "remove", "Clock"]


def given(*names):
    return [word for name in names for word in ("--tool", f"toolfile.py:{name}")]


@pytest.fixture
def talk(run, tools):
    """Send lines to a chat with tools; return what it wrote, line by line, and the lines beside it."""

    def lines(*said, names=ALL):
        result = run(*CHAT, *given(*names), input="\n".join(said))
        assert result.exit_code == 0
        return result.stdout.splitlines(), result.stderr.splitlines()

    return lines


def test_a_tool_is_called_and_shown(talk):
    out, beside = talk('add {"a": 2}')
    assert out == ["Let me see.", "", "it says 3"]
    assert beside == ['add({"a": 2}) -> 3']


def test_calls_of_one_turn_have_a_line_each(talk):
    out, beside = talk('add {"a": 2}; clock')
    assert out[-1] == "it says noon"
    assert sorted(beside) == ['add({"a": 2}) -> 3', "clock({}) -> noon"]


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        ("fail", "fail({}) -> failed: RuntimeError: it is broken"),
        ('add {"a": "x"}', 'add({"a": "x"}) -> failed: '),
        ("add {}; none", "none({}) -> failed: There is no tool named 'none'"),
        ('add {"a": 1, "b": 1' + "0" * 300 + "}", "0...) -> 1"),
        ("rude", r"rude({}) -> ab c\u202ed"),
    ],
)
def test_a_line_says_how_a_call_ended(talk, prompt, line):
    _, beside = talk(prompt)
    assert [one for one in beside if line in one]
    assert all(len(one) < 350 for one in beside)


def test_a_tool_that_ends_the_run_has_the_last_word(talk):
    out, beside = talk('leave {"word": "bye"}', "hi")
    assert out == ["Let me see.", "bye", "hi"]
    assert beside == ['leave({"word": "bye"}) -> bye']


def test_the_tools_are_listed(talk):
    out, _ = talk("/tools", names=["add", "remove", "Clock"])
    assert out == ["add     Add two numbers.", "remove  Remove a file. (asks first)", "clock   Say the time."]
    assert talk("/tools", names=[])[0] == ["There are no tools; --tool and --mcp give some."]


def test_calls_are_among_the_metrics(talk):
    out, _ = talk('add {"a": 1}', "fail", "/metrics")
    assert out[-1] == "tool calls  2: add 1, fail 1 (1 without success)"
    assert out[-4] == "requests    4"


def test_tools_stay_when_the_model_changes(talk):
    out, beside = talk("/model calling?max_tokens=99", "clock", "/model echo", "/tools")
    assert out[3] == "it says noon"
    assert len(beside) == 1
    assert out[-len(ALL) :][0].startswith("add")


def test_a_call_that_needs_a_person_is_denied_in_a_pipe(talk):
    out, beside = talk('remove {"path": "x"}')
    assert beside[0].startswith("note: remove needs a person to agree")
    assert beside[1].startswith('remove({"path": "x"}) -> denied: ')
    assert "there is nobody to ask" in out[-1]


def saved(path):
    turns = to_messages(json.loads(path.read_text())["messages"])
    assert unanswered(turns) == ()
    return turns


def on_terminal(terminal, *names):
    screen = terminal(*CHAT, "--no-history", *given(*names))
    screen.expect("> ")
    return screen


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ("y", "-> removed x"),
        ("yes", "-> removed x"),
        ("n", "-> denied: "),
        ("", "-> denied: "),
        ("maybe", "-> denied: "),
    ],
)
def test_a_person_is_asked_on_a_terminal(terminal, answer, end):
    screen = on_terminal(terminal, "remove")
    screen.send('remove {"path": "x"}\n')
    screen.expect('May remove({"path": "x"}) be called? [y/N] ')
    screen.send(f"{answer}\n")
    screen.expect(end)
    screen.expect("it says ")
    screen.expect("> ")


@pytest.mark.usefixtures("tools")
def test_a_question_hides_nothing(terminal):
    screen = on_terminal(terminal, "remove")
    screen.send('remove {"path": "' + "x" * 300 + r'\u202e\u001b[2J"}' + "\n")
    screen.expect("May remove(")
    asked = screen.expect("[y/N] ")
    assert "x" * 300 + r"\u202e\u001b[2J" in asked.replace("\r\n", "")
    screen.send("n\n")
    screen.expect("> ")


@pytest.mark.usefixtures("tools")
def test_ctrl_c_at_a_question_leaves_the_call_unmade(terminal, tmp_path):
    screen = on_terminal(terminal, "remove")
    screen.send('remove {"path": "x"}\n')
    screen.expect("[y/N] ")
    screen.send("\x03")
    screen.expect("> ")
    screen.send("hello\n")
    screen.expect("hello\r\nhello")
    screen.send("/save kept.json\n")
    screen.expect("is in kept.json")
    turns = saved(tmp_path / "kept.json")
    assert turns[2].text.startswith("Not executed")
    assert [turn.role for turn in turns[3:]] == ["user", "assistant"]


@pytest.mark.usefixtures("tools")
def test_ctrl_c_stops_a_tool_and_the_call_has_a_result(terminal, tmp_path):
    screen = on_terminal(terminal, "hang", "add")
    screen.send('add {"a": 1}; hang\n')
    screen.expect("hang({})")
    screen.send("\x03")
    screen.expect("cancelled: ")
    screen.expect("> ")
    screen.send("/save kept.json\n")
    screen.expect("is in kept.json")
    turns = saved(tmp_path / "kept.json")
    assert [turn.role for turn in turns] == ["user", "assistant", "tool", "tool"]
    assert turns[2].text == "2"


@pytest.mark.usefixtures("tools")
def test_a_terminal_is_not_moved_by_a_tool(terminal):
    screen = on_terminal(terminal, "rude")
    screen.send("rude\n")
    seen = screen.expect("it says ")
    assert r"rude({}) -> ab c\u202ed" in seen
    assert "\x1b[2J" not in seen
    assert "\x1b" not in screen.expect("> ")


# generate


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("flag", ["--stream", "--no-stream"])
def test_generate_runs_the_tools(run, flag):
    result = run("generate", "-m", "calling", *given("add"), flag, 'add {"a": 2}')
    assert (result.exit_code, result.stdout) == (0, "Let me see.\n\nit says 3\n")
    assert result.stderr == 'add({"a": 2}) -> 3\n'


@pytest.mark.usefixtures("tools")
def test_generate_writes_the_whole_run_as_json(run):
    result = run("generate", "-m", "calling", *given("add"), "-s", "Be brief.", "--json", 'add {"a": 2}')
    described = json.loads(result.stdout)
    assert (described["stop"], described["turns"]) == ("end", 2)
    assert [turn["role"] for turn in described["messages"]] == ["user", "assistant", "tool", "assistant"]


@pytest.mark.usefixtures("tools")
def test_generate_leaves_with_a_code_of_its_own_when_a_tool_ends_it(run):
    result = run("generate", "-m", "calling", *given("leave"), 'leave {"word": "bye"}')
    assert (result.exit_code, result.stdout) == (10, "Let me see.\nbye\n")


@pytest.mark.usefixtures("tools")
def test_generate_attaches_files_to_a_run(run, tmp_path):
    (tmp_path / "a.txt").write_text("inside")
    assert "inside" in run("generate", "-m", "calling", *given("add"), "-f", "a.txt", "hi").stdout


@pytest.mark.usefixtures("tools")
def test_ctrl_c_ends_a_run_with_130(terminal):
    screen = terminal("generate", "-m", "calling", *given("hang"), "hang")
    screen.expect("hang({})")
    screen.send("\x03")
    rest, code = screen.finish()
    assert code == 130
    assert "cancelled" in rest
    assert "Traceback" not in rest


def test_the_model_that_ships_calls_a_tool(tmp_path):
    (tmp_path / "toolfile.py").write_text(
        'def add(a: int, b: int) -> int:\n    """Add two numbers."""\n    return a + b\n'
    )
    command = [sys.executable, "-m", "abstractllm.cli", "generate", "--no-stdin", *given("add")]
    done = subprocess.run([*command, "What is 2 plus 3?"], capture_output=True, text=True, check=True)
    assert done.stderr == 'add({"a": 2, "b": 3}) -> 5\n'
    assert "5" in done.stdout
