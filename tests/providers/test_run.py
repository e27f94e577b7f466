"""One running request: joining, limits, observers."""

from __future__ import annotations

import asyncio
import logging

import pytest

from abstractllm.accumulator import ResponseAccumulator
from abstractllm.errors import GenerationError, RequestTimeoutError, UnsupportedOperationError
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call
from abstractllm.providers.run import Run, limited
from abstractllm.testing.faces import Face, ask
from abstractllm.types import GenerateRequest, GenerateResponse, Message, Timeout, ToolCall, ToolCallDelta

REQUEST = GenerateRequest((Message("user", "Hi"),))


def make(*observers):
    return Run("test", REQUEST, ResponseAccumulator(), list(observers), set())


def test_whole_tool_calls_become_deltas_numbered_on():
    run = make()
    first = run.accept(GenerateResponse(tool_calls=(ToolCall("a", "f", {"x": 1}), ToolCall("b", "g"))))
    second = run.accept(GenerateResponse(tool_calls=(ToolCall("c", "h"),)))
    assert first.tool_calls == second.tool_calls == ()
    assert first.tool_call_deltas == (ToolCallDelta(0, "a", "f", '{"x":1}'), ToolCallDelta(1, "b", "g", "{}"))
    assert second.tool_call_deltas == (ToolCallDelta(2, "c", "h", "{}"),)


def test_whole_calls_are_numbered_after_those_that_came_in_pieces():
    run = make()
    run.accept(GenerateResponse(tool_call_deltas=(ToolCallDelta(1, "b", "g"), ToolCallDelta(0, "a", "f"))))
    last = run.accept(GenerateResponse(tool_calls=(ToolCall("c", "h"),)))
    assert [piece.index for piece in last.tool_call_deltas] == [2]


def test_an_answer_without_a_finish_reason_is_not_whole():
    run = make()
    run.accept(GenerateResponse(content="cut"))
    with pytest.raises(GenerationError, match="finish_reason") as caught:
        run.finish()
    assert caught.value.response.content == "cut"
    run.accept(GenerateResponse(finish_reason="stop"))
    run.finish()


def test_a_request_of_a_closed_provider_takes_nothing_more():
    run = make()
    run.call.close()
    with pytest.raises(UnsupportedOperationError, match="closed"):
        run.accept(GenerateResponse(content="late"))
    with pytest.raises(UnsupportedOperationError, match="closed"):
        run.finish()


def test_a_request_that_was_only_cancelled_is_not_taken_for_a_closed_one():
    run = make()
    run.call.cancel()
    with pytest.raises(GenerationError):
        run.finish()


def test_an_answer_that_was_whole_before_the_close_stays_whole():
    run = make()
    run.accept(GenerateResponse(finish_reason="stop"))
    run.call.close()
    run.finish()


def test_a_failure_names_what_happened_and_holds_what_had_arrived():
    heard = []
    run = make(heard.append)
    run.start()
    run.accept(GenerateResponse(content="half"))
    failure = run.failed(KeyError("lost"))
    assert [(event.kind, event.error) for event in heard] == [("started", None), ("failed", failure)]
    assert str(failure) == "[test] KeyError: 'lost'"
    assert failure.response.content == "half"


def test_observers_hear_everything_and_one_that_raises_harms_nobody(caplog):
    heard = []

    def broken(event):
        raise ZeroDivisionError("observer")

    run = make(broken, heard.append)
    with caplog.at_level(logging.ERROR, logger="abstractllm"):
        run.start()
        run.accept(GenerateResponse(content="x"))
        run.notify("failed", KeyError("lost"))
    assert [(event.kind, event.response and event.response.content) for event in heard] == [
        ("started", None),
        ("failed", "x"),
    ]
    assert isinstance(heard[1].error, KeyError)
    assert heard[1].request is REQUEST
    assert heard[1].seconds >= 0
    assert len(caplog.records) == 2


async def never(first=0):
    for _ in range(first):
        yield GenerateResponse(content="x")
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("timeout", "first", "limit"),
    [
        (Timeout(first_event=0.01), 0, "first_event"),
        (Timeout(first_event=100, idle=0.01), 2, "idle"),
        (Timeout(total=0.01), 0, "total"),
        (Timeout(total=0.02, idle=100), 2, "total"),
        (Timeout(total=100, first_event=0.01, idle=100), 0, "first_event"),
    ],
)
async def test_each_limit_is_kept_and_named(timeout, first, limit):
    with pytest.raises(RequestTimeoutError) as caught:
        async for _ in limited(never(first), Call(timeout)):
            pass
    assert caught.value.limit == limit
    assert isinstance(caught.value, TimeoutError)


class WholeAtTheEnd(BaseProvider):
    """Hands over one delta; has its first token long before, and says so from another thread if `told`."""

    def __init__(self, told):
        super().__init__()
        self.told = told

    async def _astream(self, request, call):
        if self.told:
            await asyncio.to_thread(call.first_event)
        passed = asyncio.Event()
        limit = request.timeout.first_event
        asyncio.get_running_loop().call_later(2 * limit, passed.set)
        await passed.wait()
        yield GenerateResponse(content="whole", finish_reason="stop")


@pytest.mark.parametrize("face", list(Face))
@pytest.mark.parametrize("timeout", [Timeout(first_event=0.02, idle=0.001), Timeout(first_event=0.02, total=1000)])
def test_the_limit_of_the_first_event_ends_where_the_provider_says_so(face, timeout):
    with WholeAtTheEnd(told=True) as llm:
        assert ask(llm, face, "Hi", timeout=timeout).whole.content == "whole"
    with WholeAtTheEnd(told=False) as llm, pytest.raises(RequestTimeoutError) as caught:
        ask(llm, face, "Hi", timeout=timeout)
    assert caught.value.limit == "first_event"


async def test_the_total_holds_after_the_first_event():
    call = Call(Timeout(first_event=0.01, total=0.03))
    call.first_event()
    with pytest.raises(RequestTimeoutError) as caught:
        await anext(limited(never(), call))
    assert caught.value.limit == "total"


@pytest.mark.parametrize("timeout", [None, Timeout(), Timeout(connect=0.001), Timeout(total=100, idle=100)])
async def test_an_answer_in_time_passes_unchanged(timeout):
    async def three():
        for text in "abc":
            yield GenerateResponse(content=text)

    assert [delta.content async for delta in limited(three(), Call(timeout))] == ["a", "b", "c"]


async def test_a_timeout_of_the_providers_own_is_not_taken_for_a_limit():
    async def own():
        raise TimeoutError("its own")
        yield

    with pytest.raises(TimeoutError, match="its own") as caught:
        await anext(limited(own(), Call(Timeout(total=100))))
    assert not isinstance(caught.value, RequestTimeoutError)
