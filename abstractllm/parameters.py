"""The parameters of a request: their names, ranges and normal forms.

Knows nothing of providers: whether one supports a parameter is the business of `capabilities`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import Enum
from itertools import islice
from typing import Any

from abstractllm.errors import InvalidParameterError, did_you_mean, shown
from abstractllm.types import Timeout

MAX_STOPS = 64
MAX_STOP_LENGTH = 1000
"""Bounds of `stop`: its strings are looked for at every token."""


class ModelParameter(str, Enum):
    """Names of parameters; each member equals its string, so both work as keys."""

    MODEL = "model"
    API_KEY = "api_key"
    BASE_URL = "base_url"
    SYSTEM_PROMPT = "system_prompt"
    MESSAGES = "messages"
    MAX_TOKENS = "max_tokens"
    TEMPERATURE = "temperature"
    TOP_P = "top_p"
    TOP_K = "top_k"
    MIN_P = "min_p"
    SEED = "seed"
    STOP = "stop"
    N = "n"
    LOGPROBS = "logprobs"
    TOP_LOGPROBS = "top_logprobs"
    LOGIT_BIAS = "logit_bias"
    PRESENCE_PENALTY = "presence_penalty"
    FREQUENCY_PENALTY = "frequency_penalty"
    REPETITION_PENALTY = "repetition_penalty"
    TOOLS = "tools"
    TOOL_CHOICE = "tool_choice"
    RESPONSE_FORMAT = "response_format"
    RETRIES = "retries"
    REASONING = "reasoning"
    TIMEOUT = "timeout"
    PRIORITY = "priority"
    DETERMINISTIC = "deterministic"
    OPTIONS = "options"

    def __str__(self) -> str:
        return self.value


def _fail(name: str, value: object, expected: str) -> InvalidParameterError:
    return InvalidParameterError(name, f"{name}={shown(value)} is not valid: it must be {expected}.")


def _number(low: float, high: float, expected: str, *, above: bool = False) -> Callable[[str, Any], float]:
    """Return a check for a finite number in [low, high], or in (low, high] with `above`."""

    def check(name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _fail(name, value, expected)
        if not low <= value <= high or (above and value == low) or abs(value) > sys.float_info.max:
            raise _fail(name, value, expected)
        return float(value)

    return check


def _integer(low: int, high: int, expected: str) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _fail(name, value, expected)
        return value

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _fail(name, value, "True or False")
    return value


def _stop(name: str, value: Any) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else value
    if not isinstance(stops, Iterable) or isinstance(stops, Mapping):
        raise _fail(name, value, "a string or a list of strings")
    found = tuple(islice(stops, MAX_STOPS + 1))
    if not all(isinstance(stop, str) and stop for stop in found):
        raise _fail(name, value, "a string or a list of strings, none of them empty")
    if len(found) > MAX_STOPS:
        raise _fail(name, value, f"at most {MAX_STOPS} strings")
    if any(len(stop) > MAX_STOP_LENGTH for stop in found):
        raise _fail(name, value, f"strings of at most {MAX_STOP_LENGTH:,} characters")
    return found


def _logit_bias(name: str, value: Any) -> dict[int, float]:
    expected = "a mapping from token id to a number from -100 to 100"
    if not isinstance(value, Mapping):
        raise _fail(name, value, expected)
    bounded = _number(-100, 100, expected)
    return {_token_id(name, token, expected): bounded(name, bias) for token, bias in value.items()}


def _token_id(name: str, token: object, expected: str) -> int:
    """Return a key of `logit_bias` as a token id; JSON has only strings for keys, so digits are taken too."""
    if isinstance(token, str) and re.fullmatch(r"[0-9]{1,19}", token):
        return int(token)
    if isinstance(token, bool) or not isinstance(token, int) or token < 0:
        raise _fail(name, token, expected)
    return token


def _timeout(name: str, value: Any) -> Timeout:
    expected = "a number of seconds above 0, or a Timeout of such numbers"
    positive = _number(0, math.inf, expected, above=True)
    if not isinstance(value, Timeout):
        return Timeout(total=positive(name, value))
    for item in fields(value):
        limit = getattr(value, item.name)
        if limit is not None:
            positive(f"{name}.{item.name}", limit)
    return value


def _reasoning(name: str, value: Any) -> str:
    if value not in ("none", "low", "medium", "high"):
        raise _fail(name, value, "'none', 'low', 'medium' or 'high'")
    return str(value)


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _fail(name, value, "a string that is not empty")
    return value


def _options(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _fail(name, value, "a mapping")
    return dict(value)


def _any(name: str, value: Any) -> Any:
    return value


_UNIT = "a number from 0 to 1"
_PENALTY = "a number from -2 to 2"

CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "max_tokens": _integer(1, 2**31, "a whole number from 1 on"),
    "temperature": _number(0, 100, "a number from 0 on (0 is greedy)"),
    "top_p": _number(0, 1, "a number above 0 and at most 1", above=True),
    "top_k": _integer(1, 2**31, "a whole number from 1 on"),
    "min_p": _number(0, 1, _UNIT),
    "seed": _integer(-(2**63), 2**64 - 1, "a whole number of at most 64 bits"),
    "stop": _stop,
    "n": _integer(1, 1024, "a whole number from 1 to 1024"),
    "logprobs": _flag,
    "top_logprobs": _integer(0, 100, "a whole number from 0 to 100"),
    "logit_bias": _logit_bias,
    "presence_penalty": _number(-2, 2, _PENALTY),
    "frequency_penalty": _number(-2, 2, _PENALTY),
    "repetition_penalty": _number(0, 100, "a number above 0 (1 changes nothing)", above=True),
    "tool_choice": _text,
    "response_format": _any,
    "retries": _integer(0, 100, "a whole number from 0 to 100"),
    "reasoning": _reasoning,
    "timeout": _timeout,
    "priority": _integer(-(2**31), 2**31, "a whole number"),
    "deterministic": _flag,
    "options": _options,
}
"""Check and normal form of each parameter that may stand in a call or in an instance's configuration."""


def check_parameters(given: Mapping[str, Any], *, also: Iterable[str] = ()) -> dict[str, Any]:
    """Return the given parameters in normal form, without those that are None.

    `also` are names accepted as they are. Raises InvalidParameterError for an unknown name or a bad value.
    """
    accepted = set(also)
    checked: dict[str, Any] = {}
    for key, value in given.items():
        name = str(key)
        if name not in CHECKS and name not in accepted:
            hint = did_you_mean(name, accepted.union(CHECKS))
            raise InvalidParameterError(name, f"Unknown parameter {name!r}.{hint}")
        if value is None:
            continue
        checked[name] = value if name in accepted else CHECKS[name](name, value)
    return checked


_TEXT = frozenset(
    {"model", "embedding_model", "api_key", "base_url", "system_prompt", "tool_choice", "reasoning", "stop"}
)


def from_text(name: str, text: str) -> Any:
    """Return the value that `text`, from a config string or an environment variable, has for a parameter.

    JSON where it is JSON (`0.2`, `true`, `["a"]`), the text itself otherwise and for names that take text.
    """
    if name in _TEXT:
        return text
    import json

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
