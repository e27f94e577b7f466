"""LangChain's own suites for chat models, as they are, on the model that ships."""

from __future__ import annotations

from typing import Any, ClassVar

from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from abstractllm import embedded
from abstractllm.integrations.langchain import ChatMLX

from .twice import asked_twice


class TestUnit(ChatModelUnitTests):
    """What needs no answers."""

    chat_model_class = ChatMLX
    chat_model_params: ClassVar[dict[str, Any]] = {}
    supports_json_mode = True
    model_override_value = str(embedded.PATH)
    supports_anthropic_inputs = True


class TestIntegration(ChatModelIntegrationTests):
    """Answers of the model that ships, greedy."""

    chat_model_class = ChatMLX
    chat_model_params: ClassVar[dict[str, Any]] = {"temperature": 0, "options": {"parallel_tool_calls": False}}
    supports_json_mode = True
    supports_anthropic_inputs = True
    model_override_value = str(embedded.PATH)
    supported_usage_metadata_details: ClassVar[dict[str, Any]] = {
        "invoke": ["cache_read_input"],
        "stream": ["cache_read_input"],
    }

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        """Ask twice; the second time the prompt is known."""
        return asked_twice(ChatMLX(temperature=0, max_tokens=5), stream=stream)
