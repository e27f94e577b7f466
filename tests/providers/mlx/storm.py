"""Crowds for a model: requests that leave at every stage among others that stay and must not notice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from random import Random
from typing import Any

from abstractllm import GenerateResponse, Regex
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.worker import mlx_thread
from abstractllm.streams import AsyncResponseStream

EXACT: dict[str, Any] = {"deterministic": True, "max_tokens": 12}
STAYING: list[dict[str, Any]] = [
    {"prompt": "What is this?"},
    {"prompt": "What is that, and why?", "seed": 3},
    {"prompt": "Tell me a long story. " * 8, "seed": 9, "top_k": 30},
    {"prompt": "Give me a number.", "response_format": Regex("[0-9]{3,9}"), "seed": 1},
    {"prompt": "And now?", "stop": ["a", "e"]},
    {"prompt": "What was it?", "frequency_penalty": 1.5, "temperature": 0.7, "seed": 4},
]

STAGES = ("at once", "compiling", "waiting", "prompt", "answer")
"""When one leaves: at once; while its grammar is compiled; in the line; in its prompt; after a piece of its answer."""


def engine_of(llm: MLXProvider) -> Any:
    """Return the engine under a provider."""
    return llm._loading(llm.get_param("model")).result()._engine


def check_nothing_is_left(llm: MLXProvider) -> None:
    """Check that there is no place, no row, no reader and no task of anybody's."""
    engine = engine_of(llm)
    left = mlx_thread().run(lambda: (engine.busy, dict(engine._waiting._numbers), len(engine._runner._lanes))).result()
    assert left == (False, {}, 1)
    assert not llm._calls
    assert not mlx_thread()._readers


def shape(answer: GenerateResponse) -> tuple[Any, ...]:
    """Return what two answers to one request have in common, however much of the prompt was known."""
    return answer.content, answer.finish_reason, answer.stop_string, answer.parsed


def stage_of(stream: AsyncResponseStream, form: Any) -> str:
    """Return how far a request is."""
    call: Any = stream._line.place
    if call is None:
        return "at once"
    if stream.response.content or call.begun:
        return "answer"
    done, total = call.progress
    if stream.queue_position is not None:
        return "waiting"
    return "prompt" if 0 < done < total else "compiling" if form is not None and not total else "at once"


class Storm:
    """Requests that leave, each at a stage of its own; `left` counts the stages at which they were seen to leave."""

    def __init__(self, llm: MLXProvider, seed: int) -> None:
        self.left: Counter[str] = Counter()
        self._llm = llm
        self._random = Random(seed)
        self._guests: list[tuple[AsyncResponseStream, Any, str, asyncio.Event]] = []
        self._number = 0

    async def leave(self) -> None:
        """Ask something, and go at some stage; whoever is past it before anybody looks, goes then."""
        random, self._number = self._random, self._number + 1
        stage = random.choice(STAGES)
        form = Regex(f"[a-z]{{{self._number},{self._number + 300}}}x") if stage == "compiling" else None
        words = f"{self._number} " + "word " * (200 if stage == "prompt" else random.choice([1, 5, 60]))
        stream = self._llm.generate_async(words, stream=True, response_format=form, temperature=1.0)
        task = asyncio.ensure_future(stream)
        if stage == "answer":
            await task
        elif stage == "at once":
            for _ in range(random.choice([0, 1, 3])):
                await asyncio.sleep(0)
        else:
            time = asyncio.Event()
            self._guests.append((stream, form, stage, time))
            await time.wait()
        self.left[stage_of(stream, form)] += 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stream.aclose()

    async def usher(self) -> None:
        """Show everybody out whose stage has come or is past.

        With pauses: a loop without any would keep the MLX thread from the interpreter's lock.
        """
        while True:
            for guest in list(self._guests):
                stream, form, stage, time = guest
                if STAGES.index(stage_of(stream, form)) >= STAGES.index(stage):
                    time.set()
                    self._guests.remove(guest)
            await asyncio.sleep(0.0005)


async def storm(llm: MLXProvider, leaving: int, staying: int, seed: int = 7) -> Counter[str]:
    """Have `leaving` requests leave among `staying` ones; check these, and that nothing is left of anybody.

    Returns how many left at which stage.
    """
    alone = [shape(await llm.generate_async(**wish, **EXACT)) for wish in STAYING]
    crowd = Storm(llm, seed)
    usher = asyncio.ensure_future(crowd.usher())
    guests: list[Awaitable[Any]] = [crowd.leave() for _ in range(leaving)]
    guests += [llm.generate_async(**STAYING[i % len(STAYING)], **EXACT) for i in range(staying)]
    order = list(range(len(guests)))
    Random(seed).shuffle(order)
    results: dict[int, Any] = {}

    async def run(number: int) -> None:
        results[number] = await guests[number]

    await asyncio.gather(*(run(number) for number in order))
    usher.cancel()
    await asyncio.gather(usher, return_exceptions=True)
    for i in range(staying):
        assert shape(results[leaving + i]) == alone[i % len(alone)]
    await asyncio.to_thread(check_nothing_is_left, llm)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return crowd.left
