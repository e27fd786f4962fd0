"""The only writer of an execution's log."""

from __future__ import annotations

import asyncio

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import JournalUnavailable, LimitSize, StorageFull
from stepwire.v1 import Event, EventBatch, ExecuteRequest, Execution, ExecutionState
from stepwire_server import App
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.foresight import Foresight
from stepwire_server.engine.recorder import MAX_EVENT_BYTES, Recorder, RecorderClosed, frame
from stepwire_server.engine.states import TransitionError
from stepwire_server.journal import Conflict, ExecutionRecord, JournalBusy

from .rig import HeldJournal, Rig, VirtualClock, kinds, plan, request, step, turns, until

RECORD = ExecutionRecord(
    execution_id="e1",
    request=ExecuteRequest(plan=plan(step("a"))).SerializeToString(),
    create_time_ns=1,
    labels={"k": "v"},
    session_id="s",
)


def started() -> Event:
    event = Event()
    event.plan_started.plan.CopyFrom(plan(step("a")))
    return event


def said(text: str = "x") -> Event:
    event = Event(message=text)
    event.stage.name = "stage"
    return event


def failed() -> Event:
    event = Event()
    event.plan_failed.SetInParent()
    return event


class Writer:
    """A recorder over a journal that can be held."""

    def __init__(self, *, max_pending_bytes: int = 1 << 20) -> None:
        self.journal = HeldJournal()
        self.clock = VirtualClock()
        self.lost: list[BaseException] = []
        fold = Fold(create_ns=1, planning=False)
        self.recorder = Recorder(
            self.journal,
            RECORD,
            fold,
            clock=self.clock,
            max_pending_bytes=max_pending_bytes,
            on_lost=self.lost.append,
            foresight=Foresight(fold, slots=1, known=dict),
        )

    async def open(self) -> Writer:
        await self.journal.open()
        await self.journal.create(RECORD)
        return self

    async def events(self) -> list[Event]:
        chunks = await self.journal.read("e1", after=0, max_events=10_000, max_bytes=1 << 30)
        return [event for chunk in chunks for event in EventBatch.FromString(chunk.data).events]


async def test_appends_come_one_after_the_other_and_take_all_that_is_pending():
    """While an append is under way none begins; what comes meanwhile goes into the next one together."""
    writer = await Writer().open()
    writer.journal.hold()
    writer.recorder.record(started())
    await turns()
    for _ in range(20):
        writer.recorder.record(said())
        await turns(3)
    writer.journal.release()
    await writer.recorder.settle()
    assert [(chunk.first, len(chunk)) for chunk in writer.journal.appends] == [(1, 1), (2, 20)]
    assert writer.journal.most_together == {"e1": 1}


@pytest.mark.parametrize(("count", "size"), [(1_500, 10), (40, 20_000)])
async def test_a_chunk_has_the_bounds_of_a_message(count, size):
    """A chunk has at most 512 events, and ends with the event that takes it to 256 KiB."""
    writer = await Writer(max_pending_bytes=1 << 30).open()
    writer.recorder.record(started())
    for _ in range(count):
        writer.recorder.record(said("x" * size))
    await writer.recorder.settle()
    chunks = writer.journal.appends
    assert all(len(chunk) <= 512 for chunk in chunks)
    assert all(len(chunk.data) < 256 * 1024 + size + 500 for chunk in chunks)
    assert len(chunks) == 3
    assert [event.sequence for event in await writer.events()] == list(range(1, count + 2))


async def test_the_record_s_snapshot_is_as_of_its_last_event():
    """With each chunk the record's state and snapshot are those after the chunk's last event."""
    writer = await Writer().open()
    writer.recorder.record(started())
    await writer.recorder.settle()
    record = await writer.journal.get("e1")
    snapshot = Execution.FromString(record.snapshot)
    assert record.state == snapshot.state == ExecutionState.EXECUTION_STATE_RUNNING
    assert snapshot.as_of_sequence == record.last_sequence == 1
    assert (snapshot.execution_id, snapshot.session_id, dict(snapshot.labels)) == ("e1", "s", {"k": "v"})
    writer.recorder.record(failed())
    await writer.recorder.settle()
    record = await writer.journal.get("e1")
    assert record.state == ExecutionState.EXECUTION_STATE_FAILED
    assert Execution.FromString(record.snapshot).as_of_sequence == 2


async def test_durable_returns_when_the_sequence_is_on_disk():
    """`durable` waits for its sequence and for no later one."""
    writer = await Writer().open()
    writer.journal.hold()
    first = writer.recorder.record(started())
    await turns()
    second = writer.recorder.record(said())
    waits = [asyncio.create_task(writer.recorder.durable(sequence)) for sequence in (second, first, second)]
    await turns()
    assert not any(wait.done() for wait in waits)
    writer.journal.fails = [None, StorageFull("full")]
    writer.journal.release()
    await until(lambda: writer.clock.pending)
    await turns()
    assert [wait.done() for wait in waits] == [False, True, False]
    writer.clock.advance(1)
    await asyncio.gather(*waits)
    await writer.recorder.durable(second)
    assert len(await writer.events()) == 2


@pytest.mark.parametrize("error", [StorageFull("full"), JournalBusy("busy")], ids=repr)
async def test_where_nothing_was_stored_it_is_tried_again(error, caplog):
    """StorageFull and JournalBusy are tried again every second, with the same chunk, until the journal takes it."""
    writer = await Writer().open()
    writer.journal.fails = [error, error]
    writer.recorder.record(started())
    for _ in range(2):
        await until(lambda: writer.clock.pending)
        assert writer.clock.pending == [1.0]
        writer.recorder.record(said())
        writer.clock.advance(1)
    await writer.recorder.settle()
    assert [chunk.first for chunk in writer.journal.appends] == [1, 1, 1, 2]
    assert not writer.lost
    assert [record.getMessage().startswith("execution e1 waits for") for record in caplog.records] == [True]
    assert [event.sequence for event in await writer.events()] == [1, 2, 3]


@pytest.mark.parametrize(
    "error", [Conflict("another"), JournalUnavailable("gone"), OSError("odd"), ZeroDivisionError()], ids=repr
)
async def test_a_journal_that_refuses_closes_the_recorder(error):
    """After a refusal, also one that nobody expected, nothing is recorded, nobody waits, and the owner is told once."""
    writer = await Writer(max_pending_bytes=10).open()
    writer.journal.hold()
    writer.journal.fails = [error]
    writer.recorder.record(started())
    waiting = asyncio.create_task(writer.recorder.durable(1))
    room = asyncio.create_task(writer.recorder.room())
    await turns()
    assert not waiting.done()
    assert not room.done()
    writer.journal.release()
    await writer.recorder.settle()
    with pytest.raises(type(error)):
        await waiting
    with pytest.raises(RecorderClosed):
        await room
    with pytest.raises(type(error)):
        await writer.recorder.durable(1)
    with pytest.raises(RecorderClosed):
        writer.recorder.record(said())
    assert writer.lost == [error]
    assert await writer.events() == []


async def with_three_chunks_waiting(*fails: BaseException | None) -> Writer:
    """Returns a writer whose first append is done, and which has recorded 1,100 events more in the meantime."""
    writer = await Writer(max_pending_bytes=1 << 30).open()
    writer.journal.hold()
    writer.recorder.record(started())
    await turns()
    for _ in range(1_100):
        writer.recorder.record(said())
    writer.journal.fails = [None, *fails]
    writer.journal.release()
    return writer


async def test_chunks_that_wait_are_appended_together():
    """Chunks that came while another was appended do not wait for each other, and are appended in their order."""
    writer = await with_three_chunks_waiting()
    await writer.recorder.settle()
    assert [(chunk.first, len(chunk)) for chunk in writer.journal.appends] == [(1, 1), (2, 512), (514, 512), (1026, 76)]
    assert writer.journal.most_together == {"e1": 3}
    assert [event.sequence for event in await writer.events()] == list(range(1, 1_102))


async def test_what_is_appended_together_is_bounded():
    """No more than 384 KiB are appended together, unless one chunk alone has more."""
    writer = await Writer(max_pending_bytes=1 << 30).open()
    writer.journal.hold()
    writer.recorder.record(started())
    await turns()
    for _ in range(8):
        writer.recorder.record(said("x" * 190_000))  # Two of them make a chunk.
    writer.journal.release()
    await writer.recorder.settle()
    assert [len(chunk) for chunk in writer.journal.appends] == [1, 2, 2, 2, 2]
    assert writer.journal.most_together == {"e1": 1}


@pytest.mark.parametrize("error", [StorageFull("full"), JournalBusy("busy")], ids=repr)
async def test_what_follows_a_chunk_that_was_not_stored_is_tried_again_with_it(error):
    """Of chunks that are appended together, the first that was not stored is tried again with all that follow it."""
    writer = await with_three_chunks_waiting(None, error)
    await until(lambda: writer.clock.pending)
    await writer.recorder.durable(513)
    assert [event.sequence for event in await writer.events()] == list(range(1, 514))
    writer.clock.advance(1)
    await writer.recorder.settle()
    assert [chunk.first for chunk in writer.journal.appends] == [1, 2, 514, 1026, 514, 1026]
    assert not writer.lost
    assert [event.sequence for event in await writer.events()] == list(range(1, 1_102))


async def test_a_chunk_is_durable_before_those_that_are_appended_with_it():
    """Who waits for a sequence of one chunk does not wait for the chunks that are appended together with it."""
    writer = await with_three_chunks_waiting()
    slow, append = asyncio.Event(), writer.journal.append

    async def append_slowly(execution_id, **what):
        if what["chunk"].first > 1_000:
            await slow.wait()
        return await append(execution_id, **what)

    writer.journal.append = append_slowly
    async with asyncio.timeout(20):
        await writer.recorder.durable(1_025)
        waiting = asyncio.create_task(writer.recorder.durable(1_026))
        await turns()
        assert not waiting.done()
        slow.set()
        await waiting


async def test_a_refusal_of_one_chunk_keeps_those_before_it():
    """Of chunks appended together, those before one that the journal refuses are durable, and none after it."""
    refusal = Conflict("another")
    writer = await with_three_chunks_waiting(None, refusal)
    waiting = asyncio.create_task(writer.recorder.durable(1_026))
    await writer.recorder.settle()
    await writer.recorder.durable(513)
    with pytest.raises(Conflict):
        await waiting
    assert writer.lost == [refusal]
    assert [event.sequence for event in await writer.events()] == list(range(1, 514))


async def test_what_is_given_up_settles():
    """What is given up in the very turn in which it was recorded settles, and nothing is taken after that."""
    writer = await Writer().open()
    writer.recorder.record(started())
    writer.recorder.give_up()
    async with asyncio.timeout(20):
        await writer.recorder.settle()
    with pytest.raises(RecorderClosed):
        writer.recorder.record(said())
    assert await writer.events() == []
    assert len(writer.lost) == 1


async def test_giving_up_where_nothing_is_pending():
    """Who gives up takes nothing more, also where all that was recorded is durable."""
    writer = await Writer().open()
    await writer.recorder.durable(writer.recorder.record(started()))
    await writer.recorder.settle()
    writer.recorder.give_up()
    with pytest.raises(RecorderClosed):
        writer.recorder.record(said())
    assert len(await writer.events()) == 1


async def test_nothing_is_recorded_after_the_end():
    """After a terminal event everything is refused."""
    writer = await Writer().open()
    writer.recorder.record(started())
    writer.recorder.record(failed())
    with pytest.raises(RecorderClosed):
        writer.recorder.record(said())
    await writer.recorder.settle()
    assert kinds(await writer.events()) == ["plan_started", "plan_failed"]


async def test_what_is_refused_leaves_no_trace():
    """An event that is too large, or does not fit the state, takes no sequence and no room."""
    writer = await Writer().open()
    writer.recorder.record(started())
    with pytest.raises(LimitSize):
        writer.recorder.record(said("x" * MAX_EVENT_BYTES))
    completed = Event(step_id="a")
    completed.step_completed.SetInParent()
    with pytest.raises(TransitionError):
        writer.recorder.record(completed)
    assert writer.recorder.record(said()) == 2
    await writer.recorder.settle()
    assert [event.sequence for event in await writer.events()] == [1, 2]
    assert writer.recorder._pending_bytes == 0


async def test_the_largest_event_stays_below_its_limit():
    """An event of the largest size that is taken is below 1 MiB with its envelope."""
    writer = await Writer().open()
    writer.recorder.record(started())
    room = MAX_EVENT_BYTES - 2048
    event = said("")
    event.message = "x" * (room - event.ByteSize() - 4)
    assert room - 2 <= event.ByteSize() <= room
    writer.recorder.record(event)
    await writer.recorder.settle()
    assert max(event.ByteSize() for event in await writer.events()) <= MAX_EVENT_BYTES


async def test_times_never_decrease():
    """A wall clock that goes back stops the events' times; it does not turn them back."""
    writer = await Writer().open()
    writer.recorder.record(started())
    writer.clock.wall_offset_ns = -3_600 * 10**9
    writer.recorder.record(said())
    writer.clock.wall_offset_ns = 10**9
    writer.recorder.record(said())
    await writer.recorder.settle()
    first, second, third = [event.event_time.ToNanoseconds() for event in await writer.events()]
    assert first == second < third


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152])
def test_a_frame_is_an_event_in_its_batch(size):
    """A frame is field 2 of EventBatch, whatever its length."""
    event = Event(message="x" * size)
    assert frame(event.SerializeToString()) == EventBatch(events=[event]).SerializeToString()


async def test_the_same_bytes_are_stored_that_were_encoded():
    """What the journal has are frames of events whose sequence is their place."""
    writer = await Writer().open()
    writer.recorder.record(started())
    for i in range(5):
        writer.recorder.record(said(str(i)))
    await writer.recorder.settle()
    for chunk in writer.journal.appends:
        for index in range(len(chunk)):
            (event,) = EventBatch.FromString(chunk.frame(index)).events
            assert event.sequence == chunk.first + index
            assert event.execution_id == "e1"


async def test_a_second_owner_goes_on_and_the_first_stops():
    """When another engine has claimed an execution, the first one stops at its next append, records nothing more, and
    cancels its operations; the second one brings it to its end.
    """
    app = App("two")
    free = asyncio.Event()
    cancelled: list[int] = []
    attempts: list[int] = []

    @app.operation()
    async def work(step):
        attempts.append(step.attempt)
        try:
            await free.wait()
        except asyncio.CancelledError:
            cancelled.append(step.attempt)
            raise
        await step.progress(50)

    @app.operation()
    async def talk(step):
        await free.wait()
        await step.progress(50)

    async with Rig(app) as first:
        execution_id = await first.start(request(step("a", "work"), step("b", "talk")))
        await first.durable(execution_id, "step_started", count=2)
        async with Rig(app, journal=first.journal, clock=first.clock, recover=True) as second:
            await second.durable(execution_id, "plan_recovered")
            # Now the first one says something.
            first.engine._live[execution_id].recorder.record(said("too late"))
            await until(lambda: not first.engine.running)
            await until(lambda: cancelled == [1])
            free.set()
            events = await second.ended(execution_id)
    assert kinds(events).count("stage") == 0
    assert attempts == [1, 2]
    assert kinds(events)[-1] == "plan_completed"
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_a_lost_execution_fails_no_step_and_tries_none_again():
    """When the journal is gone, running steps are told, and no failure, retry or end is made of it."""
    app = App("lost")
    begun = asyncio.Event()
    calls: list[int] = []

    @app.operation(timeout=5)
    async def work(step):
        calls.append(step.attempt)
        begun.set()
        await asyncio.Event().wait()

    journal = HeldJournal()
    async with Rig(app, journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "work"), options={"time_limit": Duration(seconds=9)}))
        await begun.wait()
        await rig.durable(execution_id, "step_started")
        journal.fails = [JournalUnavailable("gone")]
        with pytest.raises(JournalUnavailable):
            await rig.engine.cancel(execution_id, actor="", reason="")
        await until(lambda: not rig.engine.running)
        assert kinds(await rig.events(execution_id)) == ["plan_started", "step_started"]
    assert calls == [1]
