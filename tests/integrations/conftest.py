"""What the tests of integrations share; tests of a framework that is not installed are not collected."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from ..providers.mlx.conftest import write_tiny_model

collect_ignore_glob = [] if find_spec("langchain_tests") else ["test_langchain*"]


@pytest.fixture(scope="session")
def endless_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a random tiny llama, whose answers practically never end by themselves."""
    return write_tiny_model(tmp_path_factory.mktemp("models") / "endless", max_position_embeddings=4096)
