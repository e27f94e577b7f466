"""What is tried again, how often, and after which wait."""

from __future__ import annotations

import email.utils

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import InvalidParameterError, ProviderAPIError, ProviderConnectionError, QuotaExceededError
from abstractllm.providers.http import Backoff
from abstractllm.testing.loopback import Gate, Reply
from abstractllm.types import Timeout

from .toy import HELLO, STREAM, WHOLE, Toy, event, failure, served, text


def test_a_server_that_hangs_up():
    with served(Reply.hang_up(), STREAM) as (llm, server):
        assert text(llm) == "Hello"
        assert llm.retried == 1
    with served(Reply.hang_up(), max_retries=0) as (llm, server):
        assert "without an answer" in failure(llm, ProviderConnectionError).message
    assert len(server.requests) == 1


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("size", [0, 5, len(HELLO[0]) - 1])
def test_a_cut_before_the_first_delta_is_tried_again(size, resets):
    with served(Reply(chunks=HELLO, cut_after=size, resets=resets), STREAM) as (llm, server):
        assert text(llm) == "Hello"
        assert len(server.requests) == 2
        assert llm.pauses == [0.5]


def test_a_cut_whole_answer_is_tried_again():
    with served(Reply(body=WHOLE.body, cut_after=5), WHOLE) as (llm, server):
        assert llm.generate("Hi").content == "Hello"
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_what_will_not_change_is_not_tried_again(status):
    with served(Reply(status)) as (llm, server):
        failure(llm)
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 529])
@pytest.mark.parametrize("retries", [0, 1, 5])
def test_what_may_pass_is_tried_again(status, retries):
    with served(Reply(status), max_retries=retries) as (llm, server):
        failure(llm)
        assert len(server.requests) == retries + 1
        assert llm.retried == retries
        assert llm.pauses == [0.5, 1.0, 2.0, 4.0, 8.0][:retries]


def test_an_error_in_a_stream_is_tried_again_before_the_first_delta_only():
    broken = event({"error": {"status": 529}})
    with served(Reply(chunks=[broken]), STREAM) as (llm, server):
        assert text(llm) == "Hello"
        assert len(server.requests) == 2
    gate = Gate()
    with served(Reply(chunks=[HELLO[0], gate, broken]), STREAM) as (llm, server):
        stream = llm.generate("Hi", stream=True)
        assert next(stream).content == "Hel"
        gate.open()
        with pytest.raises(ProviderAPIError) as caught:
            next(stream)
        assert caught.value.provider == "toy"
        assert len(server.requests) == 1


def now_and(seconds):
    return email.utils.format_datetime(
        email.utils.datetime.datetime.now(email.utils.datetime.timezone.utc)
        + email.utils.datetime.timedelta(seconds=seconds),
        usegmt=True,
    )


@pytest.mark.parametrize(
    ("asked", "low", "high"),
    [("3", 3, 3), ("0.75", 0.75, 0.75), ("0", 0.5, 0.5), ("soon", 0.5, 0.5), ("-1", 0.5, 0.5), ("120", 120, 120)],
)
def test_retry_after_is_kept(asked, low, high):
    with served(Reply(429, {"Retry-After": asked}), STREAM) as (llm, _):
        assert text(llm) == "Hello"
        assert low <= llm.pauses[0] <= high


def test_retry_after_may_be_a_date():
    with served(Reply(503, {"Retry-After": now_and(30)}), STREAM) as (llm, _):
        assert text(llm) == "Hello"
        assert 15 < llm.pauses[0] <= 30


@pytest.mark.parametrize(("asked", "timeout"), [("121", None), ("60", 5.0), ("60", Timeout(first_event=5.0))])
def test_a_wait_that_makes_no_sense_is_an_error_at_once(asked, timeout):
    with served(Reply(429, {"Retry-After": asked})) as (llm, server):
        error = failure(llm, QuotaExceededError, timeout=timeout)
        assert error.retry_after == float(asked)
        assert llm.pauses == []
    assert len(server.requests) == 1


@given(st.integers(1, 2000), st.floats(0, 1), st.none() | st.floats(0, 200), st.none() | st.floats(-5, 200))
def test_backoff_keeps_its_bounds(tries, drawn, asked, room):
    wait = Backoff(draw=lambda: drawn).wait(tries, asked=asked, room=room)
    if wait is None:
        assert (asked or 0) > 120 or (room is not None and room <= max(8.0, asked or 0))
    else:
        assert max(0.0, asked or 0.0) <= wait <= max(8.0, asked or 0.0)
        assert room is None or wait < room


@pytest.mark.parametrize("bad", [-1, 101, 1.5, True, "2"])
def test_max_retries_has_bounds(bad):
    with pytest.raises(InvalidParameterError):
        Toy("http://x", max_retries=bad)
