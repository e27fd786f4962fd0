"""Whatever a caller sends or does: the call ends with a status, and nothing of it stays."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest
from grpc._cython import cygrpc

from stepwire.errors import JournalDamaged, JournalUnavailable, StorageFull
from stepwire.v1 import (
    BuildPlanRequest,
    CancelExecutionRequest,
    CancelExecutionResponse,
    EventBatch,
    ExecuteRequest,
    ExecutionState,
    GetExecutionRequest,
    GetServerInfoRequest,
    GetServerInfoResponse,
    WaitExecutionRequest,
    WaitExecutionResponse,
    WatchExecutionRequest,
)
from stepwire_server.api.server import Server
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import Chunk, ExecutionRecord, MemoryJournal

from .conftest import Call, Serve, eventually
from .raw import RawCaller, framed
from .shop import BLOCKED, QUICK, Caller, Gate, Refused, chatter

INVALID_ARGUMENT = 3
DEADLINE_EXCEEDED = 4


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    "method",
    [
        "GetServerInfo",
        "Execute",
        "WatchExecution",
        "StartExecution",
        "GetStatistics",
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    ],
)
async def test_a_call_without_a_message(method: str, server: Server) -> None:
    """Headers and the end of the stream, but no message, is INVALID_ARGUMENT, for streams and unary calls alike."""
    async with RawCaller(server.address) as caller:
        code, error = await caller.open(method).status()

    assert (code, error.reason) == (INVALID_ARGUMENT, "REQUEST_MALFORMED")
    assert "without a request" in str(error)


async def test_many_calls_without_a_message(server: Server, caller: Caller) -> None:
    """Two hundred calls that send headers only each get their status, and use nothing up."""
    async with RawCaller(server.address) as raw:
        calls = [raw.open("Execute") for _ in range(200)]
        found = [await call.status() for call in calls]

    assert {(code, error.reason) for code, error in found} == {(INVALID_ARGUMENT, "REQUEST_MALFORMED")}
    await caller.run(QUICK)


@pytest.mark.parametrize(
    "sent", [b"", b"\0", framed(b"\x0a\x05hello", length=100)], ids=["nothing", "a byte", "a part"]
)
async def test_a_body_that_never_completes(sent: bytes, serve: Serve) -> None:
    """A body that does not come in time is DEADLINE_EXCEEDED, which may be tried again."""
    server = await serve(body_timeout=0.2)
    async with RawCaller(server.address) as raw:
        code, error = await raw.open("StartExecution", sent, end=False).status()

    assert (code, error.reason) == (DEADLINE_EXCEEDED, "REQUEST_INCOMPLETE")
    assert error.retry_after is not None


async def test_half_open_calls_do_not_keep_others_out(serve: Serve, call_with: Call) -> None:
    """A thousand calls whose bodies never come do not delay a good one."""
    server = await serve(body_timeout=20)
    caller = call_with(server)
    async with RawCaller(server.address) as raw:
        for _ in range(1_000):
            raw.open("StartExecution", end=False)
        await caller.run(QUICK)
    await eventually(lambda: not calls_of(server))


@pytest.mark.parametrize(
    "body",
    [
        framed(b"\xff\xff\xff"),
        framed(b"\x0a\x05hello", compressed=True),
        framed(b"\x0a\x05hello", length=100),
        framed(b"\x0a\x05hello", length=2**32 - 1),
        framed(b"\x0a\x05hello", length=2),
        b"\x07garbage",
        b"\xff" * 1_000,
    ],
    ids=["no message", "a false flag", "too short", "4 GiB", "too long", "a short frame", "no frame"],
)
async def test_garbage(body: bytes, server: Server, caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no frame or no message end with a status, without a traceback, and the server serves on."""
    async with RawCaller(server.address) as raw:
        code, _ = await raw.open("StartExecution", body).status()

    # -1 would be a stream that ended without a status. Older releases of grpc take a false compression flag for OK.
    assert code >= 0
    assert not errors(caplog)
    await caller.run(QUICK)


async def test_bytes_that_are_not_http(server: Server, caller: Caller) -> None:
    """A connection that does not speak HTTP/2 is closed, and the server serves on."""
    host, _, port = server.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n" + bytes(100))
    async with asyncio.timeout(10):
        while await reader.read(4096):
            pass
    writer.close()
    await caller.run(QUICK)


async def test_a_caller_who_left_is_no_news(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """Of what gRPC logs, a status that did not reach a caller who had left is dropped, and nothing else."""
    log = logging.getLogger("grpc._cython.cygrpc")
    for error in (cygrpc.ExecuteBatchError("Failed grpc_call_start_batch: 11"), ZeroDivisionError("a bug")):
        try:
            raise error
        except Exception:
            log.exception("raised in core")
    log.error("out of descriptors")

    assert [record.exc_info and str(record.exc_info[1]) for record in caplog.records] == ["a bug", None]


async def test_messages_after_the_request(server: Server) -> None:
    """What follows the one request is not looked at."""
    request = framed(GetServerInfoRequest())
    async with RawCaller(server.address) as raw:
        code, _ = await raw.open("GetServerInfo", request + request + b"\xff").status()

    assert code == 0


async def test_an_exception_in_a_method(
    server: Server, caller: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is INTERNAL with an id that the log has too; its text is in the log and nowhere else."""

    async def get(self: Engine, execution_id: str) -> ExecutionRecord:
        raise ZeroDivisionError("the secret")

    monkeypatch.setattr(Engine, "get", get)
    refused = await caller.refused("GetExecution", GetExecutionRequest(execution_id="x"))

    assert (refused.code, refused.error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL_ERROR")
    assert "secret" not in str(refused.error)
    assert "Zero" not in str(refused.error)
    error_id = refused.error.metadata["error_id"]
    assert error_id in refused.error.message
    assert error_id in caplog.text
    assert "the secret" in caplog.text


async def test_a_planner_with_a_bug(caller: Caller, caplog: pytest.LogCaptureFixture) -> None:
    """A planner that raises, or makes a plan that can't run, is a bug of the app and not the caller's mistake."""
    for query, text in (("broken", "the planner's secret"), ("impossible", "no_such_operation")):
        refused = await caller.refused("BuildPlan", BuildPlanRequest(query=query))

        assert refused.error.reason == "INTERNAL_ERROR"
        assert text not in str(refused.error)
        assert text in caplog.text


async def test_a_cancelled_error_that_is_not_the_callers(
    caller: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A CancelledError that escapes a method gives a status; without one the caller would hang for ever."""

    async def get(self: Engine, execution_id: str) -> ExecutionRecord:
        future: asyncio.Future[ExecutionRecord] = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future

    monkeypatch.setattr(Engine, "get", get)
    refused = await caller.refused("GetExecution", GetExecutionRequest(execution_id="x"))

    assert (refused.code, refused.error.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL_ERROR")
    assert refused.error.metadata["error_id"] in caplog.text


@pytest.mark.parametrize("how", ["cancel", "disconnect"])
async def test_the_caller_leaves_during_a_blocked_write(
    how: str, server: Server, caller: Caller, call_with: Call, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller that leaves while the server waits to write leaves nothing behind and no ERROR in the log."""
    ended = await caller.run(chatter(2_000, size=10_000))
    request = WatchExecutionRequest(execution_id=ended.execution_id)
    if how == "disconnect":
        async with RawCaller(server.address, reads=False) as raw:
            stream = raw.open("WatchExecution", framed(request))
            await stream.begun.wait()
            await blocked(server)
    else:
        call = call_with(server, **{"http2.bdp_probe": 0}).open("WatchExecution", request)
        await call.read()
        await blocked(server)
        call.cancel()

    await eventually(lambda: server.streams.open == 0 and not calls_of(server))
    assert not errors(caplog)


async def test_many_leave_during_blocked_writes(
    server: Server, caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """Callers that leave while the server waits to write to all their streams leave nothing behind and no ERROR in the
    log: some writes fail before the calls are cancelled.
    """
    ended = await caller.run(chatter(200, size=10_000))
    request = framed(WatchExecutionRequest(execution_id=ended.execution_id))
    for _ in range(5):
        async with RawCaller(server.address, reads=False) as raw:
            for _ in range(100):
                raw.open("WatchExecution", request)
            await eventually(lambda: server.streams.open == 100)
            await blocked(server)
        await eventually(lambda: server.streams.open == 0 and not calls_of(server))
    assert not errors(caplog)


@pytest.mark.parametrize("method", ["wait", "watch", "execute", "plan"])
async def test_the_caller_leaves_while_the_server_waits(
    method: str, server: Server, caller: Caller, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller that leaves while nothing happens leaves nothing behind and no ERROR in the log."""
    execution = await caller.start(BLOCKED)
    name, request = {
        "wait": ("WaitExecution", WaitExecutionRequest(execution_id=execution.execution_id)),
        "watch": ("WatchExecution", WatchExecutionRequest(execution_id=execution.execution_id)),
        "execute": ("Execute", ExecuteRequest(plan=BLOCKED)),
        "plan": ("BuildPlan", BuildPlanRequest(query="slow")),
    }[method]
    call = caller.open(name, request)
    await eventually(lambda: bool(calls_of(server)))
    await gate.waiting.wait()
    call.cancel()

    await eventually(lambda: server.streams.open == 0 and not calls_of(server))
    assert not errors(caplog)


async def test_the_caller_leaves_before_its_status(
    server: Server, caller: Caller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal that nobody waits for any more makes no noise."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def get(self: Engine, execution_id: str) -> ExecutionRecord:
        begun.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                go.set()
        raise JournalUnavailable("gone")

    monkeypatch.setattr(Engine, "get", get)
    call = caller.open("GetExecution", GetExecutionRequest(execution_id="x"))
    await begun.wait()
    call.cancel()

    await eventually(lambda: not calls_of(server))
    assert not errors(caplog)


async def test_a_deadline_ends_the_call_and_not_the_execution(server: Server, caller: Caller, gate: Gate) -> None:
    """The caller's deadline ends its stream; the execution goes on."""
    raw = ExecuteRequest(plan=BLOCKED, request_id="r").SerializeToString()
    call = caller.channel.unary_stream("/stepwire.v1.ExecutionService/Execute")(raw, timeout=1)
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    await eventually(lambda: server.streams.open == 0)
    assert server.engine.running == 1
    gate.opened.set()
    batches = await caller.execute(BLOCKED, request_id="r")
    assert batches[-1].events[-1].WhichOneof("kind") == "plan_completed"


async def test_long_texts_reach_the_caller(caller: Caller) -> None:
    """A refusal whose message is long and not ASCII arrives as itself: it stays below what peers take in trailers."""
    for letter in ("x", "ü", "漢", "𝔘"):
        for _ in range(5):
            refused = await caller.refused("BuildPlan", BuildPlanRequest(query="repeat " + letter * 9_000))

            assert refused.error.reason == "QUERY_NOT_UNDERSTOOD", refused
            assert refused.details_size < 4096
            assert refused.error.message.startswith("repeat " + letter * 100)


class FaultyJournal(MemoryJournal):
    """Raises what it is told to."""

    def __init__(self) -> None:
        super().__init__(tail_bytes=0)
        self.faults: dict[str, Exception] = {}

    def _fault(self, name: str) -> None:
        if name in self.faults:
            raise self.faults[name]

    async def create(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        self._fault("create")
        return await super().create(record)

    async def get(self, execution_id: str) -> ExecutionRecord | None:
        self._fault("get")
        return await super().get(execution_id)

    async def append(self, execution_id: str, **more: Any) -> int:
        self._fault("append")
        return await super().append(execution_id, **more)

    async def _load(self, execution_id: str, **bounds: Any) -> Any:
        self._fault("load")
        found: list[Chunk] = list(await super()._load(execution_id, **bounds))
        return found


async def test_the_journals_faults_have_their_statuses(serve: Serve, call_with: Call) -> None:
    """A full disk, an unreachable journal and a damaged one are told apart, in calls and in streams."""
    journal = FaultyJournal()
    caller = call_with(await serve(journal))
    ended = await caller.run(QUICK)
    watch = WatchExecutionRequest(execution_id=ended.execution_id)
    for name, method, request, fault, code in (
        ("create", "Execute", ExecuteRequest(plan=QUICK), StorageFull("full"), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ("get", "WatchExecution", watch, JournalUnavailable("gone"), grpc.StatusCode.UNAVAILABLE),
        ("load", "WatchExecution", watch, JournalDamaged("bits"), grpc.StatusCode.DATA_LOSS),
    ):
        journal.faults = {name: fault}
        with pytest.raises(Refused) as caught:
            await caller.stream(method, request)
        assert (caught.value.code, caught.value.error.reason) == (code, fault.reason)
    journal.faults = {}
    assert (await caller.stream("WatchExecution", watch))[-1].events


@pytest.mark.parametrize(
    ("fault", "code", "reason"),
    [
        (JournalDamaged("a page is damaged"), grpc.StatusCode.DATA_LOSS, "JOURNAL_DAMAGED"),
        (ValueError("a bug"), grpc.StatusCode.INTERNAL, "INTERNAL_ERROR"),
    ],
)
async def test_nobody_waits_for_what_can_not_be_stored(
    serve: Serve, call_with: Call, gate: Gate, fault: Exception, code: grpc.StatusCode, reason: str
) -> None:
    """Who watches, awaits or controls an execution whose events can't be stored any more is told so, and does not wait
    for ever.
    """
    journal = FaultyJournal()
    server = await serve(journal)
    caller = call_with(server)
    name = (await caller.start(BLOCKED)).execution_id
    watch, wait = WatchExecutionRequest(execution_id=name), WaitExecutionRequest(execution_id=name)
    waiting = asyncio.gather(
        caller.stream("WatchExecution", watch),
        caller.call("WaitExecution", wait, WaitExecutionResponse),
        return_exceptions=True,
    )
    await eventually(lambda: len(server.streams.followers) == 2)
    journal.faults = {"append": fault}
    gate.opened.set()
    told: list[Any] = list(await waiting)
    told += await asyncio.gather(
        caller.stream("WatchExecution", watch),
        caller.call("WaitExecution", wait, WaitExecutionResponse),
        caller.call("CancelExecution", CancelExecutionRequest(execution_id=name), CancelExecutionResponse),
        caller.stream("Execute", ExecuteRequest(plan=QUICK)),
        return_exceptions=True,
    )
    assert [(type(one), one.code, one.error.reason) for one in told] == [(Refused, code, reason)] * 6
    journal.faults = {}
    assert (await caller.run(QUICK)).state == ExecutionState.EXECUTION_STATE_COMPLETED


async def test_compressed_answers_and_requests(caller: Caller) -> None:
    """A compressed request is a request."""
    info = await caller.call(
        "GetServerInfo", GetServerInfoRequest(), GetServerInfoResponse, compression=grpc.Compression.Gzip
    )
    assert info.app == "shop"


async def test_a_first_message_that_cannot_be_written(server: Server, caller: Caller) -> None:
    """A caller that leaves at once, again and again, takes no place from those who stay."""
    for _ in range(50):
        call = caller.open("Execute", ExecuteRequest(plan=QUICK))
        call.cancel()
    await eventually(lambda: server.streams.open == 0 and server.engine.running == 0)
    batches = [EventBatch.FromString(raw) async for raw in caller.open("Execute", ExecuteRequest(plan=QUICK))]
    assert batches[-1].events[-1].WhichOneof("kind") == "plan_completed"


def calls_of(server: Server) -> set[asyncio.Task[Any]]:
    """Returns the tasks of the calls that run."""
    return {task for method in server._service.methods.values() for task in method.tasks}


async def blocked(server: Server) -> None:
    """Returns when no call of the server goes on by itself: it waits to write."""
    quiet = 0
    while quiet < 3:
        before = sent(server)
        await aio_turn()
        quiet = quiet + 1 if sent(server) == before else 0


def sent(server: Server) -> tuple[int, ...]:
    """Returns where every stream's cursor stands."""
    return tuple(follower.sequence for follower in server.streams.followers)


async def aio_turn() -> None:
    """Gives the transport a moment; what is waited for has no signal of its own."""
    try:
        async with asyncio.timeout(0.1):
            await asyncio.Event().wait()
    except TimeoutError:
        return


async def test_a_burst_of_calls(server: Server, caller: Caller) -> None:
    """Three thousand calls at once are all served: grpc by itself cancels some above a thousand."""
    await info(caller)
    found = await asyncio.gather(*(info(caller) for _ in range(3_000)))

    assert all(answer.app == "shop" for answer in found)


async def info(caller: Caller) -> GetServerInfoResponse:
    return await caller.call("GetServerInfo", GetServerInfoRequest(), GetServerInfoResponse)
