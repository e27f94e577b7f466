"""Prompts, the requests that are made, and the statistics of their times; no test looks at a time that was measured."""

import asyncio

import pytest
from hypothesis import given, strategies as st

from abstractllm.cli.measuring import (
    WORDS,
    Failures,
    Level,
    Plan,
    Sample,
    Spread,
    measure,
    percentile,
    prompt_words,
    prompts,
    run_level,
    spread,
    summary,
    sweep,
)
from abstractllm.errors import GenerationError, UnsupportedFeatureError
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.types import GenerateResponse, Usage


class Counting(BaseProvider):
    """Notes the prompts, and how many are answered at once at most; each answer lets the others go first."""

    name = "counting"
    parameters = frozenset({"max_tokens"})

    def __init__(self):
        super().__init__()
        self.texts = []
        self.running = self.most = 0

    async def _astream(self, request, call):
        self.texts.append(request.messages[-1].text)
        self.running += 1
        self.most = max(self.most, self.running)
        for word in ("one ", "two "):
            yield GenerateResponse(content=word)
            await asyncio.sleep(0)
        self.running -= 1
        yield GenerateResponse(finish_reason="stop", usage=Usage(8, 2, cached_tokens=4))


def plan(**changes):
    return Plan(
        **{"concurrency": (1,), "requests": 4, "max_tokens": 9, "prompt_tokens": 8, "shared": 0.5, "seed": 3} | changes
    )


@given(st.integers(0, 8), st.integers(1, 20), st.floats(0, 1), st.text(max_size=5))
def test_prompts_are_plain_words_with_a_shared_beginning(count, words, shared, seed):
    made = prompts(seed, count, words, shared)
    assert made == prompts(seed, count, words, shared)
    assert [len(text.split()) for text in made] == [words] * count
    assert {word for text in made for word in text.split()} <= set(WORDS)
    assert len({tuple(text.split()[: round(words * shared)]) for text in made}) <= 1


def test_the_parts_that_are_not_shared_differ():
    assert len(set(prompts("a", 20, 20, 0.5))) == 20
    assert len(set(prompts("a", 20, 20, 1.0))) == 1
    assert prompts("a", 1, 20, 0) != prompts("b", 1, 20, 0)


async def test_prompts_are_fitted_to_the_tokenizer():
    class Syllables(EchoProvider):
        def count_tokens(self, messages, tools=None):
            return 5 + 2 * len(messages.split())

    assert await prompt_words(Syllables(), 105) == 50
    assert await prompt_words(Syllables(), 1) == 1
    assert await prompt_words(Counting(), 77) == 77  # it cannot count


async def test_a_sweep_makes_every_request_and_never_too_many_at_once():
    for concurrency in (1, 3, 5):
        llm, levels = Counting(), []
        await sweep(llm, plan(concurrency=(concurrency, 1), requests=7), levels)
        assert len(llm.texts) == len(set(llm.texts)) == 1 + 2 * 7  # the first is not counted; no level repeats a prompt
        assert llm.most == concurrency
        assert [(level.concurrency, len(level.samples)) for level in levels] == [(concurrency, 7), (1, 7)]


async def test_a_sweep_is_repeatable():
    asked = []
    for seed in (3, 3, 4):
        llm = Counting()
        await sweep(llm, plan(seed=seed), [])
        asked.append(llm.texts)
    assert asked[0] == asked[1]
    assert not set(asked[0]) & set(asked[2])


async def test_levels_are_told_as_they_begin():
    told, levels = [], []
    await sweep(Counting(), plan(concurrency=(1, 2)), levels, lambda level: told.append((level, len(level.samples))))
    assert told == [(levels[0], 0), (levels[1], 0)]


async def test_what_was_measured_outlives_a_cancellation():
    stuck, levels = asyncio.Event(), []

    class Sticking(Counting):
        async def _astream(self, request, call):
            if len(self.texts) == 4:
                stuck.set()
                await asyncio.Event().wait()
            async for delta in super()._astream(request, call):
                yield delta

    task = asyncio.create_task(sweep(Sticking(), plan(requests=6), levels))
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = summary(levels[0])
    assert (found.answered, found.requests, found.errors) == (3, 6, {})


async def test_usage_comes_from_the_last_delta_and_each_piece_has_its_time():
    sample = await measure(Counting(), "hello", 9)
    assert sample.usage == Usage(8, 2, cached_tokens=4)
    assert len(sample.arrivals) == 2
    assert sample.start <= sample.arrivals[0] <= sample.arrivals[1] <= sample.end
    assert sample.error is None


async def test_the_longest_answer_is_asked_for():
    assert (await measure(EchoProvider(), "a b c d e", 2)).usage.completion_tokens == 2


async def test_errors_are_counted_by_type():
    replies = [Reply("a b", error=GenerationError(f"no {number}"), error_after=1) for number in (1, 2)]
    llm = EchoProvider(replies=["a b", *replies, Reply("a", error=ZeroDivisionError("oops")), "a b"])
    level = Level(2, 5)
    await run_level(llm, level, ["x"] * 5, 9)
    found = summary(level)
    assert found.answered == 2
    assert sum(failures.count for failures in found.errors.values()) == 3
    assert found.errors["GenerationError"].count >= 2
    assert found.completion_tokens == 4


async def test_a_first_request_that_fails_ends_the_sweep():
    class Unable(EchoProvider):
        parameters = frozenset()

    levels = []
    with pytest.raises(UnsupportedFeatureError):
        await sweep(Unable(), plan(), levels)
    assert levels == []


def samples():
    """Return two answers and an error: the numbers below follow from these."""
    return [
        Sample(10.0, (10.5, 10.6, 11.0), 11.0, Usage(10, 3, cached_tokens=5)),
        Sample(10.0, (11.5,), 12.0, Usage(30, 1, cached_tokens=5)),
        Sample(10.0, (10.1, 10.2), 14.0, None, GenerationError("it broke")),
    ]


def test_the_summary_of_given_samples():
    found = summary(Level(2, 3, samples()))
    assert (found.concurrency, found.requests, found.answered, found.seconds) == (2, 3, 2, 4.0)
    assert found.first_token == Spread(1.0, pytest.approx(1.45), 1.5)
    assert found.between_tokens == Spread(pytest.approx(0.25), pytest.approx(0.385), pytest.approx(0.4))
    assert (found.prompt_tokens, found.completion_tokens, found.cached_tokens) == (40, 4, 10)
    assert (found.tokens_per_second, found.tokens_per_second_each) == (1.0, 1.75)
    assert found.cached_share == 0.25
    assert found.errors == {"GenerationError": Failures(1, "it broke")}


def test_what_is_not_known_is_none():
    untold = summary(Level(1, 2, [Sample(0.0, (1.0,), 2.0), samples()[0]]))
    assert untold.answered == 2
    assert {untold.tokens_per_second, untold.tokens_per_second_each, untold.completion_tokens} == {None}
    assert {untold.cached_share, untold.prompt_tokens, untold.cached_tokens} == {None}
    nothing = summary(Level(1, 2))
    assert (nothing.answered, nothing.seconds, nothing.tokens_per_second) == (0, 0.0, None)
    assert nothing.first_token == nothing.between_tokens == Spread(None, None, None)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([], 0.5, None),
        ([7.0], 0.95, 7.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0], 0.5, 1.5),
        ([1.0, 2.0, 3.0, 4.0, 5.0], 0.95, pytest.approx(4.8)),
        ([4.0, 1.0, 9.0], 0.0, 1.0),
        ([4.0, 1.0, 9.0], 1.0, 9.0),
    ],
)
def test_percentiles(values, share, expected):
    assert percentile(values, share) == expected


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.floats(0, 1))
def test_a_percentile_lies_among_the_values(values, share):
    assert min(values) <= percentile(values, share) <= max(values)
    found = spread(values)
    assert found.median <= found.p95 <= found.worst == max(values)
