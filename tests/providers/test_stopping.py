"""Stop strings that are found on this side: the text before the first of them, and a closed source."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, strategies as st

from abstractllm.accumulator import join
from abstractllm.providers.http import Secret
from abstractllm.providers.stopping import cut_at_stop
from abstractllm.types import GenerateResponse, Usage

LAST = GenerateResponse(finish_reason="length", usage=Usage(3, 2))


@given(
    st.lists(st.text("ab#", max_size=4)), st.lists(st.text("ab#", min_size=1, max_size=3), min_size=1), st.booleans()
)
async def test_the_text_before_the_first_stop_string(pieces, stops, joined):
    closed = []

    async def source():
        try:
            for piece in pieces:
                yield GenerateResponse(piece, reasoning="r")
            yield replace(LAST, content="b#") if joined else LAST
        finally:
            closed.append(True)

    answer = join([delta async for delta in cut_at_stop(source(), tuple(stops))])
    text = "".join(pieces) + ("b#" if joined else "")
    found = sorted((text.index(stop) + len(stop), text.index(stop), stop) for stop in stops if stop in text)
    assert answer.content == (text[: found[0][1]] if found else text)
    assert answer.stop_string == (found[0][2] if found else None)
    assert answer.finish_reason == ("stop" if found else "length")
    assert found or answer.usage == LAST.usage
    assert closed == [True]


@given(st.text("abcd-", min_size=8, max_size=12), st.text("abcd-"), st.text("abcd-"), st.integers(8, 12))
def test_a_key_is_hidden_whole_or_cut(key, before, after, size):
    shown = Secret(key).hide(f"{before} {key} {after} {key[:size]}")
    assert key[:8] not in shown
    assert shown.count("(hidden)") >= 2
    assert Secret(key[:7]).hide(key) == key
