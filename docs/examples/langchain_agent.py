"""LangChain's agent on the model that ships: sync, several at once with await, and streamed.

Needs `pip install langchain`. Run it with `python docs/examples/langchain_agent.py`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph.state import CompiledStateGraph

from abstractllm.integrations.langchain import ChatMLX

LIMIT: RunnableConfig = {"recursion_limit": 12}


@tool
def get_weather(city: str) -> str:
    """Get the weather in a city."""
    return {"Oslo": "snowing, -3 degrees"}.get(city, "sunny, 21 degrees")


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def asking(question: str) -> Any:
    """Return the state with which a run begins."""
    return {"messages": [HumanMessage(question)]}


def ask(agent: CompiledStateGraph[Any], question: str) -> None:
    """Print a whole answer, in code without an event loop."""
    print(f"> {question}")
    print(agent.invoke(asking(question), LIMIT)["messages"][-1].content)


async def ask_together(agent: CompiledStateGraph[Any], questions: list[str]) -> None:
    """Print the answers to several questions, for which the agent runs at the same time, in one batch."""
    states = await asyncio.gather(*(agent.ainvoke(asking(question), LIMIT) for question in questions))
    for question, state in zip(questions, states, strict=True):
        print(f"> {question}\n{state['messages'][-1].content}")


async def watch(agent: CompiledStateGraph[Any], question: str) -> None:
    """Print an answer while it is written, with the calls on the way to it."""
    print(f"> {question}")
    async for message, _ in agent.astream(asking(question), LIMIT, stream_mode="messages"):
        match message:
            case AIMessageChunk(tool_call_chunks=[{"name": str(name)}, *_]):
                print(f"  calls {name}")
            case AIMessageChunk(content=str(text)):
                print(text, end="", flush=True)
            case ToolMessage(name=name, content=content):
                print(f"  {name}: {content}")
    print()


async def ask_and_watch(agent: CompiledStateGraph[Any]) -> None:
    """Do both, on one event loop."""
    await ask_together(agent, ["What is the weather in Oslo?", "What is 17 plus 25?", "Hello!"])
    await watch(agent, "What is the weather in Rome?")


if __name__ == "__main__":
    with ChatMLX() as model:
        agent = create_agent(model, tools=[get_weather, add])
        ask(agent, "What is the weather in Paris?")
        asyncio.run(ask_and_watch(agent))
