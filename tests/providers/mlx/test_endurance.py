"""Crowds: requests that leave at any moment, and requests that fail, take nothing from those that stay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from abstractllm import (
    ContextWindowExceededError,
    GenerateResponse,
    GenerationError,
    InvalidParameterError,
    Regex,
    embedded,
)
from abstractllm.accumulator import join
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.worker import mlx_thread

from .storm import STAGES, check_nothing_is_left, engine_of, shape, storm


@pytest.fixture(scope="module")
def llm(tiny_model: Path) -> Iterator[MLXProvider]:
    """A random model."""
    with MLXProvider(model=str(tiny_model), max_tokens=60) as provider:
        provider.load()
        yield provider


async def test_hundreds_that_leave_at_any_moment_leave_nothing_behind_and_change_nobodys_answer(
    llm: MLXProvider,
) -> None:
    left = await storm(llm, leaving=300, staying=60)
    assert sum(left.values()) == 300
    assert set(left) == set(STAGES)


def damaged_token() -> int:
    """The id of the token "q"."""
    found: int = json.loads((embedded.PATH / "tokenizer.json").read_text())["model"]["vocab"]["q"]
    return found


@pytest.fixture(scope="module")
def damaged(make_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[MLXProvider]:
    """A random model in which one token, that of "q", is not a number."""
    folder = tmp_path_factory.mktemp("models") / "damaged"
    source = make_model(folder / "whole", tie_word_embeddings=False)

    def damage() -> None:
        mx = import_mlx()
        weights = mx.load(str(source / "model.safetensors"))
        embeddings = weights["model.embed_tokens.weight"]
        embeddings[damaged_token()] = mx.full((embeddings.shape[1],), float("nan"))
        mx.save_safetensors(str(source / "model.safetensors"), weights)

    mlx_thread().run(damage).result()
    with MLXProvider(model=str(source), max_tokens=20) as provider:
        yield provider
    shutil.rmtree(folder)


NEVER = {"logit_bias": {damaged_token(): -100}}
OTHERS = [{"prompt": f"Tell me more, number {i}.", "seed": i if i % 3 else None, **NEVER} for i in range(31)]
"""Greedy ones and sampled ones, none of which says what is damaged."""


async def fail(llm: MLXProvider, kind: type[Exception], prompt: str, **params: Any) -> None:
    with pytest.raises(kind):
        await llm.generate_async(prompt, **params)


async def raise_while_reading(llm: MLXProvider) -> None:
    with contextlib.suppress(KeyError):
        async for _ in llm.generate_async("Tell me everything.", stream=True, **NEVER):
            raise KeyError("the reader's own")


async def vanish(llm: MLXProvider) -> None:
    stream = llm.generate_async("Tell me everything.", stream=True, **NEVER)
    await anext(aiter(stream))
    del stream


BAD: dict[str, Callable[[MLXProvider], Awaitable[None]]] = {
    "no text fits its grammar": lambda llm: fail(llm, InvalidParameterError, "x", response_format=Regex("[^\\s\\S]")),
    "a prompt that is too long": lambda llm: fail(llm, ContextWindowExceededError, "word " * 600),
    "scores that are no numbers": lambda llm: fail(llm, GenerationError, "q"),
    "a reader that raises": raise_while_reading,
    "a reader that vanishes": vanish,
}


@pytest.fixture(scope="module")
def alone(damaged: MLXProvider) -> dict[bool, list[Any]]:
    """What the others are told when they are alone, computed for themselves or in a batch of one."""
    return {exact: [shape(damaged.generate(**one, **wanted(exact))) for one in OTHERS] for exact in (True, False)}


def wanted(exact: bool) -> dict[str, Any]:
    return {"max_tokens": 12, "deterministic": exact}


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "in one batch"])
@pytest.mark.parametrize("name", BAD)
async def test_one_that_fails_takes_nothing_from_the_31_others(
    damaged: MLXProvider, alone: dict[bool, list[Any]], name: str, exact: bool
) -> None:
    others = [damaged.generate_async(**one, **wanted(exact)) for one in OTHERS]
    _, *answers = await asyncio.gather(BAD[name](damaged), *others)
    assert [shape(answer) for answer in answers] == alone[exact]


def test_a_loop_that_closes_in_the_middle_frees_its_requests(llm: MLXProvider) -> None:
    async def begin() -> None:
        stream = llm.generate_async("Tell me everything.", stream=True)
        await anext(aiter(stream))
        asyncio.ensure_future(llm.generate_async("Something else."))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(begin())
    check_nothing_is_left(llm)


def test_three_loops_and_two_threads_are_served_in_one_batch(llm: MLXProvider) -> None:
    wishes = [{"prompt": f"Story number {i}, please.", "max_tokens": 60} for i in range(5)]
    alone = [shape(llm.generate(**wish)) for wish in wishes]
    answers: dict[int, Any] = {}

    def ask(i: int) -> None:
        answer = asyncio.run(collected(llm, wishes[i])) if i < 3 else join(llm.generate(**wishes[i], stream=True))
        answers[i] = shape(answer)

    begun, gate = threading.Event(), threading.Event()
    mlx_thread().run(lambda: (begun.set(), gate.wait()))
    begun.wait()
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    while mlx_thread()._inbox.qsize() < 5:
        threads[0].join(0.001)
    gate.set()
    engine, most = engine_of(llm), 0
    while most < 5 and any(thread.is_alive() for thread in threads):
        most = max(most, mlx_thread().run(lambda: len(engine._runner._together.decode.rows)).result())
    for thread in threads:
        thread.join()
    assert most == 5
    assert [answers[i] for i in range(5)] == alone


async def collected(llm: MLXProvider, wish: dict[str, Any]) -> GenerateResponse:
    return join([delta async for delta in llm.generate_async(**wish, stream=True)])


class OnHold:
    """Keeps the MLX thread from its next step while this lasts."""

    def __init__(self) -> None:
        self._begun, self._gate = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        mlx_thread().run(lambda: (self._begun.set(), self._gate.wait()))
        self._begun.wait()

    def __exit__(self, *error: object) -> None:
        self._gate.set()


async def leave_task(llm: MLXProvider) -> AsyncIterator[None]:
    task = asyncio.ensure_future(llm.generate_async("And me.", max_tokens=400))
    while len(await asyncio.wrap_future(mlx_thread().run(engine_of(llm)._active))) < 2:
        pass
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def leave_stream(llm: MLXProvider) -> AsyncIterator[None]:
    async with llm.generate_async("And me.", stream=True, max_tokens=400):
        yield


async def leave_blocking_stream(llm: MLXProvider) -> AsyncIterator[None]:
    with await asyncio.to_thread(llm.generate("And me.", stream=True, max_tokens=400).__enter__):
        yield


@pytest.mark.parametrize("way", [leave_task, leave_stream, leave_blocking_stream])
async def test_a_request_that_is_cancelled_has_left_before_the_next_step(llm: MLXProvider, way: Any) -> None:
    engine = engine_of(llm)

    def look() -> tuple[int, int]:
        """The rows, and how many steps the one that stays has seen."""
        rows = engine._active()
        return len(rows), len(rows[0].generated)

    async with llm.generate_async("Tell me all.", stream=True, max_tokens=400):
        leaving = way(llm)
        await anext(leaving)
        with OnHold():
            before = mlx_thread().run(look)
            assert await anext(leaving, "gone") == "gone"
            after = mlx_thread().run(look)
        (running, steps), (left, steps_then) = before.result(), after.result()
    assert (running, left) == (2, 1)
    assert steps_then == steps
