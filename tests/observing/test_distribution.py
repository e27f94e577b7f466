"""How numbers are spread: in buckets, and exactly."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from abstractllm.observing.distribution import SECONDS, Distribution, percentile, spread


@given(st.lists(st.floats(0, 200), min_size=1))
def test_a_distribution_counts_every_value_in_its_bucket(values):
    found = Distribution()
    for value in values:
        found.add(value)
    expected = [
        sum(low < value <= high for value in values) for low, high in zip((-1, *SECONDS), (*SECONDS, 1e9), strict=True)
    ]
    assert found.buckets == expected
    told = spread(found, values)
    assert (told.min, told.max, told.count) == (min(values), max(values), len(values))
    assert told.min <= told.p50 <= told.p95 <= told.max


@given(st.lists(st.integers(), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(values, percent):
    found = percentile(sorted(values), percent)
    enough = [one for one in values if 100 * sum(other <= one for other in values) >= percent * len(values)]
    assert found == min(enough)


@given(st.lists(st.floats(0, 100)), st.lists(st.floats(0, 100)))
def test_merging_is_counting_both(one, other):
    parts = [Distribution(), Distribution(), Distribution()]
    for place, values in enumerate((one, other, one + other)):
        for value in values:
            parts[place].add(value)
    parts[0].merge(parts[1])
    assert (parts[0].buckets, parts[0].least, parts[0].greatest) == (
        parts[2].buckets,
        parts[2].least,
        parts[2].greatest,
    )
    assert parts[0].sum == pytest.approx(parts[2].sum)
