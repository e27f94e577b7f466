"""`Tool`: a function with what a model is told of it and how it is to be run.

Runs nothing: that is the agent's. What a function takes is found out when it is first asked for, not when it is
decorated, so that a hint may name what is defined further down.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, overload

from abstractllm.errors import InvalidParameterError, shown
from abstractllm.tools.arguments import validate_arguments
from abstractllm.tools.callables import callable_name, context_parameter
from abstractllm.tools.classes import (
    Approval,
    description_of_class,
    is_class_based,
    is_class_of_tools,
    settings_of,
)
from abstractllm.tools.making import check_name, checked, define
from abstractllm.tools.signatures import bad, check_fit
from abstractllm.types import ToolDefinition

if TYPE_CHECKING:
    from typing import Concatenate

    from typing_extensions import ParamSpec, TypeVar

    from abstractllm.interface import ToolLike

    P = ParamSpec("P", default=...)
    Q = ParamSpec("Q")
    R = TypeVar("R", default=Any)
else:
    from typing import Concatenate, ParamSpec, TypeVar

    P, R = ParamSpec("P"), TypeVar("R")


class _Documentation:
    """The docstring of a class and, for its instances, of the function that they hold."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def __get__(self, instance: Tool | None, owner: type) -> str | None:
        return self._text if instance is None else instance.function.__doc__


@dataclass(frozen=True, slots=True)
class Given:
    """What is said of a tool where it is made; the rest comes from its function."""

    name: str
    description: str | None
    parameters: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, eq=False, repr=False, weakref_slot=True)
class Tool(Generic[P, R]):
    """A function that a model may call.

    `definition` is what the model is told. `timeout` is in seconds, None leaves it to the agent and `math.inf` is none.
    `retries` says how often the function is called again after an exception, before the model is told of it.
    `approval` says whether a person must agree to a call: always, never, or as the function says of a call.
    A `sequential` tool runs alone, with no other call of the turn at the same time. `context` is the parameter that
    takes the `ToolContext`, found by its hint; None where there is none.

    Calling a tool calls its function. Tools are compared by identity.

    Raises InvalidParameterError for a setting that cannot be, and for a definition that `to_tool_definitions` refuses.
    """

    definition: ToolDefinition
    function: Callable[P, R]
    timeout: float | None = None
    retries: int = 0
    approval: Approval = False
    sequential: bool = False
    context: str | None = field(default=None, init=False)
    _given: Given | None = field(default=None, init=False, repr=False)

    __doc__ = _Documentation(__doc__)

    def __post_init__(self) -> None:
        check_settings(self.timeout, self.retries, self.approval, self.sequential)
        definition = self.definition
        found = checked("A Tool", definition.name, definition.description, definition.parameters)
        if found.parameters != definition.parameters or definition.function is not self.function:
            object.__setattr__(self, "definition", replace(found, function=self.function))
        context = context_parameter(definition.name, self.function)
        check_fit(definition.name, found.parameters, self.function, context)
        object.__setattr__(self, "context", context)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Find out what nobody asked for so far: Python asks here for slots that are empty."""
            if name == "__qualname__":  # in the body of a class it would be the name of the class
                return getattr(self.function, name, self.name)
            if name == "__isabstractmethod__":
                return getattr(self.function, name, False)
            if name not in ("definition", "context"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            given = self._given
            definition, context = define(self.function, given.name, given.description, given.parameters)
            object.__setattr__(self, "context", context)
            object.__setattr__(self, "definition", definition)
            return definition if name == "definition" else context

    @property
    def name(self) -> str:
        """The name by which the model calls it."""
        return self.definition.name if self._given is None else self._given.name

    @property
    def is_async(self) -> bool:
        """Whether the function is a coroutine function, or something that calls one."""
        function: Any = self.function
        while isinstance(function, (functools.partial, Tool)):
            function = function.func if isinstance(function, functools.partial) else function.function
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

    @property
    def __name__(self) -> str:
        return getattr(self.function, "__name__", self.name)

    @property
    def __wrapped__(self) -> Callable[P, R]:
        return self.function

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, {self.function!r})"

    @overload
    def __get__(self, instance: None, owner: type, /) -> Tool[P, R]: ...

    @overload
    def __get__(self: Tool[Concatenate[Any, Q], R], instance: object, owner: type | None = None, /) -> Tool[Q, R]: ...

    def __get__(self, instance: object, owner: type | None = None, /) -> Any:
        """Bind the function as a method is bound, where the tool stands in a class."""
        if isinstance(self.function, functools.partial) or not hasattr(type(self.function), "__get__"):
            return self  # from 3.14 on a partial would be bound too, and before that it warns
        bound = self.function.__get__(instance, owner)
        return self if bound is self.function else _bound(self, bound)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def arguments(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments to call the function with, but for `context`; see `validate_arguments`.

        Raises ToolArgumentError, which lists everything that is wrong in one line each.
        """
        return validate_arguments(self.definition, given)

    @classmethod
    def of(cls, tool: ToolLike) -> Tool:
        """Return a tool, a callable, an object with `name` and `execute` or a definition with its function as a Tool.

        Raises InvalidParameterError (parameter `tools`) for anything else, and for what `to_tool_definitions` refuses.
        """
        if isinstance(tool, ToolDefinition) and tool.function is not None:
            return cls(tool, tool.function)
        found = as_tool("A tool", tool)
        if found is None:
            raise bad(f"{_shown(tool)} has no function to call; {_HOW}.")
        found.definition  # noqa: B018 (what is wrong with it is said here)
        return found


_HOW = "pass the function itself, or tool(function, name=..., description=..., parameters=...)"


def _shown(tool: object) -> str:
    name = tool.name if isinstance(tool, ToolDefinition) else None
    return f"A tool of type {type(tool).__name__}" if name is None else f"The definition of the tool {name!r}"


def as_tool(place: str, tool: object) -> Tool | None:
    """Return what is no definition as a Tool; None where it is nothing that could be called.

    Raises InvalidParameterError where it could be, but not by a model.
    """
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, MethodType) and isinstance(tool.__func__, Tool):  # a classmethod around a tool
        return tool.__func__.__get__(tool.__self__)
    if is_class_of_tools(tool):
        raise bad(f"{place} is the class {tool.__name__}; pass an object of it, as in {tool.__name__}().")
    if is_class_based(tool):
        name = check_name(place, tool.name or type(tool).__name__)
        given = Given(name, description_of_class(tool), getattr(tool, "parameters", None))
        return deferred(tool.execute, given, **settings_of(tool))
    if isinstance(tool, Mapping) or not callable(tool):
        return None
    return deferred(tool, Given(check_name(place, callable_name(place, tool)), None, None))


def deferred(function: Callable[..., Any], given: Given, **settings: Any) -> Tool:
    """Return a tool whose definition is made when it is first asked for. Raises InvalidParameterError."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise bad(f"{function.__name__!r} yields its results, and a model takes one; return them in a list.")
    values = {"timeout": None, "retries": 0, "approval": False, "sequential": False} | settings
    check_settings(**values)
    return _filled(function=function, _given=given, **values)


def _bound(tool: Tool, function: Callable[..., Any]) -> Tool:
    """Return a tool with the function of another bound to an object; what nobody asked for so far is still open."""
    if tool._given is None:
        return replace(tool, definition=replace(tool.definition, function=function), function=function)
    return _filled(function=function, _given=tool._given, **settings_of(tool))


def _filled(**values: Any) -> Tool:
    made: Tool = object.__new__(Tool)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


def check_settings(timeout: object, retries: object, approval: object, sequential: object) -> None:
    """Refuse settings that cannot be. Raises InvalidParameterError, whose parameter is the setting."""
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is not None and not (number and timeout > 0):  # type: ignore[operator]
        raise InvalidParameterError("timeout", f"timeout={shown(timeout)} must be a number of seconds above 0.")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise InvalidParameterError("retries", f"retries={shown(retries)} must be a whole number from 0.")
    if not (isinstance(approval, bool) or callable(approval)):
        raise InvalidParameterError(
            "approval", f"approval={shown(approval)} must be True, False or a function of a ToolCall that returns one."
        )
    if not isinstance(sequential, bool):
        raise InvalidParameterError("sequential", f"sequential={shown(sequential)} must be True or False.")
