"""The server as a whole: it comes up once on its port, tells who asks how it is, and goes without losing anybody."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from stepwire.transport import channel_options
from stepwire.v1 import (
    EventBatch,
    ExecuteRequest,
    ExecutionState,
    GetExecutionRequest,
    WaitExecutionRequest,
    WatchExecutionRequest,
)
from stepwire_server.api import server as server_module
from stepwire_server.api.server import ListenError, Options, Server
from stepwire_server.journal import JournalLocked, MemoryJournal, SqliteJournal

from .conftest import Call, Serve, eventually, settled
from .raw import RawCaller, framed
from .shop import BLOCKED, QUICK, Caller, Gate, chatter, create_app, receive, refusal

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", ["", "stepwire.v1.ExecutionService"])
async def test_health(service: str, caller: Caller) -> None:
    """Health answers for the server and for the service."""
    stub = health_pb2_grpc.HealthStub(caller.channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)

    assert answer.status == SERVING


async def test_health_of_what_is_not_there(caller: Caller) -> None:
    """An unknown service is NOT_FOUND to Check, and SERVICE_UNKNOWN to Watch."""
    stub = health_pb2_grpc.HealthStub(caller.channel)
    request = health_pb2.HealthCheckRequest(service="nobody")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    states = stub.Watch(request)
    assert (await states.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    states.cancel()


async def reflected(caller: Caller, **question: str) -> reflection_pb2.ServerReflectionResponse:
    """Asks reflection one question."""
    asked = reflection_pb2.ServerReflectionRequest(**question)

    async def questions() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield asked

    stub = reflection_pb2_grpc.ServerReflectionStub(caller.channel)
    [answer] = [answer async for answer in stub.ServerReflectionInfo(questions(), timeout=10)]
    assert answer.original_request == asked
    return answer


async def test_reflection_names_the_services(caller: Caller) -> None:
    """Reflection lists the service, beside health and itself."""
    listed = (await reflected(caller, list_services="")).list_services_response
    assert {"stepwire.v1.ExecutionService", "grpc.health.v1.Health"} <= {service.name for service in listed.service}


@pytest.mark.parametrize("symbol", ["", ".Execute"])
async def test_reflection_gives_the_contract(symbol: str, caller: Caller) -> None:
    """The service and each of its methods are found by name, with all that the file imports."""
    answer = await reflected(caller, file_containing_symbol=f"stepwire.v1.ExecutionService{symbol}")
    files = {file.name: file for file in map(FileDescriptorProto.FromString, files_of(answer))}
    assert "stepwire/v1/execution_service.proto" in files
    assert {imported for file in files.values() for imported in file.dependency} <= set(files)


async def test_reflection_gives_json_names(caller: Caller) -> None:
    """Every field has the name that it has in protobuf's JSON, those of nested messages too."""
    answer = await reflected(caller, file_containing_symbol="stepwire.v1.ExecutionService")
    told = {}
    for file in map(FileDescriptorProto.FromString, files_of(answer)):
        told.update(json_names(file.message_type, file.package))
    pool = ExecuteRequest.DESCRIPTOR.file.pool
    assert told == {
        message: [field.json_name for field in pool.FindMessageTypeByName(message).fields] for message in told
    }
    assert told["stepwire.v1.EventFilter"] == ["kinds", "stepIds"]
    assert "stepwire.v1.Step.InputFromEntry" in told, "one that is nested"


async def test_reflection_of_what_is_not_there(caller: Caller) -> None:
    """A name that nothing has is not found."""
    for symbol in ("stepwire.v1.Nothing", "stepwire.v1.ExecutionService.Excute", ""):
        answer = await reflected(caller, file_containing_symbol=symbol)
        assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def files_of(answer: reflection_pb2.ServerReflectionResponse) -> list[bytes]:
    """Returns the encoded files of an answer."""
    return list(answer.file_descriptor_response.file_descriptor_proto)


def json_names(messages: Iterable[DescriptorProto], within: str) -> Iterator[tuple[str, list[str]]]:
    """Gives messages by their full names, and those that are nested in them, each with the JSON names of its fields."""
    for message in messages:
        name = f"{within}.{message.name}"
        yield name, [field.json_name for field in message.field]
        yield from json_names(message.nested_type, name)


ASK = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
QUESTION = framed(reflection_pb2.ServerReflectionRequest(list_services=""))


async def test_reflection_has_places_of_its_own(serve: Serve, call_with: Call) -> None:
    """So many streams of reflection are open as the limit says, whatever else is; they keep nobody else out."""
    server = await serve(max_watchers=2)
    caller = call_with(server)
    async with RawCaller(server.address) as raw:
        held = [raw.open(ASK, QUESTION, end=False) for _ in range(2)]
        async with asyncio.timeout(10):
            for stream in held:
                await stream.begun.wait()
        code, error = await raw.open(ASK, QUESTION, end=False).status()
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], "LIMIT_WATCHERS") == (code, error.reason)
        await caller.run(QUICK)
    async with RawCaller(server.address) as raw:
        assert (await raw.open(ASK, QUESTION + QUESTION).status())[0] == 0


async def test_reflection_does_not_wait_for_ever(serve: Serve) -> None:
    """Whoever asks nothing more, and does not say so, is told in time: as with any call's request."""
    server = await serve(body_timeout=1)
    async with RawCaller(server.address) as raw:
        stream = raw.open(ASK, QUESTION, end=False)
        code, error = await stream.status()

    assert stream.begun.is_set()
    assert (grpc.StatusCode.DEADLINE_EXCEEDED.value[0], "REQUEST_INCOMPLETE") == (code, error.reason)


async def test_two_servers_on_one_port(server: Server, gate: Gate, tmp_path: Path) -> None:
    """A second server on a port that is taken is refused with the address, and lets go of its journal."""
    before = asyncio.all_tasks()
    path = tmp_path / "journal.db"
    second = Server(create_app(gate).catalog(), SqliteJournal(path), Options(listen=server.address))
    with pytest.raises(ListenError, match=server.address):
        await second.start()
    await settled(before)

    third = Server(create_app(gate).catalog(), SqliteJournal(path))
    await third.start()
    await third.stop()


async def test_two_servers_on_one_journal(serve: Serve, gate: Gate, tmp_path: Path) -> None:
    """A second server on a journal that is open is refused, and takes no port."""
    await serve(SqliteJournal(tmp_path / "journal.db"))
    second = Server(create_app(gate).catalog(), SqliteJournal(tmp_path / "journal.db"))

    with pytest.raises(JournalLocked, match="open in another server"):
        await second.start()
    assert second.address == ""


async def test_a_start_that_fails_at_the_end(gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken over does not run on without a server whose start fails after that."""
    path = tmp_path / "journal.db"
    before = asyncio.all_tasks()
    async with Server(create_app(gate).catalog(), SqliteJournal(path), Options(drain_grace=0.0)) as first:
        caller = Caller(first.address)
        await caller.start(BLOCKED)
        await caller.close()

    async def fail(_: grpc.aio.Server) -> None:
        await eventually(lambda: any(task.get_name().startswith("step ") for task in asyncio.all_tasks()))
        raise OSError("no more threads")

    second = Server(create_app(gate).catalog(), SqliteJournal(path))
    monkeypatch.setattr(grpc.aio._server.Server, "start", fail)
    with pytest.raises(OSError, match="no more threads"):
        await second.start()
    await settled(before)
    assert second.engine.running == 0


async def test_an_address_that_is_none(gate: Gate) -> None:
    """An address that can't be listened on is refused with its text."""
    for address in ("127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:", "host.invalid:1", "127.0.0.1", "", ":1"):
        server = Server(create_app(gate).catalog(), MemoryJournal(), Options(listen=address))
        with pytest.raises(ListenError, match=re.escape(repr(address))):
            await server.start()


async def test_ipv6(gate: Gate) -> None:
    """An IPv6 address is given back in a form that can be called."""
    async with Server(create_app(gate).catalog(), MemoryJournal(), Options(listen="[::1]:0")) as server:
        assert server.address.startswith("[::1]:")
        caller = Caller(server.address)
        await caller.run(QUICK)
        await caller.close()


async def test_stop_without_start_and_twice(gate: Gate) -> None:
    """Stopping a server that never started, or has stopped, does nothing."""
    server = Server(create_app(gate).catalog(), MemoryJournal())
    await server.stop()
    await server.start()
    await server.stop()
    await server.stop()


def test_the_clients_pings_are_welcome() -> None:
    """The server allows pings more often than our clients send them, with and without calls: else it would hang up."""
    server, client = dict(server_module._ARGUMENTS), dict(channel_options(()))
    assert server["grpc.http2.min_ping_interval_without_data_ms"] <= client["grpc.keepalive_time_ms"] // 2
    assert server["grpc.keepalive_permit_without_calls"] == 1
    # keepalive_timeout_ms has no effect; this has.
    assert "grpc.http2.ping_timeout_ms" in server
    assert "grpc.http2.ping_timeout_ms" in client


# -- drain


async def test_drain(serve: Serve, call_with: Call, gate: Gate) -> None:
    """Streams are told DRAINING and end OK, new calls are refused with it, health says so; a running step may end."""
    before = asyncio.all_tasks()
    server = await serve(drain_grace=30.0)
    caller = call_with(server)
    health = health_pb2_grpc.HealthStub(caller.channel)
    execution = await caller.start(BLOCKED)
    watch = WatchExecutionRequest(execution_id=execution.execution_id)
    streams = [caller.open("WatchExecution", watch) for _ in range(3)]
    streams.append(caller.open("Execute", ExecuteRequest(query="slow")))
    wait = caller.open("WaitExecution", WaitExecutionRequest(execution_id=execution.execution_id))
    for call in streams:
        await receive(call)
    await eventually(lambda: server.streams.open == 5)
    await gate.waiting.wait()
    states = health.Watch(health_pb2.HealthCheckRequest())
    assert (await states.read()).status == SERVING

    stopping = asyncio.create_task(server.stop())
    for call in streams:
        last = None
        while (raw := await receive(call)) is not None:
            last = EventBatch.FromString(raw)
        assert last is not None
        assert last.notice == EventBatch.NOTICE_DRAINING
        assert await call.code() is grpc.StatusCode.OK
    await receive(wait)
    refused = await refusal(wait)
    assert refused is not None
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
    for method, request in (
        ("Execute", ExecuteRequest(plan=QUICK)),
        ("WatchExecution", watch),
        ("GetExecution", GetExecutionRequest(execution_id=execution.execution_id)),
        ("WatchExecutions", b""),
    ):
        refused = await caller.refused(method, request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        assert refused.error.retry_after is not None
    assert (await states.read()).status == NOT_SERVING
    for service in ("", "stepwire.v1.ExecutionService"):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == NOT_SERVING
    assert not stopping.done()
    states.cancel()

    gate.opened.set()
    async with asyncio.timeout(10):
        await stopping
    await caller.close()
    await settled(before)


async def test_stop_with_a_watcher_that_never_reads(serve: Serve, call_with: Call) -> None:
    """A watcher that never reads, and a call whose body never comes, do not keep a server from stopping."""
    before = asyncio.all_tasks()
    server = await serve()
    caller = call_with(server)
    ended = await caller.run(chatter(2_000, size=10_000))
    async with RawCaller(server.address, reads=False) as raw:
        stalled = raw.open("WatchExecution", framed(WatchExecutionRequest(execution_id=ended.execution_id)))
        await stalled.begun.wait()
        raw.open("StartExecution", end=False)
        async with asyncio.timeout(10):
            await server.stop()
    await caller.close()
    await settled(before)


async def test_a_drained_execution_goes_on(serve: Serve, call_with: Call, gate: Gate, tmp_path: Path) -> None:
    """What had not ended when the server stopped ends after a start on the same journal, and its stream joins."""
    path = tmp_path / "journal.db"
    first = await serve(SqliteJournal(path))
    caller = call_with(first)
    call = caller.open("Execute", ExecuteRequest(plan=BLOCKED))
    seen = [EventBatch.FromString(await receive(call) or b"")]
    await gate.waiting.wait()
    await eventually(lambda: bool(first.streams.open))
    stopping = asyncio.create_task(first.stop())
    while (raw := await receive(call)) is not None:
        seen.append(EventBatch.FromString(raw))
    await stopping
    assert seen[-1].notice == EventBatch.NOTICE_DRAINING

    gate.opened.set()
    caller = call_with(await serve(SqliteJournal(path)))
    request = WatchExecutionRequest(execution_id=seen[0].execution.execution_id, after_sequence=seen[-1].sequence)
    rest = await caller.stream("WatchExecution", request)
    assert rest[0].after_sequence == seen[-1].sequence
    events = [event for batch in (*seen, *rest) for event in batch.events]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].WhichOneof("kind") == "plan_completed"
    ended = await caller.get(request.execution_id)
    assert (ended.state, ended.attempt_count) == (ExecutionState.EXECUTION_STATE_COMPLETED, 2)
