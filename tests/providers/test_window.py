"""The sliding window: never more than its limit in any span, and no wait longer than it has to be."""

from __future__ import annotations

from hypothesis import given, strategies as st

from abstractllm.providers.http.window import SPAN, Window


@given(
    limit=st.integers(1, 20),
    steps=st.lists(st.tuples(st.floats(0, 40), st.integers(1, 25), st.integers(0, 40)), max_size=60),
)
def test_no_span_holds_more_than_the_limit_or_one_entry(limit, steps):
    """Each step waits as long as it is told, takes so much, and says what it was in the end."""
    window, taken, now = Window(limit), [], 0.0
    for pause, amount, real in steps:
        now += pause
        now += (waited := window.wait(amount, now))
        assert waited >= 0
        assert waited == 0 or window.wait(amount, now) <= 1e-6, "a wait is enough"
        now += window.wait(amount, now)
        held = sum(size for moment, size in taken if now - moment < SPAN - 1e-6)
        assert held + min(amount, limit) <= limit, "what is there counts with its corrected size"
        window.correct(window.take(amount, now), real)
        taken.append((now, real))


def test_a_wait_is_no_longer_than_it_has_to_be():
    window = Window(3)
    for moment in (0.0, 10.0, 20.0):
        assert window.wait(1, moment) == 0
        window.take(1, moment)
    assert window.wait(1, 20.0) == 40.0
    assert window.wait(2, 20.0) == 50.0
    assert window.wait(3, 20.0) == window.wait(99, 20.0) == 60.0
    assert window.wait(1, 59.5) == 0.5
    assert window.wait(1, 60.0) == 0


@given(
    limit=st.integers(1, 8),
    past=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 12)), max_size=8),
    pieces=st.lists(st.integers(1, 8), min_size=1, max_size=25),
)
def test_the_wait_for_all_is_that_of_taking_piece_by_piece(limit, past, pieces):
    """Whole seconds and amounts, and entries that were corrected beyond the limit among them."""
    window, now = Window(limit), 0.0
    for pause, real in past:
        now += pause
        now += window.wait(1, now)
        window.correct(window.take(1, now), real)
    pieces = [min(piece, limit) for piece in pieces]
    at_least = window.wait_for_all(sum(pieces), now)
    units = window.wait_for_all(len(pieces), now)
    assert at_least <= taken_after(copied(window), pieces, now)
    assert units == taken_after(copied(window), [1] * len(pieces), now)
    assert at_least == taken_after(copied(window), [1] * sum(pieces), now)


def copied(window):
    again = Window(window.limit)
    for entry in window._entries:
        again.correct(again.take(1, entry.moment), entry.amount)
    return again


def taken_after(window, pieces, start):
    """Return the seconds until all pieces are taken one after the other, each as soon as it may be."""
    now = start
    for piece in pieces:
        now += window.wait(piece, now)
        window.take(piece, now)
    return now - start


def test_a_window_without_a_limit_takes_everything_and_keeps_nothing():
    window = Window()
    assert window.wait(10**9, 0.0) == 0
    assert window.wait_for_all(10**9, 0.0) == 0
    assert window.take(10**9, 0.0) is None
