"""How the yardsticks that are Starlette apps are served: uvicorn, without an access log, on a free port."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.applications import Starlette
from tests.bench.subject import announce, until_told

__all__ = ["serve_app"]


async def serve_app(app: Starlette) -> None:
    """Serves until told to end."""
    config = uvicorn.Config(app, loop="asyncio", access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        announce(f"127.0.0.1:{listener.getsockname()[1]}")
        told = asyncio.create_task(until_told())
        await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        server.should_exit = True
        await serving
