"""The group: help, version, lazy loading, errors and exit codes."""

import subprocess
import sys
from importlib import import_module

import pytest

import abstractllm
from abstractllm import errors
from abstractllm.cli import COMMANDS
from abstractllm.cli.failures import EXIT_CODES


def test_version(run):
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"abstractllm {abstractllm.__version__}\n")


def test_help_lists_commands_and_exit_codes(run):
    result = run("--help")
    assert result.exit_code == 0
    for name, summary in COMMANDS.items():
        assert name in result.stdout
        assert summary in result.stdout
    for code, meaning in EXIT_CODES.items():
        assert f"{code} " in result.stdout
        assert meaning.split(":")[0] in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_what_the_help_says(name, run):
    command = getattr(import_module(f"abstractllm.cli.{name}"), name)
    assert command.help.splitlines()[0] == COMMANDS[name]
    assert COMMANDS[name] in run(name, "--help").stdout


def test_every_exit_code_of_an_error_is_documented():
    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert {kind.exit_code for kind in classes if issubclass(kind, errors.AbstractLLMError)} <= set(EXIT_CODES)


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        (["--help"], {"rich", "asyncio", "abstractllm.cli.generate", "abstractllm.interface", "abstractllm.agent"}),
        (
            ["generate", "-m", "echo", "--no-stdin", "hi"],
            {"rich", "mlx", "pydantic", "aiohttp", "PIL", "abstractllm.agent"},
        ),
        (["chat", "--help"], {"rich", "mlx", "pydantic", "aiohttp", "PIL", "mcp", "abstractllm.agent.mcp"}),
        (["agent", "--help"], {"rich", "mlx", "pydantic", "aiohttp", "PIL", "mcp", "abstractllm.agent.mcp"}),
    ],
)
def test_what_is_not_needed_is_not_loaded(arguments, forbidden):
    code = "import atexit, sys; from abstractllm.cli import main\n"
    code += "atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))\n"
    code += f"main({arguments})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not forbidden & set(done.stderr.splitlines())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["gnerate"], 2, "Did you mean 'generate'?"),
        (["generate", "--nope"], 2, "No such option"),
        (["generate", "a", "b"], 2, "'abstractllm generate --help'"),
        (["generate", "-m", "ekho", "hi"], 3, "Did you mean 'echo'?"),
        (["generate", "-m", "echo", "-o", "temprature=1", "hi"], 2, "Did you mean 'temperature'?"),
        (["generate", "-m", "echo", "-o", "top_k=1", "hi"], 2, "top_k"),
        (["generate", "-m", "echo", "-o", "options.num_ctx=1", "hi"], 2, "num_ctx"),
        (["generate", "-m", "echo", "-o", "nonsense", "hi"], 2, "NAME=VALUE"),
        (["generate", "-m", "echo", "-o", "api_key=abc", "hi"], 2, "environment variable"),
        (["generate", "-m", "echo", "-t", "-1", "hi"], 2, "temperature=-1.0"),
        (["generate", "-m", "echo", "--max-tokens", "0", "hi"], 2, "max_tokens=0"),
        (["generate", "-m", "echo", "--max-tokens", "many", "hi"], 2, "'many'"),
        (["generate", "-m", "echo", "-f", "missing.txt", "hi"], 2, "missing.txt"),
        (["generate", "-m", "echo", " "], 2, "prompt is empty"),
        (["generate", "-m", "echo", "--json", "--stream", "hi"], 2, "--json"),
        (["generate", "-m", "scripted", "fail"], 6, "it broke in two"),
        (["generate", "-m", "scripted", "crash"], 6, "ZeroDivisionError: oops"),
        (["chat", "-m", "echo", "-f", "missing.txt"], 2, "missing.txt"),
        (["models", "list", "-p", "ekho"], 3, "Did you mean 'echo'?"),
        (["models", "list", "-p", "echo"], 2, "does not list models"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(run, arguments, code, words):
    result = run(*arguments)
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr
    assert "abc" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--debug", "generate"], {}),
        (["generate", "--debug"], {}),
        (["generate"], {"ABSTRACTLLM_DEBUG": "1"}),
    ],
)
def test_debug_shows_the_traceback_before_the_line(run, arguments, variables):
    result = run(*arguments, "-m", "scripted", "crash", env=variables)
    assert result.exit_code == 6
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: ")


def test_debug_is_off_for_0(run):
    assert "Traceback" not in run("generate", "-m", "scripted", "crash", env={"ABSTRACTLLM_DEBUG": "0"}).stderr


def test_python_m_runs_it():
    done = subprocess.run([sys.executable, "-m", "abstractllm.cli", "--version"], capture_output=True, text=True)
    assert done.stdout == f"abstractllm {abstractllm.__version__}\n"


def test_without_a_command_it_shows_the_help(run):
    result = run()
    assert "Commands:" in result.output
