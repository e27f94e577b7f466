"""What requests ask for, and the seeds of draws."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from abstractllm.providers.local.sampling import Sampling, mixed
from abstractllm.types import GenerateRequest, Message


def sampling_of(**given: object) -> Sampling:
    return Sampling.of(GenerateRequest((Message("user", "Hi"),), **given))


@pytest.mark.parametrize(
    ("given", "temperature"),
    [
        ({}, 0.0),
        ({"top_k": 3}, 1.0),
        ({"top_p": 0.9}, 1.0),
        ({"min_p": 0.1}, 1.0),
        ({"seed": 0}, 1.0),
        ({"temperature": 0.0, "top_p": 0.9, "seed": 1}, 0.0),
        ({"temperature": 0.3}, 0.3),
        ({"repetition_penalty": 1.2, "logit_bias": {1: 2.0}}, 0.0),
    ],
)
def test_a_request_is_greedy_unless_it_asks_for_chance(given, temperature):
    assert sampling_of(**given).temperature == temperature


def test_everything_that_a_request_says_is_there():
    assert sampling_of(
        temperature=0.7,
        top_k=4,
        top_p=0.9,
        min_p=0.1,
        seed=-5,
        repetition_penalty=1.1,
        presence_penalty=-0.5,
        frequency_penalty=0.25,
        logit_bias={7: 1.5, 3: -100.0},
        logprobs=True,
        top_logprobs=2,
    ) == Sampling(0.7, 4, 0.9, 0.1, -5, 1.1, -0.5, 0.25, ((3, -100.0), (7, 1.5)), 2)


def test_what_changes_nothing_counts_as_not_given():
    neutral = sampling_of(
        temperature=1.0, top_p=1.0, min_p=0.0, repetition_penalty=1.0, presence_penalty=0.0, frequency_penalty=0.0
    )
    assert neutral == Sampling(1.0)
    assert sampling_of(logit_bias={}) == Sampling()


@pytest.mark.parametrize(
    ("given", "expected"), [({}, None), ({"logprobs": True}, 0), ({"logprobs": True, "top_logprobs": 3}, 3)]
)
def test_log_probabilities_are_reported_when_they_are_asked_for(given, expected):
    assert sampling_of(**given).logprobs == expected


@given(
    st.dictionaries(st.integers(0, 2**40), st.floats(-100, 100), max_size=5),
    st.none() | st.integers(-(2**63), 2**64 - 1),
)
def test_settings_can_be_keys_whatever_the_order_of_their_bias(bias, seed):
    backwards = dict(reversed(bias.items()))
    assert hash(sampling_of(logit_bias=bias, seed=seed)) == hash(sampling_of(logit_bias=backwards, seed=seed))


def test_mixed_is_splitmix64():
    assert [mixed(1234567, position) for position in range(3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
