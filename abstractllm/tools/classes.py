"""Tools as classes: `BaseTool`, and other classes whose objects have a `name` and an `execute`."""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from abstractllm.types import ToolCall

if TYPE_CHECKING:
    from abstractllm.interface import ExecutedTool

Approval = bool | Callable[[ToolCall], bool | Awaitable[bool]]
SETTINGS = ("timeout", "retries", "approval", "sequential")
"""How a tool is run."""


class BaseTool(ABC):
    """A tool as a class: give it a `name`, a `description` and an `execute`, sync or async.

    `parameters` is the JSON Schema of the arguments; without it, they are read from the hints and the docstring of
    `execute`. Without a `name` it is called as its class, without a `description` it has that of its docstring.
    `timeout`, `retries`, `approval` and `sequential` are those of `Tool`. A tool is an object of the class.
    """

    name: str = ""
    description: str = ""
    parameters: Mapping[str, Any] | None = None
    timeout: float | None = None
    retries: int = 0
    approval: Approval = False
    sequential: bool = False

    @abstractmethod
    def execute(self, *args: Any, **kwargs: Any) -> Any:
        # No docstring: it would become the description of every tool that has none.
        raise NotImplementedError


def is_class_based(tool: object) -> TypeGuard[ExecutedTool]:
    """Return whether something is an object with a `name` and an `execute`, as those of `BaseTool` are."""
    if isinstance(tool, type) or inspect.isroutine(tool):
        return False
    return isinstance(getattr(tool, "name", None), str) and callable(getattr(tool, "execute", None))


def is_class_of_tools(tool: object) -> TypeGuard[type]:
    """Return whether something is a class whose objects are tools, and not itself one that a model could call."""
    if not isinstance(tool, type) or dataclasses.is_dataclass(tool) or hasattr(tool, "model_json_schema"):
        return False
    named = issubclass(tool, BaseTool) or isinstance(getattr(tool, "name", None), str)
    return named and callable(getattr(tool, "execute", None))


def description_of_class(tool: object) -> str | None:
    """Return the description that an object gives itself; None where its docstrings must say it."""
    text = getattr(tool, "description", None) or None
    if text is None and not getattr(tool.execute, "__doc__", None):  # type: ignore[attr-defined]
        return inspect.cleandoc(type(tool).__doc__ or "") or None
    return text


def settings_of(tool: object) -> dict[str, Any]:
    """Return how an object says that it is to be run."""
    return {key: getattr(tool, key, getattr(BaseTool, key)) for key in SETTINGS}
