"""A gRPC gateway that passes calls on to a server, and treats streams as proxies do that were not made for them.

    async with Gateway(server.address, manner="buffers") as gateway:
        client = Client(gateway.address)

It knows nothing of the messages: it forwards bytes. A unary call passes whole, unless the gateway ends every call that
lives too long.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Literal, Self

import grpc
import grpc.aio

__all__ = ["Gateway", "Manner"]

Manner = Literal["passes", "buffers", "cuts", "refuses", "unavailable"]
"""What becomes of a stream.

passes       it comes through
buffers      what the server sends is kept until the call has ended
cuts         the call is ended after `life` seconds; unary ones too
refuses      the method is not known: UNIMPLEMENTED
unavailable  the call ends at once, as one does whose response has the HTTP status 503
"""

_STREAMS = frozenset({"Execute", "WatchExecution", "WatchExecutions"})


class Gateway(grpc.GenericRpcHandler):
    """Lives in one event loop."""

    def __init__(self, target: str, *, manner: Manner = "passes", life: float = 1.0) -> None:
        self.manner: Manner = manner
        """How calls are treated that begin from now on."""
        self.calls: Counter[str] = Counter()
        """How often each method was called."""
        self.bytes = 0
        """Bytes of the messages, both ways, that clients sent and were given."""
        self.address = ""
        """HOST:PORT, once it listens."""
        self._target = target
        self._life = life

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._target)
        self._server = grpc.aio.server(handlers=[self], options=[("grpc.so_reuseport", 0)])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(None)
        await self._channel.close()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Takes every method, as a stream of one request's bytes and any number of answers'."""

        async def run(request: bytes, context: Any) -> None:
            await self._pass_on(details.method, request, context)

        return grpc.unary_stream_rpc_method_handler(run)

    async def _pass_on(self, method: str, request: bytes, context: Any) -> None:
        name = method.rpartition("/")[2]
        self.calls[name] += 1
        self.bytes += len(request)
        manner = self.manner if name in _STREAMS or self.manner == "cuts" else "passes"
        match manner:
            case "refuses":
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"unknown method {method}")
            case "unavailable":
                await context.abort(grpc.StatusCode.UNAVAILABLE, "Received http2 header with status: 503")
            case "cuts":
                try:
                    async with asyncio.timeout(self._life):
                        await self._forward(method, request, context, keeps=False)
                except TimeoutError:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "the gateway's time is over")
            case _:
                await self._forward(method, request, context, keeps=manner == "buffers")

    async def _forward(self, method: str, request: bytes, context: Any, *, keeps: bool) -> None:
        call = self._channel.unary_stream(method)(request, metadata=context.invocation_metadata())
        kept: list[bytes] = []
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                if keeps:
                    kept.append(message)
                else:
                    await self._give(message, context)
            for message in kept:
                await self._give(message, context)
        except grpc.aio.AioRpcError as failure:
            context.set_trailing_metadata(tuple(failure.trailing_metadata() or ()))
            await context.abort(failure.code(), failure.details() or "")
        finally:
            call.cancel()

    async def _give(self, message: bytes, context: Any) -> None:
        self.bytes += len(message)
        await context.write(message)
