"""Measuring a model under load: prompts from a seed, so many requests at a time, and statistics of their times.

Knows the public asynchronous interface only, and neither options nor tables. Times are in seconds.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

from abstractllm.errors import UnsupportedFeatureError
from abstractllm.interface import AbstractLLMInterface
from abstractllm.types import Usage

_PLAIN = (
    "apple arm autumn bank bell bird boat book bread bridge bus cake chair child city cloud coat corn cup day desk dog",
    "door ear egg evening farm field fire fish floor flower forest garden glass grass hand hat hill home horse house",
    "hour island key king lake lamp leaf letter light market milk money moon morning mountain music name night ocean",
    "paper park pen picture plate queen rain ring river road roof room salt school sea shoe shop sky snow song spoon",
    "star stone story street summer sun table tea tower town train tree wall water week wind window winter wood year",
)
WORDS = [word for line in _PLAIN for word in line.split()]
"""What prompts are made of."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep: for each number in `concurrency`, `requests` requests with that many at once.

    A prompt has about `prompt_tokens` tokens, of which the share `shared` (0 to 1) begins every prompt of a level. An
    answer has at most `max_tokens`.
    """

    concurrency: tuple[int, ...]
    requests: int
    max_tokens: int
    prompt_tokens: int
    shared: float
    seed: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was sent, when each piece of its text came, and when it ended; or the error it ended with.

    Times are those of one clock, in seconds. `usage` is what the last delta said, or None.
    """

    start: float
    arrivals: tuple[float, ...]
    end: float
    usage: Usage | None = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """What is measured with `concurrency` requests at once; `samples` grows with each of `requests` that ends."""

    concurrency: int
    requests: int
    samples: list[Sample] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, 95th percentile and greatest of some times in seconds; None where there are no times."""

    median: float | None
    p95: float | None
    worst: float | None


@dataclass(frozen=True, slots=True)
class Failures:
    """How many requests failed with errors of one type, and what the first of these said."""

    count: int
    message: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The numbers of one level.

    `seconds` go from the first request's start to the last one's end. `first_token` is the time from sending a
    request to the first piece of its text, `between_tokens` the time from one piece to the next, over all answers.
    Token counts are sums of what the answers' `usage` says; they, and what follows from them, are None where an
    answer has none. `tokens_per_second` is that of all together, `tokens_per_second_each` the median over answers,
    each from sending the request to its end; `cached_share` is the part of the prompts' tokens that was not computed.
    """

    concurrency: int
    requests: int
    answered: int
    seconds: float
    first_token: Spread
    between_tokens: Spread
    tokens_per_second: float | None
    tokens_per_second_each: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    cached_share: float | None
    errors: dict[str, Failures]


def prompts(seed: str, count: int, words: int, shared: float) -> list[str]:
    """Return `count` prompts of `words` plain words, the first `shared` (0 to 1) of which are the same in all."""
    source = Random(seed)
    beginning = source.choices(WORDS, k=round(words * shared))
    own = words - len(beginning)
    return [" ".join([*beginning, *source.choices(WORDS, k=own)]) for _ in range(count)]


async def prompt_words(llm: AbstractLLMInterface, tokens: int) -> int:
    """Return how many words make a prompt of about `tokens` tokens, the chat template's included.

    A word counts as a token where the provider cannot count. May load the model.
    """
    few, many = prompts("few", 1, 20, 0)[0], prompts("many", 1, 220, 0)[0]
    try:
        least, most = await asyncio.to_thread(lambda: (llm.count_tokens(few), llm.count_tokens(many)))
    except UnsupportedFeatureError:
        return tokens
    each = (most - least) / 200
    return max(1, round((tokens - least) / each + 20))


async def sweep(
    llm: AbstractLLMInterface, plan: Plan, levels: list[Level], begins: Callable[[Level], None] = lambda level: None
) -> None:
    """Carry out a plan after one request that is not counted, and raises where it fails.

    Each level is added to `levels` as it begins, so that what was measured is there after a cancellation too; then
    `begins` is told. Each level has prompts of its own, so that none gains from what an earlier one left behind.
    """
    words = await prompt_words(llm, plan.prompt_tokens)
    warm = await measure(llm, prompts(f"{plan.seed} warm-up", 1, words, 0)[0], plan.max_tokens)
    if warm.error is not None:
        raise warm.error
    for number, concurrency in enumerate(plan.concurrency):
        level = Level(concurrency, plan.requests)
        levels.append(level)
        begins(level)
        await run_level(
            llm, level, prompts(f"{plan.seed} {number}", plan.requests, words, plan.shared), plan.max_tokens
        )


async def run_level(llm: AbstractLLMInterface, level: Level, texts: Iterable[str], max_tokens: int) -> None:
    """Ask every prompt, `level.concurrency` of them at any time until none is left; add a sample for each."""
    waiting = iter(texts)

    async def ask_the_next() -> None:
        for text in waiting:
            level.samples.append(await measure(llm, text, max_tokens))

    async with asyncio.TaskGroup() as group:
        for _ in range(level.concurrency):
            group.create_task(ask_the_next())


async def measure(llm: AbstractLLMInterface, prompt: str, max_tokens: int) -> Sample:
    """Ask once, as a stream, and return its times. An error of the request is part of the result."""
    arrivals: list[float] = []
    usage: Usage | None = None
    start = time.perf_counter()
    try:
        async with aclosing(await llm.generate_async(prompt, stream=True, max_tokens=max_tokens)) as stream:
            async for delta in stream:
                usage = delta.usage or usage
                if delta.content or delta.reasoning or delta.tool_call_deltas:
                    arrivals.append(time.perf_counter())
    except Exception as error:  # a plugin's provider may raise anything, and it is told with the numbers
        return Sample(start, tuple(arrivals), time.perf_counter(), usage, error)
    return Sample(start, tuple(arrivals), time.perf_counter(), usage)


def summary(level: Level) -> Summary:
    """Return the numbers of a level, from the samples that it has by now; failed requests count as errors only."""
    answers = [sample for sample in level.samples if sample.error is None]
    usages = [sample.usage for sample in answers]
    seconds = _seconds(level.samples)
    completion = _total(usages, "completion_tokens")
    prompt = _total(usages, "prompt_tokens")
    cached = _total(usages, "cached_tokens")
    return Summary(
        concurrency=level.concurrency,
        requests=level.requests,
        answered=len(answers),
        seconds=seconds,
        first_token=spread([sample.arrivals[0] - sample.start for sample in answers if sample.arrivals]),
        between_tokens=spread([gap for sample in answers for gap in _gaps(sample)]),
        tokens_per_second=_ratio(completion, seconds),
        tokens_per_second_each=None if completion is None else spread(list(_rates(answers))).median,
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=cached,
        cached_share=_ratio(cached, prompt),
        errors=_failures(level.samples),
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the value below which `share` (0 to 1) of `values` lie, between two of them in proportion; None for none.

    The position in the sorted values is `share * (len(values) - 1)`, counted from 0.
    """
    if not values:
        return None
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    below, above = ordered[math.floor(position)], ordered[math.ceil(position)]
    return below + (above - below) * (position - math.floor(position))


def spread(values: Sequence[float]) -> Spread:
    """Return median, 95th percentile and greatest."""
    return Spread(percentile(values, 0.5), percentile(values, 0.95), max(values, default=None))


def _gaps(sample: Sample) -> Iterator[float]:
    return (later - earlier for earlier, later in pairwise(sample.arrivals))


def _rates(answers: Sequence[Sample]) -> Iterator[float]:
    """Yield the tokens per second of each answer."""
    for sample in answers:
        if sample.usage is not None and sample.end > sample.start:
            yield sample.usage.completion_tokens / (sample.end - sample.start)


def _seconds(samples: Sequence[Sample]) -> float:
    if not samples:
        return 0.0
    return max(sample.end for sample in samples) - min(sample.start for sample in samples)


def _total(usages: Sequence[Usage | None], name: str) -> int | None:
    """Return the sum of one count; None where there is nothing to add, or an answer has no usage."""
    known = [int(getattr(usage, name)) for usage in usages if usage is not None]
    return sum(known) if known and len(known) == len(usages) else None


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _failures(samples: Sequence[Sample]) -> dict[str, Failures]:
    """Return the errors by the names of their types."""
    kinds: dict[str, list[str]] = {}
    for sample in samples:
        if sample.error is not None:
            kinds.setdefault(type(sample.error).__name__, []).append(str(sample.error))
    return {kind: Failures(len(messages), messages[0]) for kind, messages in kinds.items()}
