"""One prompt, one answer."""

import json
import os
import signal
import subprocess
import sys

import pytest

from abstractllm.cli.prompt import arrives_within, full_prompt
from abstractllm.errors import InvalidParameterError


def test_an_answer_is_written_as_text(run):
    result = run("generate", "-m", "echo", "hello there")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "hello there\n", "")


@pytest.mark.parametrize("flag", ["--stream", "--no-stream"])
def test_streamed_and_whole_are_the_same(run, flag):
    assert run("generate", "-m", "echo", flag, "a b  c").stdout == "a b  c\n"


def test_json(run):
    result = run("generate", "-m", "scripted", "--json", "call")
    assert json.loads(result.stdout) == {
        "model": "scripted",
        "content": "",
        "reasoning": "",
        "tool_calls": [{"id": "c1", "name": "add", "arguments": {"a": 1}, "invalid": None}],
        "finish_reason": "tool_calls",
        "stop_string": None,
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 0,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
            "proposed_tokens": 0,
            "accepted_tokens": 0,
            "total_tokens": 1,
        },
        "timings": None,
    }


def test_json_keeps_text_readable(run):
    result = run("generate", "-m", "echo", "--json", "é 漢")
    assert '"é 漢"' in result.stdout


def test_reasoning_is_in_the_json_and_not_in_the_text(run):
    assert json.loads(run("generate", "-m", "scripted", "--json", "think").stdout)["reasoning"] == "hmm"
    assert run("generate", "-m", "scripted", "think").stdout == "done\n"


def test_tool_calls_are_noted_beside_the_text(run):
    result = run("generate", "-m", "scripted", "call")
    assert (result.stdout, result.stderr) == ("", 'note: the model asks for add({"a": 1})\n')


def test_options_reach_the_model(run):
    result = run("generate", "-m", "echo", "--json", "--max-tokens", "2", "--stop", "d", "--stop", "x", "a b c d")
    answer = json.loads(result.stdout)
    assert (answer["content"], answer["finish_reason"]) == ("a b ", "length")
    answer = json.loads(run("generate", "-m", "echo", "--json", "--stop", "c", "a b c d").stdout)
    assert (answer["content"], answer["stop_string"]) == ("a b ", "c")


def test_any_parameter_goes_by_option_and_beats_the_config_string(run):
    assert run("generate", "-m", "echo?max_tokens=3", "-o", "max-tokens=1", "a b c").stdout == "a \n"


def test_a_cut_answer_is_noted(run):
    assert "--max-tokens" in run("generate", "-m", "echo", "--max-tokens", "1", "a b").stderr


def test_the_model_comes_from_the_environment(run):
    assert run("generate", "hi", env={"ABSTRACTLLM_MODEL": "echo"}).stdout == "hi\n"
    assert run("generate", "hi", "-m", "echo", env={"ABSTRACTLLM_MODEL": "none"}).stdout == "hi\n"


def test_a_profile_is_a_model(run, tmp_path):
    (tmp_path / "abstractllm.toml").write_text('[profiles.short]\nprovider = "echo"\nmax_tokens = 1\n')
    assert run("generate", "-m", "short", "a b").stdout == "a \n"


def test_the_system_prompt_is_a_turn(run):
    assert run("generate", "-m", "scripted", "hi").stdout == "1 hi\n"
    assert run("generate", "-m", "scripted", "-s", "Be brief.", "hi").stdout == "2 hi\n"


def test_files_go_before_the_prompt(run, tmp_path):
    for name in ("one.txt", "two.md"):
        (tmp_path / name).write_text(f"text of {name}")
    said = run("generate", "-m", "echo", "-f", "one.txt", "-f", "two.md", "And?").stdout
    assert said.index("text of one.txt") < said.index("text of two.md") < said.index("And?")


@pytest.mark.parametrize(
    ("arguments", "piped", "prompt"),
    [
        ([], "from stdin\n", "from stdin\n"),
        (["-"], "from stdin", "from stdin"),
        (["Why?"], "some text\n\n", "some text\n\nWhy?"),
        (["Why?"], "", "Why?"),
        (["Why?"], " \n", "Why?"),
        (["--no-stdin", "Why?"], "some text", "Why?"),
        (["--stdin", "Why?"], "some text", "some text\n\nWhy?"),
        ([], b"\xef\xbb\xbfmarked", "marked"),
    ],
)
def test_standard_input(run, arguments, piped, prompt):
    result = run("generate", "-m", "echo", "--json", *arguments, input=piped)
    assert json.loads(result.stdout)["content"] == prompt


@pytest.mark.parametrize(
    ("arguments", "piped", "words"),
    [
        ([], "", "prompt is empty"),
        (["-"], "\n", "prompt is empty"),
        ([], b"\xff\xfe\x00", "not UTF-8"),
        (["Why?"], b"\xff", "not UTF-8"),
        (["--no-stdin"], "text", "no prompt"),
    ],
)
def test_bad_standard_input(run, arguments, piped, words):
    result = run("generate", "-m", "echo", *arguments, input=piped)
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stdout == ""


def test_a_prompt_that_is_no_text_is_refused():
    with pytest.raises(InvalidParameterError, match="encoding"):
        full_prompt("\udcff", stdin=False)


@pytest.fixture
def pipe(monkeypatch):
    """Standard input as a pipe; the test holds its other end."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "wb", buffering=0) as other:
        monkeypatch.setattr(sys, "stdin", stream)
        yield other


def test_a_silent_pipe_is_left_alone(pipe, capsys):
    assert full_prompt("hi", patience=0) == "hi"
    assert "--stdin" in capsys.readouterr().err


def test_a_pipe_with_text_is_read(pipe):
    pipe.write(b"text")
    assert arrives_within(0)
    pipe.close()
    assert full_prompt("hi", patience=0) == "text\n\nhi"


def test_a_closed_pipe_is_no_wait(pipe, capsys):
    pipe.close()
    assert full_prompt("hi", patience=0) == "hi"
    assert capsys.readouterr().err == ""


def test_without_standard_input_there_is_nothing_to_read(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert full_prompt("hi") == "hi"
    assert full_prompt(None) == ""


def test_a_program_gets_the_text_as_the_model_wrote_it(start):
    out, err = start("generate", "-m", "stubborn", "--no-stdin", "rude").communicate()
    assert (out, err) == (b"a\x1b[2Jb\rc\x1b]0;title\x07d\n", b"")


@pytest.mark.parametrize("provider", ["stubborn", "stubborn-async"])
def test_ctrl_c_ends_it_with_130_and_no_traceback(start, provider):
    process = start("generate", "-m", provider, "--no-stdin", "wait")
    process.expect(b"one ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert (process.returncode, out) == (130, b"\n")
    assert err.strip() == b""


def test_a_reader_that_leaves_ends_it_quietly(start):
    process = start("generate", "-m", "stubborn", "--no-stdin", "flood")
    process.expect(b"flood")
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == b""


def test_a_terminal_sees_the_answer_as_it_comes(terminal):
    screen = terminal("generate", "-m", "stubborn", "gate")
    assert screen.expect("one ") == "one "
    screen.send("\n")  # only now does the model go on
    rest, code = screen.finish()
    assert (rest.split(), code) == (["two"], 0)


def test_a_terminal_is_not_moved_by_the_model(terminal):
    rest, code = terminal("generate", "-m", "stubborn", "rude").finish()
    assert (rest, code) == ("abcd\r\n", 0)


def test_a_terminal_is_asked_for_the_prompt(terminal):
    screen = terminal("generate", "-m", "stubborn")
    screen.expect("Ctrl-D")
    screen.send("typed\n\x04")
    screen.expect("typed")  # the terminal's echo
    rest, code = screen.finish()
    assert ("typed" in rest, code) == (True, 0)


def test_ctrl_c_on_a_terminal(terminal):
    screen = terminal("generate", "-m", "stubborn", "wait")
    screen.expect("one ")
    screen.send("\x03")
    rest, code = screen.finish()
    assert code == 130
    assert "Traceback" not in rest


def test_the_model_that_ships_answers():
    command = [sys.executable, "-m", "abstractllm.cli", "generate", "--max-tokens", "5"]
    done = subprocess.run([*command, "--json"], input="What can you do?", capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert answer["content"]
    assert answer["usage"]["completion_tokens"] <= 5
    assert answer["timings"]["total"] > 0
