"""A real gRPC server that plays a script, behind a line that it can cut, and records every call."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.protobuf.message import Message
from google.rpc import status_pb2
from tests.e2e.proxy import Link, Proxy

from stepwire.requests import METHODS
from stepwire.v1 import execution_service_pb2

from .line import Line
from .script import Answer, Beat, Call, CutNow, CutWithin, End, Hold, Pause, Send, UntilShown, heartbeat, status

__all__ = ["Recorded", "ScriptedServer"]

_SERVICE = execution_service_pb2.DESCRIPTOR.services_by_name["ExecutionService"]
_PREFIX = 5  # bytes that gRPC puts before each message
_NO_SCRIPT = status("FAILED_PRECONDITION", "The case's script has no such call here.")
_CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(kw_only=True)
class Recorded:
    """A call that came."""

    method: str
    request: Any
    link: Link
    came: float
    """When, by `time.monotonic`."""
    fresh: bool
    """Whether it was the first on its connection."""
    spoke: float
    """When the server said something for the last time, or the call came."""
    ended: Literal["", "by the server", "by the client", "by the line"] = ""
    """Who ended it. Empty: nobody."""
    told: bool = False
    """Whether the client said that it ends it, or its connection, and did not just vanish."""


class ScriptedServer:
    """Plays one call of the script for each call that comes, in their order.

        async with ScriptedServer(case.calls) as server:
            ... let a client use server.target ...
        server.calls

    What comes beyond the script, or asks for another method, is refused.
    """

    def __init__(self, script: Sequence[Call]) -> None:
        self.calls: list[Recorded] = []
        """Every call that came, in order."""
        self.target = ""
        """HOST:PORT, once it serves."""
        self._script = script
        self._line = Line()
        self._written: dict[Link, int] = {}
        self._shown: set[int] = set()
        self._open = 0  # calls
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0), ("grpc.max_send_message_length", -1)])
        handlers = {name: self._handler(name) for name in METHODS}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE.full_name, handlers),))
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self._proxy = await Proxy(f"127.0.0.1:{port}", treatment=self._line).__aenter__()
        self.target = self._proxy.address
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop(0)
        await self._proxy.__aexit__()

    async def show(self, sequence: int) -> None:
        """Takes note that the client's user has got this event."""
        async with self._changed:
            self._shown.add(sequence)
            self._changed.notify_all()

    async def settle(self, seconds: float) -> None:
        """Waits until all calls are over, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(lambda: not self._open)

    def _handler(self, name: str) -> grpc.RpcMethodHandler:
        method = _SERVICE.methods_by_name[name]
        kind = message_factory.GetMessageClass(method.input_type)
        make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler

        async def handle(request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message | None:
            return await self._handle(name, request, context)

        return make(
            handle, request_deserializer=kind.FromString, response_serializer=lambda made: made.SerializeToString()
        )

    async def _handle(self, name: str, request: Message, context: grpc.aio.ServicerContext[Any, Any]) -> Message | None:
        link = self._proxy.links[-1]
        now = time.monotonic()
        fresh = all(other.link is not link for other in self.calls)
        call = Recorded(method=name, request=request, link=link, came=now, spoke=now, fresh=fresh)
        ends = self._line.ends_of_client(link)
        self.calls.append(call)
        self._open += 1
        number = len(self.calls) - 1
        try:
            if number >= len(self._script) or self._script[number].method != name:
                await self._end(_NO_SCRIPT.status, call, context)
            return await self._play(self._script[number], call, context)
        except asyncio.CancelledError:
            call.ended = "by the line" if self._line.was_cut(link) else "by the client"
            raise
        finally:
            call.told = self._line.ends_of_client(link) > ends
            async with self._changed:
                self._open -= 1
                self._changed.notify_all()

    async def _play(self, script: Call, call: Recorded, context: grpc.aio.ServicerContext[Any, Any]) -> Message | None:
        for act in script.acts:
            match act:
                case Send(message):
                    await self._send(message, call, context)
                case CutWithin(message):
                    so_far = self._written.get(call.link, 0)
                    self._line.cut(call.link, at=so_far + (_PREFIX + message.ByteSize()) // 2)
                    await self._send(message, call, context)
                    await asyncio.Event().wait()
                case CutNow():
                    self._line.cut_now(call.link)
                    await asyncio.Event().wait()
                case Beat(sequence, every, times):
                    for _ in range(times):
                        await asyncio.sleep(every)
                        await self._send(heartbeat(sequence), call, context)
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case UntilShown(sequence):
                    async with self._changed:
                        await self._changed.wait_for(lambda wanted=sequence: wanted in self._shown)
                case Hold():
                    await asyncio.Event().wait()
                case End(how):
                    await self._end(how, call, context)
                case Answer(message):
                    call.ended = "by the server"
                    return message
        return None

    async def _send(self, message: Message, call: Recorded, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        self._written[call.link] = self._written.get(call.link, 0) + _PREFIX + message.ByteSize()
        await context.write(message)
        call.spoke = time.monotonic()

    async def _end(self, how: status_pb2.Status, call: Recorded, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        call.ended = "by the server"
        call.spoke = time.monotonic()
        if how.code:
            details = (("grpc-status-details-bin", how.SerializeToString()),) if how.details else ()
            await context.abort(_CODES[how.code], how.message, details)
