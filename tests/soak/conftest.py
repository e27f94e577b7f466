"""How much is asked, and of which model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from abstractllm.providers.mlx import MLXProvider

from ..providers.mlx.conftest import write_tiny_model

PREFIX_BYTES = 64 * 2**20


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--requests", type=int, default=10_000, help="how many requests the soak makes (10,000)")
    parser.addoption("--settled", type=int, default=1000, help="after how many memory counts as settled (1,000)")
    parser.addoption("--leaving", type=int, default=1000, help="how many requests leave in the storm (1,000)")
    parser.addoption("--staying", type=int, default=200, help="how many requests stay in the storm (200)")


@pytest.fixture(scope="session")
def llm(tmp_path_factory: pytest.TempPathFactory, neutral_environment: None) -> Iterator[MLXProvider]:
    """A random model with so many heads that kept prefixes fill their 64 MB within some hundred requests."""
    folder = tmp_path_factory.mktemp("models") / "soaked"
    write_tiny_model(folder, num_hidden_layers=4, num_key_value_heads=4, head_dim=32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABSTRACTLLM_MLX_PREFIX_BYTES", str(PREFIX_BYTES))
        with MLXProvider(model=str(folder), max_tokens=12) as provider:
            provider.load()
            yield provider
