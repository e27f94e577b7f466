"""Tools: functions that models may call, what models are told of them, and the arguments of calls."""

from abstractllm.tools.arguments import validate_arguments as validate_arguments
from abstractllm.tools.classes import BaseTool as BaseTool
from abstractllm.tools.context import StopRun as StopRun, ToolContext as ToolContext, ToolRetry as ToolRetry
from abstractllm.tools.decorator import tool as tool
from abstractllm.tools.definitions import to_tool_definitions as to_tool_definitions
from abstractllm.tools.tool import Tool as Tool
