"""Backends for tests of several as one: some answer, some fail."""

from __future__ import annotations

from abstractllm.errors import ProviderConnectionError
from abstractllm.providers.echo import EchoProvider, Reply

DOWN = ProviderConnectionError("Nobody is there.")


def failing(error, after=0, text="one two three"):
    """Return a provider that fails after so many deltas."""
    return EchoProvider(replies=lambda request: Reply(text, error=error, error_after=after))


def saying(text, **more):
    return EchoProvider(replies=lambda request: Reply(text, **more))


def who(response):
    return response.provider_data["fallback"]["member"]
