"""Joining deltas: any split of an answer joins to the same whole."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.accumulator import ResponseAccumulator, call_deltas, decode_arguments, join
from abstractllm.types import GenerateResponse, Timings, TokenLogprob, ToolCall, ToolCallDelta, Usage

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
objects = st.dictionaries(st.text(max_size=4), values, max_size=3)
texts = st.text(max_size=12)
names = st.text(min_size=1, max_size=8)
not_objects = st.one_of(
    st.text(min_size=1).map(lambda text: "{" + text),
    st.lists(st.integers()).map(json.dumps),
    st.integers().map(str),
).filter(lambda text: decode_arguments(text) is None)
calls = st.builds(ToolCall, names, names, objects) | st.builds(
    lambda identity, name, text: ToolCall(identity, name, {}, invalid=text), names, names, not_objects
)
logprobs = st.builds(TokenLogprob, st.text(), st.floats(max_value=0, allow_nan=False), st.binary())


@st.composite
def pieces_of(draw, text):
    """Cut a text anywhere, into empty pieces too."""
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=6)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@st.composite
def interleaved(draw, tracks):
    """Merge lists into one, keeping the order within each."""
    waiting, merged = [list(track) for track in tracks if track], []
    while waiting:
        track = draw(st.sampled_from(waiting))
        merged.append(track.pop(0))
        waiting = [one for one in waiting if one]
    return merged


@st.composite
def answers(draw, choice=0):
    found = draw(st.lists(calls, max_size=2))
    return GenerateResponse(
        content=draw(texts),
        reasoning=draw(texts),
        tool_calls=tuple(found),
        logprobs=tuple(draw(st.lists(logprobs, max_size=3))),
        finish_reason=draw(st.sampled_from(["stop", "length", "tool_calls"])),
        usage=Usage(3, 4),
        timings=Timings(0.1, 0.2, 0.3),
        stop_string=draw(st.none() | names),
        model="model",
        choice=choice,
    )


@st.composite
def call_tracks(draw, answer):
    tracks = []
    for whole in call_deltas(answer.tool_calls):
        first, *rest = draw(pieces_of(whole.arguments))
        deltas = [replace(whole, arguments=first), *(ToolCallDelta(whole.index, arguments=piece) for piece in rest)]
        tracks.append([GenerateResponse(tool_call_deltas=(delta,)) for delta in deltas])
    return tracks


@st.composite
def splits(draw, answer):
    """Cut an answer into deltas, the last of which carries what is known at the end."""
    tracks = [
        [GenerateResponse(content=piece) for piece in draw(pieces_of(answer.content))],
        [GenerateResponse(reasoning=piece) for piece in draw(pieces_of(answer.reasoning))],
        [GenerateResponse(logprobs=(one,)) for one in answer.logprobs],
        *draw(call_tracks(answer)),
    ]
    end = replace(answer, content="", reasoning="", tool_calls=(), logprobs=())
    return [replace(delta, choice=answer.choice) for delta in [*draw(interleaved(tracks)), end]]


@given(st.data(), answers())
def test_any_split_joins_to_the_whole(data, answer):
    assert join(data.draw(splits(answer))) == answer


@settings(max_examples=40)
@given(st.data(), st.integers(2, 3))
def test_any_split_of_several_choices_joins_to_all_of_them(data, count):
    wholes = [data.draw(answers(choice=number)) for number in range(count)]
    deltas = data.draw(interleaved([data.draw(splits(whole)) for whole in wholes]))
    assert join(deltas) == replace(wholes[0], choices=tuple(wholes))


@given(answers(), st.integers(1, 4))
def test_a_whole_answer_is_a_delta_too(answer, count):
    assert join([answer]) == answer
    wholes = tuple(replace(answer, choice=number) for number in range(count))
    several = replace(answer, choices=wholes) if count > 1 else answer
    assert join([several]) == several


@given(st.data(), answers())
def test_what_has_arrived_can_be_read_after_every_delta(data, answer):
    accumulator = ResponseAccumulator()
    assert accumulator.response == GenerateResponse()
    content = ""
    for delta in data.draw(splits(answer)):
        assert not accumulator.finished
        accumulator.add(delta)
        content += delta.content
        assert accumulator.response.content == content
    assert accumulator.finished


@given(st.lists(calls, max_size=4), st.integers(0, 5))
def test_whole_calls_and_their_deltas_are_inverse(found, first):
    deltas = call_deltas(found, first=first)
    assert [delta.index for delta in deltas] == list(range(first, first + len(found)))
    assert join([GenerateResponse(tool_call_deltas=deltas)]).tool_calls == tuple(found)


@given(st.lists(calls, min_size=1, max_size=3), st.lists(calls, min_size=1, max_size=3), st.integers(0, 3))
def test_whole_calls_come_after_those_that_came_in_deltas(early, late, first):
    deltas = [
        GenerateResponse(tool_call_deltas=call_deltas(early, first=first)),
        GenerateResponse(tool_calls=tuple(late)),
    ]
    assert join(deltas).tool_calls == (*early, *late)


def test_calls_are_in_the_order_of_their_numbers():
    late, early = ToolCallDelta(1, "b", "second", "{}"), ToolCallDelta(0, "a", "first", "{}")
    joined = join([GenerateResponse(tool_call_deltas=(late,)), GenerateResponse(tool_call_deltas=(early,))])
    assert [call.name for call in joined.tool_calls] == ["first", "second"]


def test_a_call_without_an_id_gets_one():
    joined = join([GenerateResponse(tool_call_deltas=(ToolCallDelta(2, None, "f"),))])
    assert joined.tool_calls == (ToolCall("call_2", "f", {}),)


def test_all_choices_must_finish():
    accumulator = ResponseAccumulator()
    accumulator.add(GenerateResponse("a", choice=1))
    accumulator.add(GenerateResponse("b", finish_reason="stop"))
    assert not accumulator.finished
    accumulator.add(GenerateResponse(finish_reason="stop", choice=1))
    assert accumulator.finished


def test_data_of_the_provider_is_merged():
    deltas = [GenerateResponse(provider_data={"a": 1, "b": 1}), GenerateResponse(provider_data={"b": 2})]
    assert join(deltas).provider_data == {"a": 1, "b": 2}


@given(objects)
def test_arguments_are_decoded(value):
    assert decode_arguments(json.dumps(value)) == value


@given(st.text())
def test_no_text_breaks_the_decoding(text):
    found = decode_arguments(text)
    assert found is None or isinstance(found, dict)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        (" \n", {}),
        ("[]", None),
        ("3", None),
        ('{"a":', None),
        ('{"a":' * 100_000, None),
        ('{"a": ' + "9" * 5000 + "}", None),
    ],
    ids=range(7),
)
def test_what_is_no_object_is_not_decoded(text, found):
    assert decode_arguments(text) == found


@pytest.mark.parametrize(
    ("name", "text"), [("", '{"nme": "x"}'), ("", "[1]"), ("", ""), ("add", "[1]"), ("add", "{"), ("add", "null")]
)
def test_a_call_that_is_marked_invalid_stays_so(name: str, text: str) -> None:
    call = ToolCall("call_0", name, {}, invalid=text)
    (joined,) = join([GenerateResponse(tool_call_deltas=call_deltas([call]))]).tool_calls

    assert joined == call


def test_what_was_read_does_not_change_later():
    accumulator = ResponseAccumulator()
    accumulator.add(GenerateResponse(provider_data={"a": 1}))
    early = accumulator.response
    accumulator.add(GenerateResponse(provider_data={"b": 2}))
    early.provider_data["c"] = 3
    assert accumulator.response.provider_data == {"a": 1, "b": 2}
    assert early.provider_data == {"a": 1, "c": 3}
