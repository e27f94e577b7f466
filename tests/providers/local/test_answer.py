"""From the engine's tokens to what a reader gets: stop strings across tokens, streamed and whole."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings, strategies as st

from abstractllm import embedded
from abstractllm.accumulator import join
from abstractllm.engine.engine import Engine
from abstractllm.engine.rows import Step
from abstractllm.providers.call import Call
from abstractllm.providers.local.answer import Answer, Prepared
from abstractllm.providers.local.logprobs import ScoredToken
from abstractllm.providers.local.sampling import Sampling
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.providers.mlx.delivery import ThreadSink
from abstractllm.providers.mlx.tokens import load_tokenizer
from abstractllm.types import GenerateRequest, GenerateResponse, Message

TEXTS = st.text("abB .\né😀", max_size=40)


class Dictated:
    """A runner whose model says the tokens that it is given, with a score for each."""

    most_rows = 32

    def __init__(self, tokens: list[int]) -> None:
        self.entered: list[Answer] = []
        self.running: list[Answer] = []
        self._tokens = tokens

    def enter(self, rows: list[Answer]) -> None:
        self.running += rows

    def prefill(self, tokens: int) -> None:
        raise AssertionError("nothing is ever entered")

    def decode(self) -> list[Step[Answer]]:
        tokens = [self._tokens[len(row.generated)] for row in self.running]
        return [Step(row, one, ScoredToken(one, -1.0, ())) for row, one in zip(self.running, tokens, strict=True)]

    def drop(self, rows: list[Answer]) -> None:
        self.running = [row for row in self.running if row not in rows]

    def reset(self) -> None:
        raise AssertionError("nothing breaks")

    def rest(self) -> None:
        assert not self.running

    def evict(self, size: int) -> None:
        raise AssertionError("nothing is kept")

    def bytes_for(self, rows: int, longest: int) -> int:
        return 0

    def spare_bytes(self) -> int:
        return 0


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return load_tokenizer(embedded.PATH, None)


def answers(
    tokenizer: ChatTokenizer, tokens: list[int], stop: list[str], *, stream: bool, most: int | None = None
) -> list[GenerateResponse]:
    """Have an engine give these tokens, at most so many, and the end of the answer; return what the reader gets."""
    end = min(tokenizer.stop_tokens)
    request = GenerateRequest((Message("user", "Hi"),), stop=tuple(stop))
    prepared = Prepared(
        prompt=[1],
        max_tokens=most or len(tokens) + 1,
        sampling=Sampling(),
        reader=tokenizer.reader(request, "Hi"),
        constraint=None,
        token_bytes=tokenizer.token_bytes,
        model="dictated",
        stream=stream,
    )
    sink = ThreadSink()
    engine: Engine[Any] = Engine(Dictated([*tokens, end]), [end])
    engine.add(Answer(prepared, Call(), sink))
    while engine.busy:
        engine.step()
    return list(sink)


def cut(text: str, stops: list[str]) -> tuple[str, str | None]:
    """What is left of a text, by a plain search: the match that ends first counts, and of those the longest."""
    ends = [(text.index(stop) + len(stop), -len(stop), stop) for stop in stops if stop in text]
    if not ends:
        return text, None
    _, _, first = min(ends)
    return text.split(first)[0], first


@settings(max_examples=150)
@given(TEXTS, st.data())
def test_stop_strings_cut_the_text_wherever_tokens_end_and_are_told(tokenizer, text, data):
    cuts = sorted({0, len(text), *data.draw(st.lists(st.integers(0, len(text)), max_size=8))})
    tokens = [token for one, other in pairwise(cuts) for token in tokenizer.encode(text[one:other])]
    taken = st.tuples(st.integers(0, len(text)), st.integers(1, 5)).map(lambda one: text[one[0] : sum(one)])
    stops = [stop for stop in data.draw(st.lists(taken | TEXTS.filter(bool), max_size=4)) if stop]
    streamed = answers(tokenizer, tokens, stops, stream=True)
    (whole,) = answers(tokenizer, tokens, stops, stream=False)

    expected, matched = cut(text, stops)
    assert (whole.content, whole.stop_string, whole.finish_reason) == (expected, matched, "stop")
    joined = join(streamed)
    assert (joined.content, joined.stop_string, joined.finish_reason) == (expected, matched, "stop")
    assert joined.logprobs == whole.logprobs
    assert whole.usage is not None
    assert len(whole.logprobs) == whole.usage.completion_tokens <= len(tokens)


@given(TEXTS.filter(bool), st.text("xyz", min_size=1, max_size=3))
def test_what_merely_begins_like_a_stop_string_is_delivered(tokenizer, text, rest):
    assume(text + rest not in text)
    tokens = tokenizer.encode(text)
    (whole,) = answers(tokenizer, tokens, [text + rest], stream=False)
    streamed = join(answers(tokenizer, tokens, [text + rest], stream=True))
    assert (whole.content, whole.stop_string) == (streamed.content, streamed.stop_string) == (text, None)


def test_what_cannot_become_a_stop_string_any_more_is_not_held_back(tokenizer):
    tokens = [token for character in "ab ab!" for token in tokenizer.encode(character)]
    deltas = answers(tokenizer, tokens, ["ab?"], stream=True)
    assert [delta.content for delta in deltas if delta.content] == ["ab ", "ab!"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_max_tokens_cuts_off_has_what_was_held_back(tokenizer, stream):
    tokens = [token for character in "say EN" for token in tokenizer.encode(character)]
    answer = join(answers(tokenizer, tokens, ["END"], stream=stream, most=len(tokens)))
    assert (answer.content, answer.finish_reason, answer.stop_string) == ("say EN", "length", None)
