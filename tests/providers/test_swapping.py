"""The README's examples with another string in `create_llm`, against a service here: nothing else changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from abstractllm.testing.loopback import LoopbackServer
from abstractllm.types import GenerateResponse, ToolCall, Usage
from abstractllm.wire.anthropic import AnthropicMessages
from abstractllm.wire.ollama import OllamaChat
from abstractllm.wire.openai_chat import OpenAIChat

from .serving import body_of, friendly, served

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[:2]
SERVICES = {
    "openai:gpt-5": OpenAIChat(),
    "anthropic:claude-sonnet-4-5": AnthropicMessages(),
    "ollama:qwen3": OllamaChat(),
    "maritaca:sabia-4": OpenAIChat(),
}


PARIS = GenerateResponse(
    tool_calls=(ToolCall("call_1", "get_weather", {"city": "Paris"}),), finish_reason="tool_calls", usage=Usage(9, 5)
)


def answered(codec, request):
    """Ask for the weather in Paris where a tool tells it, repeat what a tool said, and else what was asked."""
    asked = codec.decode_request(body_of(request))
    if asked.messages[-1].role == "tool":
        return served(codec, GenerateResponse(asked.messages[-1].text, finish_reason="stop", usage=Usage(9, 1)))
    return served(codec, PARIS) if asked.tools else friendly(codec, request)


@pytest.mark.parametrize("spec", SERVICES)
@pytest.mark.parametrize("example", EXAMPLES, ids=["first", "tool"])
def test_swapping_the_string_is_all(example, spec, monkeypatch, capsys):
    assert example.count('create_llm("mlx")') == 1
    name = spec.partition(":")[0]
    with LoopbackServer(lambda request: answered(SERVICES[spec], request)) as server:
        monkeypatch.setenv(f"ABSTRACTLLM_{name.upper()}_BASE_URL", server.url)
        monkeypatch.setenv(f"ABSTRACTLLM_{name.upper()}_API_KEY", "loopback-key-0123")
        names: dict[str, object] = {"__name__": "swapped"}
        exec(compile(example.replace('"mlx"', f'"{spec}"'), str(README), "exec"), names)
        names["llm"].close()
    said = "What can you do?" if example is EXAMPLES[0] else "sunny"
    assert said in capsys.readouterr().out
    assert len(server.requests) == (5 if example is EXAMPLES[0] else 2)
