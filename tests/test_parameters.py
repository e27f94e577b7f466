"""Names, ranges and normal forms of parameters."""

import itertools
import json
import math
from fractions import Fraction

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import InvalidParameterError
from abstractllm.parameters import CHECKS, ModelParameter, check_parameters, from_text
from abstractllm.types import GenerateRequest, Timeout

GOOD = [
    ("max_tokens", 1, 1),
    ("temperature", 0, 0.0),
    ("temperature", 1.5, 1.5),
    ("top_p", 1, 1.0),
    ("top_k", 40, 40),
    ("min_p", 0, 0.0),
    ("seed", -3, -3),
    ("seed", 2**64 - 1, 2**64 - 1),
    ("stop", "END", ("END",)),
    ("stop", ["a", "b"], ("a", "b")),
    ("stop", [], ()),
    ("stop", ["x" * 1000] * 64, ("x" * 1000,) * 64),
    ("n", 2, 2),
    ("logprobs", True, True),
    ("top_logprobs", 0, 0),
    ("logit_bias", {"7": -100, 8: 1.5}, {7: -100.0, 8: 1.5}),
    ("presence_penalty", -2, -2.0),
    ("frequency_penalty", 2, 2.0),
    ("repetition_penalty", 1, 1.0),
    ("tool_choice", "auto", "auto"),
    ("response_format", int, int),
    ("retries", 0, 0),
    ("reasoning", "none", "none"),
    ("timeout", 3, Timeout(total=3.0)),
    ("timeout", Timeout(idle=1), Timeout(idle=1)),
    ("priority", -1, -1),
    ("deterministic", False, False),
    ("options", {"num_ctx": 1}, {"num_ctx": 1}),
]

BAD = [
    ("max_tokens", 0),
    ("max_tokens", 1.0),
    ("max_tokens", True),
    ("temperature", -1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("temperature", "0.5"),
    ("temperature", 10**400),
    ("temperature", 10**5000),
    ("top_p", 0),
    ("top_p", 1.1),
    ("min_p", -0.1),
    ("seed", 2**64),
    ("stop", ""),
    ("stop", ["a", ""]),
    ("stop", 3),
    ("stop", ["x"] * 65),
    ("stop", itertools.repeat("x")),
    ("stop", "x" * 1001),
    ("stop", b"ab"),
    ("stop", {"a": 1}),
    ("n", 0),
    ("logprobs", 1),
    ("logit_bias", [1]),
    ("logit_bias", {1: 101}),
    ("logit_bias", {1.5: 1}),
    ("logit_bias", {math.inf: 1}),
    ("logit_bias", {True: 1}),
    ("logit_bias", {-1: 1}),
    ("logit_bias", {"x": 1}),
    ("logit_bias", {None: 1}),
    ("presence_penalty", 2.1),
    ("repetition_penalty", 0),
    ("tool_choice", ""),
    ("tool_choice", {"name": "f"}),
    ("reasoning", "extreme"),
    ("reasoning", []),
    ("timeout", 0),
    ("timeout", 10**400),
    ("timeout", Timeout(total=-1)),
    ("options", [1]),
]


@pytest.mark.parametrize(("name", "value", "normal"), GOOD)
def test_good_values_get_their_normal_form(name, value, normal):
    checked = check_parameters({name: value})
    assert checked == {name: normal}
    assert type(checked[name]) is type(normal)


@pytest.mark.parametrize(("name", "value"), BAD, ids=range(len(BAD)))
def test_bad_values_are_refused_with_what_is_right(name, value):
    with pytest.raises(InvalidParameterError, match="it must be|must be") as caught:
        check_parameters({name: value})
    assert caught.value.parameter.split(".")[0] == name
    assert len(str(caught.value)) < 300


def test_every_parameter_has_a_good_and_a_bad_case():
    assert {name for name, *_ in GOOD} == set(CHECKS)
    assert set(CHECKS) - {name for name, _ in BAD} == {
        "response_format", "retries", "priority", "deterministic", "top_k", "top_logprobs", "frequency_penalty",
    }  # fmt: skip


def test_the_parameters_are_those_of_a_request():
    assert set(CHECKS) == set(GenerateRequest.__slots__) - {"messages", "tools", "stream", "model"}
    assert {str(one) for one in ModelParameter} == set(CHECKS) | {
        "model", "api_key", "base_url", "system_prompt", "messages", "tools",
    }  # fmt: skip


def test_none_means_not_given():
    assert check_parameters(dict.fromkeys(CHECKS)) == {}


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(InvalidParameterError, match="Did you mean 'temperature'"):
        check_parameters({"temprature": 1})


def test_names_of_the_provider_are_accepted_as_they_are():
    value = object()
    assert check_parameters({"model": value}, also=("model",)) == {"model": value}


def test_members_of_the_enumeration_are_names():
    assert check_parameters({ModelParameter.TOP_K: 3}) == {"top_k": 3}
    assert f"{ModelParameter.TOP_K}" == "top_k"


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.complex_numbers()
    | st.builds(object)
    | st.fractions()
    | st.integers(min_value=300, max_value=5000).map(lambda digits: 10**digits)
    | st.builds(Timeout, total=st.floats() | st.none(), idle=st.text() | st.integers()),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner)
        | st.dictionaries(st.text() | st.integers() | st.floats(allow_nan=False) | st.none(), inner)
        | st.sets(st.integers() | st.text())
    ),
    max_leaves=5,
)


@given(st.sampled_from(sorted(CHECKS)), anything)
def test_no_value_raises_another_error(name, value):
    try:
        checked = check_parameters({name: value})
    except InvalidParameterError:
        return
    assert checked == ({} if value is None else {name: checked[name]})


@given(st.sampled_from(sorted(CHECKS)), anything)
def test_the_normal_form_is_its_own(name, value):
    try:
        once = check_parameters({name: value})
    except InvalidParameterError:
        return
    if name not in ("response_format", "options"):  # these may hold values that differ from themselves
        assert check_parameters(once) == once


@given(st.dictionaries(st.text(max_size=8), st.none() | st.integers(), max_size=3))
def test_no_name_raises_another_error(given_names):
    try:
        check_parameters(given_names)
    except InvalidParameterError as error:
        assert error.parameter in given_names


def test_other_numbers_than_int_and_float_are_refused():
    with pytest.raises(InvalidParameterError):
        check_parameters({"temperature": Fraction(1, 2)})


@given(st.text(), st.text())
def test_from_text_takes_any_text(name, text):
    from_text(name, text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_from_text_reads_json(value):
    assert from_text("options", json.dumps(value)) == value


@given(st.text())
def test_from_text_leaves_text_to_names_that_take_text(text):
    assert from_text("model", text) == from_text("stop", text) == text


@pytest.mark.parametrize(
    ("text", "value"), [("0.2", 0.2), ("true", True), ("low", "low"), ("[" * 100_000, "[" * 100_000), ("", "")]
)
def test_from_text_examples(text, value):
    assert from_text("temperature", text) == value


def test_from_text_keeps_numbers_that_python_will_not_read():
    assert from_text("seed", "1" * 5000) == "1" * 5000
