"""`--mcp`: servers by command, by file and in agents' files. The servers are real processes."""

import json
import shlex
import sys
from pathlib import Path

import pytest

from abstractllm.cli.toolbox import Server, read_servers
from abstractllm.errors import InvalidParameterError

pytest.importorskip("mcp")

PLAIN = Path(__file__).parents[1] / "agent/mcp/programs/plain.py"
COMMAND = [sys.executable, "-S", str(PLAIN)]
SAY = 'echo {"text": "hello"}'


def configuration(tmp_path, **servers):
    path = tmp_path / "mcp.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return path


def test_a_command_is_a_server(run):
    result = run("generate", "-m", "calling", "--mcp", shlex.join(COMMAND), SAY)
    assert (result.exit_code, result.stderr) == (0, 'echo({"text": "hello"}) -> hello\n')
    assert result.stdout.endswith("it says hello\n")


def test_servers_of_a_file_have_their_names_before_those_of_their_tools(run, tmp_path):
    entry = {"command": COMMAND[0], "args": COMMAND[1:]}
    path = configuration(tmp_path, **{"my server": entry, "off": {**entry, "disabled": True}})
    result = run("chat", "-m", "calling", "--mcp", path, input=f"/tools\nmy_server_{SAY}\n")
    assert (result.exit_code, result.stderr) == (0, 'my_server_echo({"text": "hello"}) -> hello\n')
    assert result.stdout.startswith("my_server_echo")
    assert "off_echo" not in result.stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nothere.json", "cannot be read"),
        ("wrong.json", "is no JSON file"),
        ("empty.json", "has no servers"),
        ("ftp://there", "http or https"),
        ("'", "cannot be read"),
        ("/no/such/program", "could not be started"),
    ],
)
def test_a_server_that_cannot_be_is_one_line(run, tmp_path, text, words):
    (tmp_path / "wrong.json").write_text("{")
    (tmp_path / "empty.json").write_text('{"servers": {}}')
    result = run("generate", "-m", "echo", "--mcp", text, "hi")
    assert result.exit_code in (2, 5)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


def test_a_server_that_does_not_begin_has_its_last_words(run):
    server = shlex.join([sys.executable, "-c", "import sys; sys.exit('I will\\x1b[2J not')"])
    result = run("generate", "-m", "echo", "--mcp", server, "hi")
    assert result.exit_code == 5
    assert result.stderr.startswith("note: the MCP server's last words: I will not\nerror: ")


def test_what_is_a_file_and_what_a_command(tmp_path):
    (tmp_path / "a b.json").write_text('{"mcpServers": {"x": {"url": "http://there"}}}')
    assert read_servers(["a b.json"], tmp_path) == [Server({"url": "http://there"}, {"prefix": "x_"})]
    assert read_servers(["serve --config x.json"], tmp_path) == [Server("serve --config x.json")]
    assert read_servers(["http://there/mcp.json"], tmp_path) == [Server("http://there/mcp.json")]
    with pytest.raises(InvalidParameterError, match="cannot be read"):
        read_servers(["x.json"], tmp_path)


def test_ctrl_c_leaves_the_server_alone(terminal):
    screen = terminal("chat", "-m", "calling", "--no-history", "--mcp", shlex.join(COMMAND))
    screen.expect("> ")
    screen.send("hang\n")
    screen.expect("hang({})")
    screen.send("\x03")
    screen.expect("cancelled: ")
    screen.expect("> ")
    screen.send(f"{SAY}\n")
    screen.expect("it says hello")
    screen.expect("> ")
    screen.send("/quit\n")
    assert screen.finish()[1] == 0


@pytest.mark.parametrize("entry", ["text", "table", "file"])
def test_servers_of_an_agent_run_in_its_folder(run, tmp_path, entry):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "server.py").write_text(PLAIN.read_text())
    words = [sys.executable, "-S", "server.py"]
    table = {"command": words[0], "args": [*words[1:-1], str(folder / "server.py")]}
    configuration(folder, near=table)
    prefix = {"text": "", "table": "near_", "file": "near_"}[entry]
    listed = {
        "text": json.dumps(shlex.join(words)),
        "table": f'{{command = "{words[0]}", args = {json.dumps(words[1:])}, prefix = "near_"}}',
        "file": '"mcp.json"',
    }
    (folder / "a.toml").write_text(f'[agent]\nmodel = "calling"\nmcp = [{listed[entry]}]\n')
    assert "MCP servers 1, not started" in run("agent", "check", "there/a.toml").stdout
    result = run("agent", "run", "there/a.toml", prefix + SAY)
    assert (result.exit_code, result.stdout) == (0, "Let me see.\n\nit says hello\n")


def test_an_agent_says_which_tools_of_a_server_it_wants_and_how(run, tmp_path):
    entry = (
        f'{{command = "{COMMAND[0]}", args = {json.dumps(COMMAND[1:])}, include = ["echo", "pid"], approval = true}}'
    )
    (tmp_path / "a.toml").write_text(f'[agent]\nmodel = "calling"\nmcp = [{entry}]\n')
    assert "-> denied: " in run("agent", "run", "a.toml", SAY).stderr
    assert "-> hello" in run("agent", "run", "a.toml", "--yes", SAY).stderr
    assert "There is no tool named 'die'; the tools are: echo, pid." in run("agent", "run", "a.toml", "pid;die").stderr


@pytest.mark.parametrize(
    "wrong", ["aproval = true", "prefix = 3", "timeout = -1", "approval = 'often'", "url = 'http://x'"]
)
def test_a_table_that_cannot_be_is_one_line(run, tmp_path, wrong):
    (tmp_path / "a.toml").write_text(f'[agent]\nmodel = "echo"\nmcp = [{{command = "x", {wrong}}}]\n')
    result = run("agent", "check", "a.toml")
    assert result.exit_code in (2, 3)
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert wrong.split()[0] in result.stderr
