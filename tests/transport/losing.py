"""What a bare server of grpc.aio loses when its callers leave: `python -m tests.transport.losing` prints it as JSON.

The server is a process of its own, so that what its C library has given out, and not got back, is the server's alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
from grpc import aio
from tests.e2e.serving import REPOSITORY
from tests.faults.apps.allocated import in_use

__all__ = ["MANNERS", "leaving", "main", "served"]

MANNERS = ("writing", "waiting", "swallowing")
"""What a handler does as its caller leaves: it writes, or it waits and lets the cancellation pass, or swallows it."""

_HELD = "/losing/Held"

_LOOKS = 20

_WARM = 1_000
"""Callers that leave before the first counting: pools and tables have their size then."""


class _Service(grpc.GenericRpcHandler):
    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if details.method == _HELD:
            return grpc.unary_unary_rpc_method_handler(_held)
        return grpc.unary_stream_rpc_method_handler(_BEHAVIORS[details.method.rpartition("/")[2]])


_open: set[object] = set()
"""Streams whose handlers have not ended."""

_ended = asyncio.Condition()


async def _held(_: bytes, context: aio.ServicerContext) -> bytes:
    async with _ended:
        await _ended.wait_for(lambda: not _open)
    gc.collect()
    return json.dumps(in_use()).encode()


async def _writing(context: aio.ServicerContext) -> None:
    while True:
        await context.write(bytes(1_000))


async def _waiting(context: aio.ServicerContext) -> None:
    await context.write(b"1")
    await asyncio.Event().wait()


async def _swallowing(context: aio.ServicerContext) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await _waiting(context)


def _counted(behavior: Callable[[aio.ServicerContext], Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def counted(_: bytes, context: aio.ServicerContext) -> None:
        _open.add(context)
        try:
            await behavior(context)
        finally:
            _open.remove(context)
            async with _ended:
                _ended.notify_all()

    return counted


_BEHAVIORS = {name: _counted(each) for name, each in zip(MANNERS, (_writing, _waiting, _swallowing), strict=True)}


async def _serve() -> None:
    server = aio.server()
    server.add_generic_rpc_handlers((_Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[aio.Channel]:
    """Gives a channel to such a server."""
    arguments = ("-m", "tests.transport.losing", "serve")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        process.kill()
        await process.wait()


async def leaving(channel: aio.Channel, manner: str, *, callers: int) -> float | None:
    """Lets so many callers begin a stream and leave it. Returns the bytes that each of them costs for good."""
    held = channel.unary_unary(_HELD)
    stream = channel.unary_stream(f"/losing/{manner}")

    async def leave(count: int) -> None:
        for _ in range(0, count, 10):
            calls = [stream(b"") for _ in range(10)]
            for call in calls:
                await call.read()
            for call in calls:
                call.cancel()

    async def least() -> int | None:
        # A call that has just ended is freed by another thread, at some time.
        looks = [json.loads(await held(b"")) for _ in range(_LOOKS)]
        return None if None in looks else min(looks)

    await leave(_WARM)
    before = await least()
    await leave(callers)
    after = await least()
    return None if before is None or after is None else (after - before) / callers


async def main() -> None:
    """Prints the bytes for each manner."""
    found = {}
    for manner in MANNERS:
        async with served() as channel:
            found[manner] = await leaving(channel, manner, callers=2_000)
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(_serve() if sys.argv[1:] == ["serve"] else main())
