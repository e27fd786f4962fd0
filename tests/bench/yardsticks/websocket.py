"""A WebSocket: Starlette on uvicorn, `send_json` for each event; the `websockets` library and json at the other end.

Without compression, as gRPC has none: where the client offers it, as it does unless told otherwise, both sides deflate
each message by itself, and an event costs half as much again.
"""

from __future__ import annotations

import json
import time
from typing import Any

import websockets
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from tests.bench.event import as_json, json_is_end
from tests.bench.subject import Order, drive_async

from . import program
from .asgi import serve_app


async def serve(options: program.Options) -> None:
    """Serves until told to end."""

    async def events(websocket: WebSocket) -> None:
        count = int(websocket.query_params["events"])
        await websocket.accept()
        for number in program.numbers(count, skip=options.skip):
            await websocket.send_json(as_json(number, end=number == count))
        await websocket.close()

    await serve_app(Starlette(routes=[WebSocketRoute("/events", events)]))


async def drive(target: str) -> None:
    """Does the work that standard input asks for."""

    async def work(command: dict[str, Any]) -> dict[str, Any]:
        order = Order(command["events"])
        first = 0.0
        begun = time.perf_counter()
        address = f"ws://{target}/events?events={command['events']}"
        async with websockets.connect(address, compression=None, close_timeout=1) as websocket:
            async for message in websocket:
                first = first or time.perf_counter() - begun
                event = json.loads(message)
                order.see(event["seq"], json_is_end(event))
        order.finish()
        return {"events": order.seen, "seconds": time.perf_counter() - begun, "first_ms": 1e3 * first}

    await drive_async(work)


if __name__ == "__main__":
    program.run(__doc__, serve=serve, drive=drive)
