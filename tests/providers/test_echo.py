"""The provider without a model: what it says, and how it plays a script."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import GenerationError, InvalidParameterError, QuotaExceededError, UnsupportedOperationError
from abstractllm.providers.echo import EchoProvider, Reply
from abstractllm.types import ToolCall, Usage

text = st.text(min_size=1).filter(str.strip)


@given(text)
def test_it_says_the_prompt_back_character_for_character(prompt):
    with EchoProvider() as llm:
        answer = llm.generate(prompt)
        stream = llm.generate(prompt, stream=True)
        assert answer.content == prompt == "".join(delta.content for delta in stream) == stream.response.content
        assert (answer.finish_reason, answer.model) == ("stop", "echo")
        assert answer.usage == Usage(llm.count_tokens(prompt), llm.count_tokens(prompt))


@given(text, st.integers(1, 5), st.integers(1, 5))
def test_a_script_is_cut_into_any_pieces_and_joins_again(content, chunk, limit):
    with EchoProvider(replies=lambda request: Reply(content, chunk=chunk)) as llm:
        stream = llm.generate("Hi", stream=True)
        pieces = [delta.content for delta in stream if delta.content]
        assert "".join(pieces) == content
        assert all(len(piece) <= chunk for piece in pieces)
        short = llm.generate("Hi", max_tokens=limit)
        assert content.startswith(short.content)
        assert short.usage.completion_tokens <= limit
        assert short.finish_reason == ("stop" if short.content == content else "length")


def test_a_stop_string_cuts_before_its_first_place():
    answer = EchoProvider().generate("one two three two", stop=["three", "two"])
    assert (answer.content, answer.finish_reason, answer.stop_string) == ("one ", "stop", "two")


def test_a_limit_before_the_stop_string_wins():
    answer = EchoProvider().generate("one two three", stop="three", max_tokens=1)
    assert (answer.content, answer.finish_reason, answer.stop_string) == ("one ", "length", None)


def test_a_list_of_replies_is_played_in_order_and_ends_with_an_error():
    llm = EchoProvider(replies=["one", Reply("two", reasoning="why", finish_reason="content_filter")])
    assert llm.generate("?").content == "one"
    second = llm.generate("?")
    assert (second.content, second.reasoning, second.finish_reason) == ("two", "why", "content_filter")
    with pytest.raises(InvalidParameterError, match="no reply left"):
        llm.generate("?")


def test_tool_calls_are_played():
    call = ToolCall("c1", "add", {"a": 1})
    answer = EchoProvider(replies=[Reply(tool_calls=[call])]).generate("?")
    assert answer.tool_calls == (call,)
    assert answer.finish_reason == "tool_calls"


@pytest.mark.parametrize("after", range(5))
def test_a_fault_comes_after_as_many_pieces_as_it_says(after):
    llm = EchoProvider(replies=lambda request: Reply("a b c", error=OSError("broken"), error_after=after))
    with pytest.raises(GenerationError, match="broken") as caught:
        llm.generate("?")
    assert caught.value.response.content == "".join(["a ", "b ", "c"][:after])


def test_a_typed_fault_stays_as_it_is_however_often_it_is_raised():
    error = QuotaExceededError("Spent.", status_code=429)
    llm = EchoProvider(replies=lambda request: Reply(error=error))
    depths = set()
    for _ in range(3):
        with pytest.raises(QuotaExceededError) as caught:
            llm.generate("?")
        assert caught.value is error
        depths.add(len(caught.traceback))
    assert len(depths) == 1


def test_replies_of_another_kind_are_refused():
    for replies in ("text", 3):
        with pytest.raises(InvalidParameterError, match="replies"):
            EchoProvider(replies=replies)


async def test_leaving_ends_a_delay_at_once():
    llm = EchoProvider(replies=lambda request: Reply("a b", delay=10_000))
    task = asyncio.create_task(llm.generate_async("?"))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    llm.close()
    for threads in llm._threads.values():
        await asyncio.to_thread(threads.join)


def test_closing_in_the_middle_of_an_answer_does_not_pass_for_its_end():
    llm = EchoProvider()
    stream = llm.generate("a b c", stream=True)
    next(stream)
    llm.close()
    with pytest.raises(UnsupportedOperationError, match="closed"):
        list(stream)


def test_a_conversation_is_counted_in_words():
    assert (
        EchoProvider().count_tokens([{"role": "user", "content": "one two"}, {"role": "user", "content": "three"}]) == 3
    )


def test_a_script_can_be_changed_and_goes_on_when_something_else_is():
    llm = EchoProvider(replies=["one", "two"])
    assert llm.generate("?").content == "one"
    llm.set_config(temperature=0.5)
    assert llm.generate("?").content == "two"
    llm.set_config(replies=["three"])
    assert llm.generate("?").content == "three"
    with pytest.raises(InvalidParameterError, match="replies"):
        llm.set_config(replies=3)
    llm.set_config(replies=None)
    assert llm.generate("back").content == "back"
