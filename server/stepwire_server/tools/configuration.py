"""What a TOML file says of commands and of MCP servers. What is wrong is told by its place, never by a value."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stepwire_server.tools.commands import Command, CommandTool
from stepwire_server.tools.mcp_servers import McpServer, ServerSettings

__all__ = ["load_commands", "load_servers"]


def load_commands(path: Path) -> list[CommandTool]:
    """Returns the commands of a TOML file, each a table `[commands.NAME]`. Raises ValueError, which says where."""
    tools = []
    for name, table in _tables(path, "commands").items():
        try:
            tools.append(CommandTool(name, Command.model_validate(table)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: commands.{name}{_problem(error)}") from None
    return tools


def load_servers(path: Path) -> list[McpServer]:
    """Returns the MCP servers of a TOML file, each a table `[mcp.NAME]`. Raises ValueError, which says where."""
    servers = []
    for name, table in _tables(path, "mcp").items():
        try:
            servers.append(McpServer(name, ServerSettings.model_validate(table)))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: mcp.{name}{_problem(error)}") from None
    return servers


def _tables(path: Path, kind: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from None
    tables = found.pop(kind, None)
    if found or not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError(f"{path}: it has tables [{kind}.NAME], and nothing else")
    return tables


def _problem(error: ValueError | TypeError) -> str:
    """Returns what is wrong with a table, as the rest of the name of its place."""
    if not isinstance(error, ValidationError):
        return f": {error}"
    first, *more = error.errors(include_url=False, include_context=False, include_input=False)
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}" + (f" (and {len(more)} more)" if more else "")
