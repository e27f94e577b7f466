"""Tools as users give them -> `ToolDefinition`s. Nothing here calls a tool or knows a model's way to ask for it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from abstractllm.tools.classes import is_class_based
from abstractllm.tools.making import checked, from_mapping
from abstractllm.tools.remembering import Remembered
from abstractllm.tools.signatures import bad
from abstractllm.tools.tool import Tool, as_tool
from abstractllm.types import ToolDefinition

if TYPE_CHECKING:
    from abstractllm.interface import ToolLike


def to_tool_definitions(tools: Iterable[ToolLike]) -> tuple[ToolDefinition, ...]:
    """Return one definition per tool, in order.

    A tool is one of
    - a callable: function, async function, bound method, `functools.partial` (bound arguments are not shown), object
      with `__call__`, pydantic model, dataclass or other class. Its parameters come from type hints and defaults,
      the descriptions from `Annotated[..., "text"]`, `pydantic.Field` and the docstring (Google, NumPy, Sphinx). A
      parameter that takes a `ToolContext` is not shown;
    - a `Tool`, such as a function decorated with `@tool`; an object of a `BaseTool` or of another class with `name` and
      `execute`;
    - a mapping `{"type": "function", "function": {"name", "description", "parameters"}}`, or that inner mapping alone,
      where the schema may also be called `input_schema` or `inputSchema`. `strict` and MCP's `title`, `annotations`
      and `outputSchema` are accepted and change nothing, as arguments are always validated;
    - a `ToolDefinition`.

    Raises InvalidParameterError (parameter `tools`) for anything else: a name that models cannot write, two tools of
    one name, a parameter without a JSON Schema, a schema that is not one of an object, a reference out of a schema.
    """
    if _is_single(tools):
        raise bad(f"tools is a single {type(tools).__name__}; pass a list of tools: tools=[...].")
    definitions = tuple(_definition(number, tool) for number, tool in enumerate(tools))
    seen: set[str] = set()
    for definition in definitions:
        if definition.name in seen:
            raise bad(f"Two tools are named {definition.name!r}; give each a name of its own.")
        seen.add(definition.name)
    return definitions


def _is_single(tools: object) -> bool:
    if isinstance(tools, (list, tuple)):
        return False
    if isinstance(tools, (str, bytes, Mapping, ToolDefinition)) or not isinstance(tools, Iterable):
        return True
    return callable(tools) or is_class_based(tools)


def _definition(number: int, tool: object) -> ToolDefinition:
    if isinstance(tool, Tool):
        tool = tool.definition
    if isinstance(tool, ToolDefinition):
        parameters = _sent(tool)
        return tool if parameters is None else replace(tool, parameters=copy.deepcopy(parameters))
    if isinstance(tool, Mapping):
        return from_mapping(f"tools[{number}]", tool)
    found = as_tool(f"tools[{number}]", tool)
    if found is not None:
        return found.definition
    raise bad(
        f"tools[{number}] is of type {type(tool).__name__}; it must be a function, a JSON Schema or a ToolDefinition."
    )


def _parameters(definition: ToolDefinition) -> dict[str, Any] | None:
    """Return the schema of a definition as it is sent; None where that is the one it has."""
    found = checked("A ToolDefinition", definition.name, definition.description, definition.parameters).parameters
    return None if found == definition.parameters else dict(found)


_sent = Remembered(_parameters)
