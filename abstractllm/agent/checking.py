"""What an agent is put together from, checked where it is given. Makes nothing of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable

from abstractllm.agent.events import AgentObserver
from abstractllm.agent.limits import Limits
from abstractllm.errors import InvalidParameterError, shown
from abstractllm.interface import AbstractLLMInterface


def check_parts(llm: object, name: object, limits: object, approve: object) -> None:
    """Raise InvalidParameterError for the first of an agent's arguments that is nothing of its kind."""
    check_llm(llm)
    if not isinstance(name, str):
        _refuse("name", name, "a text")
    if limits is not None and not isinstance(limits, Limits):
        _refuse("limits", limits, "Limits, as in Limits(turns=3)")
    if approve is not None and not callable(approve):
        _refuse("approve", approve, "a function of a ToolCall")


def checked_observers(observers: object) -> tuple[AgentObserver, ...]:
    """Return observers. Raises InvalidParameterError for what is no list of plain functions."""
    told = tuple(observers) if isinstance(observers, Iterable) else (observers,)
    if not isinstance(observers, Iterable) or not all(map(callable, told)):
        _refuse("observers", observers, "a list of functions, or of objects such as Metrics()")
    if any(map(inspect.iscoroutinefunction, told)):
        _refuse("observers", observers, "a list of plain functions, as nobody awaits an async one")
    return told


def check_llm(llm: object) -> None:
    """Raise InvalidParameterError for what is no model and names none."""
    if not isinstance(llm, (AbstractLLMInterface, str)):
        _refuse("llm", llm, "a model of create_llm, or a config string such as 'mlx'")


def _refuse(name: str, value: object, expected: str) -> None:
    raise InvalidParameterError(name, f"{name}={shown(value)} is not valid: it must be {expected}.")
