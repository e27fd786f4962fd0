"""Tools of MCP servers, through the official `mcp` SDK: a process that speaks on its standard streams, or an address.

A server is connected once, at the start, and again at the next call after it was lost. What was being called when
it was lost fails, and is not called again: it may have happened.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import Field

from stepwire_server import SchemaSignature
from stepwire_server.tools.connections import Connection, check_installed, connect, reason
from stepwire_server.tools.parameters import Configured
from stepwire_server.tools.secrecy import Secrecy
from stepwire_server.tools.tool import Tool, ToolContext, ToolFailed

if TYPE_CHECKING:
    from mcp.types import CallToolResult, ContentBlock
    from mcp.types import Tool as Listed

__all__ = ["McpServer", "McpTool", "ServerSettings"]

_log = logging.getLogger(__name__)

_START = 30.0
"""Seconds that a server has to start and list its tools."""

_PROBE = 5.0
"""Seconds in which a server must answer after a call of it took too long, or it is started again."""

_PAGES = 100


class ServerSettings(Configured):
    """How an MCP server is reached, as a configuration says it: `command` or `url`."""

    command: list[str] = Field(default_factory=list)
    """The program and its arguments."""
    url: str = ""
    """Where it listens for streamable HTTP."""
    directory: str | None = None
    """Where the program runs."""
    env: dict[str, str] = Field(default_factory=dict)
    """Its environment, besides HOME, PATH and the like. Its values are shown nowhere, and neither are the next ones."""
    env_from: list[str] = Field(default_factory=list)
    """Variables of the server's environment that it has, too."""
    headers_from: dict[str, str] = Field(default_factory=dict)
    """Headers of each request, and the variables of the server's environment that have their values."""
    prefix: str = ""
    """What its tools' names begin with."""
    timeout: float = 60.0
    """Seconds that one call may take."""


class McpServer:
    """One MCP server, and the connection to it."""

    def __init__(self, name: str, settings: ServerSettings) -> None:
        """Raises ValueError for settings that can't work."""
        if bool(settings.command) == bool(settings.url):
            raise ValueError(f"MCP server {name!r} has a command or a url, one of them")
        if settings.timeout <= 0:
            raise ValueError(f"MCP server {name!r}: timeout is {settings.timeout}; it must be above 0")
        self.name = name
        """What it is called in texts."""
        self.settings = settings
        self.secrecy = Secrecy(settings)
        """What hides its secrets."""
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def starts_programs(self) -> bool:
        """Whether it is a process that is started here."""
        return bool(self.settings.command)

    @classmethod
    def of(cls, text: str) -> McpServer:
        """Returns the server of a URL or a command line. Raises ValueError."""
        if re.match(r"https?://", text):
            return cls(urlsplit(text).hostname or "mcp", ServerSettings(url=text))
        try:
            command = shlex.split(text)
        except ValueError as error:
            raise ValueError(f"the command line of the MCP server can't be read: {error}") from None
        return cls("mcp", ServerSettings(command=command))

    async def open(self) -> list[McpTool]:
        """Connects, and returns the tools that the server lists. Raises ConnectionError, and ValueError where the SDK
        is missing.
        """
        check_installed()
        listed: list[Listed] = []
        try:
            async with asyncio.timeout(_START):
                connection = await self._connected()
                cursor: str | None = None
                for _ in range(_PAGES):
                    page = await connection.client.list_tools(cursor=cursor)
                    listed += page.tools
                    cursor = page.next_cursor
                    if cursor is None:
                        break
        except TimeoutError:
            raise ConnectionError(f"MCP server {self.name!r} did not list its tools within {_START:g} s") from None
        except ToolFailed as error:
            raise ConnectionError(str(error)) from None
        except Exception as error:
            raise ConnectionError(f"MCP server {self.name!r}: {self.secrecy.hide(reason(error))}") from None
        taken: set[str] = set()
        return [McpTool(self, tool, name=self._own_name(tool.name, taken)) for tool in listed]

    async def ready(self) -> None:
        """Connects again where the connection was lost. Raises ToolFailed where that can't be."""
        await self._connected()

    async def close(self) -> None:
        """Ends the connection, and the process if there is one."""
        self._let_go()
        if self._leaving:
            await asyncio.wait(set(self._leaving))

    async def call(self, tool: str, arguments: Mapping[str, Any], context: ToolContext) -> CallToolResult:
        """Calls a tool by the server's own name for it. Raises ToolFailed where that can't be."""
        connection = await self._connected()

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            await _report(context, progress, total, self.secrecy.hide(message or ""))

        try:
            return await connection.client.call_tool(tool, dict(arguments), progress_callback=on_progress)
        except asyncio.CancelledError:
            # Where it was the time limit: perhaps the server hangs. The next call finds out.
            connection.doubted = True
            raise
        except Exception as error:
            if connection.is_lost(error):
                self._let_go(connection)
                text = f"MCP server {self.name!r} was lost while the tool ran; the next call connects to it again"
                raise ToolFailed(text) from None
            # Perhaps it is another process now, which knows nothing of this session. The next call finds out.
            connection.doubted = True
            raise ToolFailed(self.secrecy.hide(reason(error))) from None

    async def _connected(self) -> Connection:
        """Returns a connection that works as far as is known. Raises ToolFailed where there is none to be had."""
        async with self._connecting:
            if self._connection is not None and self._connection.doubted and not await self._answers():
                _log.warning("MCP server %s does not answer; it is started again", self.name)
                self._let_go()
            if self._connection is None or self._connection.ended.is_set():
                self._let_go()
                try:
                    async with asyncio.timeout(_START):
                        self._connection = await connect(self.settings, self.name, self.secrecy)
                except TimeoutError:
                    raise ToolFailed(f"MCP server {self.name!r} did not answer within {_START:g} s") from None
                except Exception as error:
                    why = self.secrecy.hide(reason(error))
                    raise ToolFailed(f"MCP server {self.name!r} can't be reached: {why}") from None
            return self._connection

    async def _answers(self) -> bool:
        """Returns whether the server answers still. Whoever is cancelled meanwhile leaves the doubt to the next one."""
        connection = self._connection
        assert connection is not None
        connection.doubted = False  # By a call that takes too long meanwhile, it is again.
        try:
            async with asyncio.timeout(_PROBE):
                await connection.client.list_tools()
        except asyncio.CancelledError:
            connection.doubted = True
            raise
        except Exception:
            return False
        return True

    def _let_go(self, connection: Connection | None = None) -> None:
        """Ends a connection, without waiting: its process may take seconds."""
        ending = connection or self._connection
        if ending is not None and self._connection is ending:
            self._connection = None
        if ending is not None:
            ending.leave.set()
            if not ending.task.done():
                self._leaving.add(ending.task)
                ending.task.add_done_callback(self._leaving.discard)

    def _own_name(self, theirs: str, taken: set[str]) -> str:
        """Returns the name of a tool here: its own, with what may not stand in a name as "_", and a number where that
        is another tool's.
        """
        plain = re.sub(r"[^A-Za-z0-9_-]", "_", self.settings.prefix + theirs)[:60] or "_"
        name, number = plain, 1
        while name in taken:
            number += 1
            name = f"{plain}-{number}"
        taken.add(name)
        if name != theirs:
            _log.info("the tool %r of MCP server %s is called %s here", theirs, self.name, name)
        return name


class McpTool(Tool):
    """A tool of an MCP server. Its output: the server's structured result, or its text, or a list of its parts."""

    def __init__(self, server: McpServer, listed: Listed, *, name: str) -> None:
        self.origin = listed.name
        """What the server calls it."""
        self._server = server
        super().__init__(
            name,
            description=server.secrecy.hide(listed.description or ""),
            signature=_signature(listed, name),
            timeout=server.settings.timeout,
        )

    async def _prepare(self) -> None:
        await self._server.ready()

    async def _work(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        result = await self._server.call(self.origin, arguments, context)
        hide = self._server.secrecy.hide
        text = "\n".join(part.text for part in result.content if part.type == "text")
        if result.is_error:
            raise ToolFailed(hide(text) or "the tool says that it failed, and not why")
        if result.structured_content is not None:
            return self._server.secrecy.hide_all(result.structured_content)
        if all(part.type == "text" for part in result.content):
            return hide(text)
        return [await self._part(part, number, context) for number, part in enumerate(result.content, 1)]

    async def _part(self, part: ContentBlock, number: int, context: ToolContext) -> dict[str, Any]:
        """Returns a part of a result; what is no text goes as an artifact of its own, and only its name stands here."""
        if part.type == "image" or part.type == "audio":
            name = f"{self.name}-{number}"
            await context.artifact(name, base64.b64decode(part.data), media_type=part.mime_type)
            return {"type": part.type, "artifact": name, "media_type": part.mime_type}
        plain = part.model_dump(mode="json", by_alias=True, exclude_none=True)
        return dict(self._server.secrecy.hide_all(plain))


def _signature(listed: Listed, name: str) -> SchemaSignature:
    """Returns the check of a tool's input: its schema's, or none where that can't be used here (its server checks)."""
    try:
        return SchemaSignature(listed.input_schema, name=f"tool {name!r}", foreign=True)
    except TypeError as error:
        _log.warning("%s; its input is checked by its server alone", error)
        return SchemaSignature({"type": "object"}, name=f"tool {name!r}")


async def _report(context: ToolContext, progress: float, total: float | None, message: str) -> None:
    """Says how far a call is, whatever the server counts in."""
    if total is None or not 0 < total < float("inf"):
        await context.progress(None, message, current=progress)
    else:
        await context.progress(None, message, current=max(0.0, min(progress, total)), total=total)
