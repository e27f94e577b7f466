"""Finding, listing, fetching and removing models: the real huggingface_hub, with a cache and a Hub of our own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest

from abstractllm import embedded
from abstractllm.errors import ModelLoadingError, ModelNotFoundError, UnsupportedModelError
from abstractllm.providers.local import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FETCH = "import sys; from abstractllm.providers.local.hub import fetch; print(fetch(sys.argv[1]))"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Hugging Face cache, for this process and those that it starts."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    return folder


def put(cache: Path, name: str, **files: str) -> Path:
    """Put a model into the cache as a download would, and return its folder. In names, __ stands for a dot."""
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / COMMIT
    for directory in (folder, repository / "refs", repository / "blobs"):
        directory.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for number, (file, text) in enumerate(files.items()):
        (repository / "blobs" / str(number)).write_text(text)
        (folder / file.replace("__", ".")).symlink_to(repository / "blobs" / str(number))
    return folder


def test_no_name_is_the_model_that_ships():
    assert hub.find_locally(None) == embedded.PATH


def test_a_folder(tiny_model, monkeypatch):
    assert hub.find_locally(str(tiny_model)) == tiny_model
    monkeypatch.chdir(tiny_model.parent)
    assert hub.find_locally("tiny") == Path("tiny")
    assert hub.find_locally("./tiny/") == Path("tiny")
    monkeypatch.setenv("HOME", str(tiny_model.parent))
    assert hub.find_locally("~/tiny") == tiny_model


@pytest.mark.parametrize(
    "name",
    [
        "/no/such/model",
        "./model",
        "../model",
        "~/model",
        "~nobody-here/model",
        "C:\\models\\x",
        "a/b/c",
        "/" + "x" * 5000,
    ],
)
def test_names_that_can_only_be_paths(name, cache, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ModelNotFoundError, match="no such folder") as failure:
        hub.find_locally(name)
    assert len(failure.value.searched) == 1


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"no config\.json"):
        hub.find_locally(str(tmp_path))


@pytest.mark.parametrize("name", ["two words", "org/-name", "", "a\0b", "é", "x" * 5000, "name.git", "a--b"])
def test_names_that_are_no_repository_ids(name, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError):
        hub.find_locally(name)


def test_a_model_in_the_cache(cache):
    folder = put(cache, "org/name", config__json="{}", model__safetensors="", tokenizer__json="")
    assert hub.find_locally("org/name") == folder
    assert hub.fetch("org/name") == folder


def test_a_model_that_is_nowhere(cache):
    assert hub.find_locally("org/name") is None
    with pytest.raises(ModelNotFoundError, match="HF_HUB_OFFLINE") as failure:
        hub.fetch("org/name")
    assert list(failure.value.searched) == ["org/name", str(cache)]


def test_a_download_that_was_broken_off_is_not_taken_for_a_model(cache):
    put(cache, "org/single", config__json="{}", tokenizer__json="")
    put(cache, "org/untold", config__json="{}", model__safetensors="")
    put(cache, "org/sharded", **{"config__json": "{}", "tokenizer__json": "", "model-00001-of-00002__safetensors": ""})
    parts = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    index = json.dumps(parts)
    folder = put(cache, "org/parts", config__json="{}", tokenizer__json="", model__safetensors__index__json=index)
    for name in ("single", "untold", "sharded"):
        assert hub.find_locally(f"org/{name}") is None
    (folder / "model-1.safetensors").touch()
    assert hub.find_locally("org/parts") is None
    (folder / "model-2.safetensors").touch()
    assert hub.find_locally("org/parts") == folder


def test_listing_shows_what_may_run(cache):
    assert [model.name for model in hub.list_cached()] == ["(shipped)"]
    put(cache, "org/b", config__json="{}", model__safetensors="12345")
    put(cache, "org/a", config__json="{}", model__safetensors="")
    put(cache, "org/pickles", config__json="{}", pytorch_model__bin="")
    shipped, *models = hub.list_cached()
    assert [model.name for model in models] == ["org/a", "org/b"]
    assert models[1].size == 7
    assert Path(models[1].path, "config.json").is_file()
    assert shipped.size > 1_000_000


def test_listing_without_a_cache(cache):
    cache.rmdir()
    assert [model.name for model in hub.list_cached()] == ["(shipped)"]


def test_removing(cache):
    put(cache, "org/a", config__json="{}", model__safetensors="12345")
    kept = put(cache, "org/b", config__json="{}", model__safetensors="", tokenizer__json="")
    assert hub.remove("org/a") == 7
    assert hub.find_locally("org/a") is None
    assert hub.find_locally("org/b") == kept


def test_removing_what_is_not_there(cache):
    for _ in range(2):
        with pytest.raises(ModelNotFoundError, match="not in the cache"):
            hub.remove("org/a")
        if cache.is_dir():
            cache.rmdir()


FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"",
    "modeling.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "onnx/model.onnx": b"other",
}


class Hub(BaseHTTPRequestHandler):
    """A Hugging Face Hub with one repository."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/name/tree/"):
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in FILES.items()
            ]
            self._answer(200, json.dumps(entries).encode())
        elif path.startswith("/api/models/org/name"):
            siblings = [{"rfilename": name} for name in FILES]
            self._answer(200, json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith(f"/org/name/resolve/{COMMIT}/"):
            self._answer(200, FILES[path.partition(f"{COMMIT}/")[2]])
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        known = {"ETag": f'"{hash(body) & 0xFFFFFFFF:x}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}
        for name, value in {**known, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def local_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Hub on this machine, which the processes that the test starts use."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "NO_PROXY": "*", "no_proxy": "*"}.items():
        monkeypatch.setenv(name, value)
    yield address
    server.shutdown()
    thread.join()
    server.server_close()


def test_fetching_takes_no_code_and_no_pickles(cache, local_hub, run_python):
    folder = Path(run_python(FETCH, "org/name").strip())
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
    }
    assert hub.find_locally("org/name") == folder


def test_fetching_what_the_hub_does_not_have(cache, local_hub, run_python):
    program = """
from abstractllm.errors import ModelNotFoundError
from abstractllm.providers.local.hub import fetch
try:
    fetch("org/other")
except ModelNotFoundError as error:
    print(error, *error.searched, sep="\\n")
"""
    message, *searched = run_python(program).strip().splitlines()
    assert "HF_TOKEN" in message
    assert searched == ["org/other", str(cache), "the Hugging Face Hub (org/other)"]


@pytest.mark.parametrize("text", ["", "{", "[]", "\udcff", '{"model_type": '])
def test_a_config_that_cannot_be_read(text, tmp_path):
    (tmp_path / "config.json").write_text(text, errors="surrogateescape")
    with pytest.raises(ModelLoadingError, match="Fetch the model again"):
        hub.read_config(tmp_path)


def test_a_config_without_model_type(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnsupportedModelError, match="model_type"):
        hub.read_config(tmp_path)


def test_the_tokens_that_end_an_answer_stand_in_the_generation_config(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gemma3", "eos_token_id": 1}')
    assert hub.read_config(tmp_path)["eos_token_id"] == 1
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 106]}')
    assert hub.read_config(tmp_path)["eos_token_id"] == [1, 106]


def test_templates_stand_in_two_places(tmp_path):
    assert hub.read_template(tmp_path) is None
    (tmp_path / "tokenizer_config.json").write_text(
        '{"chat_template": [{"name": "tool_use", "template": "{{ tools }}"}]}'
    )
    assert "tools" in str(hub.read_template(tmp_path))
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert hub.read_template(tmp_path) == "{{ messages }}"


@pytest.mark.parametrize(
    ("config", "window"),
    [({"max_position_embeddings": 8}, 8), ({"text_config": {"max_position_embeddings": 9}}, 9), ({}, None)],
)
def test_the_context_window(config, window):
    assert hub.context_window(config) == window


def test_the_window_of_several_models_is_the_smallest_that_is_known(tmp_path):
    folders = []
    for window in (512, None, 64):
        folders.append(tmp_path / str(window))
        folders[-1].mkdir()
        (folders[-1] / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": window}))
    assert hub.common_window(*folders) == 64
    assert hub.common_window(folders[0], folders[1]) == 512
    assert hub.common_window(folders[1]) is None
