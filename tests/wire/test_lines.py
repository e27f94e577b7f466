"""Lines and server-sent events from bytes that are cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import GenerationError
from abstractllm.wire import lines
from abstractllm.wire.lines import Event, EventDecoder, LineDecoder


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


cuts = st.lists(st.integers(0, 10**6), max_size=8)


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])), max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    cuts,
)
def test_lines_are_the_same_wherever_bytes_are_cut(texts: list[str], end: str, cuts: list[int]) -> None:
    data = "".join(text + end for text in texts).encode() + "rest é".encode()
    decoder = LineDecoder()
    found = [line for piece in pieces(data, cuts) for line in decoder.feed(piece)]
    assert [line.decode() for line in found] == texts
    assert decoder.end().decode() == "rest é"


def test_ends_of_lines_may_be_mixed() -> None:
    decoder = LineDecoder()
    assert decoder.feed(b"a\r") == [b"a"]
    assert decoder.feed(b"\nb\n\rc\r\n\n") == [b"b", b"", b"c", b""]
    assert decoder.feed(b"") == []
    assert decoder.end() == b""


STREAM = (
    b"\xef\xbb\xbf: keepalive 3/10\n\nevent: ping\ndata: {}\n\n:\nid: 7\nretry: 10\ndata:one\ndata:  two\ndata\n\n"
    b"event: lost\n\ndata: last\r\n\r\ndata: cut"
)
EVENTS = [Event(b"ping", b"{}"), Event(b"", b"one\n two\n"), Event(b"", b"last"), Event(b"", b"cut")]


def test_events_are_the_same_wherever_bytes_are_cut() -> None:
    for place in range(len(STREAM) + 1):
        decoder = EventDecoder()
        found = [*decoder.feed(STREAM[:place]), *decoder.feed(STREAM[place:]), *decoder.end()]
        assert found == EVENTS, place
    decoder = EventDecoder()
    one_by_one = [event for byte in STREAM for event in decoder.feed(bytes([byte]))]
    assert [*one_by_one, *decoder.end()] == EVENTS


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 1000)
    decoder = EventDecoder()
    for _ in range(11):
        decoder.feed(b"x" * 90)
    with pytest.raises(GenerationError, match="more than 1,000 bytes"):
        decoder.feed(b"x" * 90)
