"""What streams promise: P3 to P8 and P13 to P15 of the contract, as a caller sees them on the wire."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwire.v1 import (
    Event,
    EventBatch,
    EventFilter,
    ExecuteRequest,
    ExecutionState,
    ListEventsRequest,
    Plan,
    Step,
    WatchExecutionRequest,
)
from stepwire_server import plan_step
from stepwire_server.api.filters import EventSieve
from stepwire_server.api.server import Server
from stepwire_server.api.streams import _Newest, _Stream
from stepwire_server.engine.states import KINDS, TERMINAL
from stepwire_server.journal import Chunk, Journal, MemoryJournal

from .conftest import Call, Serve, eventually
from .raw import RawCaller, framed
from .shop import BLOCKED, QUICK, Caller, Gate, chatter, plan, receive

TENTH = Duration(nanos=100_000_000)

VARIED = Plan(
    steps=[
        plan_step("talk", "chatter", input={"count": 60}),
        plan_step("sum", "add", input={"a": 1}),
        plan_step("again", "chatter", input={"count": 30}, depends_on=["sum"]),
        Step(id="end", operation="echo", depends_on=["talk", "again"]),
    ]
)


def kinds(batches: Sequence[EventBatch]) -> list[str]:
    return [event.WhichOneof("kind") or "" for batch in batches for event in batch.events]


def notices(batches: Sequence[EventBatch]) -> list[EventBatch.Notice.ValueType]:
    return [batch.notice for batch in batches if batch.notice]


def check_ranges(batches: Sequence[EventBatch], *, after: int, execution_id: str) -> None:
    """Fails unless the messages' ranges join from `after` on, and every event lies in its message's range."""
    assert batches[0].execution.execution_id == execution_id
    assert not any(batch.HasField("execution") for batch in batches[1:])
    covered = last = after
    for batch in batches:
        assert batch.after_sequence == covered
        assert batch.sequence >= covered
        for event in batch.events:
            assert event.execution_id == execution_id
            assert max(last, batch.after_sequence) < event.sequence <= batch.sequence
            last = event.sequence
        covered = batch.sequence


def frames_of(raw: bytes) -> list[bytes]:
    """Returns the frames of a message's events as they stand in its bytes."""
    found, place = [], 0
    while place < len(raw):
        start = place
        key, place = _varint(raw, place)
        if key & 7 == 2:
            size, place = _varint(raw, place)
            place += size
        else:
            assert key & 7 == 0
            _, place = _varint(raw, place)
        if key >> 3 == EventBatch.EVENTS_FIELD_NUMBER:
            found.append(raw[start:place])
    return found


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


# -- begin and end


async def test_the_first_message_comes_before_any_work(server: Server, caller: Caller, gate: Gate) -> None:
    """Execute's first message has the execution, and is sent although no step can do anything yet."""
    call = caller.open("Execute", ExecuteRequest(query="slow"))
    first = EventBatch.FromString(await receive(call) or b"")
    await gate.waiting.wait()

    assert first.execution.state == ExecutionState.EXECUTION_STATE_PLANNING
    assert first.execution.query == "slow"
    assert first.execution.as_of_sequence == 0
    assert (first.after_sequence, first.sequence, list(first.events)) == (0, 0, [])
    assert not first.execution.HasField("plan")
    call.cancel()


async def test_execute_streams_everything(serve: Serve, call_with: Call, journal: Journal) -> None:
    """Execute streams 1 to n without a hole, the terminal event last, and then ends OK."""
    caller = call_with(await serve(journal))
    batches = await caller.execute(VARIED, session_id="s", labels={"a": "b"})

    execution = batches[0].execution
    assert (execution.session_id, dict(execution.labels)) == ("s", {"a": "b"})
    check_ranges(batches, after=0, execution_id=execution.execution_id)
    events = [event for batch in batches for event in batch.events]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [kind for kind in kinds(batches) if kind in TERMINAL] == ["plan_completed"]
    assert kinds(batches)[-1] == "plan_completed"
    assert events == await caller.events(execution.execution_id)


async def test_a_named_plan(caller: Caller) -> None:
    """A call runs the app's plan with its input."""
    request = ExecuteRequest()
    request.call.plan = "greet"
    request.call.input.update({"name": "Ada"})
    batches = await caller.stream("Execute", request)

    assert batches[-1].events[-1].plan_completed.output.string_value == "hello Ada"


async def test_an_ended_execution_is_replayed(serve: Serve, call_with: Call, journal: Journal) -> None:
    """A watch of an ended execution gives all that follows the cursor, whatever the cursor, and ends OK."""
    caller = call_with(await serve(journal))
    ended = await caller.run(VARIED)
    events = await caller.events(ended.execution_id)
    for after in range(0, len(events), 7):
        request = WatchExecutionRequest(execution_id=ended.execution_id, after_sequence=after)
        batches = await caller.stream("WatchExecution", request)

        check_ranges(batches, after=after, execution_id=ended.execution_id)
        assert [event for batch in batches for event in batch.events] == events[after:]
        assert notices(batches) == []


async def test_a_watch_after_the_end_of_an_ended_execution(caller: Caller) -> None:
    """A watch after the terminal event gives the ended snapshot and ends OK at once."""
    ended = await caller.run(QUICK)
    request = WatchExecutionRequest(execution_id=ended.execution_id, after_sequence=ended.as_of_sequence)
    batches = await caller.stream("WatchExecution", request)

    assert [batch.execution for batch in batches] == [ended]
    assert (batches[0].after_sequence, batches[0].sequence) == (ended.as_of_sequence, ended.as_of_sequence)


async def test_caught_up_once(caller: Caller, gate: Gate) -> None:
    """CAUGHT_UP comes once, where replay ends: in the first message where there is nothing to replay."""
    execution = await caller.start(BLOCKED)
    await gate.waiting.wait()
    await eventually_at(caller, execution.execution_id, 3)
    open_calls = []
    for after in (0, 1, 3):
        request = WatchExecutionRequest(
            execution_id=execution.execution_id, after_sequence=after, heartbeat_interval=TENTH
        )
        call = caller.open("WatchExecution", request)
        seen: list[EventBatch] = []
        while EventBatch.NOTICE_HEARTBEAT not in notices(seen):
            seen.append(EventBatch.FromString(await receive(call) or b""))
        assert notices(seen) == [EventBatch.NOTICE_CAUGHT_UP, EventBatch.NOTICE_HEARTBEAT]
        caught_up = next(batch for batch in seen if batch.notice == EventBatch.NOTICE_CAUGHT_UP)
        assert caught_up.sequence == 3
        assert (caught_up is seen[0]) == (after == 3)
        open_calls.append((call, seen))
    gate.opened.set()
    for call, seen in open_calls:
        while (raw := await receive(call)) is not None:
            seen.append(EventBatch.FromString(raw))
        assert notices(seen).count(EventBatch.NOTICE_CAUGHT_UP) == 1
        assert kinds(seen)[-1] == "plan_completed"


async def eventually_at(caller: Caller, execution_id: str, sequence: int) -> None:
    """Returns when an execution's last event has this sequence."""
    async with asyncio.timeout(20):
        while (await caller.get(execution_id)).as_of_sequence < sequence:
            pass


# -- filters


def passes(chosen: EventFilter, event: Event) -> bool:
    """The rule, in its own words."""
    kind = event.WhichOneof("kind")
    return kind in TERMINAL or (
        (not chosen.kinds or kind in chosen.kinds) and (not chosen.step_ids or event.step_id in chosen.step_ids)
    )


@pytest.fixture
async def varied(caller: Caller) -> tuple[str, list[Event]]:
    """An ended execution, and its events."""
    ended = await caller.run(VARIED)
    return ended.execution_id, await caller.events(ended.execution_id)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.builds(
        EventFilter,
        kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=4),
        step_ids=st.lists(st.sampled_from(["talk", "sum", "again", "end", "other"]), max_size=3),
    ),
    after=st.integers(0, 150),
    page=st.integers(1, 40),
)
async def test_filters(
    caller: Caller, varied: tuple[str, list[Event]], chosen: EventFilter, after: int, page: int
) -> None:
    """With every filter the ranges join, what the rule lets pass comes, and the terminal event always does."""
    execution_id, events = varied
    after = min(after, len(events))
    expected = [event for event in events[after:] if passes(chosen, event)]
    request = WatchExecutionRequest(execution_id=execution_id, after_sequence=after, filter=chosen)
    batches = await caller.stream("WatchExecution", request)

    check_ranges(batches, after=after, execution_id=execution_id)
    assert [event for batch in batches for event in batch.events] == expected
    assert batches[-1].sequence == len(events)

    cursor, found = after, list[Event]()
    while cursor < len(events):
        paged = ListEventsRequest(execution_id=execution_id, after_sequence=cursor, page_size=page, filter=chosen)
        batch = await caller.call("ListEvents", paged, EventBatch)
        assert batch.after_sequence == cursor < batch.sequence <= cursor + page
        found += batch.events
        cursor = batch.sequence
    assert found == expected


# -- silence


async def test_heartbeats(caller: Caller, gate: Gate) -> None:
    """Silence is filled by HEARTBEAT, which covers what was sent and nothing beyond."""
    call = caller.open("Execute", ExecuteRequest(plan=BLOCKED, heartbeat_interval=TENTH))
    seen: list[EventBatch] = []
    while notices(seen).count(EventBatch.NOTICE_HEARTBEAT) < 3:
        seen.append(EventBatch.FromString(await receive(call) or b""))
    check_ranges(seen, after=0, execution_id=seen[0].execution.execution_id)
    assert seen[-1].sequence == 3
    assert notices(seen).count(EventBatch.NOTICE_CAUGHT_UP) == 1

    gate.opened.set()
    while (raw := await receive(call)) is not None:
        seen.append(EventBatch.FromString(raw))
    check_ranges(seen, after=0, execution_id=seen[0].execution.execution_id)


async def test_heartbeats_cover_what_the_filter_holds_back(caller: Caller) -> None:
    """With a filter that lets nothing pass, a heartbeat still says how far the caller may resume."""
    request = ExecuteRequest(plan=BLOCKED, heartbeat_interval=TENTH, filter=EventFilter(kinds=["artifact"]))
    call = caller.open("Execute", request)
    seen: list[EventBatch] = []
    while EventBatch.NOTICE_HEARTBEAT not in notices(seen):
        seen.append(EventBatch.FromString(await receive(call) or b""))
    call.cancel()

    check_ranges(seen, after=0, execution_id=seen[0].execution.execution_id)
    assert (kinds(seen), seen[-1].sequence) == ([], 3)


class SlowJournal(MemoryJournal):
    """Gives one event at a time, each after a twentieth of a second."""

    def __init__(self) -> None:
        super().__init__(tail_bytes=0)
        self.slow = False

    async def read(self, execution_id: str, **bounds: Any) -> Sequence:  # type: ignore[type-arg]
        if self.slow:
            turn = asyncio.Event()
            asyncio.get_running_loop().call_later(0.05, turn.set)
            await turn.wait()
            bounds["max_events"] = 1
        return await super().read(execution_id, **bounds)


async def test_heartbeats_in_a_long_replay(serve: Serve, call_with: Call) -> None:
    """A replay of which nothing passes says HEARTBEAT too, with its progress: else a caller would give up on it."""
    journal = SlowJournal()
    caller = call_with(await serve(journal))
    ended = await caller.run(chatter(20))
    journal.slow = True
    request = WatchExecutionRequest(
        execution_id=ended.execution_id, heartbeat_interval=TENTH, filter=EventFilter(kinds=["artifact"])
    )
    batches = await caller.stream("WatchExecution", request)

    check_ranges(batches, after=0, execution_id=ended.execution_id)
    covered = [batch.sequence for batch in batches if batch.notice == EventBatch.NOTICE_HEARTBEAT]
    assert len(covered) > 3
    assert covered == sorted(set(covered))


# -- many


async def test_batches_are_bounded(caller: Caller) -> None:
    """A message has at most 512 events and 256 KiB of them, unless one event alone has more."""
    for work in (chatter(3_000), chatter(300, size=5_000), chatter(4, size=400_000)):
        ended = await caller.run(work)
        call = caller.open("WatchExecution", WatchExecutionRequest(execution_id=ended.execution_id))
        most_events = most_bytes = 0
        while (raw := await receive(call)) is not None:
            frames = frames_of(raw)
            most_events = max(most_events, len(frames))
            size = sum(map(len, frames))
            assert len(frames) <= 512
            assert size <= 256 * 1024 or len(frames) == 1
            most_bytes = max(most_bytes, size)
        # Busy enough that the bounds were near.
        assert most_events == 512 or most_bytes > 128 * 1024


async def test_a_hundred_watchers(serve: Serve, call_with: Call, journal: Journal, gate: Gate) -> None:
    """Watchers that join at random moments all get every event after their cursor, with the same bytes."""
    caller = call_with(await serve(journal))
    # The execution holds in the middle until some have joined, however slow the machine: it can't end before.
    halves = plan(
        plan_step("first", "chatter", input={"count": 1_000}),
        plan_step("hold", "wait", depends_on=["first"]),
        plan_step("second", "chatter", input={"count": 1_000}, depends_on=["hold"]),
    )
    execution = await caller.start(halves)
    by_sequence: dict[int, bytes] = {}
    chance = random.Random(7)
    joined: list[int] = []

    async def watch(after_events: int) -> None:
        known = await caller.get(execution.execution_id)
        while known.as_of_sequence < after_events and not known.HasField("end_time"):
            known = await caller.get(execution.execution_id)
        after = chance.randint(0, known.as_of_sequence)
        joined.append(known.as_of_sequence)
        if len(joined) == 20:
            gate.opened.set()
        request = WatchExecutionRequest(execution_id=execution.execution_id, after_sequence=after)
        call = caller.open("WatchExecution", request)
        expected = after + 1
        while (raw := await receive(call)) is not None:
            for frame in frames_of(raw):
                assert by_sequence.setdefault(expected, frame) == frame
                expected += 1
        assert expected == len(await caller.events(execution.execution_id)) + 1

    await asyncio.gather(*(watch(chance.choice([0, 500, 1_001, 1_500, 2_000])) for _ in range(100)))
    events = await caller.events(execution.execution_id)
    assert len(set(joined)) > 1
    for sequence, frame in by_sequence.items():
        assert EventBatch.FromString(frame).events[0] == events[sequence - 1]


async def test_a_message_is_shared_by_those_who_stand_at_the_same_place() -> None:
    """Whoever stands where another one did gets the same bytes; other spans, executions and filters have their own."""
    kinds_of = bytes([KINDS["artifact"], KINDS["content"]])

    def chunk_of(name: str) -> Chunk:
        frames = [EventBatch(events=[Event(execution_id=name, sequence=n)]).SerializeToString() for n in (1, 2)]
        return Chunk(first=1, data=b"".join(frames), ends=[len(frames[0]), sum(map(len, frames))], kinds=kinds_of)

    all_of_them, some = EventSieve(EventFilter()), EventSieve(EventFilter(kinds=["artifact"]))

    class Sink:
        def __init__(self) -> None:
            self.got = b""

        async def write(self, encoded: bytes) -> None:
            self.got = encoded

    async def sent(newest: _Newest, name: str, after: int, sieve: EventSieve) -> bytes:
        sink = Sink()
        stream = _Stream(sink, newest, name, sent=after, sieve=sieve)  # type: ignore[arg-type]
        await stream.send([chunk_of(name).after(after)])
        return sink.got

    stands = [(name, after, sieve) for name in ("e1", "e2") for after in (0, 1) for sieve in (all_of_them, some)]
    newest = _Newest()
    for before, stand in itertools.product(stands, stands):
        first = await sent(newest, *before)
        second = await sent(newest, *stand)
        assert second == await sent(_Newest(), *stand)
        assert (second is first) == (before == stand and stand[2].passes_all) or not second


async def test_a_watcher_that_never_reads(server: Server, caller: Caller) -> None:
    """A watcher that never reads slows neither the execution nor another watcher, and holds no events in memory."""
    async with RawCaller(server.address, reads=False) as raw:
        first = await caller.start(BLOCKED)
        execution = await caller.start(chatter(3_000, size=4_000))
        stalled = raw.open("WatchExecution", framed(WatchExecutionRequest(execution_id=execution.execution_id)))
        await stalled.begun.wait()
        batches = await caller.stream("WatchExecution", WatchExecutionRequest(execution_id=execution.execution_id))

        assert kinds(batches)[-1] == "plan_completed"
        assert not stalled.over.is_set()
        assert server.streams.open == 1
        [follower] = server.streams.followers
        assert follower.sequence < batches[-1].sequence // 4
        assert first.execution_id != execution.execution_id


async def test_losing_the_caller_cancels_nothing(server: Server, caller: Caller, gate: Gate) -> None:
    """An execution whose only caller has left goes on to its end."""
    call = caller.open("Execute", ExecuteRequest(plan=BLOCKED))
    first = EventBatch.FromString(await receive(call) or b"")
    call.cancel()
    await eventually(lambda: server.streams.open == 0)
    gate.opened.set()

    ended = await caller.ended(first.execution.execution_id)
    assert ended.state == ExecutionState.EXECUTION_STATE_COMPLETED


# -- the same request again


async def test_execute_twice(serve: Serve, call_with: Call, journal: Journal) -> None:
    """The same request id and request attach to the execution that is there, running or ended, and stream it from 1."""
    server = await serve(journal)
    caller = call_with(server)
    streams = await asyncio.gather(*(caller.execute(VARIED, request_id="once") for _ in range(20)))
    streams.append(await caller.execute(VARIED, request_id="once"))

    assert len({batches[0].execution.execution_id for batches in streams}) == 1
    events = await caller.events(streams[0][0].execution.execution_id)
    for batches in streams:
        check_ranges(batches, after=0, execution_id=streams[0][0].execution.execution_id)
        assert [event for batch in batches for event in batch.events] == events
    # How it is streamed makes no other request of it.
    request = ExecuteRequest(
        plan=VARIED, request_id="once", heartbeat_interval=TENTH, filter=EventFilter(kinds=["plan_started"])
    )
    assert kinds(await caller.stream("Execute", request)) == ["plan_started", "plan_completed"]
    assert (await caller.start(VARIED, request_id="once")).execution_id == streams[0][0].execution.execution_id


async def test_execute_with_a_used_request_id(caller: Caller) -> None:
    """A request id with another request is refused, and the first execution's id is named."""
    first = await caller.run(QUICK, request_id="once")
    for other in (
        ExecuteRequest(query="hello", request_id="once"),
        ExecuteRequest(plan=QUICK, request_id="once", session_id="s"),
        ExecuteRequest(plan=QUICK, request_id="once", labels={"a": "b"}),
    ):
        refused = await caller.refused("Execute", other)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")
        assert refused.error.metadata["execution_id"] == first.execution_id
