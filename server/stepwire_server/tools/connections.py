"""A connection to an MCP server: a task that holds it open, and notices when the server is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client import Transport

    from stepwire_server.tools.mcp_servers import ServerSettings
    from stepwire_server.tools.secrecy import Secrecy

__all__ = ["Connection", "check_installed", "connect", "reason"]

_log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds to connect to an address, and to send a request."""

_LINES = 20
"""Lines of a server's standard error that are kept, to be shown where it does not start."""


def check_installed() -> None:
    """Raises ValueError, which says what to do, where the SDK is missing."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        raise ValueError("MCP servers need the mcp package: pip install 'stepwire[server,mcp]'") from None


class Connection:
    """A connection that was made. `leave` is set to end it."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        """Set when the server sends nothing any more."""
        self.leave = asyncio.Event()
        self.doubted = False
        """Whether a call of it took too long or was refused, so that it has to be tried first."""
        self.client: Client
        self.task: asyncio.Task[None]

    def is_lost(self, error: Exception) -> bool:
        """Returns whether this exception of a call says that there is no server any more."""
        from mcp import MCPError
        from mcp.types import CONNECTION_CLOSED

        if self.ended.is_set() or not isinstance(error, MCPError):
            return True
        return error.code == CONNECTION_CLOSED


async def connect(settings: ServerSettings, name: str, secrecy: Secrecy) -> Connection:
    """Returns a new connection. Raises what is in the way."""
    connection = Connection()
    made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connection.task = asyncio.create_task(_hold(connection, made, settings, name, secrecy), name=f"MCP server {name}")
    try:
        await made
    except asyncio.CancelledError:
        connection.task.cancel()
        raise
    return connection


async def _hold(
    connection: Connection, made: asyncio.Future[None], settings: ServerSettings, name: str, secrecy: Secrecy
) -> None:
    """Holds a connection open until it is left. The SDK wants it to be closed by the task that opened it."""
    from mcp import Client
    from mcp.types import Implementation

    stderr = _Stderr(name, secrecy)
    try:
        async with AsyncExitStack() as stack:
            transport = _watched(await _transport(settings, secrecy, stderr, stack), connection.ended)
            client = Client(
                transport, cache=None, client_info=Implementation(name="stepwire", version=version("stepwire"))
            )
            connection.client = await stack.enter_async_context(client)
            stderr.given()
            made.set_result(None)
            await connection.leave.wait()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        if made.done():
            _log.debug("MCP server %s: %s", name, secrecy.hide(reason(error)))
        else:
            stderr.given()
            said = await asyncio.to_thread(stderr.told)
            made.set_exception(ConnectionError(reason(error) + (f"; it said: {said}" if said else "")))
    finally:
        connection.ended.set()
        stderr.given()


async def _transport(settings: ServerSettings, secrecy: Secrecy, stderr: _Stderr, stack: AsyncExitStack) -> Transport:
    if settings.command:
        from mcp import StdioServerParameters, stdio_client

        parameters = StdioServerParameters(
            command=settings.command[0],
            args=settings.command[1:],
            env=secrecy.environment,
            cwd=settings.directory,
        )
        return stdio_client(parameters, errlog=stderr.end)
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    # They log each request's address, in which a key may stand.
    for name in ("httpx2", "httpcore2", "mcp"):
        logging.getLogger(name).setLevel(logging.WARNING)

    # An answer may come late: the tool's own time limit counts.
    patience = httpx2.Timeout(_PATIENCE, read=None)
    http = await stack.enter_async_context(httpx2.AsyncClient(headers=secrecy.headers, timeout=patience))
    return streamable_http_client(settings.url, http_client=http)


@asynccontextmanager
async def _watched(transport: Transport, ended: asyncio.Event) -> AsyncIterator[Any]:
    """The same transport, which notes when nothing comes any more."""
    async with transport as (reading, writing):
        yield _Watched(reading, ended), writing


class _Watched:
    """A stream that is read, and notes its end."""

    def __init__(self, stream: Any, ended: asyncio.Event) -> None:
        self._stream = stream
        self._ended = ended

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> Any:
        try:
            return await self._stream.receive()
        except BaseException:
            self._ended.set()
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._ended.set()
            raise

    async def __aenter__(self) -> _Watched:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._ended.set()
        result: bool | None = await self._stream.__aexit__(kind, error, trace)
        return result


class _Stderr:
    """What a server's process writes to its standard error: for a log of all details, and its end is kept."""

    def __init__(self, name: str, secrecy: Secrecy) -> None:
        reading, writing = os.pipe()
        self.end = os.fdopen(writing, "w", encoding="utf-8")
        """What the process is given."""
        self._secrecy = secrecy
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._thread = threading.Thread(
            target=self._read, args=(reading, name, secrecy), name=f"stderr of {name}", daemon=True
        )
        self._thread.start()

    def given(self) -> None:
        """Closes the end that the process has a copy of, so that its own end is seen."""
        self.end.close()

    def told(self) -> str:
        """Returns the last lines of a process that has ended, where no secret stands in them, broken or whole."""
        self._thread.join(0.5)
        lines = list(self._lines)
        is_secret = self._secrecy.hide("".join("".join(lines).split())) != "".join("".join(lines).split())
        return "" if is_secret else " | ".join(lines[-3:])

    def _read(self, reading: int, name: str, secrecy: Secrecy) -> None:
        with os.fdopen(reading, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                shown = line.strip()[:1_000]
                self._lines.append(shown)
                _log.debug("MCP server %s: %s", name, secrecy.hide(shown))


def reason(error: BaseException) -> str:
    """Returns what an exception says, or the first one of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    text = str(error)
    if type(error).__name__ in ("MCPError", "ConnectionError"):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
