"""MCP, the Model Context Protocol: tools of its servers for agents here, and tools from here for its clients.

The protocol is the official SDK's, the library `mcp`, which is imported when something here is first used.
"""

from abstractllm.agent.mcp.client import MCPTools as MCPTools, mcp_tools as mcp_tools
from abstractllm.agent.mcp.server import mcp_server as mcp_server, serve_tools as serve_tools
