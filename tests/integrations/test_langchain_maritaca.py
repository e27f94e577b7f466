"""LangChain's own suites for chat models, as they are, on Maritaca's format; behind it is the model that ships."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from abstractllm.integrations.langchain import ChatMaritaca
from abstractllm.testing.loopback import LoopbackServer

from .sabia import sabia_service
from .twice import asked_twice

KEY = "maritaca-loopback-0123"


@pytest.fixture(scope="module")
def service() -> Iterator[LoopbackServer]:
    with sabia_service() as server:
        yield server


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MARITACA_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


class TestUnit(ChatModelUnitTests):
    """What needs no answers."""

    chat_model_class = ChatMaritaca
    chat_model_params: ClassVar[dict[str, Any]] = {"model": "sabia-4"}
    supports_json_mode = True
    supports_anthropic_inputs = True
    model_override_value = "sabiazinho-4"
    init_from_env_params: ClassVar[Any] = ({"MARITACA_API_KEY": KEY}, {"model": "sabia-4"}, {"api_key": KEY})


class TestIntegration(ChatModelIntegrationTests):
    """Answers through the service."""

    chat_model_class = ChatMaritaca
    supports_json_mode = True
    supports_anthropic_inputs = True
    model_override_value = "sabiazinho-4"
    supported_usage_metadata_details: ClassVar[Any] = {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    @pytest.fixture(autouse=True)
    def _service(self, service: LoopbackServer) -> None:
        self.url = service.url

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """Where the service is."""
        return {"model": "sabia-4", "api_key": KEY, "base_url": self.url}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        """Ask twice; the second time the service knows the prompt."""
        return asked_twice(ChatMaritaca(max_tokens=5, **self.chat_model_params), stream=stream)
