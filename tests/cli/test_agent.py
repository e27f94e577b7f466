"""`abstractllm agent`: what its files may say, how it ends, and what it writes."""

import json

import pytest

from abstractllm.agent import Result
from abstractllm.cli.agentfile import read_agent

SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}


@pytest.fixture
def agent(tmp_path, tools):
    """Write an agent's file; lines go into [agent], or after the tables that they begin."""

    def write(*lines, model="calling", at="a.toml"):
        path = tmp_path / at
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["[agent]", f'model = "{model}"', *lines]) + "\n")
        return at

    return write


TOOLS = 'tools = ["toolfile.py:add", "toolfile.py:remove", "toolfile.py:leave", "toolfile.py:fail"]'


def test_an_agent_runs(run, agent):
    result = run("agent", "run", agent(TOOLS), 'add {"a": 2}')
    assert (result.exit_code, result.stdout) == (0, "Let me see.\n\nit says 3\n")
    assert result.stderr == 'add({"a": 2}) -> 3\n'


@pytest.mark.parametrize(
    ("argument", "in_file", "piped", "prompt"),
    [
        ("said", "written", "", "said"),
        (None, "written", "", "written"),
        (None, None, "piped", "piped"),
        ("-", "written", "piped", "piped"),
        (None, "written", "piped", "piped\n\nwritten"),
        ("said", None, "piped", "piped\n\nsaid"),
    ],
)
def test_where_the_prompt_comes_from(run, agent, argument, in_file, piped, prompt):
    file = agent(*([f'prompt = "{in_file}"'] if in_file else []))
    result = run("agent", "run", file, *([argument] if argument else []), input=piped)
    assert (result.exit_code, result.stdout) == (0, f"{prompt}\n")


def test_json_is_the_result(run, agent):
    result = run("agent", "run", agent(TOOLS), "--json", 'add {"a": 2}')
    restored = Result.from_json(result.stdout)
    assert (restored.stop, restored.output, restored.turns) == ("end", "it says 3", 2)
    assert result.stderr == 'add({"a": 2}) -> 3\n'


def test_what_tools_print_is_no_part_of_the_answer(run, agent):
    result = run("agent", "run", agent('tools = ["toolfile.py:talkative"]'), "--json", "talkative")
    assert Result.from_json(result.stdout).output == "it says done"
    assert sorted(result.stderr.splitlines()) == ["I am printing", "talkative({}) -> done"]


def test_verbose_shows_events(run, agent):
    result = run("agent", "run", agent(TOOLS), "--verbose", 'add {"a": 2}')
    assert result.stdout == "Let me see.\n\nit says 3\n"
    events = [line for line in result.stderr.splitlines() if line.startswith("event: ")]
    assert events[0] == "event: the run begins with 1 messages"
    assert "event: turn 1 ends, tool_calls, 3 tokens in, 3 out" in events
    assert events[-1].startswith("event: the run ends, end, after 2 turns")


def test_verbose_shows_what_the_model_thinks(run, agent):
    assert "event: the model thinks: hmm\n" in run("agent", "run", agent(model="scripted"), "-v", "think").stderr


def test_paths_are_relative_to_the_file(run, agent, tmp_path, tools):
    folder = tmp_path / "there"
    folder.mkdir()
    tools.rename(folder / "own.py")
    (folder / "notes.txt").write_text("inside")
    (folder / "form.json").write_text(json.dumps(SCHEMA))
    file = agent('tools = ["own.py:add", "own:Clock"]', 'files = ["notes.txt"]', at="there/a.toml")
    assert "inside" in run("agent", "run", file, "hi").stdout
    assert run("agent", "run", file, "clock", "--yes").exit_code == 0
    described = read_agent(tmp_path / agent('output = "form.json"', at="there/b.toml"))
    assert described.output == SCHEMA


@pytest.mark.parametrize("inline", [True, False])
def test_an_output_is_written_alone_as_json(run, agent, tmp_path, inline):
    (tmp_path / "form.json").write_text(json.dumps(SCHEMA))
    table = ["[agent.output]", 'type = "object"', 'required = ["sum"]', "[agent.output.properties]"]
    table.append('sum = {type = "integer"}')
    lines = table if inline else ['output = "form.json"']
    result = run("agent", "run", agent(*lines), '{"sum": 3}')
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"sum": 3})
    wrong = run("agent", "run", agent(*lines), '{"sum": "x"}')
    assert (wrong.exit_code, wrong.stdout) == (6, "")
    assert wrong.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("lines", "prompt", "code"),
    [
        ((TOOLS, "[agent.limits]", "turns = 1"), 'add {"a": 1}', 9),
        ((TOOLS, "[agent.limits]", "turns = 1", 'on_limit = "raise"'), 'add {"a": 1}', 6),
        ((TOOLS,), 'leave {"word": "bye"}', 10),
        ((TOOLS, 'on_tool_error = "raise"'), "fail", 6),
        ((TOOLS, "[agent.limits]", "turns = inf", "seconds = 60"), 'add {"a": 1}', 0),
    ],
)
def test_exit_codes(run, agent, lines, prompt, code):
    assert run("agent", "run", agent(*lines), prompt).exit_code == code


def test_instructions_and_parameters_reach_the_model(run, agent):
    file = agent('instructions = "Be brief."', "[agent.params]", "max_tokens = 2", model="scripted")
    result = run("agent", "run", file, "a b c")
    assert result.stdout == "2 a \n"
    assert "cut off" in result.stderr


def test_the_model_may_be_another(run, agent):
    assert run("agent", "run", agent(model="nothere"), "-m", "echo", "hi").stdout == "hi\n"


def test_without_a_model_it_is_the_usual_one(run, tmp_path):
    (tmp_path / "a.toml").write_text("[agent]\n")
    assert run("agent", "run", "a.toml", "hi", env={"ABSTRACTLLM_MODEL": "echo"}).stdout == "hi\n"
    assert "model mlx;" in run("agent", "check", "a.toml").stdout


@pytest.mark.parametrize(("flags", "line"), [([], "-> denied: "), (["--yes"], "-> removed x")])
def test_calls_that_need_a_person(run, agent, flags, line):
    result = run("agent", "run", agent(TOOLS), *flags, 'remove {"path": "x"}')
    assert result.exit_code == 0
    assert f'remove({{"path": "x"}}) {line}' in result.stderr
    assert ("note: " in result.stderr) == (not flags)


def test_a_person_is_asked_and_the_run_goes_on(terminal, agent):
    screen = terminal("agent", "run", agent(TOOLS), "--json", 'add {"a": 1}; remove {"path": "x"}')
    screen.expect("[y/N] ")
    screen.send("y\n")
    rest, code = screen.finish()
    assert code == 0
    (line,) = (line for line in rest.splitlines() if line.startswith("{"))
    result = Result.from_json(line)
    assert [turn.role for turn in result.new_messages] == ["user", "assistant", "tool", "tool", "assistant"]
    assert (result.turns, result.text) == (2, "Let me see.\n\nit says removed x")


def test_ctrl_c_ends_it(terminal, agent):
    screen = terminal("agent", "run", agent('tools = ["toolfile.py:hang"]'), "hang")
    screen.expect("hang({})")
    screen.send("\x03")
    assert screen.finish()[1] == 130


def test_a_reader_that_leaves_ends_it_quietly(start, agent):
    process = start("agent", "run", agent(model="stubborn"), "--no-stdin", "flood")
    process.expect(b"flood")
    process.stdout.close()
    assert process.wait() == 1
    assert process.stderr.read() == b""


def test_a_program_gets_the_text_as_the_model_wrote_it(start, agent):
    out, err = start("agent", "run", agent(model="stubborn"), "--no-stdin", "rude").communicate()
    assert (out, err) == (b"a\x1b[2Jb\rc\x1b]0;title\x07d\n", b"")


def test_check_says_what_there_is_and_starts_nothing(run, agent):
    file = agent(TOOLS, 'mcp = ["/no/such/server", "http://127.0.0.1:1/mcp"]', "[agent.output]", 'type = "object"')
    result = run("agent", "check", file)
    assert result.exit_code == 0
    expected = "model calling; tools add, remove, leave, fail; MCP servers 2, not started; output as JSON."
    assert result.stdout == f"a.toml can be run: {expected}\n"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["instruction = 'x'"], "the key 'instruction' is unknown. Did you mean 'instructions'?"),
        (["[agent.limits]", "turn = 1"], "the limit 'turn' is unknown. Did you mean 'turns'?"),
        (["[agent.limits]", "turns = 0"], "Limits(turns=0)"),
        (["limits = 3"], "write a table, [agent.limits]"),
        (["[agnet]"], "'agnet' at its top"),
        (["instructions = 3"], "instructions must be text"),
        (["tools = 'x'"], 'tools = ["..."]'),
        (["tools = [3]"], "each of tools must be text"),
        (["mcp = 'x'"], "mcp must be a list"),
        (["mcp = [{comand = 'x'}]"], "command"),
        (["mcp = ['x.json']"], "x.json cannot be read"),
        (["name = 3"], "name must be text"),
        (["retries = -1"], "retries=-1"),
        (["tool_timeout = 'x'"], "tool_timeout='x'"),
        (["trim = 'x'"], "trim='x'"),
        (["output = 'nothere.json'"], "nothere.json cannot be read"),
        (["output = 'list.json'"], "holds no JSON Schema"),
        (["output = 'wrong.json'"], "is no JSON file"),
        (["[agent.output]", "type = 'nothing'"], "a.toml: output: "),
        (["[agent.params]", "temprature = 1"], "Did you mean 'temperature'?"),
        (["[agent.params]", "api_key = 'secret'"], "api_key must not stand in a file"),
        (["files = ['nothere.md']"], "nothere.md' does not exist"),
        (["tools = ['toolfile.py:ad']"], "Did you mean 'add'?"),
        (["tools = ['toolfile.py:add', 'toolfile.py:several']"], "Two tools are named 'add'"),
        (["= 3"], "cannot be read as TOML"),
    ],
)
def test_a_file_that_cannot_be_is_one_line(run, agent, tmp_path, lines, words):
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "wrong.json").write_text("{")
    file = agent(*lines)
    for command in ("check", "run"):
        result = run("agent", command, file, *(["hi"] if command == "run" else []))
        assert result.exit_code in (2, 3)
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
        assert words in result.stderr
        assert "secret" not in result.stderr


@pytest.mark.parametrize(
    ("text", "words"), [("", "no table [agent]"), ("agent = 3", "no table [agent]"), (None, "cannot be read")]
)
def test_a_file_without_an_agent(run, tmp_path, text, words):
    if text is not None:
        (tmp_path / "a.toml").write_text(text)
    result = run("agent", "check", "a.toml")
    assert result.exit_code == 3
    assert words in result.stderr


def test_the_model_that_ships_runs_an_agent(run, agent, tmp_path):
    (tmp_path / "sums.py").write_text('def add(a: int, b: int) -> int:\n    """Add two numbers."""\n    return a + b\n')
    result = run("agent", "run", agent('tools = ["sums.py:add"]', model="mlx"), "What is 2 plus 3?")
    assert (result.exit_code, result.stderr) == (0, 'add({"a": 2, "b": 3}) -> 5\n')
