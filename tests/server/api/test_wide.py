"""What a stream of many executions promises, as a caller sees it on the wire."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.v1 import (
    Event,
    EventBatch,
    EventFilter,
    Execution,
    ExecutionFilter,
    ExecutionState,
    WatchExecutionsRequest,
)
from stepwire_server.api.filters import EventSieve
from stepwire_server.api.wide import _WideStream
from stepwire_server.engine.states import TERMINAL
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, MemoryJournal, Retention, SqliteJournal

from .conftest import Call, Serve, eventually
from .raw import RawCaller, framed
from .shop import BLOCKED, Caller, Gate, chatter, receive, refusal

TENTH = Duration(nanos=100_000_000)
ALL = WatchExecutionsRequest()


class Seen:
    """What came on one stream, held to what every stream of many executions promises."""

    def __init__(self, *, filtered: bool = False, after: int | None = None) -> None:
        self.sequences: dict[str, list[int]] = defaultdict(list)
        self.kinds: dict[str, list[str]] = defaultdict(list)
        self.snapshots: dict[str, Any] = {}
        self.covered: dict[str, int] = {}
        self.notices: list[EventBatch.Notice.ValueType] = []
        self.batches: list[EventBatch] = []
        self.position = after or 0
        self._filtered = filtered

    def take(self, batch: EventBatch) -> None:
        name = batch.execution_id
        first = len(self.batches) == 0
        self.batches.append(batch)
        if batch.position:
            assert batch.position >= self.position, "the position never goes back"
            self.position = batch.position
        if batch.notice:
            self.notices.append(batch.notice)
        if not name:
            assert first or batch.notice
            assert not batch.events
            return
        # The first message about an execution has it, and no other has.
        assert batch.HasField("execution") == (name not in self.snapshots)
        if batch.HasField("execution"):
            assert batch.execution.execution_id == name
            assert not batch.execution.HasField("plan")
            self.snapshots[name] = batch.execution
        else:
            assert batch.after_sequence == self.covered[name], f"{name} has a hole"
        last = batch.after_sequence
        for event in batch.events:
            assert event.execution_id == name
            assert last < event.sequence <= batch.sequence
            assert self._filtered or event.sequence == last + 1
            last = event.sequence
            self.sequences[name].append(event.sequence)
            self.kinds[name].append(event.WhichOneof("kind") or "")
        assert self._filtered or last == batch.sequence
        self.covered[name] = batch.sequence

    def ended(self) -> set[str]:
        return {name for name, kinds in self.kinds.items() if kinds and kinds[-1] in TERMINAL}


async def watching(caller: Caller, request: WatchExecutionsRequest, seen: Seen) -> AsyncIterator[EventBatch]:
    async for batch in caller.batches("WatchExecutions", request):
        seen.take(batch)
        yield batch


async def watch_until(
    caller: Caller, request: WatchExecutionsRequest, over: Callable[[Seen], bool], **kinds: Any
) -> Seen:
    """Reads a stream until what came is enough, and leaves."""
    seen = Seen(**kinds)
    async with asyncio.timeout(20):
        async for _ in watching(caller, request, seen):
            if over(seen):
                return seen
    raise AssertionError(f"the stream ended: {seen.notices}")


def caught_up(seen: Seen) -> bool:
    return EventBatch.NOTICE_CAUGHT_UP in seen.notices


def start_at(position: int, **fields: Any) -> WatchExecutionsRequest:
    return WatchExecutionsRequest(after_position=position, **fields)


@pytest.fixture
async def on_disk(serve: Serve, call_with: Call, journal: Journal) -> Caller:
    """A caller of a server with a journal of each kind."""
    return call_with(await serve(journal))


# -- from now on


async def test_from_now_on(on_disk: Caller, gate: Gate) -> None:
    """Without a position what is under way is shown first, what has ended is not, and from there on each event comes
    once, to the end, also those of an execution that begins later.
    """
    ended = await on_disk.run()
    blocked = await on_disk.start(BLOCKED)
    await gate.waiting.wait()
    seen, later = Seen(), ""
    async with asyncio.timeout(20):
        async for batch in watching(on_disk, ALL, seen):
            if batch.notice == EventBatch.NOTICE_CAUGHT_UP:
                assert set(seen.snapshots) == {blocked.execution_id}
                assert not any(told.position for told in seen.batches if not told.events and not told.notice)
                later = (await on_disk.start()).execution_id
                gate.opened.set()
            if later and seen.ended() == {blocked.execution_id, later}:
                break
    shown = next(told.sequence for told in seen.batches if told.execution_id == blocked.execution_id)
    assert shown <= seen.snapshots[blocked.execution_id].as_of_sequence
    whole = [event.sequence for event in await on_disk.events(blocked.execution_id)]
    assert list(range(1, shown + 1)) + seen.sequences[blocked.execution_id] == whole
    assert seen.sequences[later] == [event.sequence for event in await on_disk.events(later)]
    assert ended.execution_id not in seen.snapshots


async def test_a_stream_of_none_begins_at_once(caller: Caller) -> None:
    """Where nothing matches, the first message says so, with the position to go on from."""
    await caller.run()
    call = caller.open("WatchExecutions", WatchExecutionsRequest(executions=ExecutionFilter(session_id="nobody")))
    first = EventBatch.FromString(await receive(call) or b"")
    assert (first.notice, first.execution_id) == (EventBatch.NOTICE_CAUGHT_UP, "")
    assert first.position > 0
    call.cancel()


async def test_only_what_the_filter_names(on_disk: Caller, gate: Gate) -> None:
    """Session and labels select, also among those that begin later."""
    request = WatchExecutionsRequest(executions=ExecutionFilter(session_id="s", labels={"team": "web"}))
    wanted = set()
    seen = Seen()
    async with asyncio.timeout(20):
        async for batch in watching(on_disk, request, seen):
            if batch.notice == EventBatch.NOTICE_CAUGHT_UP:
                for fields in ({}, {"session_id": "s"}, {"labels": {"team": "web"}}):
                    await on_disk.run(**fields)
                for _ in range(2):
                    wanted.add((await on_disk.run(session_id="s", labels={"team": "web", "x": "y"})).execution_id)
            if wanted and seen.ended() >= wanted:
                break
    assert set(seen.snapshots) == wanted


# -- resumed by position


async def test_every_position_is_a_place_to_go_on_from(on_disk: Caller) -> None:
    """Whoever goes on at the position of any message and drops what repeats has every event, once and in order."""
    names = [(await on_disk.start(chatter(40), request_id=f"r{number}")).execution_id for number in range(8)]
    for name in names:
        await on_disk.ended(name)
    whole = {name: [event.sequence for event in await on_disk.events(name)] for name in names}
    seen = await watch_until(on_disk, start_at(0), caught_up)
    assert dict(seen.sequences) == whole
    had: dict[str, int] = defaultdict(int)
    for index, batch in enumerate(seen.batches):
        if batch.execution_id:
            had[batch.execution_id] = batch.sequence
        if index % 3:
            continue
        again = await watch_until(on_disk, start_at(batch.position), caught_up, after=batch.position)
        for name in names:
            got = again.sequences[name]
            assert not got or got[0] <= had[name] + 1, f"{name}: {got[0]} came after {had[name]}"
            assert not got or got == list(range(got[0], whole[name][-1] + 1))
            assert got or had[name] == whole[name][-1]


async def test_a_resumed_stream_begins_at_once(caller: Caller) -> None:
    """With a position the first message comes before any work, and says where the stream is."""
    call = caller.open("WatchExecutions", start_at(0))
    assert await receive(call) == b""
    second = EventBatch.FromString(await receive(call) or b"")
    assert second.notice == EventBatch.NOTICE_CAUGHT_UP
    call.cancel()


async def test_compaction_while_it_is_watched(
    serve: Serve, call_with: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events that compaction moves, before a stream has come to them or after it, come once in each stream."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    # On a busy machine the server's own pass at its start would come to these executions first.
    monkeypatch.setattr("stepwire_server.api.server.keep_up", never)
    journal = SqliteJournal(tmp_path / "j.db", bite_seconds=0.0, tail_bytes=0)
    caller = call_with(await serve(journal))
    names = [(await caller.start(chatter(300, size=200))).execution_id for _ in range(4)]
    for name in names:
        await caller.ended(name)
    seen, already = Seen(), set[str]()
    async with asyncio.timeout(20):
        async for _ in watching(caller, start_at(0), seen):
            if len(seen.batches) == 6:
                already = seen.ended()
                assert await journal.compact() > 0
            if caught_up(seen):
                break
    middle = seen.batches[5].position
    for name in names:
        assert seen.sequences[name] == [event.sequence for event in await caller.events(name)]
    again = await watch_until(caller, start_at(middle), caught_up, after=middle)
    assert already | again.ended() == set(names)


# -- named executions


async def test_named_executions_end_the_stream(on_disk: Caller, gate: Gate) -> None:
    """A stream of named executions shows those that have ended, too, and ends OK with the last one's end."""
    ended = await on_disk.run()
    blocked = await on_disk.start(BLOCKED)
    names = [ended.execution_id, blocked.execution_id, "nobody"]
    request = WatchExecutionsRequest(executions=ExecutionFilter(execution_ids=names))
    seen = Seen()
    async with asyncio.timeout(20):
        async for batch in watching(on_disk, request, seen):
            if batch.notice == EventBatch.NOTICE_CAUGHT_UP:
                assert seen.snapshots[ended.execution_id].state == ExecutionState.EXECUTION_STATE_COMPLETED
                gate.opened.set()
    assert seen.ended() == {blocked.execution_id}
    again = Seen()
    async with asyncio.timeout(20):
        async for _ in watching(on_disk, start_at(0, executions=request.executions), again):
            pass
    assert again.ended() == {ended.execution_id, blocked.execution_id}
    assert again.notices == [EventBatch.NOTICE_CAUGHT_UP]


async def test_nobody_is_a_short_stream(caller: Caller) -> None:
    """A stream of executions that are not there ends at once."""
    request = WatchExecutionsRequest(executions=ExecutionFilter(execution_ids=["nobody"]))
    assert [batch.notice for batch in await caller.stream("WatchExecutions", request)] == [EventBatch.NOTICE_CAUGHT_UP]


async def test_who_names_an_execution_watches_it(serve: Serve, call_with: Call, gate: Gate) -> None:
    """cancel_if_unwatched_for counts streams that name the execution, and not those that look at all."""
    server = await serve()
    caller = call_with(server)
    options = {"cancel_if_unwatched_for": Duration(seconds=3600)}
    execution = await caller.start(BLOCKED, options=options)
    everything = caller.open("WatchExecutions", ALL)
    await receive(everything)
    assert execution.execution_id not in server.engine._watchers
    named = caller.open(
        "WatchExecutions", WatchExecutionsRequest(executions=ExecutionFilter(execution_ids=[execution.execution_id]))
    )
    await receive(named)
    assert server.engine._watchers == {execution.execution_id: 1}
    named.cancel()
    await eventually(lambda: not server.engine._watchers)
    everything.cancel()


# -- filters, notices


async def test_an_event_filter_keeps_the_ranges_joined(on_disk: Caller) -> None:
    """With a filter of events the ranges still join, and terminal events pass."""
    request = start_at(0, filter=EventFilter(kinds=["step_started"]))
    first = await on_disk.run()
    second = await on_disk.run(chatter(30))
    seen = await watch_until(on_disk, request, caught_up, filtered=True)
    assert dict(seen.kinds) == {
        first.execution_id: ["step_started", "step_started", "plan_completed"],
        second.execution_id: ["step_started", "plan_completed"],
    }


async def test_heartbeats_have_the_position(caller: Caller) -> None:
    """A heartbeat comes after each silence, with a position that has passed what does not match."""
    request = WatchExecutionsRequest(executions=ExecutionFilter(session_id="s"), heartbeat_interval=TENTH)
    seen = Seen()
    before = 0
    async with asyncio.timeout(20):
        async for batch in watching(caller, request, seen):
            if batch.notice == EventBatch.NOTICE_CAUGHT_UP:
                before = batch.position
                await caller.run()
            if batch.notice == EventBatch.NOTICE_HEARTBEAT and batch.position > before:
                break
    assert not seen.snapshots


async def test_draining_ends_it(serve: Serve, call_with: Call) -> None:
    """A server that goes says so, with the position, and ends the stream OK."""
    server = await serve()
    caller = call_with(server)
    await caller.run()
    call = caller.open("WatchExecutions", ALL)
    await receive(call)
    stopping = asyncio.create_task(server.stop())
    last = EventBatch.FromString(await receive(call) or b"")
    assert last.notice == EventBatch.NOTICE_DRAINING
    assert last.position > 0
    assert await receive(call) is None
    assert await refusal(call) is None
    await stopping


# -- what is refused


@pytest.mark.parametrize(
    ("request_", "code", "reason", "field"),
    [
        (start_at(-1), "INVALID_ARGUMENT", "REQUEST_MALFORMED", "after_position"),
        (
            WatchExecutionsRequest(heartbeat_interval=Duration(nanos=1)),
            "INVALID_ARGUMENT",
            "REQUEST_MALFORMED",
            "heartbeat_interval",
        ),
        (
            WatchExecutionsRequest(filter=EventFilter(kinds=["nonsense"])),
            "INVALID_ARGUMENT",
            "FILTER_INVALID",
            "filter.kinds[0]",
        ),
        (
            WatchExecutionsRequest(executions=ExecutionFilter(execution_ids=["a", "b c"])),
            "INVALID_ARGUMENT",
            "FILTER_INVALID",
            "executions.execution_ids[1]",
        ),
        (
            WatchExecutionsRequest(executions=ExecutionFilter(execution_ids=["a"] * 1_001)),
            "INVALID_ARGUMENT",
            "FILTER_INVALID",
            "executions.execution_ids",
        ),
        (
            WatchExecutionsRequest(executions=ExecutionFilter(states=[ExecutionState.EXECUTION_STATE_RUNNING])),
            "INVALID_ARGUMENT",
            "FILTER_INVALID",
            "executions.states",
        ),
        (
            WatchExecutionsRequest(executions=ExecutionFilter(session_id="ä")),
            "INVALID_ARGUMENT",
            "FILTER_INVALID",
            "executions.session_id",
        ),
    ],
)
async def test_bad_requests(
    caller: Caller, request_: WatchExecutionsRequest, code: str, reason: str, field: str
) -> None:
    """What is wrong is refused before anything is sent, with its field."""
    refused = await caller.refused("WatchExecutions", request_)
    assert (refused.code.name, refused.error.reason) == (code, reason)
    assert [violation.field for violation in refused.error.violations] == [field]


async def test_positions_out_of_range(serve: Serve, call_with: Call, journal: Journal) -> None:
    """A position beyond the end is CURSOR_AHEAD, one before what was purged CURSOR_EXPIRED; both say what there is."""
    caller = call_with(await serve(journal))
    for _ in range(3):
        await caller.run()
    last = (await watch_until(caller, ALL, caught_up)).position
    refused = await caller.refused("WatchExecutions", start_at(last + 1))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_AHEAD")
    assert refused.error.metadata["last_position"] == str(last)
    await journal.purge(Retention(keep_days=0, keep_executions=1))
    refused = await caller.refused("WatchExecutions", start_at(1))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")
    first = int(refused.error.metadata["first_position"])
    seen = await watch_until(caller, start_at(first - 1), caught_up, after=first - 1)
    assert len(seen.ended()) == 1


async def test_it_takes_a_place_of_a_watcher(serve: Serve, call_with: Call) -> None:
    """A stream of many executions counts as one stream: beyond the limit it is LIMIT_WATCHERS."""
    caller = call_with(await serve(max_watchers=1))
    call = caller.open("WatchExecutions", ALL)
    await receive(call)
    refused = await caller.refused("WatchExecutions", ALL)
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_WATCHERS")
    call.cancel()


# -- slow readers


async def test_a_reader_that_never_reads(serve: Serve, call_with: Call, tmp_path: Path) -> None:
    """One that never reads holds up nobody and keeps the server from nothing; another gets every event meanwhile."""
    server = await serve(SqliteJournal(tmp_path / "j.db", tail_bytes=0))
    caller = call_with(server)
    async with RawCaller(server.address, reads=False) as raw:
        stalled = raw.open("WatchExecutions", framed(start_at(0)))
        fast = caller.open("WatchExecutions", start_at(0))
        names = [(await caller.start(chatter(400, size=2_000))).execution_id for _ in range(4)]
        seen = Seen()
        async with asyncio.timeout(30):
            while seen.ended() != set(names):
                seen.take(EventBatch.FromString(await receive(fast) or b""))
        await stalled.begun.wait()
        fast.cancel()
        assert len(stalled.data) < 100_000


class Sink:
    """A call that keeps what is written to it."""

    def __init__(self) -> None:
        self.written: list[EventBatch] = []

    async def write(self, encoded: bytes) -> None:
        self.written.append(EventBatch.FromString(encoded))


async def test_one_message_has_what_is_ready_of_an_execution() -> None:
    """What a read gives is sorted by execution, and no position passes what is not sent yet."""
    journal = MemoryJournal()
    await journal.open()
    snapshots = {name: Execution(execution_id=name).SerializeToString() for name in "ab"}
    for name, snapshot in snapshots.items():
        await journal.create(ExecutionRecord(execution_id=name, request=b"", create_time_ns=1, snapshot=snapshot))
    for sequence in (1, 2, 3):
        for name in "ab":
            frame = EventBatch(events=[Event(execution_id=name, sequence=sequence)]).SerializeToString()
            chunk = Chunk(first=sequence, data=frame, ends=[len(frame)], kinds=b"\x05")
            running = ExecutionState.EXECUTION_STATE_RUNNING
            await journal.append(name, epoch=1, chunk=chunk, state=running, snapshot=snapshots[name])
    sink, seen = Sink(), Seen()
    stream = _WideStream(sink, journal, sieve=EventSieve(EventFilter()))  # type: ignore[arg-type]
    with journal.follow_many(ExecutionFilter(), tenant="") as follower:
        await follower.begin(0)
        assert await stream.send(await follower.read(max_events=100, max_bytes=1 << 20), follower.position)
    for told in sink.written:
        seen.take(told)
    assert [(told.execution_id, len(told.events), told.position) for told in sink.written] == [("a", 3, 1), ("b", 3, 6)]
    await journal.close()
