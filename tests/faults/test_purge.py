"""Readers that are in the middle of an execution when it is purged."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from stepwire.transport import error_from_call
from stepwire.v1 import ExecuteRequest, Plan, WatchExecutionRequest
from stepwire_server import App, StepContext, plan_step
from stepwire_server.api.server import Server
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import MemoryJournal, Retention, SqliteJournal

from .checkers import check
from .history import History, Stream, dump_open
from .noted import Noted

PATIENCE = 60.0
REPORTS = 6_000
SERVICE = "/stepwire.v1.ExecutionService/"
SMALL_WINDOW = [("grpc.http2.lookahead_bytes", 1 << 14), ("grpc.http2.bdp_probe", 0)]
"""So that what a reader has not read stays with the server."""

app = App("reports")


@app.operation()
async def report(step: StepContext, reports: int) -> int:
    """Report so many times."""
    for number in range(reports):
        await step.progress(100 * number / reports, "x" * 200)
    return reports


class Reader:
    """One stream, that is read message by message as it is told."""

    def __init__(self, channel: grpc.aio.Channel, stream: Stream) -> None:
        self.stream = stream
        request = WatchExecutionRequest(execution_id=stream.execution_id, after_sequence=stream.after)
        self._call = channel.unary_stream(f"{SERVICE}WatchExecution")(request.SerializeToString())

    async def take(self, messages: int) -> None:
        """Reads so many messages, or up to the end."""
        while messages and not self.stream.status:
            messages -= 1
            try:
                data = await self._call.read()
            except grpc.aio.AioRpcError as error:
                failure = error_from_call(error)
                self.stream.end(error.code().name, str(failure.reason or ""), dict(failure.metadata))
                return
            if data is grpc.aio.EOF:
                self.stream.end("OK")
                return
            self.stream.take(data)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@pytest.mark.fault("a purge while readers are in the middle", how="slow readers over gRPC, Journal.purge")
async def test_a_purge_while_readers_are_in_the_middle(tmp_path: Path, kind: str, noted: Noted) -> None:
    """Who reads an execution that is purged gets what was begun, and then CURSOR_EXPIRED with the true first sequence,
    and so does who comes later; never a part of what follows the cursor.
    """
    history = History()
    journal = SqliteJournal(tmp_path / "j.db", tail_bytes=0) if kind == "sqlite" else MemoryJournal(tail_bytes=0)
    async with (
        asyncio.timeout(PATIENCE),
        Server(app.catalog(), journal) as server,
        grpc.aio.insecure_channel(server.address, options=SMALL_WINDOW) as channel,
    ):
        long, other = await _run(server.engine, "long"), await _run(server.engine, "other")
        readers = []
        for number, messages in enumerate((0, 1, 2, 3, 5, 8, 1_000)):
            readers.append(Reader(channel, history.open(f"reader {number}", long)))
            await readers[-1].take(messages)
        kept = Reader(channel, history.open("reader of what is kept", other))
        await kept.take(3)
        history.journal = await dump_open(journal)
        last = history.journal.pop(long).last_sequence
        assert (await journal.purge(Retention(keep_days=0, keep_executions=1))).executions == 1
        readers += [Reader(channel, history.open(f"late {after}", long, after=after)) for after in (0, 1, 100, last)]
        for reader in [*readers, kept]:
            await reader.take(1_000)
        stone = await journal.tombstone(long)
        assert stone is not None
        history.purged[long] = stone
    assert check(history) == {}
    ends = [(reader.stream.status, reader.stream.reason) for reader in readers]
    expired = ("OUT_OF_RANGE", "CURSOR_EXPIRED")
    assert ends.count(expired) >= 6
    assert ends[6] == ("OK", "")
    assert ends[7:] == [expired] * 4
    assert kept.stream.status == "OK"
    for reader in readers:
        if reader.stream.status != "OK":
            assert reader.stream.metadata["first_sequence"] == str(last + 1)
    begun = [s for s in history.streams if s.reason == "CURSOR_EXPIRED" and any(m.frames for m in s.messages)]
    assert begun
    noted.times = len(readers)
    noted.figures["readers cut off in the middle"] = str(len(begun))


async def _run(engine: Engine, request_id: str) -> str:
    plan = Plan(steps=[plan_step("a", "report", input={"reports": REPORTS})])
    record = await engine.accept(ExecuteRequest(plan=plan, request_id=request_id))
    with engine.journal.follow(record.execution_id, after=0) as follower:
        while not follower.ended:
            if not await follower.read(max_events=4096, max_bytes=4 << 20):
                await follower.wait()
    return record.execution_id
