"""Tools: functions that models may call, what models are told of them, and the arguments of calls."""

from abstractllm.tools.arguments import validate_arguments as validate_arguments
from abstractllm.tools.context import StopRun as StopRun, ToolContext as ToolContext, ToolRetry as ToolRetry
from abstractllm.tools.definitions import to_tool_definitions as to_tool_definitions
from abstractllm.tools.tool import BaseTool as BaseTool, Tool as Tool, tool as tool
