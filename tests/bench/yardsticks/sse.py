"""Server-sent events: Starlette and sse-starlette on uvicorn, an event as JSON in each; httpx and httpx-sse read them.

As their documentation shows it: an async generator of ServerSentEvents with `id`, `event` and `data`, and
`aconnect_sse`. No access log. uvicorn runs on asyncio's own loop, as everything does that is measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from httpx_sse import aconnect_sse
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route
from tests.bench.event import as_json, json_is_end
from tests.bench.subject import Order, drive_async

from . import program
from .asgi import serve_app


async def serve(options: program.Options) -> None:
    """Serves until told to end."""

    async def events(request: Request) -> EventSourceResponse:
        count = int(request.query_params["events"])

        async def stream() -> AsyncIterator[ServerSentEvent]:
            for number in program.numbers(count, skip=options.skip):
                event = as_json(number, end=number == count)
                yield ServerSentEvent(id=str(number), event=event["kind"], data=json.dumps(event))

        return EventSourceResponse(stream())

    await serve_app(Starlette(routes=[Route("/events", events)]))


async def drive(target: str) -> None:
    """Does the work that standard input asks for."""
    async with httpx.AsyncClient(base_url=f"http://{target}", timeout=20) as client:

        async def work(command: dict[str, Any]) -> dict[str, Any]:
            order = Order(command["events"])
            first = 0.0
            begun = time.perf_counter()
            async with aconnect_sse(client, "GET", "/events", params={"events": command["events"]}) as source:
                async for message in source.aiter_sse():
                    first = first or time.perf_counter() - begun
                    event = json.loads(message.data)
                    order.see(event["seq"], json_is_end(event))
            order.finish()
            return {"events": order.seen, "seconds": time.perf_counter() - begun, "first_ms": 1e3 * first}

        await drive_async(work)


if __name__ == "__main__":
    program.run(__doc__, serve=serve, drive=drive)
