"""Limits that make no sense are refused."""

from __future__ import annotations

from typing import Any

import pytest

from abstractllm import InvalidParameterError
from abstractllm.agent import Limits


@pytest.mark.parametrize(
    "given",
    [
        {"turns": 0},
        {"turns": 1.5},
        {"turns": True},
        {"tool_calls": -1},
        {"tokens": 0},
        {"tokens": "many"},
        {"seconds": 0},
        {"seconds": "1"},
        {"seconds": float("nan")},
        {"parallel": 0},
        {"parallel": None},
        {"on_limit": "stop"},
    ],
)
def test_what_cannot_be_a_limit_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match=next(iter(given))):
        Limits(**given)


def test_none_is_no_limit() -> None:
    assert Limits(turns=None, tool_calls=None, tokens=None, seconds=None) != Limits()
