"""The table of providers, with good and broken ones."""

import json
import os
import subprocess
import sys

import pytest


def write_plugin(folder, name, module_text, target="Plugin"):
    """Put a package with an entry point into a folder, as an installation would."""
    (folder / f"{name}.py").write_text(module_text)
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[abstractllm.providers]\n{name} = {name}:{target}\n")


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A folder of plugins on the import path: one that works, and others with troubles."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    good = "from abstractllm.providers.echo import EchoProvider\nclass Plugin(EchoProvider):\n    name = 'good'\n"
    write_plugin(folder, "good", good)
    write_plugin(folder, "crashing", "raise RuntimeError('bad\\nday')\n")
    write_plugin(folder, "lacking", "import a_library_that_nobody_has\n")
    ailing = "    @classmethod\n    def diagnose(cls): return [Finding('disk', 'full', 'empty it')]\n"
    write_plugin(folder, "ailing", f"from abstractllm.providers.base import Finding\n{good}{ailing}")
    write_plugin(folder, "unwilling", good + "    def __init__(self): raise ValueError('no key')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return folder


def command(*arguments):
    return subprocess.run([sys.executable, "-m", "abstractllm.cli", *arguments], capture_output=True, text=True)


def test_the_table_names_what_they_can(run):
    result = run("providers")
    assert result.exit_code == 0
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("echo ")]
    assert "abstractllm-mlx" in line
    assert "streaming, tools" in line
    assert line.split()[-1] == "ready"


def test_json(run):
    found = {one["name"]: one for one in json.loads(run("providers", "--json").stdout)}
    assert {"echo", "mlx", "scripted"} <= set(found)
    assert found["echo"]["state"] == "ready"
    assert found["echo"]["can"] == ["streaming", "tools"]
    assert found["scripted"]["distribution"] is None


def test_who_has_no_key_says_which_it_needs(run, monkeypatch):
    monkeypatch.delenv("MARITACA_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-a-test")
    result = run("providers", "--json")
    found = {one["name"]: one for one in json.loads(result.stdout)}
    assert found["maritaca"]["state"] == "not ready"
    assert "MARITACA_API_KEY" in found["maritaca"]["problem"]
    assert "tools" in found["maritaca"]["can"]
    assert (found["openai"]["state"], found["openai"]["problem"]) == ("ready", None)
    assert found["vllm"]["state"] == "ready"
    assert "sk-of-a-test" not in result.stdout


def test_a_broken_one_says_why_and_harms_nothing(plugins):
    done = command("providers", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert {name: found[name]["state"] for name in ("echo", "good", "crashing", "lacking", "unwilling", "ailing")} == {
        "echo": "ready",
        "good": "ready",
        "crashing": "broken",
        "lacking": "not installed",
        "unwilling": "not ready",
        "ailing": "needs attention",
    }
    assert found["good"]["version"] == "1.5"
    assert "a_library_that_nobody_has" in found["lacking"]["problem"]
    assert found["ailing"]["problem"] == "empty it"
    assert "no key" in found["unwilling"]["problem"]


def test_a_reason_takes_one_line(plugins):
    lines = command("providers").stdout.splitlines()
    (line,) = [line for line in lines if line.startswith("crashing")]
    assert "bad day" in line
    assert len(lines) == len({line.split()[0] for line in lines})


def test_the_doctor_sees_them_too(plugins):
    done = command("doctor", "--json")
    report = json.loads(done.stdout)
    sections = {section["title"]: section["findings"] for section in report["sections"]}
    assert (done.returncode, report["ok"]) == (1, False)
    assert "bad" in sections["crashing"][0]["advice"]
    assert sections["lacking"][0]["advice"] is None
    assert "a_library_that_nobody_has" in sections["lacking"][0]["value"]
    assert any(finding["label"] == "good" and "1.5" in finding["value"] for finding in sections["plugins"])
