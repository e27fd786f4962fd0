"""System U's tools as an app: Python functions, commands and MCP servers' tools, called side by side or step by step.

    toolbox = Toolbox()

    @toolbox.tool()
    def add(a: int, b: int) -> int:
        \"\"\"Add two numbers.\"\"\"
        return a + b

    toolbox.register(app)         # the operation run_tools, and add as an operation of its own

`stepwire_server.tools:app` serves those that its settings name. `create_app` makes another one.
"""

from __future__ import annotations

__all__ = [
    "BlockingToolContext",
    "Command",
    "CommandTool",
    "FunctionTool",
    "McpServer",
    "McpTool",
    "Parameter",
    "ServerSettings",
    "Tool",
    "ToolContext",
    "ToolFailed",
    "Toolbox",
    "app",
    "create_app",
    "load_commands",
    "load_servers",
    "ready_made",
    "tool_operations",
]

from collections.abc import Mapping
from pathlib import Path

from stepwire_server import App
from stepwire_server.tools.commands import Command, CommandTool
from stepwire_server.tools.configuration import load_commands, load_servers
from stepwire_server.tools.functions import FunctionTool
from stepwire_server.tools.mcp_servers import McpServer, McpTool, ServerSettings
from stepwire_server.tools.parameters import Parameter
from stepwire_server.tools.ready_made import ready_made
from stepwire_server.tools.tool import BlockingToolContext, Tool, ToolContext, ToolFailed
from stepwire_server.tools.toolbox import Toolbox, tool_operations


def create_app(name: str = "tools") -> App:
    """Returns an app that serves the ready-made tools, and what its settings name."""
    toolbox = Toolbox(ready_made())
    made = App(
        name,
        description="Calls tools: Python functions, commands and MCP servers' tools.",
        settings={
            "commands": "A TOML file that says which commands may be called, and how.",
            "mcp": "An MCP server: a command line, an http(s) address, or a TOML file that names several.",
        },
    )

    @made.startup
    def configure(settings: Mapping[str, str]) -> None:
        for tool in load_commands(Path(settings["commands"])) if "commands" in settings else ():
            toolbox.add(tool)
        given = settings.get("mcp", "")
        for server in load_servers(Path(given)) if given.endswith(".toml") else [McpServer.of(given)] if given else ():
            toolbox.connect(server)

    toolbox.register(made)
    return made


app = create_app()
