"""`--tool`: what is found by name, and what is said of what is not."""

import sys

import pytest

from abstractllm.cli.loading import load_tools
from abstractllm.errors import InvalidParameterError


def names(tmp_path, *texts):
    return [tool.name for tool in load_tools(texts, tmp_path)]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("add", ["add"]),
        ("remove", ["remove"]),
        ("Clock", ["clock"]),
        ("evening", ["clock"]),
        ("evening.execute", ["execute"]),
        ("several", ["add", "clock"]),
    ],
)
@pytest.mark.parametrize("place", ["toolfile.py", "toolfile", "./toolfile.py"])
def test_what_can_be_a_tool(tmp_path, name, found, place):
    assert names(tmp_path, f"{place}:{name}") == found
    sys.modules.pop("toolfile", None)


@pytest.mark.usefixtures("tools")
def test_settings_of_a_tool_stay(tmp_path):
    (tool,) = load_tools(["toolfile.py:remove"], tmp_path)
    assert tool.approval is True


def test_a_file_is_run_once(tmp_path):
    (tmp_path / "counted.py").write_text(
        "with open('runs', 'a') as file:\n    file.write('x')\n\ndef a(): ...\ndef b(): ...\n"
    )
    assert names(tmp_path, "counted.py:a", "counted.py:b") == ["a", "b"]
    assert (tmp_path / "runs").read_text() == "x"


def test_a_file_finds_its_neighbours_and_hides_nothing(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "neighbour.py").write_text("def a(): ...\n")
    (folder / "json.py").write_text("raise RuntimeError\n")
    (folder / "one.py").write_text("import json\nfrom neighbour import a\nassert json.loads('1') == 1\n")
    assert names(tmp_path, "folder/one.py:a") == ["a"]
    sys.modules.pop("neighbour", None)


def test_files_of_one_name_in_two_folders(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.py").write_text(f"def {name}(): ...\n")
    assert names(tmp_path, "x/same.py:x", "y/same.py:y") == ["x", "y"]


def test_dataclasses_in_a_file(tmp_path):
    text = "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    text += "@dataclass\nclass Point:\n    x: int\ndef at(point: Point): ...\n"
    (tmp_path / "points.py").write_text(text)
    (tool,) = load_tools(["points.py:at"], tmp_path)
    assert "point" in tool.definition.parameters["properties"]


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("toolfile", "MODULE:NAME or FILE.py:NAME"),
        ("toolfile.py:", "MODULE:NAME or FILE.py:NAME"),
        ("nothere.py:add", "there is no file "),
        ("nothere:add", "there is no module 'nothere'"),
        ("json.nothere:add", "there is no module 'json.nothere'"),
        ("toolfile.py:ad", "Did you mean 'add'?"),
        ("toolfile.py:number", "number"),
        ("toolfile.py:Picky", "name an object of the class instead"),
        ("broken.py:add", "ZeroDivisionError: division by zero (broken.py, line 2)"),
        ("wrong.py:add", "SyntaxError"),
        ("leaving.py:add", "SystemExit: 3"),
        ("needing.py:add", "No module named 'nothere'"),
    ],
)
def test_what_cannot_be_used_is_one_line(run, tmp_path, text, words):
    (tmp_path / "broken.py").write_text("\n1 / 0\n")
    (tmp_path / "wrong.py").write_text("def\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needing.py").write_text("import nothere\n")
    with pytest.raises(InvalidParameterError) as caught:
        load_tools([text], tmp_path)
    assert words in str(caught.value) or text.endswith(":number")
    result = run("chat", "-m", "echo", "--tool", text, input="hi")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: The tool {text!r} cannot be used: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("tools")
def test_two_tools_of_one_name_are_refused(run):
    result = run("generate", "-m", "echo", "--tool", "toolfile.py:add", "--tool", "toolfile.py:add", "hi")
    assert result.exit_code == 2
    assert "Two tools are named 'add'" in result.stderr
