"""What the doctor sees."""

import json

import pytest

import abstractllm
from abstractllm.cli.doctor import other_copies, other_owners


def findings(run, expected=(0, 1)):
    result = run("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.exit_code in expected
    assert report["ok"] is (result.exit_code == 0)
    return {
        (section["title"], finding["label"]): finding
        for section in report["sections"]
        for finding in section["findings"]
    }


def test_versions_and_platform(run):
    found = findings(run)
    assert found["package", "abstractllm"]["value"].startswith(abstractllm.__version__)
    assert ("system", "Python") in found
    assert ("system", "platform") in found
    assert ("plugins", "echo") in found


def test_mlx_is_diagnosed(run):
    assert any(title == "mlx" for title, _ in findings(run))


def test_text_and_json_agree(run):
    advised = [finding for finding in findings(run).values() if finding["advice"]]
    text = run("doctor").stdout
    assert text.count("\n!") == len(advised)
    assert ("Nothing needs attention." in text) is not advised


def test_names_of_variables_are_shown_and_values_are_not(run, monkeypatch):
    monkeypatch.setenv("ABSTRACTLLM_X_KEY", "hidden")
    result = run("doctor")
    assert "ABSTRACTLLM_X_KEY" in result.stdout
    assert "hidden" not in result.stdout


def test_profiles_are_shown(run, tmp_path):
    (tmp_path / "abstractllm.toml").write_text('[profiles.fast]\nprovider = "echo"\n')
    assert "fast in" in findings(run)["system", "profiles"]["value"]


def test_a_broken_profile_needs_attention(run, tmp_path):
    (tmp_path / "abstractllm.toml").write_text("[profiles")
    assert findings(run, expected=(1,))["system", "profiles"]["advice"]


def test_another_distribution_of_our_name(run, tmp_path, monkeypatch):
    info = tmp_path / "site" / "abstractllm-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: abstractllm\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("abstractllm\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    (finding,) = other_owners()
    assert finding.label == "abstractllm"
    assert "pip uninstall -y abstractllm" in finding.advice
    assert "abstractllm-mlx" in finding.advice
    assert findings(run, expected=(1,))


@pytest.mark.parametrize("name", ["abstractllm.py", "abstractllm/__init__.py"])
def test_a_copy_in_the_current_folder(run, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    found = findings(run, expected=(1,))
    assert name in found["package", "second copy"]["value"]


def test_what_does_not_hide_the_package(tmp_path):
    (tmp_path / "abstractllm").mkdir()  # without __init__.py a folder loses against an installed package
    assert list(other_copies([str(tmp_path), "", str(tmp_path / "missing")])) == []
