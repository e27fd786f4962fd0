"""Checkers that find nothing prove nothing: each is shown what it must find, and a good history, where it must not."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from stepwire.v1 import Event, EventBatch, ExecuteRequest, Execution, ExecutionState, Retry
from stepwire_server import App, Plan, StepContext, plan_step
from stepwire_server.engine.engine import Engine
from stepwire_server.journal import MemoryJournal

from .checkers import CHECKERS, check, events_of
from .history import Effect, History, Kept, Message, Reading, Reply, dump_open

app = App("checked")


@app.operation()
async def work(step: StepContext) -> int:
    """Report, fail once, and end."""
    await step.progress(40, "Some of it")
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


RETRY = Retry(attempts=2, initial_delay=timedelta(milliseconds=1))
GOOD = Plan(
    steps=[
        plan_step("a", "work", retry=RETRY),
        plan_step("b", "pay", depends_on=["a"]),
        plan_step("c", "work", depends_on=["b"], retry=RETRY),
    ]
)
BAD = Plan(steps=[plan_step("a", "broken"), plan_step("b", "work", depends_on=["a"])])


async def _run() -> History:
    journal = MemoryJournal()
    await journal.open()
    engine = Engine(app.catalog(), journal)
    ids = []
    for number, plan in enumerate((GOOD, BAD)):
        record = await engine.accept(ExecuteRequest(plan=plan, request_id=f"request-{number}"))
        with journal.follow(record.execution_id, after=0) as follower:
            while not follower.ended:
                if not await follower.read(max_events=512, max_bytes=1 << 20):
                    await follower.wait()
        ids.append(record.execution_id)
    history = History(journal=await dump_open(journal))
    await engine.drain(1)
    await journal.close()
    history.effects = [Effect(execution_id=ids[0], step_id="b", attempt=1, at_most_once=True)]
    for number, execution_id in enumerate(ids):
        kept = history.journal[execution_id]
        half = len(kept.frames) // 2
        request_id = f"request-{number}"
        history.replies.append(
            Reply(method="StartExecution", sent=1, at=1, status="OK", request_id=request_id, execution_id=execution_id)
        )
        for watcher in ("one", "two"):
            _stream(history, watcher, kept, 0, half, 2.0)
            _stream(history, watcher, kept, half, len(kept.frames), 4.0)
        _stream(history, "filtered", kept, 0, len(kept.frames), 4.0, kinds=frozenset({"step_started"}))
        history.readings.append(
            Reading(reader="client", execution_id=execution_id, after=0, events=list(kept.frames), times=[])
        )
        history.replies.append(
            Reply(method="GetExecution", sent=8, at=9, status="OK", execution_id=execution_id, execution=kept.snapshot)
        )
        ahead = history.open("lost", execution_id, after=len(kept.frames) + 5)
        ahead.began = 10.0
        ahead.end("OUT_OF_RANGE", "CURSOR_AHEAD")
    return history


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
            if not kinds or event.WhichOneof("kind") in kinds | {"plan_completed", "plan_failed"}
        ]
        notice = EventBatch.NOTICE_HEARTBEAT if first == last else EventBatch.NOTICE_UNSPECIFIED
        stream.messages.append(Message(at=began + 1, frames=given, after=first, sequence=last, notice=notice))
    stream.end("OK" if until == len(kept.frames) else "UNAVAILABLE")


@pytest.fixture(scope="module")
def once() -> History:
    """A good history, made once."""
    return asyncio.run(_run())


@pytest.fixture
def history(once: History) -> History:
    """A good history, to be spoiled."""
    return copy.deepcopy(once)


def kept(history: History) -> Kept:
    """Returns the execution that completed."""
    return next(kept for kept in history.journal.values() if kept.state == ExecutionState.EXECUTION_STATE_COMPLETED)


def change(history: History, sequence: int, edit: Callable[[Event], None]) -> None:
    """Changes an event everywhere alike, in the journal and in what clients saw: nobody disagrees."""
    execution = kept(history)
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


def find(history: History, kind: str, step: str = "") -> int:
    """Returns the sequence of the first event of a kind, and of a step where one is given."""
    return next(
        event.sequence
        for event in events_of(kept(history))
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
    del history.readings[0].events[2]


def repeat_in_a_client(history: History) -> None:
    history.readings[0].events.insert(2, history.readings[0].events[2])


def fail_a_client(history: History) -> None:
    history.readings[0].error = "StreamBroken"


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


def start_too_early(history: History) -> None:
    def edit(event: Event) -> None:
        event.plan_started.plan.steps[0].depends_on.append("c")

    change(history, find(history, "plan_started"), edit)


def start_while_paused(history: History) -> None:
    change(history, find(history, "step_progress", "a"), lambda event: event.plan_paused.SetInParent())


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


def time_back(history: History) -> None:
    change(history, 5, lambda event: event.event_time.FromSeconds(1))


MUTATIONS: dict[str, list[Callable[[History], None]]] = {
    "P1": [
        lose_the_execution,
        lose_the_last_event,
        show_what_is_not_there,
        read_what_is_not_there,
        promise_a_sequence,
        accept_a_cancel,
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
    "P6": [
        begin_too_late,
        jump_silently,
        refuse_what_was_shown,
        refuse_what_is_there,
        name_another_first,
        refuse_without_reason,
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
    "P9": [answer_with_two, keep_two],
    "P11": [skip_an_attempt, start_after_the_end, effect_twice, effect_after_completion],
    "P12": [start_too_early, start_while_paused],
    "P16": [state_of_another_event, kind_that_does_not_fit, snapshot_of_another_state, reply_of_another_state],
    "P17": [percentage_back, hundred_too_early, never_a_hundred, time_back],
}


def test_a_good_history_is_good(history: History) -> None:
    """No checker finds anything in a good history."""
    assert check(history) == {}


def test_every_checker_is_proven() -> None:
    """Every checker has mutations that it must catch."""
    assert MUTATIONS.keys() == CHECKERS.keys()


@pytest.mark.parametrize(
    ("promise", "mutate"),
    [
        pytest.param(promise, mutate, id=f"{promise}-{mutate.__name__}")
        for promise, mutations in MUTATIONS.items()
        for mutate in mutations
    ],
)
def test_a_checker_catches(history: History, promise: str, mutate: Callable[[History], None]) -> None:
    """A checker names what was spoiled, in words."""
    mutate(history)
    violations = list(CHECKERS[promise](history))
    assert violations
    assert all(len(violation) > 20 for violation in violations)
