"""Models of a provider."""

import json

import pytest


def test_list(run):
    result = run("models", "list", "-p", "scripted")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["MODEL", "SIZE", "CHANGED", "WHERE"]
    assert lines[1][:3] == ["small", "1.5", "MB"]
    assert lines[1][-1] == "somewhere"
    assert lines[2] == ["other", "?", "?"]


def test_list_as_json(run):
    found = json.loads(run("models", "list", "-p", "scripted", "--json").stdout)
    assert found[0] == {"name": "small", "size": 1_500_000, "path": "somewhere", "modified": 0.0}


def test_the_default_is_mlx(run):
    result = run("models", "list", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)


def test_pull_says_where_it_is(run):
    assert run("models", "pull", "-p", "scripted", "x").stdout == "fetched/x\n"


@pytest.mark.parametrize(("arguments", "answer"), [(["--yes"], ""), (["-y"], ""), ([], "y\n"), ([], "Yes\n")])
def test_remove(run, arguments, answer):
    result = run("models", "remove", "-p", "scripted", "small", *arguments, input=answer)
    assert (result.exit_code, result.stdout) == (0, "Removed small; 1.5 MB are free again.\n")
    assert _removed() == ["small"]


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yup\n"])
def test_remove_asks_first(run, answer):
    result = run("models", "remove", "-p", "scripted", "small", input=answer)
    assert result.exit_code == 1
    assert "Remove 'small' (1.5 MB) from the disk? [y/N]" in result.stderr
    assert "error: Nothing was removed" in result.stderr
    assert _removed() == []


def _removed():
    from abstractllm.registry import get_provider_class

    return get_provider_class("scripted").removed
