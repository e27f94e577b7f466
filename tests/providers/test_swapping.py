"""The README's examples with another string in the place of "mlx", against a service here: nothing else changes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from abstractllm.accumulator import call_deltas
from abstractllm.testing.loopback import LoopbackServer
from abstractllm.types import GenerateResponse, ToolCall, Usage
from abstractllm.wire.anthropic import AnthropicMessages
from abstractllm.wire.ollama import OllamaChat
from abstractllm.wire.openai_chat import OpenAIChat

from .serving import body_of, friendly, served, streamed

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[:2]
SERVICES = {
    "openai:gpt-5": OpenAIChat(),
    "anthropic:claude-sonnet-4-5": AnthropicMessages(),
    "ollama:qwen3": OllamaChat(),
    "maritaca:sabia-4": OpenAIChat(),
}


CALL = ToolCall("call_1", "get_weather", {"city": "Paris"})


def answered(codec, request):
    """Ask for the weather in Paris where a tool tells it, repeat what a tool said, and else what was asked."""
    asked = codec.decode_request(body_of(request))
    if asked.messages[-1].role == "tool":
        return said(codec, asked, GenerateResponse(asked.messages[-1].text, finish_reason="stop", usage=Usage(9, 1)))
    if asked.tools:
        return said(codec, asked, GenerateResponse(tool_calls=(CALL,), finish_reason="tool_calls", usage=Usage(9, 5)))
    return friendly(codec, request)


def said(codec, asked, answer):
    """Return an answer, as a stream where that was asked for."""
    if not asked.stream:
        return served(codec, answer)
    pieces = call_deltas(answer.tool_calls)
    return streamed(codec, replace(answer, tool_calls=(), tool_call_deltas=pieces))


@pytest.mark.parametrize("spec", SERVICES)
@pytest.mark.parametrize("example", EXAMPLES, ids=["first", "tool"])
def test_swapping_the_string_is_all(example, spec, monkeypatch, capsys):
    assert example.count('"mlx"') == 1
    name = spec.partition(":")[0]
    with LoopbackServer(lambda request: answered(SERVICES[spec], request)) as server:
        monkeypatch.setenv(f"ABSTRACTLLM_{name.upper()}_BASE_URL", server.url)
        monkeypatch.setenv(f"ABSTRACTLLM_{name.upper()}_API_KEY", "loopback-key-0123")
        names: dict[str, object] = {"__name__": "swapped"}
        exec(compile(example.replace('"mlx"', f'"{spec}"'), str(README), "exec"), names)
        if "llm" in names:
            names["llm"].close()
    said = "What can you do?" if example is EXAMPLES[0] else "sunny"
    assert said in capsys.readouterr().out
    assert len(server.requests) == (5 if example is EXAMPLES[0] else 2)
