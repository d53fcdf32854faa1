"""The tools that a model may use, and which of them wait for a person's approval."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from fastmcp.client.transports import StdioTransport
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import AbstractToolset

from turnwired.config.agents import McpServer

ALL = "*"
"""Stands for all tools of a server."""
STARTS_WITHIN: Final = 30.0
"""Seconds that a tool server has to answer first; a program that is started on a busy machine takes over 5."""


class Tools:
    """Toolsets, each with the names of its tools that wait for an approval."""

    def __init__(self, toolsets: Sequence[tuple[AbstractToolset[Any], Collection[str]]]) -> None:
        self.asking: set[str] = set()
        """Names of tools that were offered to the model and wait for an approval."""
        self.toolsets = [self._asked(toolset, set(approval)) for toolset, approval in toolsets]
        self._stdio: list[StdioTransport] = []

    @classmethod
    def of(cls, servers: Sequence[McpServer], secrets: Mapping[str, str]) -> "Tools":
        """The tools of MCP servers; they are connected to by the first turn."""
        stdio: list[StdioTransport] = []
        toolsets: list[tuple[AbstractToolset[Any], Collection[str]]] = []
        for number, server in enumerate(servers):
            if server.url:
                headers = {name: secrets[variable] for name, variable in server.headers_env.items()}
                toolset = MCPToolset[Any](
                    server.url,
                    id=f"mcp-{number}",
                    headers=headers or None,
                    init_timeout=STARTS_WITHIN,
                    tool_error_behavior="failed",
                )
            else:
                transport = StdioTransport(command=server.command[0], args=server.command[1:])
                stdio.append(transport)
                toolset = MCPToolset[Any](
                    transport, id=f"mcp-{number}", init_timeout=STARTS_WITHIN, tool_error_behavior="failed"
                )
            toolsets.append((toolset, server.approval))
        tools = cls(toolsets)
        tools._stdio = stdio
        return tools

    async def close(self) -> None:
        """End the processes that were started."""
        for transport in self._stdio:
            await transport.disconnect()  # type: ignore[no-untyped-call]  # fastmcp annotates no result

    def _asked(self, toolset: AbstractToolset[Any], approval: set[str]) -> AbstractToolset[Any]:
        async def prepare(_: RunContext[Any], tools: list[ToolDefinition]) -> list[ToolDefinition]:
            prepared = []
            for tool in tools:
                asks = ALL in approval or tool.name in approval
                if asks:
                    self.asking.add(tool.name)
                prepared.append(replace(tool, kind="unapproved") if asks else tool)
            return prepared

        return toolset.prepared(prepare)
