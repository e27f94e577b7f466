"""What a running request and its provider tell each other."""

from __future__ import annotations

import threading

import pytest

from abstractllm.errors import RequestTimeoutError
from abstractllm.providers.call import Call
from abstractllm.types import Timeout


def test_cancelling_calls_back_once():
    call, heard = Call(), []
    call.on_cancel(lambda: heard.append("early"))
    assert not call.cancelled
    call.cancel()
    call.cancel()
    assert call.cancelled
    call.on_cancel(lambda: heard.append("late"))
    assert heard == ["early", "late"]


def test_closing_cancels_and_says_why():
    call, heard = Call(), []
    call.on_cancel(lambda: heard.append(call.closed))
    assert not call.closed
    call.close()
    assert call.cancelled
    assert heard == [True]


def test_many_threads_may_cancel():
    call, heard, together = Call(), [], threading.Barrier(8)
    call.on_cancel(lambda: heard.append(1))
    threads = [threading.Thread(target=lambda: (together.wait(), call.cancel())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [1]


def test_a_call_without_a_total_has_no_deadline():
    for call in (Call(), Call(Timeout(idle=1))):
        assert call.deadline is None
        assert call.remaining() is None


def test_a_deadline_counts_down_and_passes():
    call = Call(Timeout(total=1000))
    assert 0 < call.remaining() <= 1000
    call.deadline = call.started - 1
    with pytest.raises(RequestTimeoutError) as caught:
        call.remaining()
    assert caught.value.limit == "total"


def test_progress_is_what_was_last_reported():
    call = Call()
    assert call.progress == (0, 0)
    call.report_progress(3, 8)
    assert call.progress == (3, 8)


def test_a_provider_says_when_it_has_its_first_token():
    call = Call()
    assert not call.begun
    call.first_event()
    assert call.begun


def test_a_place_in_the_line_is_known_until_the_end():
    call = Call()
    assert call.queue_position is None
    places = iter([2, 1])
    call.in_line(lambda: next(places))
    assert [call.queue_position, call.queue_position] == [2, 1]
    call.cancel()
    assert call.queue_position is None
    call.in_line(lambda: 3)
    assert call.queue_position is None


def test_another_try_begins_anew_but_for_the_deadline():
    call = Call(Timeout(total=60, first_event=5))
    began, deadline = call.started, call.deadline
    call.asked -= 100
    call.first_event()
    call.report_progress(3, 4)
    call.in_line(lambda: 2)
    call.cancel()
    call.again()
    assert (call.started, call.deadline) == (began, deadline)
    assert call.asked >= began
    assert (call.begun, call.progress, call.queue_position, call.cancelled) == (False, (0, 0), None, False)


def test_another_try_of_a_closed_provider_is_not_wanted():
    call, heard = Call(), []
    call.close()
    call.again()
    call.on_cancel(lambda: heard.append(call.closed))
    assert (call.cancelled, heard) == (True, [True])
