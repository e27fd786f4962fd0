"""An MCP server made with the SDK: on its standard streams, or, told `http`, on a free port that it prints."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("tested", log_level="CRITICAL")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="greet.in words", structured_output=False)
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}"


@server.tool(name="greet_in.words", structured_output=False)
def greet_again(name: str) -> str:
    return f"Hello again, {name}"


@server.tool()
async def count(to: int, ctx: Context) -> str:
    """Count, and say how far it is."""
    for number in range(1, to + 1):
        await ctx.report_progress(number, to, f"number {number}")
    return f"counted to {to}"


@server.tool()
def fail(why: str) -> str:
    raise ToolError(why)


@server.tool()
async def wait(path: str) -> str:
    """Wait for a file whose name ends with .go."""
    note(path + ".begun")
    try:
        await anyio.to_thread.run_sync(until, Path(path + ".go").exists, "the file", abandon_on_cancel=True)
    except anyio.get_cancelled_exc_class():
        note(path + ".cancelled")
        raise
    return "it came"


def note(path: str) -> None:
    Path(path).touch()


def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for something that no event announces."""
    pause = threading.Event()
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.01)


@server.tool()
def leak(fails: bool = False) -> list[str]:
    """Tell what stands in the environment."""
    told = [f"{name}={value}" for name, value in os.environ.items()]
    if fails:
        raise ToolError(" ".join(told))
    return told


@server.tool()
def picture() -> Image:
    return Image(data=b"\x89PNG not really", format="png")


@server.tool()
def process() -> int:
    return os.getpid()


@server.tool()
def end(how: str) -> str:
    """End the process, or stop it where it is."""
    os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
    return "not yet"


async def over_http() -> None:
    import socket

    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = server.streamable_http_app()
    config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    if "http" in sys.argv:
        asyncio.run(over_http())
    else:
        server.run()
