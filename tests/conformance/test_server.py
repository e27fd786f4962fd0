"""The scripted server, as a bare gRPC client sees it."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from tests.conformance.script import (
    CUT,
    EXECUTION,
    HOLD,
    OK,
    answer,
    batch,
    beats,
    called,
    completed,
    cut_within,
    executed,
    heartbeat,
    piece,
    pieces,
    refuse,
    until_shown,
    watched,
    welcome,
)
from tests.conformance.server import ScriptedServer

from stepwire.requests import METHODS
from stepwire.v1 import EventBatch, ExecuteRequest, Execution, GetExecutionRequest, GetExecutionResponse
from stepwire.v1.execution_service_pb2 import WatchExecutionRequest


class Caller:
    """Calls the server over one channel."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.aio.insecure_channel(target, options=[("grpc.use_local_subchannel_pool", 1)])

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    def stream(self, request: Any, name: str = "Execute") -> Any:
        method = METHODS[name]
        return self._channel.unary_stream(
            method.path,
            request_serializer=lambda made: made.SerializeToString(),
            response_deserializer=method.response.FromString,
        )(request)

    async def ask(self, request: Any, name: str) -> Any:
        method = METHODS[name]
        return await self._channel.unary_unary(
            method.path,
            request_serializer=lambda made: made.SerializeToString(),
            response_deserializer=method.response.FromString,
        )(request)


async def test_messages_in_order() -> None:
    """A call gets what its script says, in order, and is recorded."""
    script = [executed(welcome(), pieces(1, 2), beats(2, every=0.001, times=2), batch(completed(3)), OK)]
    async with ScriptedServer(script) as server, Caller(server.target) as caller:
        came = [message async for message in caller.stream(ExecuteRequest(request_id="r"))]
        assert came == [welcome(), pieces(1, 2), heartbeat(2), heartbeat(2), batch(completed(3))]
        [call] = server.calls
        assert (call.method, call.request.request_id, call.fresh, call.ended) == ("Execute", "r", True, "by the server")


async def test_a_status_with_details() -> None:
    """A refusal has its code, its message and its details."""
    script = [executed(refuse("PLAN_INVALID", "No.", violations=[("plan", "is empty")], retry_after=1.5))]
    async with ScriptedServer(script) as server, Caller(server.target) as caller:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.stream(ExecuteRequest()).read()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "No.")
        details = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
        assert [detail.TypeName() for detail in details.details] == [
            "google.rpc.ErrorInfo",
            "google.rpc.BadRequest",
            "google.rpc.RetryInfo",
        ]


async def test_unary_calls() -> None:
    """A unary call gets its answer."""
    said = GetExecutionResponse(execution=Execution(execution_id=EXECUTION))
    async with ScriptedServer([called("GetExecution", answer(said))]) as server, Caller(server.target) as caller:
        assert await caller.ask(GetExecutionRequest(execution_id=EXECUTION), "GetExecution") == said


async def test_what_is_not_in_the_script() -> None:
    """A call of another method, or one too many, is refused and recorded."""
    async with ScriptedServer([watched(0, welcome(), OK)]) as server, Caller(server.target) as caller:
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError, match="script has no such call"):
                await caller.stream(ExecuteRequest()).read()
        assert [call.method for call in server.calls] == ["Execute", "Execute"]


async def test_who_ends_a_call() -> None:
    """A call that the client ends is told from one that the line ends."""
    script = [executed(welcome(), HOLD), executed(welcome(), CUT)]
    async with ScriptedServer(script) as server, Caller(server.target) as caller:
        call = caller.stream(ExecuteRequest())
        await call.read()
        call.cancel()
        await server.settle(10)
        assert (server.calls[0].ended, server.calls[0].told) == ("by the client", True)
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in caller.stream(ExecuteRequest()):
                pass
        await server.settle(10)
        assert server.calls[1].ended == "by the line"


async def test_who_vanishes_says_nothing() -> None:
    """A caller whose connection just ends has not said that it ends the call."""
    async with ScriptedServer([executed(welcome(), HOLD)]) as server, Caller(server.target) as caller:
        call = caller.stream(ExecuteRequest())
        await call.read()
        server.calls[0].link.cut()
        await server.settle(10)
        assert (server.calls[0].ended, server.calls[0].told) == ("by the client", False)


async def test_a_cut_within_a_message() -> None:
    """Of a message within which the line is cut nothing is read, and the next call is on another connection."""
    script = [executed(welcome(), until_shown(1), cut_within(pieces(1, 2))), watched(0, welcome(), OK)]
    async with ScriptedServer(script) as server, Caller(server.target) as caller:
        call = caller.stream(ExecuteRequest())
        assert await call.read() == welcome()
        await server.show(1)
        with pytest.raises(grpc.aio.AioRpcError):
            await call.read()
        again = caller.stream(WatchExecutionRequest(execution_id=EXECUTION), "WatchExecution")
        assert await again.read() == welcome()
        assert [call.fresh for call in server.calls] == [True, True]


async def test_until_shown() -> None:
    """The server waits until the event was shown."""
    script = [executed(pieces(1), until_shown(1), pieces(2), OK)]
    async with ScriptedServer(script) as server, Caller(server.target) as caller:
        call = caller.stream(ExecuteRequest())
        assert await call.read() == pieces(1)
        waiting = asyncio.ensure_future(call.read())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        await server.show(1)
        assert await waiting == pieces(2)


async def test_a_large_message() -> None:
    """An event of 1 MiB passes the line."""
    message: EventBatch = batch(piece(1, bytes(1 << 20)))
    async with ScriptedServer([executed(message, OK)]) as server, Caller(server.target) as caller:
        assert await caller.stream(ExecuteRequest()).read() == message
