"""What has been found out about a definition is kept, but neither too long nor wrongly."""

import gc
import threading
import weakref
from types import MappingProxyType

from hypothesis import given, strategies as st

from abstractllm.tools.remembering import Remembered
from abstractllm.types import ToolDefinition


def counting():
    asked = []

    def work_out(definition):
        asked.append(definition.name)
        return len(asked)

    return Remembered(work_out), asked


def definition(**parameters):
    return ToolDefinition("f", "", parameters)


def test_it_is_worked_out_once():
    remembered, asked = counting()
    one, other = definition(a=1), definition(a=1)
    assert [remembered(one), remembered(one), remembered(other), remembered(one)] == [1, 1, 2, 1]
    assert len(asked) == 2


def test_a_change_is_seen():
    remembered, _ = counting()
    one = definition(a=[{"minimum": 1}])
    changes = [1, True, 1.0, "1", None, [1], {"x": 1}, 1]
    found = []
    for change in changes:
        one.parameters["a"][0]["minimum"] = change
        found.append(remembered(one))
    assert found == [1, *range(2, len(changes) + 1)]


def test_order_is_part_of_a_schema():
    remembered, _ = counting()
    one = definition(a=1, b=2)
    assert remembered(one) == 1
    one.parameters["a"] = one.parameters.pop("a")
    assert remembered(one) == 2


def test_what_cannot_be_compared_is_worked_out_each_time():
    remembered, _ = counting()
    for one in (ToolDefinition("f", "", MappingProxyType({"a": 1})), definition(a=object())):
        first = remembered(one)
        assert remembered(one) == first + 1


def test_nothing_is_kept_of_what_is_gone():
    remembered, _ = counting()
    one = definition(a=1)
    remembered(one)
    one.parameters["a"] = 2
    remembered(one)
    gone = weakref.ref(one)
    del one
    gc.collect()
    assert gone() is None
    assert not remembered._found


def test_an_error_is_not_remembered():
    asked = []

    def fails_once(given_):
        asked.append(given_)
        if len(asked) == 1:
            raise ValueError
        return "found"

    remembered, one = Remembered(fails_once), definition()
    try:
        remembered(one)
    except ValueError:
        pass
    assert remembered(one) == "found"


def test_many_threads_at_once():
    remembered = Remembered(lambda one: one.parameters["a"])
    shared = [definition(a=number) for number in range(20)]
    wrong, start = [], threading.Barrier(4)

    def ask():
        start.wait()
        for number in range(2000):
            passing = definition(a=-number)
            if remembered(passing) != -number or remembered(shared[number % 20]) != number % 20:
                wrong.append(number)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(remembered._found) <= 20


values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 1) | st.sampled_from([0.0, 1.0, "0", "", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@given(values, values)
def test_it_is_the_same_exactly_where_the_json_is(first, second):
    remembered, asked = counting()
    one = definition(a=first)
    remembered(one)
    one.parameters["a"] = second
    remembered(one)
    assert len(asked) == (1 if repr(first) == repr(second) else 2)
