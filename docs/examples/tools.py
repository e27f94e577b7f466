"""Let the model call Python functions until it has its answer.

Run it with `python docs/examples/tools.py`.
"""

from __future__ import annotations

from abstractllm import GenerateResponse, Message, ToolArgumentError, ToolCall, ToolDefinition, create_llm
from abstractllm.tools import to_tool_definitions, validate_arguments

ROUNDS = 4
"""Most answers to one question: a model may go on asking for ever."""


def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: Name of the city.
    """
    return {"Paris": "sunny", "Oslo": "snowing"}.get(city, "cloudy")


def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


TOOLS = {tool.name: tool for tool in to_tool_definitions([get_weather, add])}


def run(call: ToolCall) -> str:
    """Make one call and return its result, or what was wrong with it, for the model to read."""
    tool: ToolDefinition | None = TOOLS.get(call.name)
    if tool is None or tool.function is None:
        return f"Error: there is no tool named {call.name!r}; the tools are {', '.join(TOOLS)}."
    if call.invalid is not None:
        return f"Error: this is no call that can be read: {call.invalid}"
    try:
        return str(tool.function(**validate_arguments(tool, call.arguments)))
    except ToolArgumentError as error:
        return f"Error: {error}"


def ask(question: str) -> GenerateResponse:
    """Return the answer to a question, after all the calls that the model asked for."""
    messages = [Message("user", question)]
    with create_llm("mlx") as llm:
        for _ in range(ROUNDS):
            response = llm.generate(messages=messages, tools=list(TOOLS.values()))
            if not response.has_tool_calls():
                break
            messages.append(response.to_message())
            for call in response.tool_calls:
                result = run(call)
                print(f"{call.name}({dict(call.arguments)}) -> {result}")
                messages.append(Message("tool", result, tool_call_id=call.id))
    return response


if __name__ == "__main__":
    print(ask("What is the weather in Paris?"))
