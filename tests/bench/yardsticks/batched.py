"""The same plain server and client, but 128 events a message and no work besides: the ceiling of gRPC in Python.

Everything is encoded before the clock starts. `serve --live` builds and encodes every event as it sends it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from tests.bench.subject import Order, announce, drive_async, until_told

from stepwire.v1 import EventBatch

from . import program
from .batches import encoded, see

_SERVICE = "bench.Batched"


async def serve(options: program.Options) -> None:
    """Serves until told to end."""
    prepared: dict[int, list[bytes]] = {}

    async def prepare(request: dict[str, Any], context: grpc.aio.ServicerContext) -> bytes:
        if not options.live and request["events"] not in prepared:
            prepared.clear()
            prepared[request["events"]] = list(encoded(request["events"], skip=options.skip))
        return b""

    async def stream(request: dict[str, Any], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
        events = request["events"]
        for message in encoded(events, skip=options.skip) if options.live else prepared[events]:
            yield message

    methods = {
        "prepare": grpc.unary_unary_rpc_method_handler(prepare, request_deserializer=json.loads),
        "stream": grpc.unary_stream_rpc_method_handler(stream, request_deserializer=json.loads),
    }
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    announce(f"127.0.0.1:{port}")
    await until_told()
    await server.stop(None)


async def drive(target: str) -> None:
    """Does the work that standard input asks for."""
    async with grpc.aio.insecure_channel(target) as channel:
        await asyncio.wait_for(channel.channel_ready(), 20)
        prepare = channel.unary_unary(f"/{_SERVICE}/prepare")
        stream = channel.unary_stream(f"/{_SERVICE}/stream", response_deserializer=EventBatch.FromString)

        async def work(command: dict[str, Any]) -> dict[str, Any]:
            request = json.dumps(command).encode()
            await prepare(request)
            order = Order(command["events"])
            first = 0.0
            begun = time.perf_counter()
            async for batch in stream(request):
                first = first or time.perf_counter() - begun
                see(batch, order)
            order.finish()
            return {"events": order.seen, "seconds": time.perf_counter() - begun, "first_ms": 1e3 * first}

        await drive_async(work)


if __name__ == "__main__":
    program.run(__doc__, serve=serve, drive=drive, flags=["live"])
