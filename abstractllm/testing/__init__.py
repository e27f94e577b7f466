"""What authors of providers test with: `ProviderConformance`, a class of tests to subclass. Runs under pytest."""

from __future__ import annotations

from abstractllm.testing.conformance import ProviderConformance

__all__ = ["ProviderConformance"]
