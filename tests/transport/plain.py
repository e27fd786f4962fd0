"""A gRPC server as anybody would write it, without our envelope and our arguments: it shows what they are for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import aio

__all__ = ["METHOD", "calling", "says_nothing", "serving"]

METHOD = "/plain.Service/Method"

Option = tuple[str, int]


@asynccontextmanager
async def serving(
    behavior: Callable[..., Any],
    *,
    make: Callable[..., Any] = grpc.unary_stream_rpc_method_handler,
    options: Sequence[Option] = (),
    **more: Any,
) -> AsyncIterator[tuple[str, aio.Server]]:
    """Serves one method; gives the address and the server."""
    server = aio.server(options=[("grpc.so_reuseport", 0), *options])
    handlers = {"Method": make(behavior, **more)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("plain.Service", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}", server
    finally:
        await server.stop(grace=None)


@asynccontextmanager
async def calling(address: str, options: Sequence[Option] = ()) -> AsyncIterator[aio.Channel]:
    """Gives a channel of its own connection."""
    async with aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1), *options]) as channel:
        yield channel


async def says_nothing(waiting: Any, *, seconds: float = 0.3) -> bool:
    """Tells whether this is not over after so many seconds. It goes on."""
    task = asyncio.ensure_future(waiting)
    _, pending = await asyncio.wait({task}, timeout=seconds)
    return bool(pending)
