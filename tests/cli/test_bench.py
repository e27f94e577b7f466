"""The command that measures: its options, its table and its JSON. The numbers are tested in `test_measuring`."""

import json
import signal

import pytest

from abstractllm.errors import GenerationError
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.registry import register_provider

SMALL = ("--requests", "3", "-c", "1,2", "--prompt-tokens", "6", "--max-tokens", "4")


class Failing(EchoProvider):
    """Answers the first request, and as many more as it is told, then fails."""

    name = "failing"
    settings = EchoProvider.settings | {"good"}

    def _configure(self, config):
        broken = Reply("a", error=GenerationError("it broke\nin two"))
        good = ["a b"] * (1 + config.get("good", 0))
        super()._configure({"replies": [*good, *[broken] * 20]})


@pytest.fixture(autouse=True)
def _failing():
    register_provider("failing", Failing, replace=True)


@pytest.mark.parametrize("model", [("echo",), ("-m", "echo"), ("--model", "echo")])
def test_a_table_with_a_row_for_each_number(run, model):
    result = run("bench", *model, *SMALL)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:2] == ["AT", "ONCE"]
    assert [(line[0], line[-2:]) for line in lines[1:3]] == [
        ("1", ["0%", "3/3"]),
        ("2", ["0%", "3/3"]),
    ]
    assert "?" not in lines[1]


def test_json_has_every_number(run):
    result = run("bench", "echo", *SMALL, "--seed", "5", "--shared", "0.25", "--json")
    report = json.loads(result.stdout)
    levels = report.pop("levels")
    assert report == {
        "model": "echo",
        "concurrency": [1, 2],
        "requests": 3,
        "max_tokens": 4,
        "prompt_tokens": 6,
        "shared": 0.25,
        "seed": 5,
        "complete": True,
    }
    assert [level["concurrency"] for level in levels] == [1, 2]
    for level in levels:
        for times in (level.pop("first_token"), level.pop("between_tokens")):
            assert set(times) == {"median", "p95", "worst"}
            assert 0 <= times["median"] <= times["p95"] <= times["worst"]
        for name in ("seconds", "tokens_per_second", "tokens_per_second_each", "concurrency"):
            assert level.pop(name) > 0
        assert level == {
            "requests": 3,
            "answered": 3,
            "prompt_tokens": 18,
            "completion_tokens": 12,
            "cached_tokens": 0,
            "cached_share": 0.0,
            "errors": {},
        }


def test_options_reach_the_model(run):
    result = run("bench", "failing", *SMALL, "-o", "good=6", "--json")
    assert [level["answered"] for level in json.loads(result.stdout)["levels"]] == [3, 3]


def test_the_variable_names_the_model_and_the_argument_beats_it(run):
    for arguments, expected in (((), "echo"), (("failing", "-o", "good=6"), "failing")):
        result = run("bench", *arguments, *SMALL, "--json", env={"ABSTRACTLLM_MODEL": "echo"})
        assert json.loads(result.stdout)["model"] == expected


def test_requests_that_fail_are_shown_and_the_rest_goes_on(run):
    result = run("bench", "failing", *SMALL, "-o", "good=2")
    assert result.exit_code == 0
    assert "2/3" in result.stdout
    assert "0/3" in result.stdout
    assert result.stderr.splitlines() == [
        "note: 1 at once: 1 failed with GenerationError, such as: [failing] it broke in two",
        "note: 2 at once: 3 failed with GenerationError, such as: [failing] it broke in two",
    ]


def test_it_fails_when_every_request_does(run):
    result = run("bench", "failing", *SMALL)
    assert (result.exit_code, result.stdout, result.stderr) == (6, "", "error: [failing] it broke in two\n")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ekho"], 3, "Did you mean 'echo'?"),
        (["echo", "-m", "echo"], 2, "named twice"),
        (["echo", "-c", "1,x"], 2, "'1,x' is not a list of numbers"),
        (["echo", "-c", "0"], 2, "'0' is not a list"),
        (["echo", "-c", ""], 2, "'' is not a list"),
        (["echo", "-c", "1,4", "--requests", "3"], 2, "never 4 at once"),
        (["echo", "--shared", "1.5"], 2, "1.5"),
        (["echo", "-o", "temprature=1"], 2, "Did you mean 'temperature'?"),
        (["scripted", "-o", "top_k=1"], 2, "top_k"),
    ],
)
def test_what_cannot_be_measured(run, arguments, code, words):
    result = run("bench", *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_ctrl_c_shows_what_was_measured_so_far(start, form):
    process = start("bench", "halting", "-o", "good=5", *SMALL, *form)
    assert [process.stderr.readline() for _ in range(2)] == [b"halted\n"] * 2  # both that run at once
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in err
    if form:
        report = json.loads(out)
        assert report["complete"] is False
        assert [(level["concurrency"], level["answered"]) for level in report["levels"]] == [(1, 3), (2, 1)]
    else:
        assert [line.split()[-1] for line in out.splitlines()[1:3]] == [b"3/3", b"1/3"]


def test_ctrl_c_before_the_first_answer_shows_nothing(start):
    process = start("bench", "halting", *SMALL)
    assert process.stderr.readline() == b"halted\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0] == b""
    assert process.returncode == 130
