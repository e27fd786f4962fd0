"""Checkers that find nothing prove nothing: a good history, and what each checker must find in it when it is spoiled.

python -m tests.faults.mutations      prints a table: checker, mutation, caught or not
"""

from __future__ import annotations

import asyncio
import copy
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from google.protobuf import struct_pb2
from google.rpc import status_pb2

from stepwire.v1 import Event, EventBatch, ExecuteRequest, Execution, ExecutionState, Retry, StepSkipped, StepState
from stepwire_server import App, Plan, StepContext, output_of, plan_step, when
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, MemoryJournal
from stepwire_server.journal.retention import Tombstone

from .checkers import CHECKERS
from .history import (
    Append,
    Bounds,
    Canary,
    Effect,
    History,
    Holding,
    Kept,
    Message,
    Reading,
    Reply,
    Stream,
    dump_open,
    events_of,
)

__all__ = ["MUTATIONS", "good_history", "outcomes"]

_PATIENCE = 20.0
_MIB = 1 << 20

app = App("checked")


@app.operation()
async def work(step: StepContext) -> int:
    """Report, fail once, and end."""
    await step.progress(10, "Some of it")
    await step.substeps({"read": 1, "write": 3})
    async with step.substep("read") as read, read.substep("first"):
        await read.progress(20)
    async with step.substep("write") as write:
        await write.progress(50)
        if step.attempt == 1:
            raise RuntimeError("not yet")
    await step.content("a piece")
    return step.attempt


@app.operation(at_most_once=True)
async def pay(step: StepContext) -> str:
    """End."""
    await step.progress(50, "Half of it")
    return "paid"


@app.operation()
async def broken() -> None:
    """Raise."""
    raise RuntimeError("no")


@app.operation()
async def held(step: StepContext) -> str:
    """Wait to be cancelled, or lost; another attempt ends."""
    await step.save((step.saved or 0) + 1)
    await step.progress(30, "Waiting")
    if step.attempt == 1:
        await asyncio.Event().wait()
    return "no longer"


class Gate:
    """What `stopping` waits for before it saves: that it was paused."""

    paused: asyncio.Event


@app.operation()
async def stopping(step: StepContext) -> int:
    """Report, and save in a pause, where it is held; another attempt ends with what was saved."""
    if step.saved is None:
        await step.progress(20, "Not paused yet")
        await Gate.paused.wait()
        await step.save(7)
    return int(step.saved)


@app.operation()
async def ask(step: StepContext) -> list[int]:
    """Ask for two numbers."""
    return [await step.ask(f"Number {number}?") for number in range(2)]


@app.operation()
async def lists() -> list[int]:
    """Give three numbers."""
    return [1, 2, 3]


@app.operation()
async def give(value: int) -> int:
    """Give a number back, beside others."""
    await asyncio.sleep(0)
    return value


@app.operation()
async def decide(step: StepContext) -> str:
    """Add two steps, one after the other, and the first once more."""
    first = plan_step("first", "give", input={"value": 4})
    await step.add_steps([first])
    await step.add_steps([first, plan_step("second", "give", input={"value": 5}, depends_on=["first", "decide"])])
    return "decided"


RETRY = Retry(attempts=2, initial_delay=timedelta(milliseconds=1))
GOOD = Plan(
    steps=[
        plan_step("a", "work", retry=RETRY),
        plan_step("b", "pay", depends_on=["a"]),
        plan_step("c", "work", depends_on=["b"], retry=RETRY),
    ]
)
BAD = Plan(steps=[plan_step("a", "broken"), plan_step("b", "work", depends_on=["a"])])


HELD = Plan(steps=[plan_step("a", "held"), plan_step("b", "pay", depends_on=["a"])])
PAUSED = Plan(steps=[plan_step("a", "stopping"), plan_step("b", "pay", depends_on=["a"])])
ASKED = Plan(steps=[plan_step("a", "ask"), plan_step("b", "pay", depends_on=["a"])])
GROWN = Plan(
    steps=[
        plan_step("list", "lists"),
        plan_step("each", "give", for_each={"value": output_of("list")}, max_parallel=2),
        plan_step("decide", "decide", depends_on=["list"]),
        plan_step("yes", "give", input={"value": 6}, conditions=[when("list", "/1").equals(2), when("list").present()]),
        plan_step("no", "give", input={"value": 7}, conditions=[when("list", "/2").above(3)]),
        plan_step("last", "give", input={"value": 8}, depends_on=["no", "each"]),
    ]
)
PLANS = (GOOD, BAD, HELD, HELD, PAUSED, ASKED, GROWN)


class Noting(MemoryJournal):
    """Notes what it took, and from whom."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[Append] = []

    async def append(self, execution_id: str, *, epoch: int, chunk: Chunk, **more: Any) -> int:
        position = await super().append(execution_id, epoch=epoch, chunk=chunk, **more)
        self.appends.append(Append(execution_id=execution_id, epoch=epoch, first=chunk.first, last=chunk.last))
        return position


async def good_history() -> History:
    """Returns a history in which nothing is wrong: of an execution that completed, one that failed, one that was
    cancelled, one that was taken over, one that was taken over in a pause and resumed, and one that was taken over
    while it waited for its second answer, and one whose plan grew.
    """
    async with asyncio.timeout(_PATIENCE):
        return await _run()


async def _run() -> History:
    journal = Noting()
    await journal.open()
    history = History(cancel_grace=10.0)
    Gate.paused = asyncio.Event()
    first, second = (Engine(app.catalog(), journal) for _ in range(2))
    ids = []
    for number, plan in enumerate(PLANS):
        record = await first.accept(ExecuteRequest(plan=plan, request_id=f"request-{number}"))
        ids.append(record.execution_id)
    for execution_id in ids[2:5]:
        await _until(journal, execution_id, "step_progress")
    await _answer(history, journal, first, ids[5], 41, at=2)
    await _until(journal, ids[5], "input_requested", count=2)
    await first.cancel(ids[2], actor="somebody", reason="enough")
    for execution_id in (*ids[:3], ids[6]):
        await _until(journal, execution_id, "")
    record = await first.pause(ids[4], actor="somebody", reason="a while")
    _controlled(history, "PauseExecution", record, 2)
    Gate.paused.set()
    await _until(journal, ids[4], "step_saved")
    await second.recover()
    await _until(journal, ids[3], "")
    await _until(journal, ids[4], "step_retrying")
    record = await second.resume(ids[4], actor="somebody", reason="on")
    _controlled(history, "ResumeExecution", record, 4)
    await _until(journal, ids[4], "")
    await _until(journal, ids[5], "input_requested", count=3)
    await _answer(history, journal, second, ids[5], 42, at=3)
    await _until(journal, ids[5], "")
    history.journal = await dump_open(journal)
    await first.drain(0)
    await second.drain(0)
    await journal.close()
    history.appends = journal.appends
    history.effects = [
        Effect(execution_id=ids[0], step_id="b", attempt=1, at_most_once=True),
        Effect(execution_id=ids[3], step_id="a", attempt=1, at_most_once=False, saved=0),
        Effect(execution_id=ids[3], step_id="a", attempt=2, at_most_once=False, saved=1),
    ]
    # The last ones are spoiled, by their places: the paused one comes first.
    history.effects[:0] = [
        Effect(execution_id=ids[4], step_id="a", attempt=1, at_most_once=False, saved=0),
        Effect(execution_id=ids[4], step_id="a", attempt=2, at_most_once=False, saved=7),
    ]
    history.replies.append(Reply(method="CancelExecution", sent=1, at=1, status="OK", execution_id=ids[2]))
    for number, execution_id in enumerate(ids):
        _seen(history, history.journal[execution_id], f"request-{number}")
    _purge_one(history)
    history.holdings = [
        Holding(phase="before", resident=60 * _MIB, descriptors=20, tasks=5),
        Holding(phase="during", resident=90 * _MIB, descriptors=90, tasks=95),
        Holding(phase="after", resident=65 * _MIB, descriptors=20, tasks=5),
    ]
    history.bounds = Bounds(resident_during=40 * _MIB, resident_after=10 * _MIB, descriptors_during=100)
    history.canaries = [Canary(text="Bearer canary-1"), Canary(text="canary-2", allowed=frozenset({"log"}))]
    history.log = "WARNING an operation failed: RuntimeError, because of canary-2"
    return history


async def _until(journal: Journal, execution_id: str, kind: str, *, count: int = 1) -> Event:
    """Returns the `count`th event of this kind once it is durable; where it is empty, once the execution has ended."""
    found: list[Event] = []
    with journal.follow(execution_id, after=0) as follower:
        while not follower.ended:
            for chunk in await follower.read(max_events=512, max_bytes=1 << 20):
                events = EventBatch.FromString(chunk.data).events
                found += [event for event in events if kind and event.WhichOneof("kind") == kind]
            if kind and len(found) >= count:
                return found[count - 1]
            await follower.wait()
    return Event()


async def _answer(
    history: History, journal: Journal, engine: Engine, execution_id: str, number: int, *, at: float
) -> None:
    """Answers the first question that is open, and adds what was said of that."""
    await _until(journal, execution_id, "input_requested")
    (input_id,) = engine._live[execution_id].fold.questions.open
    value = struct_pb2.Value(number_value=number)
    record = await engine.provide(execution_id, input_id, value, actor="somebody")
    _controlled(history, "ProvideInput", record, at)
    history.replies[-1].answer = number


def _controlled(history: History, method: str, record: ExecutionRecord, at: float) -> None:
    """Adds the answer to a pause, or to a resume."""
    snapshot = Execution.FromString(record.snapshot)
    snapshot.execution_id = record.execution_id
    history.replies.append(
        Reply(
            method=method,
            sent=at,
            at=at + 1,
            status="OK",
            execution_id=record.execution_id,
            execution=snapshot.SerializeToString(),
        )
    )


def _seen(history: History, kept: Kept, request_id: str) -> None:
    """Adds what clients would have seen of an execution."""
    half = len(kept.frames) // 2
    history.replies.append(
        Reply(
            method="StartExecution",
            sent=1,
            at=1,
            status="OK",
            request_id=request_id,
            execution_id=kept.execution_id,
            committed=0,
        )
    )
    for watcher in ("one", "two"):
        _stream(history, watcher, kept, 0, half, 2.0)
        _stream(history, watcher, kept, half, len(kept.frames), 4.0)
    _stream(history, "filtered", kept, 0, len(kept.frames), 4.0, kinds=frozenset({"step_started"}))
    history.readings.append(
        Reading(reader="client", execution_id=kept.execution_id, after=0, events=list(kept.frames), times=[])
    )
    history.replies.append(
        Reply(
            method="GetExecution",
            sent=8,
            at=9,
            status="OK",
            execution_id=kept.execution_id,
            execution=kept.snapshot,
            committed=len(kept.frames),
        )
    )
    ahead = history.open("lost", kept.execution_id, after=len(kept.frames) + 5)
    ahead.began = 10.0
    ahead.end("OUT_OF_RANGE", "CURSOR_AHEAD")
    history.open("gone", kept.execution_id).leave()


def _purge_one(history: History) -> None:
    """Adds an execution that was purged, and a watcher who came too late."""
    stone = Tombstone(
        execution_id="purged",
        tenant="",
        request_id="request-purged",
        state=ExecutionState.EXECUTION_STATE_COMPLETED,
        last_sequence=7,
        purge_time_ns=1,
    )
    history.purged["purged"] = stone
    late = history.open("late", "purged", after=3)
    late.began = 10.0
    late.end("OUT_OF_RANGE", "CURSOR_EXPIRED", {"first_sequence": "8", "last_sequence": "7"})


def _stream(
    history: History,
    watcher: str,
    kept: Kept,
    after: int,
    until: int,
    began: float,
    kinds: frozenset[str] = frozenset(),
) -> None:
    """Adds what a stream of two messages and a heartbeat between them would have shown."""
    stream = history.open(watcher, kept.execution_id, after=after, kinds=kinds)
    stream.began = began
    snapshot = kept.snapshot if until == len(kept.frames) else b""
    stream.messages.append(Message(at=began, frames=[], after=after, sequence=after, execution=snapshot))
    middle = (after + until) // 2
    for first, last in ((after, middle), (middle, middle), (middle, until)):
        events = [(frame, Event.FromString(frame)) for frame in kept.frames[first:last]]
        given = [
            frame
            for frame, event in events
            if not kinds or event.WhichOneof("kind") in kinds | {"plan_completed", "plan_failed", "plan_cancelled"}
        ]
        notice = EventBatch.NOTICE_HEARTBEAT if first == last else EventBatch.NOTICE_UNSPECIFIED
        stream.messages.append(
            Message(at=began + 1, frames=given, after=first, sequence=last, notice=notice, committed=last)
        )
    stream.end("OK" if until == len(kept.frames) else "UNAVAILABLE")


def kept(history: History, number: int = 0) -> Kept:
    """Returns the execution that completed, or another one, by its number in PLANS."""
    return next(kept for kept in history.journal.values() if kept.request_id == f"request-{number}")


def change(history: History, sequence: int, edit: Callable[[Event], None], number: int = 0) -> None:
    """Changes an event everywhere alike, in the journal and in what clients saw: nobody disagrees."""
    execution = kept(history, number)
    before = execution.frames[sequence - 1]
    event = Event.FromString(before)
    edit(event)
    after = event.SerializeToString()
    for frames in _all_frames(history):
        frames[:] = [after if frame == before else frame for frame in frames]


def _all_frames(history: History) -> Iterator[list[bytes]]:
    yield from (execution.frames for execution in history.journal.values())
    yield from (message.frames for stream in history.streams for message in stream.messages)
    yield from (reading.events for reading in history.readings)


def find(history: History, kind: str, step: str = "", number: int = 0) -> int:
    """Returns the sequence of the first event of a kind, and of a step where one is given."""
    return next(
        event.sequence
        for event in events_of(kept(history, number))
        if event.WhichOneof("kind") == kind and step in ("", event.step_id)
    )


def streams(history: History, watcher: str = "one") -> list[Message]:
    """Returns the messages of a watcher of the execution that completed, over all its streams."""
    execution_id = kept(history).execution_id
    return [
        message
        for stream in history.streams
        if stream.watcher == watcher and stream.execution_id == execution_id
        for message in stream.messages
    ]


def full(history: History, watcher: str = "one") -> Message:
    """Returns a message with three events at least."""
    return next(message for message in streams(history, watcher) if len(message.frames) >= 3)


def _reading(history: History) -> Reading:
    return next(item for item in history.readings if item.execution_id == kept(history).execution_id)


def _refused(history: History, reason: str) -> Stream:
    return next(stream for stream in history.streams if stream.reason == reason)


def lose_the_execution(history: History) -> None:
    del history.journal[kept(history).execution_id]


def lose_the_last_event(history: History) -> None:
    kept(history).frames.pop()


def show_what_is_not_there(history: History) -> None:
    message = streams(history)[-1]
    message.frames.append(Event(execution_id=kept(history).execution_id, sequence=999).SerializeToString())


def read_what_is_not_there(history: History) -> None:
    reading = next(item for item in history.readings if item.execution_id == kept(history).execution_id)
    reading.events[3] = Event(sequence=4, message="invented").SerializeToString()


def promise_a_sequence(history: History) -> None:
    reply = next(r for r in history.replies if r.execution and r.execution_id == kept(history).execution_id)
    snapshot = Execution.FromString(reply.execution)
    snapshot.as_of_sequence += 1
    reply.execution = snapshot.SerializeToString()


def accept_a_cancel(history: History) -> None:
    history.replies.append(
        Reply(method="CancelExecution", sent=1, at=2, status="OK", execution_id=kept(history).execution_id)
    )


def not_found(history: History) -> None:
    history.replies.append(
        Reply(method="GetExecution", sent=1, at=2, status="NOT_FOUND", execution_id=kept(history).execution_id)
    )


def drop_from_the_journal(history: History) -> None:
    del kept(history).frames[4]


def repeat_in_the_journal(history: History) -> None:
    kept(history).frames.insert(4, kept(history).frames[4])


def swap_in_the_journal(history: History) -> None:
    frames = kept(history).frames
    frames[4], frames[5] = frames[5], frames[4]


def count_too_few(history: History) -> None:
    kept(history).last_sequence -= 1


def overlap_chunks(history: History) -> None:
    kept(history).firsts[-1] -= 1


def drop_from_a_stream(history: History) -> None:
    del full(history).frames[1]


def swap_in_a_stream(history: History) -> None:
    frames = full(history).frames
    frames[0], frames[1] = frames[1], frames[0]


def repeat_in_a_stream(history: History) -> None:
    frames = full(history).frames
    frames.insert(1, frames[1])


def repeat_after_a_resume(history: History) -> None:
    streams(history)[5].frames.insert(0, streams(history)[3].frames[-1])


def drop_from_a_filtered_stream(history: History) -> None:
    del next(message for message in streams(history, "filtered") if message.frames).frames[0]


def drop_from_a_client(history: History) -> None:
    del _reading(history).events[2]


def repeat_in_a_client(history: History) -> None:
    _reading(history).events.insert(2, _reading(history).events[2])


def fail_a_client(history: History) -> None:
    _reading(history).error = "StreamBroken"


def other_bytes(history: History) -> None:
    message = full(history)
    event = Event.FromString(message.frames[1])
    event.message += "!"
    message.frames[1] = event.SerializeToString()


def other_order_of_bytes(history: History) -> None:
    """The same event as a message, in other bytes."""
    message = full(history)
    sequence = Event.FromString(message.frames[1]).sequence
    message.frames[1] = message.frames[1] + Event(sequence=sequence).SerializeToString()


def begin_too_late(history: History) -> None:
    stream = next(stream for stream in history.streams if stream.watcher == "one" and stream.after)
    stream.messages[0].after += 1


def jump_silently(history: History) -> None:
    stream = next(stream for stream in history.streams if stream.watcher == "one" and stream.after)
    del stream.messages[1].frames[0]


def refuse_what_was_shown(history: History) -> None:
    next(stream for stream in history.streams if stream.reason == "CURSOR_AHEAD").after = 3


def refuse_what_is_there(history: History) -> None:
    stream = next(stream for stream in history.streams if stream.reason == "CURSOR_AHEAD")
    stream.reason, stream.after, stream.metadata = "CURSOR_EXPIRED", 2, {"first_sequence": "1"}


def name_another_first(history: History) -> None:
    kept(history).firsts[0] = 5
    stream = next(s for s in history.streams if s.reason and s.execution_id == kept(history).execution_id)
    stream.reason, stream.after, stream.metadata = "CURSOR_EXPIRED", 2, {"first_sequence": "4"}


def refuse_without_reason(history: History) -> None:
    next(stream for stream in history.streams if stream.reason == "CURSOR_AHEAD").reason = ""


def hole_between_ranges(history: History) -> None:
    message = full(history)
    message.after += 1


def heartbeat_ahead(history: History) -> None:
    next(message for message in streams(history) if message.notice).sequence += 1


def event_outside_its_range(history: History) -> None:
    message = full(history)
    message.sequence -= 1


def range_without_its_events(history: History) -> None:
    next(message for message in streams(history, "filtered") if message.frames).frames.clear()


def second_terminal(history: History) -> None:
    execution = kept(history)
    execution.frames.append(execution.frames[-1])


def event_after_the_end(history: History) -> None:
    execution = kept(history)
    execution.frames.append(Event(sequence=len(execution.frames) + 1, step_id="a").SerializeToString())


def no_terminal(history: History) -> None:
    kept(history).frames.pop()


def state_after_the_end(history: History) -> None:
    snapshot = Execution(
        execution_id=kept(history).execution_id, state=ExecutionState.EXECUTION_STATE_RUNNING, as_of_sequence=3
    )
    history.replies.append(
        Reply(
            method="GetExecution",
            sent=20,
            at=21,
            status="OK",
            execution_id=snapshot.execution_id,
            execution=snapshot.SerializeToString(),
        )
    )


def record_of_another_end(history: History) -> None:
    kept(history).state = ExecutionState.EXECUTION_STATE_FAILED


def ok_too_early(history: History) -> None:
    next(stream for stream in history.streams if stream.status == "UNAVAILABLE").status = "OK"
    stream = next(stream for stream in history.streams if stream.status == "OK")
    stream.messages[0].execution = b""


def step_left_running(history: History) -> None:
    change(history, find(history, "step_completed", "b"), lambda event: event.step_progress.SetInParent())


def answer_with_two(history: History) -> None:
    other = next(key for key in history.journal if key != kept(history).execution_id)
    reply = copy.copy(next(reply for reply in history.replies if reply.request_id))
    reply.execution_id = other if reply.execution_id != other else kept(history).execution_id
    history.replies.append(reply)


def keep_two(history: History) -> None:
    for execution in history.journal.values():
        execution.request_id = "request-0"


def skip_an_attempt(history: History) -> None:
    sequence = next(
        event.sequence
        for event in events_of(kept(history))
        if event.WhichOneof("kind") == "step_started" and event.attempt == 2
    )
    change(history, sequence, lambda event: setattr(event, "attempt", 3))


def start_after_the_end(history: History) -> None:
    def edit(event: Event) -> None:
        event.step_id, event.attempt = "a", 3

    change(history, find(history, "step_started", "c"), edit)


def effect_twice(history: History) -> None:
    history.effects *= 2


def effect_after_completion(history: History) -> None:
    history.effects.append(Effect(execution_id=kept(history).execution_id, step_id="a", attempt=3, at_most_once=False))


def saved_in_vain(history: History) -> None:
    history.effects[-1] = replace(history.effects[-1], saved=0)


def found_what_was_never_saved(history: History) -> None:
    history.effects[-2] = replace(history.effects[-2], saved=1)


def start_too_early(history: History) -> None:
    def edit(event: Event) -> None:
        event.plan_started.plan.steps[0].depends_on.append("c")

    change(history, find(history, "plan_started"), edit)


def start_while_paused(history: History) -> None:
    change(history, find(history, "step_progress", "a"), lambda event: event.plan_paused.SetInParent())


def start_while_held_back(history: History) -> None:
    """The next attempt of what was lost begins before the pause is over."""

    def edit(event: Event) -> None:
        event.step_id, event.attempt = "a", 2
        event.step_started.SetInParent()

    change(history, find(history, "plan_resumed", number=4), edit, 4)


def go_on_after_a_save(history: History) -> None:
    """Two events of the pause are of the step that saved in it; it was held there."""
    change(history, find(history, "plan_recovered", number=4), _word_of_a, 4)


def _word_of_a(event: Event) -> None:
    event.step_id, event.attempt = "a", 1
    event.content.SetInParent()


def pause_twice(history: History) -> None:
    change(history, find(history, "step_saved", number=4), lambda event: event.plan_paused.SetInParent(), 4)


def resume_twice(history: History) -> None:
    change(history, find(history, "step_completed", "a", 4), lambda event: event.plan_resumed.SetInParent(), 4)


def forget_the_pause_at_the_takeover(history: History) -> None:
    def edit(event: Event) -> None:
        event.plan_recovered.state = ExecutionState.EXECUTION_STATE_RUNNING

    change(history, find(history, "plan_recovered", number=4), edit, 4)


def running_in_a_pause(history: History) -> None:
    def edit(event: Event) -> None:
        event.execution_state = ExecutionState.EXECUTION_STATE_RUNNING

    change(history, find(history, "step_saved", number=4), edit, 4)


def paused_after_the_end_of_it(history: History) -> None:
    def edit(event: Event) -> None:
        event.execution_state = ExecutionState.EXECUTION_STATE_PAUSED

    change(history, find(history, "step_completed", "a", 4), edit, 4)


def percentage_by_a_pause(history: History) -> None:
    def edit(event: Event) -> None:
        event.progress.percentage += 0.5

    change(history, find(history, "plan_paused", number=4), edit, 4)


def accept_a_pause(history: History) -> None:
    change(history, find(history, "plan_paused", number=4), lambda event: event.stage.SetInParent(), 4)


def accept_the_end_of_a_pause(history: History) -> None:
    change(history, find(history, "plan_resumed", number=4), lambda event: event.stage.SetInParent(), 4)


def accept_an_answer(history: History) -> None:
    """Two were accepted, and of one the journal does not know."""
    reply = next(reply for reply in history.replies if reply.method == "ProvideInput")
    reply.answer = 43


def accept_an_answer_too_early(history: History) -> None:
    reply = next(reply for reply in history.replies if reply.method == "ProvideInput")
    snapshot = Execution.FromString(reply.execution)
    snapshot.as_of_sequence = find(history, "input_received", number=5) - 1
    reply.execution = snapshot.SerializeToString()


def ask_again_what_was_answered(history: History) -> None:
    events = events_of(kept(history, 5))
    first = next(event.input_requested.input_id for event in events if event.HasField("input_requested"))
    place = [event.sequence for event in events if event.HasField("input_requested")][-1]
    change(history, place, lambda event: setattr(event.input_requested, "input_id", first), 5)


def answer_twice(history: History) -> None:
    events = [event for event in events_of(kept(history, 5)) if event.HasField("input_received")]
    first, second = events[0].input_received.input_id, events[1].sequence
    change(history, second, lambda event: setattr(event.input_received, "input_id", first), 5)


def go_on_with_another_answer(history: History) -> None:
    def edit(event: Event) -> None:
        event.step_completed.output.list_value.values[1].number_value = 41

    change(history, find(history, "step_completed", "a", 5), edit, 5)


def answer_a_pause_too_early(history: History) -> None:
    reply = next(reply for reply in history.replies if reply.method == "PauseExecution")
    snapshot = Execution.FromString(reply.execution)
    snapshot.as_of_sequence = find(history, "plan_paused", number=4) - 1
    reply.execution = snapshot.SerializeToString()


def state_of_another_event(history: History) -> None:
    change(history, 4, lambda event: setattr(event, "execution_state", ExecutionState.EXECUTION_STATE_PAUSED))


def kind_that_does_not_fit(history: History) -> None:
    change(history, find(history, "step_progress", "a"), lambda event: event.plan_resumed.SetInParent())


def snapshot_of_another_state(history: History) -> None:
    snapshot = Execution.FromString(kept(history).snapshot)
    snapshot.progress.completed_steps += 1
    kept(history).snapshot = snapshot.SerializeToString()


def reply_of_another_state(history: History) -> None:
    reply = next(reply for reply in history.replies if reply.execution)
    snapshot = Execution.FromString(reply.execution)
    snapshot.progress.percentage -= 1
    reply.execution = snapshot.SerializeToString()


def percentage_back(history: History) -> None:
    change(history, find(history, "step_started", "c"), lambda event: setattr(event.progress, "percentage", 0.5))


def hundred_too_early(history: History) -> None:
    sequence = find(history, "step_completed", "c") - 1
    change(history, sequence, lambda event: setattr(event.progress, "percentage", 100))


def never_a_hundred(history: History) -> None:
    change(history, len(kept(history).frames), lambda event: setattr(event.progress, "percentage", 99.99))


def _change_part(history: History, path: str, state: str, edit: Callable[[Event], None]) -> None:
    """Changes what is told of a part in this state, in the last attempt of step c."""
    events = events_of(kept(history))
    sequence = max(
        event.sequence
        for event in events
        if event.step_id == "c"
        and event.step_progress.substep.path == path
        and event.step_progress.substep.state == StepState.Value(f"STEP_STATE_{state}")
    )
    change(history, sequence, edit)


def step_beyond_its_parts(history: History) -> None:
    _change_part(history, "read", "COMPLETED", lambda event: setattr(event.step_progress, "percentage", 26))


def step_behind_its_parts(history: History) -> None:
    _change_part(history, "write", "PROGRESS", lambda event: setattr(event.step_progress, "percentage", 25))


def part_of_another_weight(history: History) -> None:
    _change_part(history, "read", "PROGRESS", lambda event: setattr(event.step_progress.substep, "weight", 9))


def part_that_goes_on_after_its_end(history: History) -> None:
    progress = StepState.STEP_STATE_PROGRESS
    _change_part(
        history, "read/first", "RUNNING", lambda event: setattr(event.step_progress.substep, "state", progress)
    )


def part_that_begins_twice(history: History) -> None:
    def again(event: Event) -> None:
        event.step_progress.substep.state = StepState.STEP_STATE_RUNNING

    _change_part(history, "write", "PROGRESS", again)


def part_of_another_that_has_ended(history: History) -> None:
    _change_part(history, "write", "PROGRESS", lambda event: setattr(event.step_progress.substep, "path", "read/first"))


def part_that_is_done_too_early(history: History) -> None:
    _change_part(history, "write", "COMPLETED", lambda event: setattr(event.step_progress.substep, "percentage", 99))


def time_back(history: History) -> None:
    change(history, 5, lambda event: event.event_time.FromSeconds(1))


def show_before_the_commit(history: History) -> None:
    full(history).committed = full(history).after


def show_what_nobody_stored(history: History) -> None:
    streams(history)[0].committed = -1


def heartbeat_before_the_commit(history: History) -> None:
    message = next(message for message in streams(history) if message.notice)
    message.committed = message.sequence - 1


def reply_before_the_commit(history: History) -> None:
    next(reply for reply in history.replies if reply.execution).committed = 1


def accept_before_the_insert(history: History) -> None:
    next(reply for reply in history.replies if reply.method == "StartExecution").committed = -1


def epoch_back(history: History) -> None:
    def edit(event: Event) -> None:
        event.plan_recovered.epoch = 1

    change(history, find(history, "plan_recovered", number=3), edit, 3)


def record_of_an_old_epoch(history: History) -> None:
    kept(history, 3).epoch = 1


def old_owner_goes_on(history: History) -> None:
    """A progress of the lost attempt, where the new owner's verdict is due."""
    change(history, find(history, "step_retrying", number=3), lambda event: event.step_progress.SetInParent(), 3)


def retried_for_another_reason(history: History) -> None:
    def edit(event: Event) -> None:
        event.step_retrying.error.CopyFrom(status_pb2.Status(message="as if the old owner had"))

    change(history, find(history, "step_retrying", number=3), edit, 3)


def no_word_of_what_was_lost(history: History) -> None:
    def edit(event: Event) -> None:
        event.step_id = "b"

    change(history, find(history, "step_retrying", number=3), lambda event: event.error.SetInParent(), 3)
    change(history, find(history, "error", number=3), edit, 3)


def old_owner_appends(history: History) -> None:
    place = next(i for i, append in enumerate(history.appends) if append.epoch == 2)
    taken = history.appends[place]
    history.appends.append(replace(taken, epoch=1, first=history.appends[-1].last + 1))


def appends_overlap(history: History) -> None:
    history.appends.append(replace(history.appends[-1]))


def start_after_a_cancel(history: History) -> None:
    def edit(event: Event) -> None:
        event.step_id, event.attempt = "b", 1
        event.step_started.SetInParent()

    change(history, find(history, "step_skipped", number=2), edit, 2)


def end_too_late(history: History) -> None:
    last = len(kept(history, 2).frames)
    change(history, last, lambda event: setattr(event.event_time, "seconds", event.event_time.seconds + 60), 2)


def still_running_when_asked(history: History) -> None:
    going = Execution(execution_id=kept(history, 2).execution_id, state=ExecutionState.EXECUTION_STATE_CANCELLING)
    history.replies.append(
        Reply(
            method="GetExecution",
            sent=100,
            at=101,
            status="OK",
            execution_id=going.execution_id,
            execution=going.SerializeToString(),
        )
    )


def an_outage_that_is_too_short(history: History) -> None:
    end_too_late(history)
    now = events_of(kept(history, 2))[-1].event_time.ToNanoseconds() / 1e9 - history.wall
    history.outages.append((now - 20, now))


def cancelled_by_nobody(history: History) -> None:
    history.replies = [reply for reply in history.replies if reply.method != "CancelExecution"]


def stream_without_an_end(history: History) -> None:
    history.open("hangs", kept(history).execution_id)


def stream_without_a_status(history: History) -> None:
    next(stream for stream in history.streams if stream.status == "OK").status = ""


def call_without_an_answer(history: History) -> None:
    history.replies.append(Reply(method="GetExecution", sent=5, at=0, status=""))


def memory_during(history: History) -> None:
    history.holdings.insert(1, Holding(phase="during", resident=101 * _MIB, descriptors=20))


def memory_after(history: History) -> None:
    history.holdings.append(Holding(phase="after", resident=71 * _MIB, descriptors=20))


def descriptors_during(history: History) -> None:
    history.holdings.insert(1, Holding(phase="during", resident=60 * _MIB, descriptors=121))


def descriptors_after(history: History) -> None:
    history.holdings.append(Holding(phase="after", resident=60 * _MIB, descriptors=21))


def tasks_after(history: History) -> None:
    history.holdings.append(Holding(phase="after", resident=60 * _MIB, descriptors=20, tasks=6))


def nobody_looked_before(history: History) -> None:
    del history.holdings[0]


def secret_in_an_event(history: History) -> None:
    change(history, 3, lambda event: setattr(event, "message", f"with {history.canaries[1].text}"))


def secret_in_a_snapshot(history: History) -> None:
    snapshot = Execution.FromString(kept(history).snapshot)
    snapshot.labels["a"] = history.canaries[0].text
    kept(history).snapshot = snapshot.SerializeToString()


def secret_in_a_request(history: History) -> None:
    kept(history).request = ExecuteRequest(labels={"a": history.canaries[0].text}).SerializeToString()


def secret_in_the_log(history: History) -> None:
    history.log += f"\nmetadata: ('authorization', '{history.canaries[0].text}')"


def secret_in_a_status(history: History) -> None:
    next(reply for reply in history.replies if reply.status == "OK").said = "internal error: KeyError: canary-2"


def secret_in_metadata(history: History) -> None:
    _refused(history, "CURSOR_AHEAD").metadata["caller"] = history.canaries[0].text


def expired_and_not_purged(history: History) -> None:
    del history.purged["purged"]


def expired_with_another_first(history: History) -> None:
    _refused(history, "CURSOR_EXPIRED").metadata["first_sequence"] = "1"


def expired_with_another_last(history: History) -> None:
    _refused(history, "CURSOR_EXPIRED").metadata["last_sequence"] = "3"


def promise_more_than_was_purged(history: History) -> None:
    snapshot = Execution(execution_id="purged", as_of_sequence=8)
    history.replies.append(
        Reply(
            method="GetExecution",
            sent=1,
            at=2,
            status="OK",
            execution_id="purged",
            execution=snapshot.SerializeToString(),
        )
    )


def run_a_purged_request_again(history: History) -> None:
    kept(history).request_id = "request-purged"


def add_twice(history: History) -> None:
    def edit(event: Event) -> None:
        event.plan_revised.steps.add(id="first", operation="give")

    change(history, _revision(history, 2), edit, 6)


def skip_a_revision(history: History) -> None:
    change(history, _revision(history, 2), lambda event: setattr(event.plan_revised, "revision", 3), 6)


def add_by_nobody(history: History) -> None:
    change(history, _revision(history, 1), lambda event: setattr(event.plan_revised, "added_by", "last"), 6)


def depend_on_what_is_not_there(history: History) -> None:
    change(history, _revision(history, 1), lambda event: event.plan_revised.steps[0].depends_on.append("nowhere"), 6)


def start_before_an_added_dependency(history: History) -> None:
    swap(history, find(history, "step_completed", "first", 6), find(history, "step_started", "second", 6), 6)


def start_what_a_condition_forbids(history: History) -> None:
    def edit(event: Event) -> None:
        condition = next(step for step in event.plan_started.plan.steps if step.id == "yes").conditions[0]
        condition.equals.number_value = 3

    change(history, 1, edit, 6)


def skip_what_a_condition_lets_pass(history: History) -> None:
    def edit(event: Event) -> None:
        next(step for step in event.plan_started.plan.steps if step.id == "no").conditions[0].above = 2

    change(history, 1, edit, 6)


def skip_what_could_run(history: History) -> None:
    def edit(event: Event) -> None:
        event.step_skipped.cause = StepSkipped.CAUSE_ENDED

    change(history, find(history, "step_skipped", "no", 6), edit, 6)


def skip_too_early(history: History) -> None:
    def edit(event: Event) -> None:
        next(step for step in event.plan_started.plan.steps if step.id == "no").depends_on.append("last")

    change(history, 1, edit, 6)


def too_many_items_at_once(history: History) -> None:
    def edit(event: Event) -> None:
        next(step for step in event.plan_started.plan.steps if step.id == "each").for_each.max_parallel = 1

    change(history, 1, edit, 6)


def an_item_before_its_step(history: History) -> None:
    change(history, find(history, "step_started", "each", 6), lambda event: event.stage.SetInParent(), 6)


def a_mapped_step_that_is_tried_again(history: History) -> None:
    sequence = find(history, "step_progress", "each", 6)
    change(history, sequence, lambda event: event.step_retrying.SetInParent(), 6)


def a_list_in_another_order(history: History) -> None:
    def edit(event: Event) -> None:
        event.step_completed.output.list_value.values.reverse()

    change(history, find(history, "step_completed", "each", 6), edit, 6)


def a_list_without_an_item(history: History) -> None:
    def edit(event: Event) -> None:
        del event.step_completed.output.list_value.values[-1]

    change(history, find(history, "step_completed", "each", 6), edit, 6)


def more_by_a_revision(history: History) -> None:
    change(history, _revision(history, 2), lambda event: setattr(event.progress, "percentage", 99), 6)


def nothing_left_by_a_revision(history: History) -> None:
    change(history, _revision(history, 2), lambda event: setattr(event.progress, "percentage", 0), 6)


def back_after_a_revision(history: History) -> None:
    def edit(event: Event) -> None:
        event.progress.percentage /= 2

    change(history, len(kept(history, 6).frames) - 1, edit, 6)


def _revision(history: History, number: int) -> int:
    events = events_of(kept(history, 6))
    return next(event.sequence for event in events if event.plan_revised.revision == number)


def swap(history: History, first: int, second: int, number: int) -> None:
    """Makes each of two events the other's, everywhere alike."""
    events = events_of(kept(history, number))
    one, other = events[first - 1], events[second - 1]
    change(history, first, lambda event: _become(event, other), number)
    change(history, second, lambda event: _become(event, one), number)


def _become(event: Event, other: Event) -> None:
    sequence = event.sequence
    event.CopyFrom(other)
    event.sequence = sequence


MUTATIONS: dict[str, list[Callable[[History], None]]] = {
    "P1": [
        lose_the_execution,
        lose_the_last_event,
        show_what_is_not_there,
        read_what_is_not_there,
        promise_a_sequence,
        accept_a_cancel,
        accept_a_pause,
        accept_the_end_of_a_pause,
        answer_a_pause_too_early,
        accept_an_answer,
        accept_an_answer_too_early,
        ask_again_what_was_answered,
        answer_twice,
        go_on_with_another_answer,
        promise_more_than_was_purged,
        not_found,
    ],
    "P2": [drop_from_the_journal, repeat_in_the_journal, swap_in_the_journal, count_too_few, overlap_chunks],
    "P3": [
        drop_from_a_stream,
        swap_in_a_stream,
        repeat_in_a_stream,
        repeat_after_a_resume,
        drop_from_a_filtered_stream,
        drop_from_a_client,
        repeat_in_a_client,
        fail_a_client,
    ],
    "P4": [other_bytes, other_order_of_bytes],
    "P5": [
        show_before_the_commit,
        show_what_nobody_stored,
        heartbeat_before_the_commit,
        reply_before_the_commit,
        accept_before_the_insert,
    ],
    "P6": [
        begin_too_late,
        jump_silently,
        refuse_what_was_shown,
        refuse_what_is_there,
        name_another_first,
        refuse_without_reason,
        expired_and_not_purged,
        expired_with_another_first,
        expired_with_another_last,
    ],
    "P7": [hole_between_ranges, heartbeat_ahead, event_outside_its_range, range_without_its_events],
    "P8": [
        second_terminal,
        event_after_the_end,
        no_terminal,
        state_after_the_end,
        record_of_another_end,
        ok_too_early,
        step_left_running,
    ],
    "P9": [answer_with_two, keep_two, run_a_purged_request_again],
    "P10": [
        epoch_back,
        record_of_an_old_epoch,
        old_owner_goes_on,
        retried_for_another_reason,
        no_word_of_what_was_lost,
        old_owner_appends,
        appends_overlap,
    ],
    "P11": [
        skip_an_attempt,
        start_after_the_end,
        effect_twice,
        effect_after_completion,
        saved_in_vain,
        found_what_was_never_saved,
    ],
    "P12": [
        start_too_early,
        start_while_paused,
        start_while_held_back,
        go_on_after_a_save,
        pause_twice,
        resume_twice,
        forget_the_pause_at_the_takeover,
        running_in_a_pause,
        paused_after_the_end_of_it,
        add_twice,
        skip_a_revision,
        add_by_nobody,
        depend_on_what_is_not_there,
        start_before_an_added_dependency,
        start_what_a_condition_forbids,
        skip_what_a_condition_lets_pass,
        skip_what_could_run,
        skip_too_early,
        too_many_items_at_once,
        an_item_before_its_step,
        a_mapped_step_that_is_tried_again,
        a_list_in_another_order,
        a_list_without_an_item,
    ],
    "P13": [
        start_after_a_cancel,
        end_too_late,
        an_outage_that_is_too_short,
        still_running_when_asked,
        cancelled_by_nobody,
    ],
    "P14": [stream_without_an_end, stream_without_a_status, call_without_an_answer],
    "P15": [memory_during, memory_after, descriptors_during, descriptors_after, tasks_after, nobody_looked_before],
    "P16": [state_of_another_event, kind_that_does_not_fit, snapshot_of_another_state, reply_of_another_state],
    "P17": [
        percentage_back,
        hundred_too_early,
        never_a_hundred,
        time_back,
        percentage_by_a_pause,
        step_beyond_its_parts,
        step_behind_its_parts,
        part_of_another_weight,
        part_that_goes_on_after_its_end,
        part_that_begins_twice,
        part_of_another_that_has_ended,
        part_that_is_done_too_early,
        more_by_a_revision,
        nothing_left_by_a_revision,
        back_after_a_revision,
    ],
    "P18": [
        secret_in_an_event,
        secret_in_a_snapshot,
        secret_in_a_request,
        secret_in_the_log,
        secret_in_a_status,
        secret_in_metadata,
    ],
}
"""By the promise's number: what its checker must find."""


def outcomes(history: History) -> Iterator[tuple[str, str, list[str]]]:
    """Gives, of each mutation: the checker, what was done to the good history, and what the checker said."""
    for promise, mutations in MUTATIONS.items():
        for mutate in mutations:
            spoiled = copy.deepcopy(history)
            mutate(spoiled)
            yield promise, mutate.__name__, list(CHECKERS[promise](spoiled))


def main() -> int:
    logging.disable()
    history = asyncio.run(good_history())
    print("| checker | mutation | caught |\n| --- | --- | --- |")
    count = missed = 0
    for promise, name, found in outcomes(history):
        print(f"| {promise} | {name.replace('_', ' ')} | {'yes' if found else 'NO'} |")
        count, missed = count + 1, missed + (not found)
    wrong = {name: found for name, checker in CHECKERS.items() if (found := list(checker(history)))}
    print(f"\n{count} mutations of {len(MUTATIONS)} checkers, {missed} not caught")
    print(f"found in the good history: {wrong or 'nothing'}")
    return 1 if missed or wrong or MUTATIONS.keys() != CHECKERS.keys() else 0


if __name__ == "__main__":
    sys.exit(main())
