"""Whole chats, by pipe and on a terminal."""

import json
import signal
import stat

import pytest

from abstractllm.cli.chat import COMMANDS
from abstractllm.messages import to_messages


@pytest.fixture
def talk(run):
    """Send lines to a chat with the scripted model; return what it wrote, line by line, and the errors."""

    def lines(*said, arguments=("-m", "scripted")):
        result = run("chat", *arguments, input="\n".join(said))
        assert result.exit_code == 0
        return result.stdout.splitlines(), result.stderr.splitlines()

    return lines


def test_the_conversation_grows(talk):
    assert talk("hi", "again", "and again") == (["1 hi", "3 again", "5 and again"], [])


def test_blank_lines_say_nothing(talk):
    assert talk("", "  ", "hi", "") == (["1 hi"], [])


def test_quit_leaves(talk):
    assert talk("hi", "/quit", "more") == (["1 hi"], [])


def test_several_lines_make_one_turn(talk):
    assert talk("a\\", "b\\", "c", '"""d', "e", 'f"""', '"""', "g", '"""', '"""h"""')[0] == [
        *("1 a", "b", "c"),
        *("3 d", "e", "f"),
        "5 g",
        "7 h",
    ]


def test_a_text_that_does_not_end_is_not_sent(talk):
    out, err = talk("hi", '"""a', "b")
    assert out == ["1 hi"]
    assert err == ['error: The input ended before the closing """; the text was not sent.']


def test_input_that_ends_after_a_backslash_is_sent(talk):
    assert talk("hi\\") == (["1 hi"], [])


def test_help_names_every_command(talk):
    out, _ = talk("/help")
    assert [line.split()[0] for line in out[: len(COMMANDS)]] == list(COMMANDS)


def test_clear_forgets(talk):
    assert talk("hi", "/clear", "hi")[0] == ["1 hi", "The conversation starts anew.", "1 hi"]


def test_the_system_prompt_can_be_changed(talk):
    out, _ = talk("hi", "/system", "hi", "/system Be kind.", "hi", arguments=("-m", "scripted", "-s", "Be brief."))
    assert out == ["2 hi", "There is no system prompt now.", "3 hi", "The system prompt is set.", "6 hi"]


def test_the_model_can_be_changed_and_stays_when_that_fails(talk):
    out, err = talk("hi", "/model ekho", "/model", "/model echo", "hi", "/model")
    assert out == ["1 hi", "The model is scripted.", "The model is echo.", "hi", "The model is echo."]
    assert len(err) == 1
    assert "Did you mean 'echo'?" in err[0]


def test_files_go_with_the_next_turn(talk, tmp_path):
    for name in ("a.txt", "b c.txt"):
        (tmp_path / name).write_text(f"text of {name}")
    out, err = talk("/file b c.txt", "And?", "hi", arguments=("-m", "scripted", "-f", "a.txt"))
    joined = "\n".join(out)
    assert joined.index("text of a.txt") < joined.index("text of b c.txt") < joined.index("And?")
    assert (out[-1], err) == ("3 hi", [])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/file missing.txt", "missing.txt"),
        ("/file", "The command is /file PATH."),
        ("/save", "The command is /save FILE."),
        ("/load", "The command is /load FILE."),
        ("/load missing.json", "missing.json cannot be read"),
        ("/load wrong.json", "holds no conversation"),
        ("/save no/such/folder/x.json", "cannot be written"),
        ("/quit now", "/quit takes nothing"),
        ("/hepl", "Did you mean '/help'?"),
        ("fail", "it broke in two"),
        ("crash", "ZeroDivisionError"),
    ],
)
def test_an_error_is_one_line_and_takes_its_turn_back(talk, line, words, tmp_path):
    (tmp_path / "wrong.json").write_text("{}")
    out, err = talk("hi", line, "again")
    assert out[-1] == "3 again"
    assert len(err) == 1
    assert err[0].startswith("error: ")
    assert words in err[0]


def test_a_line_that_is_no_text_is_left_out(run):
    result = run("chat", "-m", "scripted", input=b"hi\n\xff\xfe\nagain\n")
    assert (result.exit_code, result.stdout) == (0, "1 hi\n3 again\n")
    assert "not UTF-8" in result.stderr


def test_windows_line_ends(run):
    assert run("chat", "-m", "scripted", input=b"a\\\r\nb\r\n").stdout == "1 a\nb\n"


def test_a_saved_conversation_can_be_gone_on_with(talk, tmp_path):
    (tmp_path / "a.txt").write_text("inside")
    talk("/file a.txt", "é", "call", "/save chat.json", arguments=("-m", "scripted", "-s", "Be brief."))
    saved = json.loads((tmp_path / "chat.json").read_text("utf-8"))
    assert (saved["model"], saved["system"]) == ("scripted", "Be brief.")
    turns = to_messages(saved["messages"])
    assert [turn.role for turn in turns] == ["user", "assistant", "user", "assistant", "tool", "assistant"]
    assert "inside" in turns[0].text
    assert turns[3].tool_calls[0].arguments == {"a": 1}
    assert turns[4].tool_call_id == turns[3].tool_calls[0].id


def test_a_saved_conversation_is_loaded_with_its_system_prompt(talk):
    talk("hi", "/save chat.json", arguments=("-m", "scripted", "-s", "Be brief."))
    out, err = talk("/load chat.json", "again", "/clear", "/load chat.json", "more", arguments=("-m", "scripted"))
    loaded = "The conversation in chat.json goes on; it has 2 messages."
    assert out == [loaded, "4 again", "The conversation starts anew.", loaded, "4 more"]
    assert err == []


def test_a_loaded_conversation_keeps_the_present_model(talk):
    talk("hi", "/save chat.json")
    out, _ = talk("/load chat.json", "/model", arguments=("-m", "echo"))
    assert out[1:] == ["It was with scripted, and goes on with echo; /model changes that.", "The model is echo."]


def test_calls_without_results_get_some_when_a_conversation_is_loaded(talk, tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    (tmp_path / "chat.json").write_text(json.dumps(turns))
    out, err = talk("/load chat.json", "again")
    assert (out[1:], err) == (["4 again"], [])


def test_metrics_say_what_was_used(talk):
    out, _ = talk("a b", "fail", "c", "/metrics")
    assert out[-4:-2] == ["requests    3, 1 failed", "tokens      8 in, 0 of them cached; 5 out"]
    assert out[-1] == "tool calls  0"
    assert float(out[-2].split()[1]) >= 0


def test_metrics_count_on_with_another_model(talk):
    out, _ = talk("a", "/model echo", "b", "/metrics")
    assert out[-4] == "requests    2"


def test_several_answers_at_once_are_refused(run):
    result = run("chat", "-m", "openai", "-o", "n=2", input="hi\n")
    assert result.exit_code == 2
    assert "one answer" in result.stderr


def test_ctrl_c_stops_an_answer_and_keeps_the_chat(start, tmp_path):
    process = start("chat", "-m", "stubborn")
    process.stdin.write(b"wait\n")
    process.expect(b"one ")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(b"hello\n/save kept.json\n")
    assert (process.returncode, out.splitlines()[1], err) == (0, b"hello", b"")
    kept = json.loads((tmp_path / "kept.json").read_text())["messages"]
    assert [turn["content"] for turn in kept] == ["wait", "one ", "hello", "hello"]


def test_ctrl_c_between_turns_of_a_pipe_ends_it(start):
    process = start("chat", "-m", "stubborn")
    process.stdin.write(b"hello\n")
    process.expect(b"hello\n")
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert b"Traceback" not in process.stderr.read()


def test_a_chat_on_a_terminal(terminal, tmp_path):
    screen = terminal("chat", "-m", "stubborn")
    assert "stubborn" in screen.expect("leaves.")
    screen.expect("> ")
    screen.send("wait\n")
    screen.expect("one ")
    screen.send("\x03")
    screen.expect("> ")
    screen.send("half a li")
    screen.expect("half a li")
    screen.interrupt("(/quit or Ctrl-D leaves)")
    screen.expect("> ")
    screen.send("rude\n")
    screen.expect("abcd")
    screen.expect("> ")
    screen.send("\x04")
    _, code = screen.finish()
    assert code == 0
    (kept,) = tmp_path.rglob("chat_history")
    assert kept.read_text().split() == ["wait", "rude"]
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_no_history_keeps_none(terminal, tmp_path):
    screen = terminal("chat", "-m", "stubborn", "--no-history")
    screen.expect("> ")
    screen.send("/quit\n")
    assert screen.finish()[1] == 0
    assert not list(tmp_path.rglob("chat_history"))


def test_the_history_comes_back(terminal):
    for typed in ("remember\n", "\x10\x10\n"):  # Ctrl-P is the line before, and before that
        screen = terminal("chat", "-m", "stubborn")
        screen.expect("> ")
        screen.send(typed)
        screen.expect("\nremember\r\n")  # the answer, after the line
        screen.expect("> ")
        screen.send("/quit\n")
        assert screen.finish()[1] == 0
