"""What LangChain's async applications may expect of a model in their process: one batch, free slots, a free loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool

from abstractllm.integrations.langchain import ChatMLX
from abstractllm.types import GenerateResponse


@pytest.fixture
def endless(endless_model: Path) -> Iterator[ChatMLX]:
    with ChatMLX(model=str(endless_model), max_tokens=400, temperature=0) as model:
        yield model


async def test_eight_calls_at_once_share_the_batch(endless: ChatMLX) -> None:
    engine = await engine_of(endless)
    widths: list[int] = []
    step = engine.step

    def counted() -> None:
        widths.append(len(engine._active()))
        step()

    engine.step = counted
    alone = [(await endless.ainvoke(f"Story {number}", max_tokens=24)).content for number in range(8)]
    assert max(widths) == 1
    widths.clear()
    together = await asyncio.gather(*(endless.ainvoke(f"Story {number}", max_tokens=24) for number in range(8)))
    assert max(widths) == 8
    assert len(widths) < 2 * 24 + 16
    assert [message.content for message in together] == alone
    widths.clear()
    batch = await endless.abatch([f"Story {number}" for number in range(8)], max_tokens=24)
    assert max(widths) == 8
    assert [message.content for message in batch] == alone
    widths.clear()
    assert len(endless.batch([f"Story {number}" for number in range(4)], max_tokens=200)) == 4
    assert max(widths) > 1


async def engine_of(model: ChatMLX) -> Any:
    await model.ainvoke("Hello", max_tokens=1)
    provider: Any = model._backend(None).provider()
    return provider._loading(model.model).result()._engine


async def test_leaving_a_stream_frees_its_place(endless: ChatMLX) -> None:
    engine = await engine_of(endless)
    for _ in range(40):  # more than there are places
        async for _ in endless.astream("Tell me", max_tokens=3000):
            break
    assert (await endless.ainvoke("Tell me", max_tokens=3)).content
    for _ in range(1000):
        if not engine.busy:
            break
        await endless.ainvoke("Meanwhile", max_tokens=1)
    assert not engine.busy


def test_leaving_a_sync_stream_frees_its_place(endless: ChatMLX) -> None:
    for _ in range(40):
        for _ in endless.stream("Tell me", max_tokens=3000):
            break
    assert endless.invoke("Tell me", max_tokens=3).content


async def test_cancelling_a_call_ends_it(endless: ChatMLX) -> None:
    engine = await engine_of(endless)
    task = asyncio.create_task(endless.ainvoke("Tell me", max_tokens=3000))
    async for _ in endless.astream("Meanwhile", max_tokens=3):
        pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(1000):
        if not engine.busy:
            break
        await endless.ainvoke("Meanwhile", max_tokens=1)
    assert not engine.busy


async def test_a_slow_reader_loses_nothing(endless: ChatMLX) -> None:
    whole = await endless.ainvoke("Tell me", max_tokens=300)
    text = ""
    async for chunk in endless.astream("Tell me", max_tokens=300):
        await endless.ainvoke("Meanwhile", max_tokens=1) if len(text) % 50 == 0 else await asyncio.sleep(0)
        text += str(chunk.content)
    assert text == whole.content


async def test_the_loop_goes_on_while_a_model_loads_and_answers(endless_model: Path) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticker = asyncio.create_task(tick())
    async with ChatMLX(model=str(endless_model), max_tokens=48) as model:
        before = ticks
        seen = [ticks async for chunk in model.astream("Tell me") if chunk.content]
    ticker.cancel()
    assert seen[0] - before > 20  # while it loaded
    assert len(set(seen)) > 2  # between chunks


@tool
def get_weather(city: str) -> str:
    """Tell the weather in a city."""
    return city


@tool
def get_time(place: str) -> str:
    """Tell the time in a place."""
    return place


async def test_two_agents_on_one_model_do_not_see_each_others_tools() -> None:
    model = ChatMLX(temperature=0, max_tokens=60)
    weather, time = model.bind_tools([get_weather], tool_choice="any"), model.bind_tools([get_time], tool_choice="any")
    answers = await asyncio.gather(*(agent.ainvoke("In Lima?") for agent in (weather, time, weather, time)))
    assert [{call["name"] for call in answer.tool_calls} for answer in answers] == [{"get_weather"}, {"get_time"}] * 2
    plain = await model.ainvoke("Hello!")
    assert not plain.tool_calls
    assert plain.usage_metadata is not None
    assert answers[0].usage_metadata is not None
    assert plain.usage_metadata["input_tokens"] < answers[0].usage_metadata["input_tokens"]


async def test_calls_stream_in_pieces_that_join_to_the_whole() -> None:
    model = ChatMLX(temperature=0).bind_tools([get_weather], tool_choice="get_weather")
    whole = await model.ainvoke("What is the weather in Lima?")
    chunks = [chunk async for chunk in model.astream("What is the weather in Lima?")]
    pieces = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
    assert [piece["name"] for piece in pieces if piece["name"]] == ["get_weather"]
    assert {piece["index"] for piece in pieces} == {0}
    assert len([piece for piece in pieces if piece["args"]]) > 1
    first, *rest = chunks
    for chunk in rest:
        first = first + chunk
    assert first.tool_calls == whole.tool_calls
    assert first.usage_metadata is not None
    assert whole.usage_metadata is not None
    assert first.usage_metadata["output_tokens"] == whole.usage_metadata["output_tokens"]


async def test_a_call_without_streams_of_plugins() -> None:
    """A provider may be a plain class whose `generate_async` is a coroutine that returns an async generator."""
    from abstractllm.integrations.langchain import ChatAbstractLLM
    from abstractllm.interface import AbstractLLMInterface

    class Plain(AbstractLLMInterface):
        def generate(self, *_: Any, **params: Any) -> Any:
            answer = GenerateResponse("Hi", finish_reason="stop")
            return (one for one in [answer]) if params.get("stream") else answer

        async def generate_async(self, *_: Any, **params: Any) -> Any:
            async def deltas() -> AsyncIterator[GenerateResponse]:
                yield GenerateResponse("Hi", finish_reason="stop")

            return deltas() if params.get("stream") else GenerateResponse("Hi", finish_reason="stop")

    model = ChatAbstractLLM(Plain())
    assert (await model.ainvoke("Hello")).content == "Hi"
    assert [chunk.content async for chunk in model.astream("Hello")] == ["Hi"]
    assert [chunk.content for chunk in model.stream("Hello")] == ["Hi"]
