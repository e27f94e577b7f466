"""The rules of a history: turns, calls with their results, and what goes when it is too long."""

import math
from itertools import chain

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import InvalidParameterError
from abstractllm.history import NOT_EXECUTED, paired, trimmed, turns, unanswered, with_call_ids
from abstractllm.types import Message, ToolCall

ids = st.sampled_from(["", "a", "b", "a_2", "call_1"])
names = st.sampled_from(["f", "g"])
texts = st.text("xy", max_size=3)
calls = st.lists(st.builds(ToolCall, ids, names), max_size=3).map(tuple)
messages = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts),
    st.builds(
        Message,
        st.just("assistant"),
        texts,
        tool_calls=st.lists(st.builds(ToolCall, ids, names), max_size=3).map(tuple),
    ),
    st.builds(Message, st.just("tool"), texts, name=st.none() | names, tool_call_id=st.none() | ids),
)
histories = st.lists(messages, max_size=16)


def called(*names):
    """Return an assistant's turn with calls of these ids."""
    return Message("assistant", "", tool_calls=tuple(ToolCall(name, "f") for name in names))


def result(name, text="7"):
    return Message("tool", text, tool_call_id=name)


def said(role, text="x"):
    return Message(role, text)


def assert_paired(history):
    """Each call has one result, directly after its turn, in order; nothing else is a result; ids are unique."""
    waiting, seen = [], set()
    for message in history:
        if message.role == "tool":
            assert message.tool_call_id == waiting.pop(0)
            continue
        assert not waiting
        if message.role == "assistant":
            waiting = [call.id for call in message.tool_calls]
            assert all(waiting)
            assert len(seen | set(waiting)) == len(seen) + len(waiting)
            seen |= set(waiting)
    assert not waiting


def is_subsequence(some, whole):
    rest = iter(whole)
    return all(any(one is other for other in rest) for one in some)


@given(histories)
def test_each_call_has_one_result(history):
    repaired = paired(history)
    assert_paired(repaired)
    assert [(one.role, one.content) for one in repaired if one.role != "tool"] == [
        (one.role, one.content) for one in history if one.role != "tool"
    ]
    kept = [one.content for one in repaired if one.role == "tool" and one.content != NOT_EXECUTED]
    given_results = [one.content for one in history if one.role == "tool"]
    assert all(kept.count(text) <= given_results.count(text) for text in kept)


@given(histories)
def test_what_is_in_order_stays_the_same_objects(history):
    repaired = paired(history)
    again = paired(repaired)
    assert len(again) == len(repaired)
    assert all(one is other for one, other in zip(again, repaired, strict=True))


@given(histories, histories)
def test_what_was_paired_stays_as_it_is_when_the_history_grows(history, more):
    repaired = paired(history)
    assert paired([*repaired, said("user"), *more])[: len(repaired)] == repaired


PAIRS = {
    "in order": ([called("a", "b"), result("a"), result("b")], None),
    "another order": ([called("a", "b"), result("b"), result("a")], [called("a", "b"), result("a"), result("b")]),
    "a question between": (
        [called("a", "b"), result("a"), said("user"), result("b")],
        [called("a", "b"), result("a"), result("b"), said("user")],
    ),
    "late": (
        [called("a"), said("user"), said("assistant"), result("a")],
        [called("a"), result("a"), said("user"), said("assistant")],
    ),
    "twice": ([called("a"), result("a"), result("a", "8")], [called("a"), result("a")]),
    "of no call": ([said("user"), result("a"), called("a"), result("b"), result("a")], None),
    "the same ids in each turn": (
        [called("a"), result("a", "1"), called("a"), result("a", "2")],
        [called("a"), result("a", "1"), called("a_2"), result("a_2", "2")],
    ),
    "the same id in one turn": (
        [called("a", "a"), result("a", "1"), result("a", "2")],
        [called("a", "a_2"), result("a", "1"), result("a_2", "2")],
    ),
    "no ids": (
        [called("", ""), Message("tool", "1"), Message("tool", "2", tool_call_id="")],
        [called("call_1", "call_2"), result("call_1", "1"), result("call_2", "2")],
    ),
    "an old call's id again": (
        [called("a"), said("user"), called("a"), result("a", "2"), result("a", "3")],
        [called("a"), None, said("user"), called("a_2"), result("a_2", "2")],
    ),
}
PAIRS["of no call"] = (PAIRS["of no call"][0], [said("user"), called("a"), result("a")])


@pytest.mark.parametrize(("history", "expected"), PAIRS.values(), ids=PAIRS)
def test_pairing(history, expected):
    missing = Message("tool", NOT_EXECUTED, name="f", tool_call_id="a")
    assert paired(history) == tuple(missing if one is None else one for one in expected or history)


def test_results_without_ids_go_by_name():
    turn = Message("assistant", "", tool_calls=(ToolCall("", "f"), ToolCall("", "g")))
    repaired = paired([turn, Message("tool", "of g", name="g"), Message("tool", "of f", name="f")])
    assert [one.content for one in repaired[1:]] == ["of f", "of g"]


def test_the_text_of_a_missing_result_can_be_chosen():
    assert paired([called("a")], not_executed="Gone.")[1].content == "Gone."


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([], ""),
        ([called("a", "b")], "ab"),
        ([called("a", "b"), result("b")], "a"),
        ([called("a", "a"), result("a")], "a"),
        ([called("a"), result("a")], ""),
        ([called("a"), said("user")], ""),
        ([called("a"), said("assistant")], ""),
        ([called("a"), result("a"), called("a")], "a"),
        ([result("a"), called("a"), said("system")], "a"),
    ],
)
def test_calls_that_wait(history, expected):
    assert "".join(call.id for call in unanswered(history)) == expected


@given(histories)
def test_pairing_leaves_no_call_waiting(history):
    assert unanswered(paired(history)) == ()
    waiting = [one for one in paired(history) if one.content == NOT_EXECUTED]
    assert len(unanswered(history)) <= len(waiting)


@given(histories)
def test_turns_begin_with_users(history):
    system, groups = turns(history)
    assert [*system, *chain.from_iterable(groups)] == history
    assert all(one.role == "system" for one in system)
    assert all(group[0].role == "user" for group in groups[1:])
    assert all(one.role != "user" for group in groups for one in group[1:])
    assert not groups or groups[0][0].role != "system"


class Count:
    """Counts tokens, a fixed number a message and one a letter, and how often it is asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, messages):
        self.calls += 1
        return sum(3 + len(one.text) for one in messages)


@given(histories, st.integers(1, 60))
def test_trimming(history, limit):
    whole, count = paired(history), Count()
    kept = trimmed(whole, limit, count)
    assert_paired(kept)
    assert is_subsequence(kept, whole)
    assert [one for one in kept if one.role == "system"] == [one for one in whole if one.role == "system"]
    if kept != whole and any(one.role == "user" for one in whole):
        assert kept[0].role in ("system", "user")
    assert [one for one in kept if one.role == "user"][-1:] == [one for one in whole if one.role == "user"][-1:]
    assert kept[-1:] == whole[-1:]
    assert count.calls <= 2 + math.log2(len(whole) + 1)


@given(histories, st.integers(1, 60))
def test_trimming_keeps_as_much_as_fits(history, limit):
    """Compare with every cut that is allowed, tried one after the other."""
    whole, count = paired(history), Count()
    _, groups = turns(whole)
    firsts = [group[0] for group in groups]
    allowed = [whole]
    for first in firsts[1:]:
        at = next(number for number, one in enumerate(whole) if one is first)
        allowed.append(tuple(one for number, one in enumerate(whole) if number >= at or one.role == "system"))
    while (shorter := without_oldest_exchange(allowed[-1])) is not None:
        allowed.append(shorter)
    fitting = [one for one in allowed if count(one) <= limit]
    assert trimmed(history, limit, Count()) == (fitting or allowed[-1:])[0]


def without_oldest_exchange(history):
    """Return a history of one turn without its first assistant message and what follows, None if it is its last."""
    places = [number for number, one in enumerate(history) if one.role == "assistant"]
    if len(places) < 2:
        return None
    first, second = places[:2]
    return tuple(one for number, one in enumerate(history) if not first <= number < second or one.role == "system")


def test_a_long_history_needs_few_counts():
    history = [said(role, "xx") for _ in range(500) for role in ("user", "assistant")]
    count = Count()
    assert len(trimmed(history, 100, count)) == 20
    assert count.calls <= 10
    count = Count()
    assert trimmed(history, 10**6, count) == tuple(history)
    assert count.calls == 1


def test_the_last_turn_loses_its_oldest_calls_with_their_results():
    history = [said("user", "old"), said("user", "go"), called("a"), result("a"), called("b"), result("b")]
    assert trimmed(history, 15, Count()) == (said("user", "go"), called("b"), result("b"))
    assert trimmed(history, 1, Count()) == (said("user", "go"), called("b"), result("b"))


def test_no_room_at_all_is_an_error():
    with pytest.raises(InvalidParameterError, match="at least 1"):
        trimmed([said("user")], 0, Count())


# Ids of calls.


def test_ids_of_another_form_are_replaced_the_same_each_time_and_others_stay():
    history = [said("user"), called("functions.f:0", "abcDEF123"), result("functions.f:0"), result("abcDEF123")]
    fitting = with_call_ids(history, "[a-zA-Z0-9]{9}")
    new, same = (call.id for call in fitting[1].tool_calls)
    assert new.isalnum()
    assert len(new) == 9
    assert [same, *(one.tool_call_id for one in fitting[2:])] == ["abcDEF123", new, "abcDEF123"]
    assert fitting[0] is history[0]
    assert with_call_ids([called("functions.f:0")], "[a-zA-Z0-9]{9}")[0].tool_calls[0].id == new
    assert with_call_ids(fitting, "[a-zA-Z0-9]{9}") is fitting


@given(histories)
def test_ids_of_another_form_change_nothing_else(history):
    fitting = with_call_ids(history, "[ab]")
    for old, new in zip(history, fitting, strict=True):
        assert (new.role, new.content, new.name) == (old.role, old.content, old.name)
        assert [call.name for call in new.tool_calls] == [call.name for call in old.tool_calls]
        assert [bool(call.id) for call in new.tool_calls] == [bool(call.id) for call in old.tool_calls]
