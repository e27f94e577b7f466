"""Agents on the model that ships: tools that are really called, and many runs in one batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from abstractllm import create_llm
from abstractllm.agent import Agent, TextDelta, ToolCallProgress, ToolFinished, ToolStarted
from abstractllm.engine import engine
from abstractllm.providers.mlx.worker import mlx_thread
from abstractllm.tools import StopRun

from .scripting import check_paired, contents, other_tasks, settled


@pytest.fixture(scope="module")
def llm() -> Iterator[Any]:
    """The model that ships."""
    with create_llm("mlx", max_tokens=40, temperature=0.0) as provider:
        provider.load()
        yield provider


def engine_of(llm: Any) -> Any:
    """The engine under a provider."""
    return llm._loading(llm.get_param("model")).result()._engine


def check_all_slots_are_free(llm: Any) -> None:
    """Check that the engine has no row and no waiting request."""
    found = engine_of(llm)
    left = mlx_thread().run(lambda: (found.busy, len(found._waiting), len(found._active()))).result()
    assert left == (False, 0, 0)
    assert not llm._calls


def get_weather(city: str) -> str:
    """Get the weather in a city.

    Args:
        city: the name of the city
    """
    return f"sunny in {city}"


async def test_a_tool_is_really_called_and_streamed(llm: Any) -> None:
    agent = Agent(llm, tools=[get_weather])
    run = agent.stream("What is the weather in Paris?", tool_choice="get_weather")
    events = [event async for event in run]
    result = await run
    kinds = [type(event) for event in events]
    assert kinds.index(ToolCallProgress) < kinds.index(ToolStarted) < kinds.index(ToolFinished) < kinds.index(TextDelta)
    assert contents(result)[0].startswith("sunny in ")
    assert result.stop == "end"
    check_paired(result)


@dataclass
class Weather:
    """The weather somewhere."""

    city: str
    degrees: int


@pytest.mark.parametrize("city", ["Paris", "Oslo", "Lima"])
async def test_after_tools_the_answer_gets_its_form_without_a_retry(llm: Any, city: str) -> None:
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        return "sunny, 21 degrees"

    result = await Agent(llm, tools=[get_weather], output=Weather, retries=0).arun(f"What is the weather in {city}?")
    assert (result.output, result.turns) == (Weather(city, 21), 3)


async def test_fifty_runs_at_once_share_the_batch(llm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []
    step = engine.Engine.step

    def counted(self: Any, *arguments: Any) -> Any:
        together.append(len(self._active()))
        return step(self, *arguments)

    async def look_up(number: int) -> None:
        raise StopRun(number)

    monkeypatch.setattr(engine.Engine, "step", counted)
    agent = Agent(llm, tools=[look_up])
    results = await asyncio.gather(
        *(agent.arun(f"Look number {number} up.", tool_choice="look_up") for number in range(50))
    )
    assert max(together) > 10
    assert sum(together) > 5 * len(together)
    for result in results:
        check_paired(result)
        assert (result.stop, type(result.output)) == ("stopped", int)
    check_all_slots_are_free(llm)


async def test_runs_that_are_cancelled_free_their_slots(llm: Any) -> None:
    begun = asyncio.Event()

    async def hang(city: str) -> None:
        begun.set()
        await asyncio.Event().wait()

    talking = [Agent(llm, max_tokens=400).stream(f"Tell me a story about {number}.") for number in range(8)]
    calling = Agent(llm, tools=[hang]).stream("What is the weather in Paris?", tool_choice="hang")
    reading = [asyncio.ensure_future(run.wait()) for run in (*talking[:4], calling)]
    for run in talking[4:]:
        async for event in run:
            if isinstance(event, TextDelta):
                break
    await begun.wait()
    for run in (*talking, calling):
        run.cancel()
    for result in await asyncio.gather(*reading):
        check_paired(result)
    await settled(50)
    assert not other_tasks()
    check_all_slots_are_free(llm)
