"""Where models are: the one that ships, local folders, and the Hugging Face cache. Loads no weights."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from abstractllm import embedded
from abstractllm.errors import (
    MissingDependencyError,
    ModelLoadingError,
    ModelNotFoundError,
    UnsupportedModelError,
    install_command,
)
from abstractllm.providers.base import ModelInfo

PATTERNS = ("*.json", "model*.safetensors", "tokenizer.model", "*.tiktoken", "tiktoken.model", "*.txt", "*.jinja")
"""Files of a repository that a model needs; no Python files, no pickles."""


_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_OWN_TEMPLATE = ("muse_spark", "kimi_k3")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "tiktoken.model", "vocab.json")


def hugging_face() -> Any:
    """Return the module `huggingface_hub`. Raises MissingDependencyError."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors  # the package itself loads neither
    except ImportError as error:
        raise MissingDependencyError(
            f"huggingface_hub is not installed. Install it with: {install_command('mlx')}", provider="mlx"
        ) from error
    return huggingface_hub


def find_locally(model: str | None) -> Path | None:
    """Return the folder of a model that is on this machine, or None. None as a name is the model that ships.

    Raises ModelNotFoundError for a name that can only be a path and leads nowhere.
    """
    if model is None:
        return embedded.PATH
    path = Path(os.path.expanduser(model))  # as os.path does, without raising on names that no system takes
    if os.path.isfile(path / "config.json"):
        return path
    if os.path.exists(path) or _can_only_be_a_path(model):
        missing = "it has no config.json" if os.path.isdir(path) else "there is no such folder"
        raise ModelNotFoundError(
            f"No model at {model!r}: {missing}. Pass a folder with config.json and *.safetensors, or the id of a"
            " Hugging Face repository such as 'Qwen/Qwen3-4B'.",
            searched=[str(path)],
            provider="mlx",
        )
    return _cached(model)


def _can_only_be_a_path(model: str) -> bool:
    return model.startswith(("/", ".", "~")) or "\\" in model or model.count("/") > 1


def _cached(model: str) -> Path | None:
    """Return the folder of a repository's main revision in the cache, if it is whole.

    Looks into the cache's documented layout itself: importing huggingface_hub takes most of a second, and this runs
    at the call, where an event loop may be waiting.
    """
    if not _is_repository(model):
        raise ModelNotFoundError(
            f"{model!r} is neither a folder nor a valid Hugging Face repository id: it must be 'name' or 'owner/name'.",
            searched=[str(Path(model))],
            provider="mlx",
        )
    repository = cache_folder() / f"models--{model.replace('/', '--')}"
    try:
        commit = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None  # it was never fetched
    folder = repository / "snapshots" / commit
    return folder if (folder / "config.json").is_file() and _is_complete(folder) else None


def _is_repository(name: str) -> bool:
    """Whether a name has the form that the Hub gives to repositories (huggingface_hub's `validate_repo_id`)."""
    if len(name) > 96 or "--" in name or ".." in name or name.endswith(".git"):
        return False
    return _REPOSITORY.fullmatch(name) is not None


def cache_folder() -> Path:
    """Return the folder of the Hugging Face cache, by the same environment variables as huggingface_hub."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        return Path(constants.HF_HUB_CACHE)
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home, "hub")
    return Path(os.path.expandvars(os.path.expanduser(folder)))


def _is_complete(folder: Path) -> bool:
    """Whether weights and tokenizer are all there; a download that was broken off leaves the config without them."""
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return _all_shards(sorted(file.name for file in folder.glob("model*.safetensors")))
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return False
    return all((folder / name).is_file() for name in files)


def _all_shards(names: list[str]) -> bool:
    """Whether weights files named like `model-00001-of-00003.safetensors` are as many as they say."""
    counts = [int(found[1]) for name in names if (found := re.search(r"-of-(\d+)\.", name))]
    return len(names) >= max(counts, default=1)


def fetch(model: str) -> Path:
    """Return the folder of a model, downloading it into the Hugging Face cache first if it is not there.

    A progress bar is shown on a terminal. Raises ModelNotFoundError, which lists where it was looked for.
    """
    hub = hugging_face()
    searched = [str(Path(model)), str(hub.constants.HF_HUB_CACHE)]
    if not hub.constants.HF_HUB_OFFLINE:
        searched.append(f"the Hugging Face Hub ({model})")
    try:
        return Path(hub.snapshot_download(model, allow_patterns=list(PATTERNS)))
    except Exception as error:  # the library lets many kinds of network errors through
        raise ModelNotFoundError(
            f"Model {model!r} was not found: {type(error).__name__}: {_first_line(error)}. Looked in:"
            f" {'; '.join(searched)}. Check the name and the connection; HF_HUB_OFFLINE=1 forbids downloads,"
            " and HF_TOKEN opens gated models.",
            searched=searched,
            provider="mlx",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def read_config(path: Path) -> Mapping[str, Any]:
    """Return a model's config.json. Raises ModelLoadingError, or UnsupportedModelError when it names no model type.

    The `eos_token_id` of generation_config.json, where many models name all tokens that end an answer, takes the
    place of its own, as in mlx-lm.
    """
    config = _read_json(path / "config.json")
    if not config.get("model_type"):
        raise UnsupportedModelError(
            f"{path / 'config.json'} names no model_type, so this is no language model that can run."
            " Choose another model.",
            provider="mlx",
        )
    generation = path / "generation_config.json"
    stops = _read_json(generation).get("eos_token_id") if generation.is_file() else None
    return config if stops is None else {**config, "eos_token_id": stops}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadingError(f"{file} cannot be read ({error}). Fetch the model again.", provider="mlx") from error
    if not isinstance(found, dict):
        raise ModelLoadingError(f"{file} holds no JSON object. Fetch the model again.", provider="mlx")
    return found


def has_template(path: Path) -> bool:
    """Whether a model has a chat template, as far as its files tell: some families bring one in mlx-lm's code."""
    settings = path / "tokenizer_config.json"
    named = settings.is_file() and "chat_template_type" in _read_json(settings)
    return (
        named or read_template(path) is not None or _read_json(path / "config.json").get("model_type") in _OWN_TEMPLATE
    )


def read_template(path: Path) -> str | None:
    """Return the text of a model's chat template, or None where it has none. Raises ModelLoadingError."""
    template = path / "chat_template.jinja"
    if template.is_file():
        return template.read_text(encoding="utf-8", errors="replace")
    settings = path / "tokenizer_config.json"
    if not settings.is_file():
        return None
    found = _read_json(settings).get("chat_template")
    return found if found is None or isinstance(found, str) else json.dumps(found)


def context_window(config: Mapping[str, Any]) -> int | None:
    """Return the number of tokens that a model's positions reach, or None where its config does not say."""
    return _count(config, "max_position_embeddings")


def common_window(*folders: Path) -> int | None:
    """Return the number of tokens that the models in all these folders reach, or None where no config says."""
    windows = [context_window(read_config(folder)) for folder in folders]
    return min((window for window in windows if window is not None), default=None)


def vocabulary(config: Mapping[str, Any]) -> int | None:
    """Return for how many tokens a model gives scores, or None where its config does not say."""
    return _count(config, "vocab_size")


def _count(config: Mapping[str, Any], name: str) -> int | None:
    for part in (config, config.get("text_config") or {}):
        found = part.get(name)
        if isinstance(found, int):
            return found
    return None


def list_cached() -> list[ModelInfo]:
    """Return the model that ships and the models in the Hugging Face cache that have a config and safetensors."""
    hub = hugging_face()
    shipped = ModelInfo("(shipped)", _folder_size(embedded.PATH), str(embedded.PATH))
    try:
        repositories = hub.scan_cache_dir(hub.constants.HF_HUB_CACHE).repos
    except hub.errors.CacheNotFound:
        return [shipped]
    models = [repository for repository in repositories if repository.repo_type == "model"]
    usable = sorted((model for model in models if _has_weights(model)), key=lambda model: str(model.repo_id))
    return [shipped, *(_info(model) for model in usable)]


def _info(repository: Any) -> ModelInfo:
    path = str(next(iter(repository.revisions)).snapshot_path)
    return ModelInfo(repository.repo_id, repository.size_on_disk, path, repository.last_modified)


def _has_weights(repository: Any) -> bool:
    names = {file.file_name for revision in repository.revisions for file in revision.files}
    return "config.json" in names and any(name.endswith(".safetensors") for name in names)


def _folder_size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir() if file.is_file())


def remove(model: str) -> int:
    """Delete a model from the Hugging Face cache and return the bytes freed. Raises ModelNotFoundError."""
    hub = hugging_face()
    try:
        cache = hub.scan_cache_dir(hub.constants.HF_HUB_CACHE)
    except hub.errors.CacheNotFound:
        repositories = []
    else:
        repositories = [one for one in cache.repos if one.repo_type == "model" and one.repo_id == model]
    if not repositories:
        raise ModelNotFoundError(
            f"{model!r} is not in the cache; 'abstractllm models list' shows what is.",
            searched=[str(hub.constants.HF_HUB_CACHE)],
            provider="mlx",
        )
    # A copy of a repository on the Hub has the same commits, so others are kept out of sight.
    alone = replace(cache, repos=frozenset(repositories))
    strategy = alone.delete_revisions(*(revision.commit_hash for revision in repositories[0].revisions))
    strategy.execute()
    return int(strategy.expected_freed_size)
