"""A plain grpc.aio server and client with one event a message: what most services in Python do, and the unit of ratios.

The handler is an `async def` that yields, as in gRPC's own examples. Paced events come from a task of their own through
a queue, as from something that works whether its caller reads or not. Besides the flat out and the paced run it does
{"calls": 1000, "events": 14}, so many calls at once on one channel, and {"idle": 1000}, so many streams that stay
silent until {"release": true}.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from tests.bench.event import build, is_end
from tests.bench.subject import Latencies, Order, announce, drive_async, until_told

from stepwire.v1 import Event

from . import program

_SERVICE = "bench.PerMessage"

_SERVER_OPTIONS = [
    ("grpc.so_reuseport", 0),
    # By default a burst of more than 1,000 new streams is cancelled.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 30_000),
]


async def serve(options: program.Options) -> None:
    """Serves until told to end."""

    async def stream(request: dict[str, Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Event]:
        events = request["events"]
        for number in program.numbers(events, skip=options.skip):
            yield build(number, end=number == events)

    async def paced(request: dict[str, Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Event]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        source = asyncio.create_task(_emit(queue, events=request["events"], rate=request["rate"], skip=options.skip))
        try:
            for _ in program.numbers(request["events"], skip=options.skip):
                yield await queue.get()
        finally:
            source.cancel()

    async def idle(request: dict[str, Any], context: grpc.aio.ServicerContext) -> AsyncIterator[Event]:
        await context.send_initial_metadata(())
        await asyncio.Event().wait()
        yield build(1, end=True)

    methods = {
        handler.__name__: grpc.unary_stream_rpc_method_handler(
            handler, request_deserializer=json.loads, response_serializer=Event.SerializeToString
        )
        for handler in (stream, paced, idle)
    }
    server = grpc.aio.server(options=_SERVER_OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    announce(f"127.0.0.1:{port}")
    await until_told()
    await server.stop(None)


async def _emit(queue: asyncio.Queue[Event], *, events: int, rate: float, skip: int) -> None:
    """Builds each event when it is due. What is late, because the loop was busy, comes at once."""
    begun = time.perf_counter()
    for number in program.numbers(events, skip=skip):
        ahead = begun + number / rate - time.perf_counter()
        if ahead > 0:
            await asyncio.sleep(ahead)
        queue.put_nowait(build(number, end=number == events))


async def drive(target: str) -> None:
    """Does the work that standard input asks for."""
    async with grpc.aio.insecure_channel(target) as channel:
        await asyncio.wait_for(channel.channel_ready(), 20)
        client = _Client(channel)
        await drive_async(client.work)


class _Client:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._idle: list[grpc.aio.UnaryStreamCall[Any, Event]] = []

    async def work(self, command: dict[str, Any]) -> dict[str, Any]:
        """Does what one command asks for."""
        begun = time.perf_counter()
        match command:
            case {"release": _}:
                held = len(self._idle)
                await self._release()
                return {"idle": held, "events": 0, "seconds": time.perf_counter() - begun}
            case {"idle": count}:
                self._idle = [self._call("idle", {}) for _ in range(count)]
                # The server sends it when the handler runs.
                await asyncio.gather(*(call.initial_metadata() for call in self._idle))
                return {"idle": count, "events": 0, "seconds": time.perf_counter() - begun}
            case {"calls": calls, "events": events}:
                await asyncio.gather(*(self._read(events, begun) for _ in range(calls)))
                return {"calls": calls, "events": calls * events, "seconds": time.perf_counter() - begun}
            case {"rate": rate, "events": events}:
                return await self._paced(events, rate)
            case {"events": events}:
                first = await self._read(events, begun)
                return {"events": events, "seconds": time.perf_counter() - begun, "first_ms": 1e3 * first}
            case _:
                raise ValueError(f"no such work: {command}")

    def _call(self, method: str, request: dict[str, Any]) -> grpc.aio.UnaryStreamCall[Any, Event]:
        stub = self._channel.unary_stream(
            f"/{_SERVICE}/{method}",
            request_serializer=lambda value: json.dumps(value).encode(),
            response_deserializer=Event.FromString,
        )
        return stub(request)

    async def _read(self, events: int, begun: float) -> float:
        """Reads a stream; returns when the first event came, in seconds since `begun`."""
        order = Order(events)
        first = 0.0
        async for event in self._call("stream", {"events": events}):
            first = first or time.perf_counter() - begun
            order.see(event.sequence, is_end(event))
        order.finish()
        return first

    async def _paced(self, events: int, rate: float) -> dict[str, Any]:
        order, latencies = Order(events), Latencies()
        begun = time.perf_counter()
        async for event in self._call("paced", {"events": events, "rate": rate}):
            latencies.add(time.time_ns() - event.event_time.ToNanoseconds())
            order.see(event.sequence, is_end(event))
        order.finish()
        return {"events": events, "seconds": time.perf_counter() - begun, **latencies.figures()}

    async def _release(self) -> None:
        for call in self._idle:
            call.cancel()
        await asyncio.gather(*(call.code() for call in self._idle))
        self._idle = []


if __name__ == "__main__":
    program.run(__doc__, serve=serve, drive=drive)
