"""Answers without their form: asked for again where they are whole, in both kinds of providers."""

from __future__ import annotations

import threading

import pytest

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    GenerationError,
    IncompleteOutputError,
    OutputValidationError,
    RequestTimeoutError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call
from abstractllm.providers.http.provider import _room
from abstractllm.schema import Regex
from abstractllm.testing.faces import Face, ask
from abstractllm.types import GenerateResponse, Message, Timeout, Usage

FORM = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
BAD, WORSE, GOOD = '{"age": "old"}', "I am old.", '{"age": 7}'
WHOLE = [Face.WHOLE, Face.ASYNC]


class Scripted(BaseProvider):
    """Plays answers, one for each try."""

    name = "scripted"
    parameters = frozenset({"response_format", "n", "max_tokens"})

    def __init__(self, *answers, **settings):
        self.answers = list(answers)
        self.asked = []
        self.cancelled = []
        super().__init__(**settings)

    def get_capabilities(self):
        return {ModelCapability.STREAMING: True}

    def said(self, request, call):
        self.asked.append(request)
        self.cancelled.append(call.cancelled)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        text, reason = answer if isinstance(answer, tuple) else (answer, "stop")
        yield GenerateResponse(text[:3])
        usage = Usage(10, 2, cached_tokens=1)
        yield GenerateResponse(text[3:], finish_reason=reason, usage=usage, raw_response=text)


class Blocking(Scripted):
    def _stream(self, request, call):
        yield from self.said(request, call)


class Awaiting(Scripted):
    async def _astream(self, request, call):
        for delta in self.said(request, call):
            yield delta


KINDS = [Blocking, Awaiting]


@pytest.mark.parametrize("face", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_misshapen_answer_is_asked_for_again_with_what_is_wrong(kind, face):
    told = []
    with kind(BAD, WORSE, GOOD) as llm:
        llm.observers.append(told.append)
        answer = ask(llm, face, "How old?", response_format=FORM).whole
    assert (answer.content, answer.parsed, answer.raw_response) == (GOOD, {"age": 7}, GOOD)
    assert answer.usage == Usage(30, 6, cached_tokens=3)
    first, second, third = llm.asked
    assert first.messages == (Message("user", "How old?"),)
    assert second.messages[:2] == (*first.messages, Message("assistant", BAD))
    assert "age: 'old' is not of type 'integer'" in second.messages[2].content
    assert '"properties"' in second.messages[2].content
    assert third.messages[:4] == (*second.messages, Message("assistant", WORSE))
    assert "not the JSON" in third.messages[4].content
    assert llm.cancelled == [False] * 3
    assert [event.kind for event in told] == ["started", "finished"]
    assert (told[1].response, told[1].request) == (answer, told[0].request)


@pytest.mark.parametrize("face", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("given", "tries"), [({}, 3), ({"retries": 0}, 1), ({"retries": 1}, 2), ({"retries": 4}, 5)])
def test_the_last_failure_is_raised_with_its_answer(kind, face, given, tries):
    told = []
    answers = [f'{{"age": "{number}"}}' for number in range(9)]
    with kind(*answers) as llm:
        llm.observers.append(told.append)
        with pytest.raises(OutputValidationError) as caught:
            ask(llm, face, "How old?", response_format=FORM, **given)
    assert len(llm.asked) == tries
    assert caught.value.response.content == answers[tries - 1]
    assert caught.value.response.usage == Usage(10 * tries, 2 * tries, cached_tokens=tries)
    assert caught.value.provider == "scripted"
    assert [event.kind for event in told] == ["started", "failed"]


@pytest.mark.parametrize("kind", KINDS)
def test_retries_may_stand_in_the_configuration(kind):
    with kind(BAD, BAD, retries=1) as llm:
        with pytest.raises(OutputValidationError):
            llm.generate("How old?", response_format=FORM)
        assert len(llm.asked) == 2
        llm.answers = ["Anything"]
        assert llm.generate("How old?").content == "Anything"


@pytest.mark.parametrize("face", [Face.STREAM, Face.ASYNC_STREAM])
@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_raises_with_its_answer_and_is_never_asked_again(kind, face):
    with kind(BAD, GOOD) as llm:
        with pytest.raises(OutputValidationError) as caught:
            ask(llm, face, "How old?", response_format=FORM, retries=3)
        assert caught.value.response.content == BAD
        assert len(llm.asked) == 1


@pytest.mark.parametrize("face", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_wrong_form_is_not_asked_for_again(kind, face):
    for answer, error in (((BAD, "length"), IncompleteOutputError), (ValueError("broken"), GenerationError)):
        with kind(answer, GOOD) as llm:
            with pytest.raises(error):
                ask(llm, face, "How old?", response_format=FORM)
            assert len(llm.asked) == 1
    with kind("no number") as llm:
        assert ask(llm, face, "How old?", response_format=Regex("[0-9]")).whole.parsed == "no number"


@pytest.mark.parametrize("face", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
def test_what_fails_at_another_try_ends_the_request(kind, face):
    with kind(BAD, ValueError("broken"), GOOD) as llm:
        with pytest.raises(GenerationError, match="broken") as caught:
            ask(llm, face, "How old?", response_format=FORM)
        assert caught.value.response.usage == Usage(10, 2, cached_tokens=1)
        assert len(llm.asked) == 2


def test_an_empty_answer_is_no_turn():
    with Awaiting("", GOOD) as llm:
        assert llm.generate("How old?", response_format=FORM).parsed == {"age": 7}
        assert [turn.role for turn in llm.asked[1].messages] == ["user", "user"]


@pytest.mark.parametrize("face", WHOLE)
@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_is_one_for_all_tries(kind, face):
    waiting = threading.Event()

    class Slow(kind):
        def said(self, request, call):
            if self.asked:
                self.left = call.remaining()
                call.on_cancel(waiting.set)
                raise RequestTimeoutError("passed", limit="total")
            yield from super().said(request, call)

    with Slow(BAD, GOOD) as llm:
        with pytest.raises(RequestTimeoutError):
            ask(llm, face, "How old?", response_format=FORM, timeout=Timeout(total=60, first_event=50))
        assert 0 < llm.left < 60
        assert waiting.is_set()


@pytest.mark.parametrize("face", WHOLE)
def test_files_are_read_once_and_stay_in_the_conversation(tmp_path, face):
    (tmp_path / "notes.txt").write_text("Seven years.")
    with Awaiting(BAD, GOOD) as llm:
        answer = ask(llm, face, "How old?", files=[tmp_path / "notes.txt"], response_format=FORM).whole
    assert answer.parsed == {"age": 7}
    assert "Seven years." in llm.asked[1].messages[0].text


def test_several_answers_are_not_asked_for_again():
    class Several(Awaiting):
        async def _astream(self, request, call):
            self.asked.append(request)
            for number, text in enumerate((GOOD, BAD)):
                yield GenerateResponse(text, choice=number, finish_reason="stop")

    with Several() as llm:
        with pytest.raises(OutputValidationError):
            llm.generate("How old?", response_format=FORM, n=2)
        assert len(llm.asked) == 1
        with pytest.raises(UnsupportedFeatureError) as caught:
            llm.generate("How old?", response_format=FORM, n=2, retries=1)
        assert caught.value.feature == "retries"


def test_who_answers_single_prompts_is_not_told_what_was_wrong():
    class Forgetful(Awaiting):
        def get_capabilities(self):
            return {ModelCapability.MULTI_TURN: False}

    with Forgetful(BAD, GOOD) as llm:
        with pytest.raises(OutputValidationError):
            llm.generate("How old?", response_format=FORM)
        assert len(llm.asked) == 1
        with pytest.raises(UnsupportedFeatureError) as caught:
            llm.generate("How old?", response_format=FORM, retries=1)
        assert caught.value.feature == "retries"


@pytest.mark.parametrize("kind", KINDS)
def test_a_close_ends_the_tries(kind):
    class Closing(kind):
        def said(self, request, call):
            if self.asked:
                self.close()
            yield from super().said(request, call)

    llm = Closing(BAD, BAD, GOOD)
    with pytest.raises(UnsupportedOperationError, match="closed"):
        llm.generate("How old?", response_format=FORM)
    assert len(llm.asked) == 2


def test_the_limit_for_the_first_event_counts_from_each_try():
    call = Call(Timeout(first_event=50))
    call.asked -= 100
    assert _room(call) < 0
    call.again()
    assert 0 < _room(call) <= 50
