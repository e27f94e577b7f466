"""The registry: real packages, built and installed by pip, and what is registered at run time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from abstractllm.errors import (
    ConfigurationError,
    MissingDependencyError,
    PluginError,
    UnsupportedProviderError,
)
from abstractllm.interface import AbstractLLMInterface
from abstractllm.providers.base import API_VERSION, BaseProvider
from abstractllm.registry import (
    ProviderInfo,
    check_provider,
    get_provider_class,
    list_providers,
    register_provider,
)
from abstractllm.types import GenerateResponse

PROVIDER = """
from abstractllm.interface import AbstractLLMInterface
from abstractllm.providers.base import BaseProvider
from abstractllm.types import GenerateResponse

class Shout(BaseProvider):
    name = "shout"
    api_version = 1
    parameters = frozenset({"temperature"})

    def _stream(self, request, call):
        yield GenerateResponse(content=request.messages[-1].text.upper())
        yield GenerateResponse(finish_reason="stop")

class NotFinished(AbstractLLMInterface):
    pass

class Future(Shout):
    api_version = 99

thing = object()
"""

PACKAGES = {
    "acme-llm": ({"shout": "acme_llm:Shout", "acme-future": "acme_llm:Future"}, PROVIDER),
    "odd-llm": (
        {
            "thing": "odd_llm:thing",
            "gone": "odd_llm:Gone",
            "unfinished": "odd_llm:NotFinished",
            "no-module": "odd_llm.missing:X",
            "no-colon": "odd_llm",
        },
        PROVIDER,
    ),
    "broken-llm": ({"broken": "broken_llm:X"}, "raise RuntimeError('it fell apart')"),
    "unparsable-llm": ({"unparsable": "unparsable_llm:X"}, "def :"),
    "needy-llm": ({"needy": "needy_llm:X", "needy-extra": "needy_llm:X [sdk]"}, "import sdk_nobody_has.client"),
    "old-llm": ({"old": "old_llm:X"}, "from abstractllm.types import NameOfLongAgo"),
    "first-twin": ({"twin": "first_twin:Shout"}, PROVIDER),
    "second_twin": ({"twin": "second_twin:Shout"}, PROVIDER),
}
"""Distributions: the providers that each declares, and its module."""

BACKEND = """
import zipfile
from pathlib import Path

def build_wheel(folder, config_settings=None, metadata_directory=None):
    module = Path("name.txt").read_text()
    info = f"{module}-1.5.dist-info"
    files = {
        f"{module}.py": Path(f"{module}.py").read_text(),
        f"{info}/METADATA": Path("METADATA").read_text(),
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
        f"{info}/entry_points.txt": Path("entry_points.txt").read_text(),
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\\n" for name in (*files, f"{info}/RECORD"))
    wheel = f"{module}-1.5-py3-none-any.whl"
    with zipfile.ZipFile(Path(folder, wheel), "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel
"""
"""A build backend in the project's own tree, so that building needs neither a network nor a build tool."""


def write_project(folder: Path, distribution: str) -> Path:
    entries, source = PACKAGES[distribution]
    module = distribution.replace("-", "_")
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND)
    (folder / "name.txt").write_text(module)
    (folder / f"{module}.py").write_text(source)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    declared = "".join(f"{name} = {target}\n" for name, target in entries.items())
    (folder / "entry_points.txt").write_text(f"[abstractllm.providers]\n{declared}")
    return folder


@pytest.fixture(scope="session")
def plugins(tmp_path_factory) -> Path:
    """A folder into which pip has installed all of PACKAGES."""
    work = tmp_path_factory.mktemp("plugins")
    projects = [str(write_project(work / name, name)) for name in PACKAGES]
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    target = work / "installed"
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), *projects]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


REPORT = """
import json, sys
from dataclasses import asdict
from abstractllm import create_llm, list_providers

def attempt(name):
    try:
        return {"answer": create_llm(f"{name}?temperature=0.5").generate("hello").content}
    except Exception as error:
        return {"error": type(error).__name__, "message": str(error), "cause": type(error.__cause__).__name__}

listed = [asdict(info) for info in list_providers()]
plugins = {name.split(":")[0].split(".")[0].strip() for name in (info["target"] for info in listed)} - {"abstractllm"}
imported_by_listing = sorted(plugins & set(sys.modules))
shout = attempt("shout")
imported_by_use = sorted(plugins & set(sys.modules))
print(json.dumps({
    "listed": listed,
    "imported_by_listing": imported_by_listing,
    "imported_by_use": imported_by_use,
    "attempts": {"shout": shout} | {info["name"]: attempt(info["name"]) for info in listed if info["name"] != "mlx"},
    "unknown": attempt("shuot"),
}))
"""


@pytest.fixture(scope="session")
def report(run_python, plugins):
    """What a process with all of PACKAGES installed sees."""
    return json.loads(run_python(REPORT, paths=(plugins,)))


@pytest.fixture
def attempts(report):
    return report["attempts"]


def test_an_installed_package_is_used_by_name(attempts):
    assert attempts["shout"] == {"answer": "HELLO"}
    assert attempts["echo"] == {"answer": "hello"}


def test_listing_imports_no_provider_and_use_only_its_own(report):
    assert report["imported_by_listing"] == []
    assert report["imported_by_use"] == ["acme_llm"]


def test_all_are_listed_with_their_packages(report):
    listed = {(info["name"], info["distribution"]): info for info in report["listed"]}
    assert listed["shout", "acme-llm"]["version"] == "1.5"
    assert listed["shout", "acme-llm"]["target"] == "acme_llm:Shout"
    assert listed["shout", "acme-llm"]["error"] is None
    assert listed["needy-extra", "needy-llm"]["extra"] == "sdk"
    assert listed["mlx", "abstractllm-mlx"]["extra"] == "mlx"
    assert "second-twin" in listed["twin", "first-twin"]["error"]
    assert "first-twin" in listed["twin", "second-twin"]["error"]


def test_a_package_that_fails_names_itself_and_its_cause(attempts):
    broken = attempts["broken"]
    assert (broken["error"], broken["cause"]) == ("PluginError", "RuntimeError")
    assert "broken-llm 1.5" in broken["message"]
    assert "it fell apart" in broken["message"]
    assert (attempts["unparsable"]["error"], attempts["unparsable"]["cause"]) == ("PluginError", "SyntaxError")


def test_a_name_that_our_package_no_longer_has_is_the_plugins_fault(attempts):
    assert (attempts["old"]["error"], attempts["old"]["cause"]) == ("PluginError", "ImportError")
    assert "NameOfLongAgo" in attempts["old"]["message"]


@pytest.mark.parametrize(
    ("name", "command"), [("needy", "pip install needy-llm"), ("needy-extra", 'pip install "needy-llm[sdk]"')]
)
def test_a_missing_library_names_the_install_command(attempts, name, command):
    assert attempts[name]["error"] == "MissingDependencyError"
    assert "'sdk_nobody_has'" in attempts[name]["message"]
    assert attempts[name]["message"].endswith(command)


def test_two_packages_with_one_name_are_both_named(attempts):
    assert attempts["twin"]["error"] == "PluginError"
    assert "first-twin 1.5" in attempts["twin"]["message"]
    assert "second-twin 1.5" in attempts["twin"]["message"]


def test_another_api_version_says_both(attempts):
    assert attempts["acme-future"]["error"] == "PluginError"
    assert "version 99" in attempts["acme-future"]["message"]
    assert f"version {API_VERSION}" in attempts["acme-future"]["message"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("thing", "no subclass of AbstractLLMInterface"),
        ("gone", "AttributeError"),
        ("no-module", "ModuleNotFoundError"),
        ("no-colon", "odd-llm"),
        ("unfinished", "does not define generate, generate_async"),
    ],
)
def test_what_is_no_provider_is_refused(attempts, name, said):
    assert attempts[name]["error"] == "PluginError"
    assert said in attempts[name]["message"]


def test_an_unknown_name_gets_a_suggestion_and_the_list(report):
    assert report["unknown"]["error"] == "UnsupportedProviderError"
    assert "Did you mean 'shout'?" in report["unknown"]["message"]
    assert "echo" in report["unknown"]["message"]


def test_one_package_found_twice_is_one(run_python, plugins, tmp_path):
    again = shutil.copytree(plugins, tmp_path / "again")
    program = """
from abstractllm import create_llm, list_providers
print([info.name for info in list_providers()].count("shout"), create_llm("shout").generate("x").content)
"""
    assert run_python(program, paths=(plugins, again)).split() == ["1", "X"]


class Quiet(BaseProvider):
    name = "quiet"
    settings = frozenset({"model", "answer"})

    def _stream(self, request, call):
        yield GenerateResponse(content=self.get_param("answer", "..."), finish_reason="stop")


class Loud(Quiet):
    name = "loud"


class Distant(Quiet):
    api_version = API_VERSION + 1


def test_a_class_can_be_registered():
    register_provider("quiet-class", Quiet)
    assert get_provider_class("quiet-class") is Quiet
    info = next(info for info in list_providers() if info.name == "quiet-class")
    assert info == ProviderInfo("quiet-class", f"{Quiet.__module__}:Quiet")


def test_a_target_can_be_registered_and_is_imported_when_asked_for(tmp_path, monkeypatch):
    (tmp_path / "late_llm.py").write_text(PROVIDER)
    register_provider("late", "late_llm:Shout")
    assert "late_llm" not in sys.modules
    monkeypatch.syspath_prepend(tmp_path)
    assert get_provider_class("late").__name__ == "Shout"


def test_a_taken_name_needs_replace():
    register_provider("quiet-taken", Quiet)
    with pytest.raises(ConfigurationError, match="replace=True"):
        register_provider("quiet-taken", Loud)
    assert get_provider_class("quiet-taken") is Quiet
    register_provider("quiet-taken", Loud, replace=True)
    assert get_provider_class("quiet-taken") is Loud
    with pytest.raises(ConfigurationError, match="abstractllm-mlx"):
        register_provider("echo", Quiet)


@pytest.mark.parametrize("name", ["", "a:b", "a?b", "a b", "a/b", "é", "a\n"])
def test_a_name_that_no_config_string_can_hold_is_refused(name):
    with pytest.raises(ConfigurationError, match="cannot name a provider"):
        register_provider(name, Quiet)


@pytest.mark.parametrize("target", ["", "module", ":Class", "module:"])
def test_a_bad_target_is_refused(target):
    with pytest.raises(ConfigurationError, match="package.module:Class"):
        register_provider("bad-target", target)


@pytest.mark.parametrize("target", [int, Distant, AbstractLLMInterface])
def test_a_class_that_cannot_serve_is_refused_and_not_kept(target):
    with pytest.raises(PluginError):
        register_provider("bad-class", target)
    with pytest.raises(UnsupportedProviderError):
        get_provider_class("bad-class")


def test_a_registered_provider_with_a_missing_library():
    register_provider("needs-more", "module_that_nobody_has:X")
    with pytest.raises(PluginError, match="module_that_nobody_has"):
        get_provider_class("needs-more")


def test_readiness_is_checked_by_importing():
    register_provider("quiet-ready", Quiet)
    register_provider("not-ready", "no_such_package.of_providers:X")
    assert check_provider("quiet-ready").error is None
    assert "no_such_package" in check_provider("not-ready").error
    with pytest.raises(UnsupportedProviderError):
        check_provider("nobody")


def test_a_library_missing_in_a_registered_provider(tmp_path, monkeypatch):
    (tmp_path / "wants_sdk.py").write_text("import sdk_nobody_has")
    monkeypatch.syspath_prepend(tmp_path)
    register_provider("wants-sdk", "wants_sdk:X")
    with pytest.raises(MissingDependencyError, match="sdk_nobody_has"):
        get_provider_class("wants-sdk")


def test_many_threads_get_the_same_class():
    register_provider("quiet-shared", "abstractllm.providers.echo:EchoProvider")
    found = []
    threads = [threading.Thread(target=lambda: found.append(get_provider_class("quiet-shared"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


MALFORMED = {
    "no-equals": b"[abstractllm.providers]\nfoo\nshout = acme:Shout\n",
    "no-text": b"[abstractllm.providers]\n\xff = acme:Shout\n",
    "echo": b"[abstractllm.providers]\nfoo\n",
}
BESIDE_MALFORMED = """
from abstractllm import create_llm, list_providers
from abstractllm.errors import PluginError
print(create_llm("echo").generate("works").content)
try:
    create_llm("no-equals")
except PluginError as error:
    print("told")
print(*sorted(info.distribution for info in list_providers() if info.error and "cannot be read" in info.error))
print(*sorted(info.name for info in list_providers() if not info.error))
"""


OURS = (
    *(
        "anthropic",
        "azure",
        "compatible",
        "deepseek",
        "echo",
        "fireworks",
        "gemini",
        "groq",
        "huggingface",
        "langchain",
        "lmstudio",
        "maritaca",
        "mistral",
    ),
    *("mlx", "mlx-lm", "ollama", "openai", "openrouter", "together", "vllm", "xai"),
)
"""The names that our own package declares."""


def test_entry_points_that_cannot_be_read_break_their_distribution_alone(run_python, tmp_path):
    for name, text in MALFORMED.items():
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_bytes(text)
    printed = run_python(BESIDE_MALFORMED, paths=(tmp_path,)).splitlines()
    assert printed == ["works", "told", "echo no-equals no-text", " ".join(OURS)]


def test_a_plugin_that_exits_at_import_is_broken(tmp_path, monkeypatch):
    (tmp_path / "leaves_llm.py").write_text("import sys\nsys.exit('goodbye')")
    monkeypatch.syspath_prepend(tmp_path)
    register_provider("leaves", "leaves_llm:X")
    with pytest.raises(PluginError, match="SystemExit: goodbye"):
        get_provider_class("leaves")
