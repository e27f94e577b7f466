"""What the Hugging Face provider does before PyTorch is needed; `tests/torch` has the rest."""

from __future__ import annotations

import configparser
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from abstractllm import InvalidParameterError, ModelCapability, ModelLoadingError, ModelNotFoundError, embedded
from abstractllm.messages import to_messages
from abstractllm.providers.huggingface import HuggingFaceProvider
from abstractllm.providers.huggingface.backend import LIBRARIES, check_device, own_errors
from abstractllm.providers.huggingface.models import model_key, shared_model
from abstractllm.providers.huggingface.provider import capabilities_of
from abstractllm.providers.huggingface.tokens import load_tokenizer
from abstractllm.providers.local.hub import find_locally
from abstractllm.types import GenerateRequest, Message, ToolDefinition

ROOT = Path(__file__).parents[2]
HEAVY = "torch transformers mlx mlx_lm llguidance numpy huggingface_hub"

IMPORT = f"""
import sys
from abstractllm.providers.huggingface import HuggingFaceProvider
print(*(name for name in "{HEAVY}".split() if name in sys.modules))
"""
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from abstractllm.errors import MissingDependencyError
from abstractllm.providers.huggingface import HuggingFaceProvider
try:
    HuggingFaceProvider()
except MissingDependencyError as error:
    print(error)
print(*HuggingFaceProvider.diagnose())
"""


def test_importing_it_imports_no_library(run_python: Any) -> None:
    assert run_python(IMPORT).strip() == ""


def test_without_torch_it_says_what_to_install(run_python: Any) -> None:
    refusal, finding = run_python(WITHOUT_TORCH).splitlines()
    for line in (refusal, finding):
        assert "torch cannot be found" in line
        assert 'pip install "abstractllm-mlx[huggingface]"' in line
    assert refusal.startswith("[huggingface] ")


def test_the_package_declares_it_with_all_that_it_needs() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    kind = HuggingFaceProvider
    row = f"{kind.name} = {kind.__module__.removesuffix('.provider')}:{kind.__name__} [{kind.name}]"
    assert row in setup["options.entry_points"]["abstractllm.providers"].splitlines()
    extra = setup["options.extras_require"][kind.name]
    assert {line.partition(">=")[0] for line in extra.split()} == set(LIBRARIES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dtype", "float8"),
        ("device", "toaster"),
        ("device", "cuda:"),
        ("device", "meta"),
        ("device", 0),
        ("devise", "cpu"),
    ],
)
def test_a_bad_setting_is_refused_before_anything_is_loaded(name: str, value: object) -> None:
    with pytest.raises(InvalidParameterError, match=name):
        HuggingFaceProvider(**{name: value})


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "xpu", "cuda", "cuda:0", "cuda:11"])
def test_devices_have_the_names_that_torch_gives_them(device: str) -> None:
    assert check_device(device) == device


class TestCapabilities:
    def test_they_come_from_config_and_template_alone(self, tmp_path: Path) -> None:
        for name in ("config.json", "chat_template.jinja"):
            shutil.copy(embedded.PATH / name, tmp_path)
        found = capabilities_of(tmp_path)
        assert found[ModelCapability.CONTEXT_WINDOW] == 4096
        assert found[ModelCapability.TOOL_USE] is True
        assert found[ModelCapability.VISION] is False

    def test_calls_that_nobody_here_can_read_are_no_capability(self, tmp_path: Path) -> None:
        shutil.copy(embedded.PATH / "config.json", tmp_path)
        (tmp_path / "chat_template.jinja").write_text("{{ tools }}{{ messages }}")
        assert capabilities_of(tmp_path)[ModelCapability.TOOL_USE] is False

    def test_a_model_that_is_not_here_leaves_them_unknown(self) -> None:
        found = capabilities_of(None)
        assert found[ModelCapability.TOOL_USE] is None
        assert found[ModelCapability.CONTEXT_WINDOW] is None

    def test_a_corrupt_config_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text('{"model_type": ')
        with pytest.raises(ModelLoadingError, match="config.json"):
            capabilities_of(tmp_path)


class TestTokenizer:
    """transformers' tokenizers need no PyTorch."""

    def test_it_renders_the_golden_prompts(self) -> None:
        tokenizer = load_tokenizer(embedded.PATH)
        cases = json.loads((ROOT / "docs" / "embedded-model" / "golden.json").read_text(encoding="utf-8"))
        assert len(cases) >= 50
        for case in cases:
            tools = [ToolDefinition(**{"description": "", **tool["function"]}) for tool in case["tools"]]
            assert tokenizer.encode(tokenizer.render(golden_messages(case), tools)) == case["prompt_tokens"]

    def test_it_reads_calls_and_ends_with_the_tokens_that_the_model_names(self) -> None:
        tokenizer = load_tokenizer(embedded.PATH)
        tool = ToolDefinition("look_up", "", {"type": "object", "properties": {}})
        request = GenerateRequest((Message("user", "Hi"),), tools=(tool,))
        reader = tokenizer.reader(request, tokenizer.render(request.messages, request.tools))
        pieces = [reader.add(token) for token in tokenizer.encode('So:<tool_call>{"name":"look_up","arguments":{}}')]
        deltas = [piece for piece in (*pieces, reader.flush()) if piece]
        calls = [call for delta in deltas for call in delta.tool_call_deltas]
        assert "".join(delta.content for delta in deltas) == "So:"
        assert [call.name for call in calls if call.name] == ["look_up"]
        assert tokenizer.stop_tokens == {0, 2}

    def test_a_model_that_can_think_is_allowed_to(self, tmp_path: Path) -> None:
        for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
            shutil.copy(embedded.PATH / name, tmp_path)
        tokens = json.loads((embedded.PATH / "tokenizer.json").read_text(encoding="utf-8"))
        for entry, mark in zip(tokens["added_tokens"][-2:], ("<think>", "</think>"), strict=True):
            entry["content"] = mark
        (tmp_path / "tokenizer.json").write_text(json.dumps(tokens), encoding="utf-8")
        (tmp_path / "chat_template.jinja").write_text(
            "{{ messages[0].content }}{% if enable_thinking %}<think>{% endif %}"
        )
        tokenizer = load_tokenizer(tmp_path)
        request = GenerateRequest((Message("user", "Hi"),))
        prompt = tokenizer.render(request.messages, ())
        reader = tokenizer.reader(request, prompt)
        deltas = [reader.add(token) for token in tokenizer.encode("so</think>there")]
        assert prompt == "Hi<think>"
        assert "".join(delta.reasoning for delta in deltas if delta) == "so"
        assert "".join(delta.content for delta in deltas if delta) == "there"

    def test_a_broken_one_is_refused(self, tmp_path: Path) -> None:
        for name in ("config.json", "tokenizer_config.json"):
            shutil.copy(embedded.PATH / name, tmp_path)
        (tmp_path / "tokenizer.json").write_text("{")
        with pytest.raises(ModelLoadingError, match="tokenizer") as caught:
            load_tokenizer(tmp_path)
        assert caught.value.provider == "huggingface"


def golden_messages(case: dict[str, Any]) -> tuple[Message, ...]:
    """The conversation of a golden case; its calls and results get the ids that ours must have."""
    entries: list[dict[str, Any]] = []
    ids: list[str] = []
    for message in case["messages"]:
        entry = dict(message)
        if message["role"] == "tool":
            entry["tool_call_id"] = ids.pop(0)
        if message.get("tool_calls"):
            ids = [f"call_{number}" for number in range(len(message["tool_calls"]))]
            entry["tool_calls"] = [{**call, "id": name} for call, name in zip(message["tool_calls"], ids, strict=True)]
        entries.append(entry)
    return to_messages(entries)


def test_a_folder_has_one_key_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    written = {model_key(name, "auto", "cpu") for name in ("model", "./model/", str(tmp_path / "model"))}
    assert len(written) == 1
    assert model_key(None, "auto", "cpu") == model_key(str(embedded.PATH), "auto", "cpu")
    assert model_key("owner/name", "auto", "cpu").model == "owner/name"


def test_providers_of_one_model_share_it_and_others_do_not() -> None:
    keys = [model_key(None, dtype, device) for dtype, device in (("auto", "cpu"), ("float32", "cpu"), ("auto", "auto"))]
    models = [shared_model(key) for key in keys]
    assert len({id(model) for model in models}) == 3
    assert all(shared_model(key) is model for key, model in zip(keys, models, strict=True))


def test_errors_of_shared_modules_bear_its_name() -> None:
    with pytest.raises(ModelNotFoundError) as caught, own_errors():
        find_locally("./no-such-model")
    assert caught.value.provider == "huggingface"
