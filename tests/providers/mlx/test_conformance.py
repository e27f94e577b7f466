"""The rules for all providers, kept by MLX on a real model."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from abstractllm.providers.mlx import MLXProvider
from abstractllm.testing import ProviderConformance


class TestGreedy(ProviderConformance):
    """A random model, whose answers are long enough to cut."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24}

    @pytest.fixture(autouse=True)
    def _model(self, tiny_model: Path) -> None:
        self.folder = str(tiny_model)

    def make(self) -> MLXProvider:
        return MLXProvider(model=self.folder)


class TestSeeded(TestGreedy):
    """The same, sampled."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24, "temperature": 0.9, "top_k": 40, "seed": 3}


class TestDraft(TestSeeded):
    """The same, with a draft model."""

    def make(self) -> MLXProvider:
        return MLXProvider(model=self.folder, draft_model=self.folder)


class TestQuantised(ProviderConformance):
    """The model that ships, with KV caches of 8 bits."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24}

    def make(self) -> MLXProvider:
        return MLXProvider(kv_bits=8)


class TestShipped(ProviderConformance):
    """The model that ships."""

    params: ClassVar[dict[str, object]] = {"max_tokens": 24}

    def make(self) -> MLXProvider:
        return MLXProvider()
