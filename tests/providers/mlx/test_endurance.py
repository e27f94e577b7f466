"""Crowds: requests that leave at any moment, and requests that fail, take nothing from those that stay."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from random import Random
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
from abstractllm.providers.mlx import MLXProvider
from abstractllm.providers.mlx.backend import import_mlx
from abstractllm.providers.mlx.worker import mlx_thread

EXACT: dict[str, Any] = {"deterministic": True, "max_tokens": 12}
STAYING: list[dict[str, Any]] = [
    {"prompt": "What is this?"},
    {"prompt": "What is that, and why?", "seed": 3},
    {"prompt": "Tell me a long story. " * 8, "seed": 9, "top_k": 30},
    {"prompt": "Give me a number.", "response_format": Regex("[0-9]{3,9}"), "seed": 1},
    {"prompt": "And now?", "stop": ["a", "e"]},
    {"prompt": "What was it?", "frequency_penalty": 1.5, "temperature": 0.7, "seed": 4},
]


@pytest.fixture(scope="module")
def llm(tiny_model: Path) -> Iterator[MLXProvider]:
    """A random model."""
    with MLXProvider(model=str(tiny_model), max_tokens=60) as provider:
        provider.load()
        yield provider


def engine_of(llm: MLXProvider) -> Any:
    """The engine under a provider."""
    return llm._loading(None if llm.get_param("model") is None else llm.get_param("model")).result()._engine


def check_nothing_is_left(llm: MLXProvider) -> None:
    """No place, no row and no task of anybody's."""
    engine = engine_of(llm)
    left = mlx_thread().run(lambda: (engine.busy, dict(engine._waiting._numbers), len(engine._runner._lanes))).result()
    assert left == (False, {}, 1)
    assert not llm._calls


async def leave(llm: MLXProvider, random: Random) -> None:
    """Ask something, and go at some moment: before it begins, in the prompt, in a compilation, or in the answer."""
    form = Regex(f"[a-z]{{{random.randint(1, 500)}}}") if random.random() < 0.2 else None
    words = "word " * random.choice([1, 5, 60])
    stream = llm.generate_async(words, stream=True, response_format=form, temperature=1.0)
    if random.random() < 0.5:
        wanted = random.randint(1, 6)
        async for _ in stream:
            wanted -= 1
            if not wanted:
                break
        await stream.aclose()
        return
    task = asyncio.ensure_future(llm.generate_async(words, response_format=form))
    for _ in range(random.choice([0, 1, 3, 40, 200])):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def shape(answer: GenerateResponse) -> tuple[Any, ...]:
    return answer.content, answer.finish_reason, answer.stop_string, answer.parsed


async def test_hundreds_that_leave_at_any_moment_leave_nothing_behind_and_change_nobodys_answer(
    llm: MLXProvider,
) -> None:
    alone = [shape(await llm.generate_async(**wish, **EXACT)) for wish in STAYING]
    random = Random(7)
    leaving = [leave(llm, random) for _ in range(300)]
    staying = [llm.generate_async(**wish, **EXACT) for wish in STAYING * 10]
    crowd: list[Awaitable[Any]] = [*leaving, *staying]
    order = list(range(len(crowd)))
    random.shuffle(order)
    results: dict[int, Any] = {}

    async def run(number: int) -> None:
        results[number] = await crowd[number]

    await asyncio.gather(*(run(number) for number in order))
    answers = [shape(results[300 + i]) for i in range(len(staying))]
    assert answers == alone * 10
    await asyncio.to_thread(check_nothing_is_left, llm)
    assert asyncio.all_tasks() == {asyncio.current_task()}


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


BAD: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "no text fits its grammar": ({"prompt": "x", "response_format": Regex("[^\\s\\S]")}, InvalidParameterError),
    "a prompt that is too long": ({"prompt": "word " * 600}, ContextWindowExceededError),
    "scores that are no numbers": ({"prompt": "q"}, GenerationError),
}


@pytest.mark.parametrize("name", BAD)
async def test_one_that_fails_takes_nothing_from_the_others(damaged: MLXProvider, name: str) -> None:
    wish, kind = BAD[name]
    never = {"logit_bias": {damaged_token(): -100}}
    good = [{"prompt": f"Tell me more, number {i}.", "seed": i, **EXACT, **never} for i in range(8)]
    alone = [shape(await damaged.generate_async(**one)) for one in good]
    crowd = [damaged.generate_async(f"And what else, {i}?", **never) for i in range(23)]
    failing = damaged.generate_async(**wish)
    *answers, failure = await asyncio.gather(
        *(damaged.generate_async(**one) for one in good), *crowd, failing, return_exceptions=True
    )
    assert isinstance(failure, kind)
    assert [shape(answer) for answer in answers[:8]] == alone
    assert all(isinstance(answer, GenerateResponse) for answer in answers)


async def test_a_reader_that_vanishes_takes_nothing_from_the_others(llm: MLXProvider) -> None:
    alone = [shape(await llm.generate_async(**wish, **EXACT)) for wish in STAYING]
    stream = llm.generate_async("Tell me everything.", stream=True)
    await anext(aiter(stream))
    del stream
    answers = await asyncio.gather(*(llm.generate_async(**wish, **EXACT) for wish in STAYING))
    assert [shape(answer) for answer in answers] == alone


def test_a_loop_that_closes_in_the_middle_frees_its_requests(llm: MLXProvider) -> None:
    async def begin() -> None:
        stream = llm.generate_async("Tell me everything.", stream=True)
        await anext(aiter(stream))
        asyncio.ensure_future(llm.generate_async("Something else."))  # noqa: RUF006
        await asyncio.sleep(0)

    asyncio.run(begin())
    check_nothing_is_left(llm)
