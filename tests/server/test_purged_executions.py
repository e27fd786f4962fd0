"""What callers of a real server are told of an execution that was purged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc import aio
from grpc_status import rpc_status

from stepwire import errors
from stepwire.v1 import (
    EventBatch,
    ExecuteRequest,
    GetExecutionRequest,
    ListEventsRequest,
    ListExecutionsRequest,
    ListExecutionsResponse,
    Plan,
    StartExecutionRequest,
    WaitExecutionRequest,
    WatchExecutionRequest,
)
from stepwire_server import App, plan_step
from stepwire_server.api.server import Options, Server
from stepwire_server.journal import Journal, MemoryJournal, Retention, SqliteJournal
from stepwire_server.journal.retention import DAY_NS

HANGS = 20
PLAN = Plan(steps=[plan_step("a", "add")])
METHOD = "/stepwire.v1.ExecutionService/"


class Wall:
    """A clock that stands until it is moved."""

    ns = 1_000 * DAY_NS

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture(params=["memory", "sqlite"])
def journal(request: pytest.FixtureRequest, tmp_path: Path, wall: Wall) -> Journal:
    return MemoryJournal(now_ns=wall) if request.param == "memory" else SqliteJournal(tmp_path / "j.db", now_ns=wall)


@pytest.fixture
async def server(journal: Journal) -> AsyncIterator[Server]:
    app = App("shop")

    @app.operation()
    async def add() -> int:
        return 3

    async with Server(app.catalog(), journal, Options(drain_grace=0.0)) as server:
        yield server


@pytest.fixture
async def channel(server: Server) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(server.address) as channel:
        yield channel


async def ask(channel: aio.Channel, method: str, request) -> list[bytes]:
    """Returns what a call answers. Raises the error that its status carries."""
    try:
        async with asyncio.timeout(HANGS):
            return [raw async for raw in channel.unary_stream(METHOD + method)(request.SerializeToString())]
    except grpc.RpcError as error:
        status = rpc_status.from_call(error)
        assert status is not None
        raise errors.error_from_status(status) from None


@pytest.fixture
async def purged(channel: aio.Channel, journal: Journal, wall: Wall) -> str:
    """An execution that ended and was purged."""
    batches = await ask(channel, "Execute", ExecuteRequest(plan=PLAN, request_id="r"))
    wall.ns += 31 * DAY_NS
    assert (await journal.purge(Retention())).executions == 1
    return EventBatch.FromString(batches[0]).execution.execution_id


@pytest.mark.parametrize("after", [0, 2])
async def test_its_events_are_gone(channel, purged, after):
    """Who watches or lists its events is told CURSOR_EXPIRED, with the execution and what there is."""
    for method, request in (
        ("WatchExecution", WatchExecutionRequest(execution_id=purged, after_sequence=after)),
        ("ListEvents", ListEventsRequest(execution_id=purged, after_sequence=after)),
    ):
        with pytest.raises(errors.CursorExpired) as caught:
            await ask(channel, method, request)
        last = int(caught.value.metadata["last_sequence"])
        assert last > 2
        assert caught.value.metadata == {
            "execution_id": purged,
            "first_sequence": str(last + 1),
            "last_sequence": str(last),
        }


async def test_there_is_no_such_execution(channel, purged):
    """Who gets it or waits for it is told EXECUTION_NOT_FOUND, and no page lists it."""
    for method, request in (
        ("GetExecution", GetExecutionRequest(execution_id=purged)),
        ("WaitExecution", WaitExecutionRequest(execution_id=purged)),
    ):
        with pytest.raises(errors.ExecutionNotFound):
            await ask(channel, method, request)
    (answer,) = await ask(channel, "ListExecutions", ListExecutionsRequest())
    assert ListExecutionsResponse.FromString(answer).total_size == 0


async def test_it_does_not_run_again(channel, purged, server):
    """Its request id is refused with CURSOR_EXPIRED, in both calls that start, and nothing runs."""
    for method, request in (
        ("Execute", ExecuteRequest(plan=PLAN, request_id="r")),
        ("StartExecution", StartExecutionRequest(plan=PLAN, request_id="r")),
    ):
        with pytest.raises(errors.CursorExpired):
            await ask(channel, method, request)
    assert server.engine.running == 0
    assert await ask(channel, "Execute", ExecuteRequest(plan=PLAN, request_id="another"))


async def test_what_never_was_is_not_found(channel):
    """Who watches an execution that never was is told EXECUTION_NOT_FOUND."""
    with pytest.raises(errors.ExecutionNotFound):
        await ask(channel, "WatchExecution", WatchExecutionRequest(execution_id="never"))


async def test_a_server_purges_by_itself(tmp_path, wall, monkeypatch):
    """A server's first pass purges what is too old, by the retention that it was given."""
    app = App("shop")

    @app.operation()
    async def add() -> int:
        return 3

    passed = asyncio.Event()
    compact = SqliteJournal.compact

    async def compact_and_tell(journal: SqliteJournal) -> int:
        passed.set()
        return await compact(journal)

    monkeypatch.setattr(SqliteJournal, "compact", compact_and_tell)
    options = Options(drain_grace=0.0, retention=Retention(keep_days=2, keep_executions=0))
    for found in (True, False):
        journal = SqliteJournal(tmp_path / "j.db", now_ns=wall)
        async with Server(app.catalog(), journal, options) as server, aio.insecure_channel(server.address) as channel:
            async with asyncio.timeout(HANGS):
                await passed.wait()
            passed.clear()
            if found:
                await ask(channel, "Execute", ExecuteRequest(plan=PLAN, request_id="r"))
            assert (await journal.find(tenant="", request_id="r") is not None) == found
        wall.ns += 3 * DAY_NS
