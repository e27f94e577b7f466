"""How tokens are chosen from scores, against plain arithmetic."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm import GenerationError
from abstractllm.providers.huggingface.choosing import Chooser, draw, ranked, weigh
from abstractllm.providers.local.sampling import Sampling

SCORES = st.lists(st.integers(-40, 40).map(lambda score: score / 4), min_size=1, max_size=40)
"""Coarse numbers, so that there are ties."""


def tensor(values: Any) -> Any:
    import torch

    return torch.tensor(values, dtype=torch.float32)


def expected_weights(scores: list[float], sampling: Sampling) -> dict[int, float]:
    """Tokens that may come with their weights relative to the likeliest, by the definitions of the filters."""
    highest = max(scores)
    weights = {token: math.exp((score - highest) / sampling.temperature) for token, score in enumerate(scores)}
    order = sorted(weights, key=lambda token: (-scores[token], token))
    if sampling.top_k is not None:
        order = order[: sampling.top_k]
    if sampling.top_p is not None:
        mass, above, kept = sum(weights[token] for token in order), 0.0, []
        for token in order:
            if above < sampling.top_p * mass:
                kept.append(token)
            above += weights[token]
        order = kept
    return {token: weights[token] for token in order if weights[token] >= (sampling.min_p or 0)}


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.sampled_from([0.5, 1.0, 2.0]),
    top_k=st.none() | st.integers(1, 50),
    top_p=st.none() | st.sampled_from([0.11, 0.53, 0.93]),
    min_p=st.none() | st.sampled_from([0.013, 0.31]),
)


@settings(max_examples=300)
@given(SCORES, SAMPLINGS)
def test_filters_leave_what_their_definitions_say(scores: list[float], sampling: Sampling) -> None:
    tokens, weights = weigh(tensor(scores), sampling)
    names = range(len(scores)) if tokens is None else tokens.tolist()
    found = {token: weight for token, weight in zip(names, weights.tolist(), strict=True) if weight}
    expected = expected_weights(scores, sampling)
    assert found.keys() == expected.keys()
    assert all(math.isclose(found[token], expected[token], rel_tol=1e-5) for token in found)


@given(SCORES, SAMPLINGS, st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5))
def test_only_what_is_left_is_drawn(scores: list[float], sampling: Sampling, chances: list[float]) -> None:
    allowed = expected_weights(scores, sampling)
    assert {draw(tensor(scores), sampling, chance) for chance in (0.0, *chances, 1 - 2**-53)} <= allowed.keys()


@given(SCORES)
def test_tokens_come_in_proportion_to_their_weights(scores: list[float]) -> None:
    """A token is drawn by just those numbers that lie in its part of the line from 0 to 1."""
    sampling = Sampling(temperature=1.0)
    weights = expected_weights(scores, sampling)
    total, start = sum(weights.values()), 0.0
    for token, weight in sorted(weights.items()):
        middle = (start + weight / 2) / total
        start += weight
        if weight / total > 1e-6:
            assert draw(tensor(scores), sampling, middle) == token


@given(SCORES, st.none() | st.integers(1, 50))
def test_ranks_are_by_score_and_then_by_id(scores: list[float], count: int | None) -> None:
    expected = sorted(range(len(scores)), key=lambda token: (-scores[token], token))[:count]
    assert ranked(tensor(scores), count).tolist() == expected


def test_greedy_takes_the_first_of_equals() -> None:
    assert Chooser(Sampling(), ()).choose(tensor([0, 3, 3, 1])).token == 1


def test_a_temperature_near_zero_takes_the_likeliest() -> None:
    chooser = Chooser(Sampling(temperature=1e-38, seed=1), ())
    assert {chooser.choose(tensor([0, 3, 2.999, 1])).token for _ in range(20)} == {1}


def test_a_seed_gives_the_same_draws_and_another_one_others() -> None:
    def drawn(seed: int | None) -> list[int]:
        chooser = Chooser(Sampling(temperature=1.0, seed=seed), ())
        return [chooser.choose(tensor([0.0] * 1000)).token for _ in range(20)]

    assert drawn(5) == drawn(5)
    assert len({tuple(drawn(seed)) for seed in (5, 6, -1, 2**64 - 2, None)}) == 5
    assert len(set(drawn(5))) > 10  # each position has a number of its own


def test_penalties_change_scores_by_their_definitions() -> None:
    scores = [2.0, -2.0, 1.0, 0.5, 0.0]
    wish = Sampling(repetition_penalty=2.0, presence_penalty=0.5, frequency_penalty=0.25, logit_bias=((4, 3.0),))
    chooser = Chooser(wish, prompt=[1, 3])
    chooser._said = [2, 2]
    # 1 and 3 in the prompt, 2 twice in the answer: repetition counts for all three, the others for the answer alone.
    assert chooser._adjusted(tensor(scores)).tolist() == [2.0, -4.0, 0.5 - 0.5 - 2 * 0.25, 0.25, 3.0]


def test_what_was_chosen_counts_for_the_next_token() -> None:
    chooser = Chooser(Sampling(presence_penalty=2.0), prompt=[0])
    assert [chooser.choose(tensor([3, 2, 1.5])).token for _ in range(3)] == [0, 1, 2]


def test_a_mask_forbids_tokens_and_bits_beyond_the_scores_mean_nothing() -> None:
    import numpy as np

    mask = np.array([0b1010, 0xFFFFFFFF], dtype=np.uint32)
    scores = tensor([9.0, 1.0, 8.0, 2.0])
    assert Chooser(Sampling(), ()).choose(scores, mask).token == 3
    chooser = Chooser(Sampling(temperature=5.0, seed=1), ())
    assert {chooser.choose(scores, mask).token for _ in range(50)} == {1, 3}
    beyond = tensor([0.0] * 70)
    assert {Chooser(Sampling(temperature=5.0, seed=seed), ()).choose(beyond, mask).token for seed in range(200)} <= {
        *(1, 3),
        *range(32, 64),
    }


def test_logprobs_are_those_of_the_raw_model() -> None:
    wish = Sampling(temperature=0.01, seed=1, logit_bias=((2, 100.0),), logprobs=2)
    chosen = Chooser(wish, ()).choose(tensor([1.0, 1.0, 0.0]))
    total = 2 * math.e + 1
    assert chosen.token == 2
    assert chosen.scored is not None
    assert math.isclose(chosen.scored.logprob, math.log(1 / total), rel_tol=1e-6)
    assert [token for token, _ in chosen.scored.top] == [0, 1]
    assert all(math.isclose(value, math.log(math.e / total), rel_tol=1e-6) for _, value in chosen.scored.top)


@pytest.mark.parametrize("scores", [[1.0, math.nan, 0.0], [math.inf, 0.0], [-math.inf, -math.inf]], ids=str)
@pytest.mark.parametrize(
    "wish", [Sampling(), Sampling(temperature=1.0), Sampling(logprobs=0)], ids=["greedy", "drawn", "told"]
)
def test_scores_that_are_no_numbers_are_an_error(scores: list[float], wish: Sampling) -> None:
    with pytest.raises(GenerationError, match="scores"):
        Chooser(wish, ()).choose(tensor(scores))


def test_the_models_own_scores_are_left_as_they_are() -> None:
    scores = tensor([1.0, 2.0, 3.0])
    wish = Sampling(repetition_penalty=2.0, logit_bias=((0, 50.0),), temperature=1.0, seed=3, logprobs=1)
    Chooser(wish, [0, 1]).choose(scores)
    assert scores.tolist() == [1.0, 2.0, 3.0]
