"""`abstractllm doctor --parity`: whether a model's exact mode keeps its promise on this machine. Knows the public
asynchronous interface only: what `deterministic=True` does is the provider's."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from abstractllm.cli.measuring import prompts
from abstractllm.cli.output import one_line, print_line
from abstractllm.errors import UnsupportedFeatureError
from abstractllm.factory import create_llm
from abstractllm.interface import AbstractLLMInterface
from abstractllm.types import GenerateResponse

Question = tuple[str, Mapping[str, Any]]
"""A prompt and the parameters that it is asked with."""

MAX_TOKENS = 48
WAYS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("greedy", {"temperature": 0.0}),
    ("seeded", {"temperature": 0.9, "seed": 7}),
)
"""How each prompt is asked, by the words that a report uses."""

PROMPTS = (
    "What is the capital of France?",
    "Tell me a short story about a lighthouse.",
    "Name five things that one finds in a kitchen, and say what each is for.",
    *(f"Go on with this list of words: {words}" for words in prompts("parity", 1, 600, 0)),
)
"""Of several lengths; the last is long enough to be computed in pieces."""

COMPANY = (
    "Why is the sky blue?",
    "Write down what you know about rivers, mountains and the sea, one after the other, without leaving anything out.",
    *prompts("company", 1, 150, 0),
)
"""What others ask meanwhile."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A prompt whose two answers are not the same to the last bit; `way` is how it was asked.

    With `same_text`, only the log-probabilities of the tokens differ.
    """

    prompt: str
    way: str
    alone: str
    in_company: str
    same_text: bool


@dataclass(frozen=True, slots=True)
class Parity:
    """What was found with `answers` prompts, each asked alone and in company.

    `exact` are the differences with `deterministic=True`, of which there should be none. `usual` are those without it,
    where nothing is promised.
    """

    model: str
    answers: int
    exact: tuple[Difference, ...]
    usual: tuple[Difference, ...]

    @property
    def holds(self) -> bool:
        """Whether exact mode kept its promise."""
        return not self.exact


def check_parity(spec: str, texts: Sequence[str] = PROMPTS, max_tokens: int = MAX_TOKENS) -> Parity:
    """Ask a model, named as `create_llm` takes it, every prompt in every way, alone and in company.

    Answers are the same when their texts and the log-probabilities of their tokens are, bit by bit: these differ long
    before a text does. Raises UnsupportedFeatureError for a model without exact mode or log-probabilities.
    """
    return asyncio.run(_check(spec, texts, max_tokens))


def print_parity(parity: Parity) -> None:
    """Write what was found, as text."""
    print_line(f"With deterministic=True, {_counts(parity.answers, parity.exact)}.")
    print_line(f"Without it, which promises nothing, {_counts(parity.answers, parity.usual)}.")
    for difference in parity.exact:
        _print_difference(difference)
    print_line("Exact mode holds." if parity.holds else "Exact mode does not hold on this machine.")


def _print_difference(difference: Difference) -> None:
    print_line(f"! {difference.way}: {one_line(difference.prompt):.60}")
    if difference.same_text:
        print_line("    the same text, other log-probabilities")
        return
    print_line(f"    alone:      {one_line(difference.alone)}")
    print_line(f"    in company: {one_line(difference.in_company)}")


def _counts(answers: int, differences: Sequence[Difference]) -> str:
    other_texts = sum(not difference.same_text for difference in differences)
    return (
        f"{answers - other_texts} of {answers} answers have the same text alone and in company, "
        f"{answers - len(differences)} the same log-probabilities too"
    )


async def _check(spec: str, texts: Sequence[str], max_tokens: int) -> Parity:
    async with create_llm(spec, max_tokens=max_tokens) as llm:
        _check_exact_mode(llm, spec)
        exact = await _differences(llm, texts, {"deterministic": True})
        usual = await _differences(llm, texts, {})
        return Parity(spec, len(texts) * len(WAYS), exact, usual)


def _check_exact_mode(llm: AbstractLLMInterface, spec: str) -> None:
    """Raise where the provider refuses it; requests are checked when they are made, and this one is never sent."""
    try:
        llm.generate_async(PROMPTS[0], deterministic=True).close()
    except UnsupportedFeatureError as error:
        if error.feature != "deterministic":
            raise
        message = f"{spec} has no exact mode (deterministic=True), so there is nothing to check."
        raise UnsupportedFeatureError("deterministic", message, provider=error.provider) from error


async def _differences(
    llm: AbstractLLMInterface, texts: Sequence[str], mode: Mapping[str, Any]
) -> tuple[Difference, ...]:
    """Ask every question alone, then all of them at once in company, and return where the answers differ."""
    asked = [(prompt, way, {**params, **mode}) for prompt in texts for way, params in WAYS]
    alone = [await _ask(llm, prompt, params) for prompt, _, params in asked]
    together = await _in_company(llm, [(prompt, params) for prompt, _, params in asked])
    return tuple(
        Difference(prompt, way, one.content, other.content, _said(one) == _said(other))
        for (prompt, way, _), one, other in zip(asked, alone, together, strict=True)
        if (_said(one), one.logprobs) != (_said(other), other.logprobs)
    )


async def _ask(llm: AbstractLLMInterface, prompt: str, params: Mapping[str, Any]) -> GenerateResponse:
    answer: GenerateResponse = await llm.generate_async(prompt, logprobs=True, **params)
    return answer


def _said(response: GenerateResponse) -> tuple[object, ...]:
    """Return what a reader sees of an answer."""
    return response.content, response.reasoning, response.finish_reason


async def _in_company(llm: AbstractLLMInterface, asked: Sequence[Question]) -> list[GenerateResponse]:
    """Ask all at once, when each request of the company is being answered, and keep these running until the end."""
    answered = [asyncio.Event() for _ in COMPANY]
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(_ask_after(answered, llm, asked))]
    tasks += [asyncio.create_task(_keep_asking(llm, *one)) for one in zip(COMPANY, answered, strict=True)]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        answers: list[GenerateResponse] = ended.pop().result()  # the company ends by an error only
        return answers
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ask_after(
    events: Sequence[asyncio.Event], llm: AbstractLLMInterface, asked: Sequence[Question]
) -> list[GenerateResponse]:
    """Ask all at once after these events; return the answers in order."""
    for event in events:
        await event.wait()
    return await asyncio.gather(*(_ask(llm, prompt, params) for prompt, params in asked))


async def _keep_asking(llm: AbstractLLMInterface, prompt: str, answered: asyncio.Event) -> None:
    """Ask again and again, drawing other answers each time; `answered` is set at the first delta."""
    seed = 0
    while True:
        seed += 1
        async with aclosing(await llm.generate_async(prompt, stream=True, temperature=1.0, seed=seed)) as stream:
            async for _ in stream:
                answered.set()
