"""`create_agent` on the model that ships: sync, async and streamed, with both ways to a structured answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from abstractllm.integrations.langchain import ChatMLX

LIMIT = {"recursion_limit": 12}


class Report(BaseModel):
    """A report on the weather."""

    weather: str = Field(max_length=30)


@pytest.fixture(scope="module")
def model() -> ChatMLX:
    return ChatMLX(temperature=0, max_tokens=80, options={"parallel_tool_calls": False})


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def get_weather(asked: list[str]) -> Any:
    @tool
    def get_weather(city: str) -> str:
        """Get the current weather in a city."""
        asked.append(city)
        return "sunny, 20 degrees"

    return get_weather


QUESTION: Any = {"messages": [HumanMessage("What is the weather in Lima?")]}


def test_an_agent_calls_and_answers(model: ChatMLX, get_weather: Any, asked: list[str]) -> None:
    agent = create_agent(model, [get_weather], system_prompt="You are a helpful assistant.")
    turns = agent.invoke(QUESTION, LIMIT)["messages"]
    assert asked == ["Lima"]
    assert [type(turn) for turn in turns] == [HumanMessage, AIMessage, ToolMessage, AIMessage]
    assert "20" in turns[-1].content or "sunny" in turns[-1].content


async def test_eight_agents_at_once(model: ChatMLX, get_weather: Any, asked: list[str]) -> None:
    agent = create_agent(model, [get_weather])
    cities = ["Lima", "Oslo", "Rome", "Paris"] * 2
    questions: list[Any] = [{"messages": [HumanMessage(f"What is the weather in {city}?")]} for city in cities]
    ends = await asyncio.gather(*(agent.ainvoke(question, LIMIT) for question in questions))
    assert sorted(asked) == sorted(cities)
    assert all(end["messages"][-1].content for end in ends)


async def test_an_agent_streams_its_messages_and_calls_its_tools(
    model: ChatMLX, get_weather: Any, asked: list[str]
) -> None:
    agent = create_agent(model, [get_weather])
    seen = [part[0] async for part in agent.astream(QUESTION, LIMIT, stream_mode="messages")]
    assert asked == ["Lima"]
    pieces = [piece for chunk in seen if isinstance(chunk, AIMessageChunk) for piece in chunk.tool_call_chunks]
    assert "".join(piece["args"] or "" for piece in pieces) == '{"city":"Lima"}'
    assert [chunk.content for chunk in seen if isinstance(chunk, ToolMessage)] == ["sunny, 20 degrees"]
    assert len([chunk for chunk in seen if isinstance(chunk, AIMessageChunk) and chunk.content]) > 2


def test_an_agent_streams_in_sync_code(model: ChatMLX, get_weather: Any, asked: list[str]) -> None:
    agent = create_agent(model, [get_weather])
    updates = list(agent.stream(QUESTION, LIMIT, stream_mode="updates"))
    assert asked == ["Lima"]
    assert [next(iter(update)) for update in updates] == ["model", "tools", "model"]


@pytest.mark.parametrize("strategy", [ToolStrategy, ProviderStrategy])
async def test_structured_answers(model: ChatMLX, strategy: Any) -> None:
    agent: Any = create_agent(model, response_format=strategy(Report))
    found = agent.invoke({"messages": [HumanMessage("The weather in Lima is sunny.")]}, LIMIT)
    assert isinstance(found["structured_response"], Report)
    found = await agent.ainvoke({"messages": [HumanMessage("The weather in Lima is sunny.")]}, LIMIT)
    assert isinstance(found["structured_response"], Report)


async def test_a_structured_answer_after_a_call(model: ChatMLX, get_weather: Any, asked: list[str]) -> None:
    agent: Any = create_agent(model, [get_weather], response_format=Report)  # the profile says how
    found = await agent.ainvoke(QUESTION, LIMIT)
    assert set(asked) == {"Lima"}  # perhaps more than once: the model is a small one
    assert isinstance(found["structured_response"], Report)
    assert found["messages"][1].tool_calls
    assert Report.model_validate_json(found["messages"][-1].content) == found["structured_response"]


async def test_a_structured_answer_beside_tools_as_a_tool(model: ChatMLX, get_weather: Any) -> None:
    agent: Any = create_agent(model, [get_weather], response_format=ToolStrategy(Report))
    first = await agent.ainvoke(QUESTION, {"recursion_limit": 12})
    assert isinstance(first["structured_response"], Report)
