"""`@tool`, which makes a `Tool` of a function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar, overload

from abstractllm.tools.callables import callable_name
from abstractllm.tools.classes import Approval, is_class_based
from abstractllm.tools.making import check_name
from abstractllm.tools.signatures import bad
from abstractllm.tools.tool import Given, Tool, check_settings, deferred

P = ParamSpec("P")
R = TypeVar("R")


@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    approval: Approval = False,
    sequential: bool = False,
    parameters: Mapping[str, Any] | None = None,
) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    approval: Approval = False,
    sequential: bool = False,
    parameters: Mapping[str, Any] | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    retries: int = 0,
    approval: Approval = False,
    sequential: bool = False,
    parameters: Mapping[str, Any] | None = None,
) -> Any:
    """Make a `Tool` of a function: as `@tool`, as `@tool(timeout=10)`, or as `tool(function, name="f")`.

    `name` is that of the function, `description` what its docstring says, and `parameters`, a JSON Schema, what its
    hints and its docstring say, where they are not given. The others are those of `Tool`. In a class it makes methods
    tools: `obj.method` is one. What is wrong with the function's parameters is said when they are first asked for.

    Raises InvalidParameterError for a setting that cannot be, and for a name that models cannot write.
    """

    def decorated(function: Callable[..., Any]) -> Tool:
        _check_function(function)
        given = Given(
            check_name(_PLACE, callable_name(_PLACE, function) if name is None else name), description, parameters
        )
        return deferred(function, given, timeout=timeout, retries=retries, approval=approval, sequential=sequential)

    check_settings(timeout, retries, approval, sequential)
    return decorated if function is None else decorated(function)


_PLACE = "A tool"
_OTHERWISE = "pass it to tools=[...] as it is, or to Tool.of"


def _check_function(function: object) -> None:
    if isinstance(function, str):
        raise bad(f"tool({function!r}) names a tool; write @tool(name={function!r}).")
    if isinstance(function, Tool):
        raise bad(f"{function.name!r} is a tool already; change it with dataclasses.replace(tool, timeout=...).")
    if is_class_based(function) or not (callable(function) or isinstance(function, classmethod)):
        raise bad(f"tool() makes tools of functions, not of an object of type {type(function).__name__}; {_OTHERWISE}.")
