"""Watches of many executions: the state machine by its rules and against streams that break, then both clients."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from google.rpc import code_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

import stepwire
from stepwire import aio, errors
from stepwire.patience import Patience
from stepwire.steps import Finish, Open, Read, Refuse
from stepwire.v1 import BatchStartExecutionsResponse, Event, EventBatch, Execution
from stepwire.wide import WideResumption

from .scripted import HANG, ScriptedServer, Status, completed, event

PATIENCE = Patience(start_failures=3, start_seconds=100, resume_failures=4, resume_seconds=100)
ENDLESS = Patience(resume_failures=10**6, resume_seconds=1e9, start_failures=10**6, start_seconds=1e9)
AWAY = errors.CallFailed("away", status_code=code_pb2.UNAVAILABLE)
CAUGHT_UP = EventBatch.NOTICE_CAUGHT_UP


def machine(**settings: Any) -> WideResumption:
    """A state machine whose random number is always 1: each wait is the longest it can be."""
    return WideResumption(**{"patience": PATIENCE, "random": lambda: 1.0, "heartbeat": 15.0, **settings})


def opened(*messages: EventBatch, **settings: Any) -> WideResumption:
    """One that has opened its first call at 0 s and has received these messages."""
    made = machine(**settings)
    assert isinstance(made.step(0.0), Open)
    made.opened(0.0)
    for message in messages:
        made.received(message, 0.0)
    return made


def of(name: str, *events: Event, after: int | None = None, position: int = 0, told: bool = False) -> EventBatch:
    """A message about an execution."""
    for one in events:
        one.execution_id = name
    first = events[0].sequence - 1 if after is None and events else after or 0
    made = EventBatch(
        events=events,
        after_sequence=first,
        sequence=events[-1].sequence if events else first,
        position=position,
        execution_id=name,
    )
    if told:
        made.execution.CopyFrom(Execution(execution_id=name, state=3, as_of_sequence=made.sequence))
    return made


def say(position: int, notice: int = CAUGHT_UP) -> EventBatch:
    return EventBatch(position=position, notice=notice)


def taken(made: WideResumption) -> list[tuple[str, int]]:
    found = []
    while (given_event := made.take()) is not None:
        found.append((given_event.execution_id, given_event.sequence))
    return found


class TestPosition:
    def test_a_snapshot_is_no_place_to_go_on_from(self) -> None:
        """A connection that is lost among the snapshots is opened anew without a position, and their newest counts."""
        made = opened(of("a", after=3, told=True))
        assert made.reached is None
        assert not made.has_begun
        made.ended(AWAY, 1.0)
        made.opened(2.0)
        made.received(of("a", after=5, told=True), 2.0)
        made.received(say(9), 2.0)
        assert (made.reached, made.has_begun) == (9, True)
        made.received(of("a", event(6), position=10), 2.0)
        assert taken(made) == [("a", 6)]
        assert isinstance(made.step(2.0), Read)

    def test_an_empty_journal_has_a_position(self) -> None:
        """Position 0, with the notice, is a place to go on from: what came meanwhile is not lost."""
        made = opened(say(0))
        made.ended(AWAY, 1.0)
        assert made.reached == 0

    def test_the_position_is_of_what_was_processed(self) -> None:
        """The position moves when the last event of a message was processed, not when it was received."""
        made = opened(
            say(5), of("a", event(1), event(2), position=8, told=True), of("b", event(1), position=9, told=True)
        )
        assert (made.reached, made.position) == (9, None)
        made.take()
        made.take()
        assert made.position == 5
        made.take()
        assert made.position == 8
        assert made.take() is None
        assert made.position == 9

    def test_heartbeats_move_it(self) -> None:
        """A heartbeat's position counts, once what came before it was processed."""
        made = opened(say(5), say(20, EventBatch.NOTICE_HEARTBEAT))
        assert made.take() is None
        assert made.position == 20


class TestEvents:
    def test_repeats_are_dropped(self) -> None:
        """What comes again after a lost connection is dropped, of ended executions too."""
        first = [of("a", event(1), event(2), position=5, told=True), of("b", completed(1), position=5, told=True)]
        made = opened(say(5), *first)
        made.ended(AWAY, 1.0)
        made.opened(2.0)
        again = [
            say(5),
            of("b", completed(1), position=5, told=True),
            of("a", event(1), event(2), event(3), position=7),
        ]
        for message in again:
            made.received(message, 2.0)
        assert taken(made) == [("a", 1), ("a", 2), ("b", 1), ("a", 3)]

    def test_a_hole_is_refused(self) -> None:
        """Events that are missing end the call; where they never come, the watch breaks and says which."""
        made = opened(say(5), of("a", event(1), position=6, told=True))
        for turn in range(PATIENCE.resume_failures):
            made.received(of("a", event(3), position=8), float(turn))
            step = made.step(float(turn))
            if isinstance(step, Open):
                made.opened(float(turn))
        assert taken(made) == [("a", 1)]
        step = made.step(9.0)
        assert isinstance(step, Refuse)
        assert "Events 2 to 2 of a are missing" in str(step.error)

    def test_a_hole_within_a_message_is_refused(self) -> None:
        """Without a filter each event is looked at, with one the ranges alone."""
        message = of("a", event(1), event(3), position=8, told=True)
        made = opened(say(5), message)
        assert isinstance(made.step(0.0), Open)
        filtered = opened(say(5), message, filtered=True)
        assert taken(filtered) == [("a", 1), ("a", 3)]

    def test_what_is_known_of_executions(self) -> None:
        """`executions` has each one's state after the event that was given last, and one that ended until the next."""
        made = opened(of("a", after=2, told=True), say(5), of("a", event(3), completed(4), position=7))
        assert made.executions["a"].as_of_sequence == 2
        made.take()
        assert (made.executions["a"].as_of_sequence, made.executions["a"].progress.percentage) == (3, 30)
        made.take()
        assert made.executions["a"].state == 6
        made.take()
        assert not made.executions


class TestEnd:
    def test_ok_ends_a_watch_of_named_ones(self) -> None:
        """OK ends a watch of named executions when all of them have ended, and no other watch."""

        def messages(count: int) -> list[EventBatch]:
            return [of("a", after=2, told=True), say(5), of("a", completed(3), position=7)][:count]

        made = opened(*messages(3), named=True)
        made.ended(None, 1.0)
        assert taken(made) == [("a", 3)]
        assert isinstance(made.step(1.0), Finish)
        for other in (opened(*messages(3)), opened(*messages(2), named=True), opened(*messages(1), named=True)):
            other.ended(None, 1.0)
            assert isinstance(other.step(1.0), Open)

    def test_a_snapshot_may_be_ahead(self) -> None:
        """A snapshot of an execution that has ended meanwhile is not its end: that is the terminal event."""
        ahead = of("a", after=2, told=True)
        ahead.execution.state, ahead.execution.as_of_sequence = 6, 3
        made = opened(ahead, say(5), named=True)
        made.ended(None, 1.0)
        assert isinstance(made.step(1.0), Open)
        made.opened(1.0)
        made.received(of("a", completed(3), position=7), 1.0)
        made.received(say(7), 1.0)
        made.ended(None, 2.0)
        assert taken(made) == [("a", 3)]
        assert isinstance(made.step(2.0), Finish)

    def test_draining_goes_on_elsewhere(self) -> None:
        """DRAINING opens again at once, over a new connection."""
        made = opened(say(5), say(6, EventBatch.NOTICE_DRAINING))
        step = made.step(0.0)
        assert isinstance(step, Open)
        assert (step.fresh, step.wait, made.reached) == (True, 0.0, 6)
        assert made.outage is not None
        assert made.outage.draining

    def test_silence_is_a_lost_connection(self) -> None:
        """A call that says nothing for two heartbeat intervals and a second is opened again."""
        made = opened(say(5))
        step = made.step(0.0)
        assert step == Read(seconds=31.0)
        made.silent(31.0)
        assert isinstance(made.step(31.0), Open)

    def test_the_budget(self) -> None:
        """Failures in a row end it; news fills the budget again; a refusal is raised at once."""
        made = opened(say(5))
        for turn in range(PATIENCE.resume_failures - 1):
            made.ended(AWAY, float(turn))
            made.opened(float(turn))
        made.received(of("a", event(1), position=6, told=True), 5.0)
        made.ended(AWAY, 5.0)
        assert isinstance(made.step(5.0), Open)
        made.opened(5.0)
        made.ended(errors.CursorExpired("gone"), 6.0)
        step = made.step(6.0)
        assert isinstance(step, Refuse)
        assert isinstance(step.error, errors.CursorExpired)


class Stored(NamedTuple):
    """A chunk of a journal."""

    position: int
    name: str
    first: int
    last: int
    ends: bool


class Journal:
    """What a server has, and its streams as the server makes them: sorted by execution, with positions that lag."""

    def __init__(self) -> None:
        self.chunks: list[Stored] = []
        self.last: dict[str, int] = defaultdict(int)

    def append(self, name: str, count: int, *, ends: bool) -> None:
        position = self.chunks[-1].position + 1 if self.chunks else 1
        first = self.last[name] + 1
        self.last[name] += count
        self.chunks.append(Stored(position, name, first, self.last[name], ends))

    def compact(self, name: str) -> None:
        """Joins all chunks of an execution at the position of the last."""
        mine = [chunk for chunk in self.chunks if chunk.name == name]
        joined = mine[-1]._replace(first=1)
        self.chunks = sorted([chunk for chunk in self.chunks if chunk.name != name] + [joined])

    def stream(self, after: int, page: int) -> list[EventBatch]:
        messages = [EventBatch(position=after)]
        rest = [chunk for chunk in self.chunks if chunk.position > after]
        told: dict[str, int] = {}
        position = after
        while rest:
            taken_now, rest = rest[:page], rest[page:]
            parts: dict[str, list[Stored]] = {}
            for chunk in taken_now:
                parts.setdefault(chunk.name, []).append(chunk)
            ordered = sorted(parts.values(), key=lambda part: part[-1].position)
            for index, part in enumerate(ordered):
                behind = [other[0].position - 1 for other in ordered[index + 1 :]]
                position = max(position, min([taken_now[-1].position, *behind]))
                name = part[0].name
                events = [event(n) for n in range(part[0].first, part[-1].last + 1)]
                if part[-1].ends:
                    events[-1] = completed(part[-1].last)
                message = of(name, *events, after=told.get(name), position=position, told=name not in told)
                told[name] = part[-1].last
                messages.append(message)
        return [*messages, say(max(position, after))]


@settings(max_examples=150, deadline=None)
@given(data=st.data(), count=st.integers(1, 6))
def test_every_event_once_and_in_order(data: st.DataObject, count: int) -> None:
    """Whatever is cut, drained, doubled or joined meanwhile: the caller gets every event of every execution once, and
    in order, and so does another one that goes on at any position that was processed and knows what it had.
    """
    journal = Journal()
    open_ones = [f"e{number}" for number in range(count)]
    for _ in range(data.draw(st.integers(1, 25))):
        if open_ones:
            name = data.draw(st.sampled_from(open_ones))
            ends = data.draw(st.integers(0, 3)) == 0
            journal.append(name, data.draw(st.integers(1, 3)), ends=ends)
            if ends:
                open_ones.remove(name)
    wanted = dict(journal.last)
    made = machine(after_position=0, patience=ENDLESS)
    seen: dict[str, int] = defaultdict(int)
    now = 0.0
    for turn in range(200):
        step = made.step(now)
        assert isinstance(step, Open), step
        now += step.wait
        made.opened(now)
        messages = journal.stream(made.reached or 0, data.draw(st.integers(1, 8)))
        last = turn > 12
        fault = "none" if last else data.draw(st.sampled_from(["cut", "cut", "double", "drain", "compact"]))
        at = data.draw(st.integers(0, len(messages) - 1))
        if fault == "double":
            messages = messages[: at + 1] + messages[at:]
        elif not last:
            messages = messages[: at + 1]
        for message in messages:
            made.received(message, now)
            while data.draw(st.booleans()) and (given_event := made.take()) is not None:
                assert given_event.sequence == seen[given_event.execution_id] + 1
                seen[given_event.execution_id] += 1
        if fault == "drain":
            made.received(say(made.reached or 0, EventBatch.NOTICE_DRAINING), now)
            continue
        if fault == "compact":
            for name in [chunk.name for chunk in journal.chunks if chunk.ends]:
                journal.compact(name)
        if last:
            break
        made.ended(AWAY, now)
    while (given_event := made.take()) is not None:
        assert given_event.sequence == seen[given_event.execution_id] + 1
        seen[given_event.execution_id] += 1
    assert dict(seen) == wanted
    assert made.position == journal.chunks[-1].position


# -- both clients


def threaded(server: ScriptedServer, patience: Patience, **chosen: Any) -> tuple[list[tuple[str, int]], int]:
    """Reads a watch to its end."""
    with stepwire.Client(server.target, patience=patience) as client:
        watch = client.watch_executions(**chosen)
        found = [(one.execution_id, one.sequence) for one in watch]
        return found, watch.position


def looped(server: ScriptedServer, patience: Patience, **chosen: Any) -> tuple[list[tuple[str, int]], int]:
    """Reads a watch to its end."""

    async def run() -> tuple[list[tuple[str, int]], int]:
        async with aio.Client(server.target, patience=patience) as client:
            watch = await client.watch_executions(**chosen)
            found = [(one.execution_id, one.sequence) async for one in watch]
            return found, watch.position

    return asyncio.run(run())


@pytest.mark.parametrize("read", [threaded, looped])
class TestClients:
    def test_it_resumes_by_position(self, read: Any, server: ScriptedServer, hasty: Patience) -> None:
        """A watch goes on at its position when the connection is lost, with the same request, and drops repeats."""
        server.plays(
            [
                of("a", after=1, told=True),
                say(4),
                of("a", event(2), event(3), position=6),
                Status(code_pb2.UNAVAILABLE),
            ],
            [say(6, 0), of("a", event(3), event(4), position=8, told=True), say(8), HANG],
            [say(8, 0), of("a", completed(5), position=9, told=True), say(9)],
        )
        hasty_beat = timedelta(milliseconds=100)
        found, position = read(
            server, hasty, execution_ids=["a"], labels={"x": "y"}, kinds=[], heartbeat_interval=hasty_beat
        )
        assert found == [("a", 2), ("a", 3), ("a", 4), ("a", 5)]
        assert position == 9
        requests = [call.request for call in server.calls]
        assert server.names() == ["WatchExecutions"] * 3
        assert [request.HasField("after_position") for request in requests] == [False, True, True]
        assert [request.after_position for request in requests] == [0, 6, 8]
        assert all(request.executions == requests[0].executions for request in requests)
        assert dict(requests[0].executions.labels) == {"x": "y"}
        assert list(requests[0].executions.execution_ids) == ["a"]

    def test_a_refusal_is_raised(self, read: Any, server: ScriptedServer, hasty: Patience) -> None:
        """What the server refuses is raised by the call that begins the watch, as its class."""
        server.plays([errors.CursorExpired("gone", metadata={"first_position": "7"})])
        with pytest.raises(errors.CursorExpired) as caught:
            read(server, hasty, after_position=3)
        assert caught.value.metadata == {"first_position": "7"}
        assert server.calls[0].request.after_position == 3


def test_closing_the_client_ends_a_watch(server: ScriptedServer) -> None:
    """A watch that waits ends when its client is closed from another thread, and says where it was."""
    server.plays([say(4), HANG])
    client = stepwire.Client(server.target)
    watch = client.watch_executions()
    closer = threading.Timer(0.05, client.close)
    closer.start()
    with pytest.raises(errors.StreamBroken, match="position 4"):
        next(watch)
    closer.join()


def test_leaving_the_loop_ends_the_call(server: ScriptedServer) -> None:
    """Leaving the loop ends the call; another loop goes on after what was processed and received."""
    server.plays(
        [say(4), of("a", event(1), position=5, told=True), HANG],
        [say(5, 0), of("a", event(2), position=6, told=True), HANG],
    )
    with stepwire.Client(server.target) as client:
        watch = client.watch_executions(session_id="s")
        for one in watch:
            assert one.sequence == 1
            break
        assert server.calls[0].left.wait(20)
        assert next(watch).sequence == 2
        assert server.calls[1].request.after_position == 5


def test_a_batch(server: ScriptedServer) -> None:
    """A batch is one call, with a request id for each of its works, and returns their snapshots in order."""
    executions = [Execution(execution_id=name) for name in "abc"]
    server.replies("BatchStartExecutions", *[BatchStartExecutionsResponse(executions=executions)] * 2)
    order = {"call": "order", "input": {"id": 1}, "session_id": "s"}
    works: list[Any] = ["hello", order, {"query": "x", "request_id": "r"}]
    with stepwire.Client(server.target) as client:
        assert [execution.execution_id for execution in client.start_batch(works)] == ["a", "b", "c"]

    async def looped_batch() -> Sequence[Execution]:
        async with aio.Client(server.target) as client:
            return await client.start_batch(works)

    assert [execution.execution_id for execution in asyncio.run(looped_batch())] == ["a", "b", "c"]
    for call in server.calls:
        first, second, third = call.request.requests
        assert (first.query, second.call.plan, second.session_id, third.query) == ("hello", "order", "s", "x")
        assert third.request_id == "r"
        assert len({first.request_id, second.request_id, ""}) == 3
    assert works[1] == {"call": "order", "input": {"id": 1}, "session_id": "s"}
