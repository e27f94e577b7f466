"""Let the model call Python functions until it has its answer, and watch it do so.

Run it with `python docs/examples/tools.py`.
"""

from __future__ import annotations

from abstractllm import Agent, Limits, ToolRetry, tool
from abstractllm.agent import TextDelta, ToolFinished, ToolStarted

WEATHER = {"Paris": "sunny, 21 degrees", "Oslo": "snowing, -3 degrees"}


@tool(timeout=10)
def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: Name of the city.
    """
    if city not in WEATHER:
        raise ToolRetry(f"{city} is not known.")
    return WEATHER[city]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def ask(agent: Agent, question: str) -> None:
    """Print the answer to a question while it is written, and the calls on the way to it."""
    print(f"> {question}")
    with agent.stream(question) as run:
        for event in run:
            match event:
                case ToolStarted(call):
                    print(f"  {call.name}({dict(call.arguments)})")
                case ToolFinished(call, outcome):
                    print(f"  {outcome.kind}: {outcome.content}")
                case TextDelta(text):
                    print(text, end="", flush=True)
        result = run.result()
    print(f"\n({result.turns} turns, {result.usage.total_tokens} tokens)")


if __name__ == "__main__":
    with Agent("mlx", tools=[get_weather, add], limits=Limits(turns=4)) as agent:
        for question in ("What is the weather in Paris?", "What is the weather in Rome?", "What is 17 plus 25?"):
            ask(agent, question)
