"""When a run polls instead of reading streams, and what it asks then: case by case, and against random proxies."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from google.rpc import code_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwire import errors
from stepwire.patience import Patience
from stepwire.resume import Resumption
from stepwire.steps import Ask, Finish, Open, Outage, Read, Refuse
from stepwire.v1 import Event, EventBatch, Execution, StartExecutionResponse, WaitExecutionResponse

from .scripted import EXECUTION, batch, completed, draining, event, heartbeat, numbers, page, welcome

AWAY = errors.CallFailed("away", status_code=code_pb2.UNAVAILABLE)
UNKNOWN_METHOD = errors.CallFailed("no such method", status_code=code_pb2.UNIMPLEMENTED)
BROKEN = errors.CallFailed("bad gateway", status_code=code_pb2.UNKNOWN)
PATIENCE = Patience(start_failures=9, resume_failures=9, stream_delay=60, poll_delay=0.25, max_poll_delay=2.0)


class Driven:
    """A state machine with a clock, driven by what its calls bring."""

    def __init__(self, **settings: Any) -> None:
        self.now = 100.0
        self.machine = Resumption(**{"patience": PATIENCE, "random": lambda: 0.0, **settings})

    def stream(self, *messages: EventBatch, end: Any = None, after: float = 0.0) -> Open:
        """Opens the stream that is due, which gives these messages and ends: silent, or with an error or OK (None)."""
        step = self._open(Open)
        assert isinstance(step, Open)
        for message in messages:
            self.machine.received(message, self.now)
        self.now += after
        if end == "silent":
            read = self.machine.step(self.now)
            assert isinstance(read, Read), read
            self.now += read.seconds
            self.machine.silent(self.now)
        elif end != "open":
            self.machine.ended(end, self.now)
        return step

    def ask(self, answer: Any = None, *, end: Any = None, after: float = 0.0) -> Ask:
        """Makes the unary call that is due, which gives this answer and ends so."""
        step = self._open(Ask)
        assert isinstance(step, Ask)
        self.now += after
        if answer is not None:
            self.machine.received(answer, self.now)
        self.machine.ended(end, self.now)
        return step

    def taken(self) -> list[int]:
        return [given_event.sequence for given_event in iter(self.machine.take, None)]

    def _open(self, kind: type) -> Open | Ask:
        step = self.machine.step(self.now)
        assert isinstance(step, kind), step
        assert isinstance(step, Open | Ask)
        self.now += step.wait
        self.machine.opened(self.now)
        return step


def waited(last: int, state: int = 3) -> WaitExecutionResponse:
    return WaitExecutionResponse(execution=Execution(execution_id=EXECUTION, state=state, as_of_sequence=last))


def polling(*, last: int = 0, **settings: Any) -> Driven:
    """One that was refused as an unknown method, and that has read everything up to `last` by polling."""
    driven = Driven(**{"execution_id": EXECUTION, "after_sequence": last, **settings})
    driven.stream(end=UNKNOWN_METHOD)
    driven.ask(page(at=last))
    return driven


class TestDoubts:
    def test_silence(self) -> None:
        """A stream that says nothing is followed by a question; if that is answered, and the next stream is silent too,
        within a shorter time, the run polls.
        """
        driven = Driven(execution_id=EXECUTION)
        driven.stream(end="silent")
        assert driven.now == 110
        asked = driven.ask(page(event(1), event(2)))
        assert (asked.method, asked.after_sequence, asked.fresh, asked.limit) == ("ListEvents", 0, True, 10.0)
        assert driven.taken() == [1, 2]
        assert driven.stream(end="silent").after_sequence == 2
        assert driven.now == 113
        assert driven.machine.outage == Outage(since=113, draining=False)
        assert driven.ask(page(event(3))).after_sequence == 2
        assert driven.machine.outage == Outage(since=113, draining=False, polling=True)
        assert driven.ask(waited(3)).method == "WaitExecution"

    def test_silence_after_some_events(self) -> None:
        """A proxy that lets something through whenever its buffer is full is found out, too: only what comes a whole
        heartbeat interval after a stream's beginning shows that streams come through.
        """
        driven = Driven(execution_id=EXECUTION)
        driven.stream(welcome(), numbers(1, 2), end="silent")
        assert driven.now == 131
        driven.ask(page(event(3)))
        driven.stream(welcome(3), numbers(4), end="silent")
        assert driven.ask(page(event(5))).after_sequence == 4
        assert driven.ask(waited(5)).method == "WaitExecution"

    def test_cut_again_and_again(self) -> None:
        """Two streams in a row that are cut without anything new are followed by a question, and a third by polling."""
        driven = Driven(execution_id=EXECUTION)
        driven.stream(welcome(), end=AWAY, after=1)
        driven.stream(welcome(), end=AWAY, after=1)
        driven.ask(page(at=0))
        driven.stream(welcome(), end=AWAY, after=1)
        driven.ask(page(at=0))
        assert driven.machine.outage is not None
        assert driven.machine.outage.polling

    @pytest.mark.parametrize("ending", [None, AWAY, BROKEN])
    def test_execute(self, ending: errors.StepwireError | None) -> None:
        """Where Execute gives nothing, however it ends, StartExecution begins the work, and a page gives its events."""
        driven = Driven()
        driven.stream(end=ending)
        driven.stream(end=ending)
        started = StartExecutionResponse(execution=Execution(execution_id=EXECUTION, state=3, as_of_sequence=0))
        assert driven.ask(started).method == "StartExecution"
        assert driven.machine.welcomed
        assert driven.ask(page(event(1))).method == "ListEvents"
        assert driven.stream(end=ending).execute is False
        driven.ask(page(event(2)))
        assert driven.taken() == [1, 2]
        assert driven.ask(waited(2)).method == "WaitExecution"

    def test_unknown_method(self) -> None:
        """A stream that something on the way does not know is not tried twice."""
        driven = Driven()
        driven.stream(end=UNKNOWN_METHOD)
        driven.ask(StartExecutionResponse(execution=Execution(execution_id=EXECUTION)))
        driven.ask(page(at=0))
        driven.ask(waited(0))

    def test_unknown_service(self) -> None:
        """Where the question is unknown too, there is no Stepwire: that is raised."""
        driven = Driven()
        driven.stream(end=UNKNOWN_METHOD)
        driven.ask(end=UNKNOWN_METHOD)
        assert driven.machine.step(driven.now) == Refuse(error=UNKNOWN_METHOD)

    def test_not_built_yet(self) -> None:
        """A server that says itself that it does not have the method is believed."""
        driven = Driven()
        error = errors.NotBuiltYet("later")
        driven.stream(end=error)
        assert driven.machine.step(driven.now) == Refuse(error=error)

    @pytest.mark.parametrize("proof", [numbers(1), heartbeat(0)], ids=["event", "heartbeat"])
    def test_progress(self, proof: EventBatch) -> None:
        """Streams that give something each are gone on with, however often they are cut."""
        driven = Driven(execution_id=EXECUTION)
        for index in range(50):
            driven.stream(welcome(), end=AWAY, after=1)
            mark = numbers(index + 1) if proof.events else proof
            driven.stream(welcome(mark.after_sequence), mark, end=AWAY, after=1)

    @pytest.mark.parametrize("end", [AWAY, BROKEN, "silent"], ids=["away", "broken", "silent"])
    def test_server_away(self, end: Any) -> None:
        """While questions are not answered either, the server is away: streams are tried, and nothing is polled."""
        driven = Driven(execution_id=EXECUTION, patience=Patience(start_failures=99, start_seconds=1e9))
        for _ in range(9):
            for _ in range(1 if end == "silent" else 2):
                driven.stream(end=end)
            driven.ask(end=AWAY)
        driven.stream(welcome(), numbers(1), end="open")
        assert driven.taken() == [1]
        assert isinstance(driven.machine.step(driven.now), Read)

    def test_the_server_refuses(self) -> None:
        """What the server itself refuses says nothing about streams: another is opened, however often."""
        driven = Driven(execution_id=EXECUTION)
        for _ in range(6):
            driven.stream(end=errors.LimitWatchers("full", retry_after=timedelta(seconds=1)))
        assert isinstance(driven.machine.step(driven.now), Open)

    def test_the_server_refuses_a_trial(self) -> None:
        """A run that polls goes on to poll where the server refuses the stream that it tries."""
        driven = polling()
        driven.now += 60
        driven.ask(waited(0))
        driven.stream(end=errors.LimitWatchers("full", retry_after=timedelta(seconds=1)))
        assert driven.ask(page(at=0)).method == "ListEvents"
        assert driven.ask(waited(0)).method == "WaitExecution"

    def test_server_restarts(self) -> None:
        """A server that comes back during the question has its streams again at once."""
        driven = Driven(execution_id=EXECUTION)
        driven.stream(welcome(), numbers(1), end=AWAY)
        driven.stream(end="silent")
        driven.ask(page(at=1))
        driven.stream(welcome(1), numbers(2), end="open")
        assert driven.machine.outage is None
        for _ in range(3):
            driven.now += 15
            driven.machine.received(heartbeat(2), driven.now)
        driven.machine.silent(driven.now)
        # What was shown before is forgotten: one silence is not two.
        driven.ask(page(at=2))
        assert isinstance(driven.machine.step(driven.now), Open)

    def test_drain(self) -> None:
        """A server that drains raises no doubt."""
        driven = Driven(execution_id=EXECUTION)
        for _ in range(9):
            driven.stream(welcome(), draining(0), end="open")
        assert isinstance(driven.machine.step(driven.now), Open)

    def test_switched_off(self) -> None:
        """With "stream" nothing is ever asked, and what streams end with is raised as it is."""
        driven = Driven(execution_id=EXECUTION, delivery="stream", patience=Patience(resume_seconds=1e9))
        for _ in range(8):
            driven.stream(welcome(), end="silent")
        assert isinstance(driven.machine.step(driven.now), Open)
        driven = Driven(delivery="stream")
        driven.stream(end=UNKNOWN_METHOD)
        assert driven.machine.step(driven.now) == Refuse(error=UNKNOWN_METHOD)


class TestPolling:
    def test_forced(self) -> None:
        """With "poll" no stream is ever opened, and nothing is told as an outage."""
        driven = Driven(delivery="poll")
        driven.ask(StartExecutionResponse(execution=Execution(execution_id=EXECUTION)))
        for sequence in range(1, 100):
            driven.ask(page(event(sequence)))
            driven.ask(waited(sequence + 1), after=30)
        assert driven.machine.outage is None
        driven.ask(page(completed(100)))
        assert len(driven.taken()) == 100
        assert driven.machine.step(driven.now) == Finish()
        assert driven.machine.terminal is not None

    def test_catches_up_without_a_pause(self) -> None:
        """Page follows page at once until everything is read."""
        driven = Driven(execution_id=EXECUTION, delivery="poll")
        for sequence in range(1, 6):
            asked = driven.ask(page(event(sequence), last=5))
            assert (asked.method, asked.after_sequence, asked.wait) == ("ListEvents", sequence - 1, 0)
        assert driven.ask(waited(5)).method == "WaitExecution"

    def test_pauses_grow_and_shrink(self) -> None:
        """A pause is a WaitExecution: 0.25 s, doubled to 2 s while nothing happens, and 0.25 s again after news;
        where its answer has nothing new no page is asked for.
        """
        driven = polling()
        pauses = []
        for _ in range(6):
            asked = driven.ask(waited(0), after=driven.machine.step(driven.now).timeout)  # type: ignore[union-attr]
            pauses.append(asked.timeout)
            assert (asked.method, asked.wait, asked.limit) == ("WaitExecution", 0, asked.timeout + 10)
        assert pauses == [0.25, 0.5, 1, 2, 2, 2]
        driven.ask(waited(1), after=2)
        assert driven.ask(page(event(1))).method == "ListEvents"
        assert driven.ask(waited(1)).timeout == 0.25

    def test_the_end_is_seen_at_once(self) -> None:
        """A WaitExecution that says that the execution ended is followed by a page without a pause."""
        driven = polling()
        driven.ask(waited(1, state=6), after=0.1)
        assert driven.ask(page(completed(1))).wait == 0
        assert driven.taken() == [1]
        assert driven.machine.step(driven.now) == Finish()

    def test_answers_too_early(self) -> None:
        """A WaitExecution that is answered at once without reason is no reason to ask without a pause."""
        driven = polling()
        driven.ask(waited(0))
        assert driven.ask(waited(0)).wait == pytest.approx(0.25)

    def test_ended_but_not_all_is_there(self) -> None:
        """A server that says that there is more and does not give it is not asked without a pause."""
        driven = polling()
        driven.ask(waited(9, state=6))
        for pause in (0.5, 1, 2, 2):
            driven.ask(page(at=0, last=9, state=6))
            step = driven.machine.step(driven.now)
            assert isinstance(step, Ask)
            assert (step.method, step.wait) == ("ListEvents", pytest.approx(pause))

    @pytest.mark.parametrize(
        ("error", "after", "then"),
        [
            (AWAY, 1.0, ("WaitExecution", 0.5)),
            (AWAY, 0.4, ("ListEvents", 2.0)),
            (errors.LimitWatchers("full"), 0.0, ("ListEvents", 2.0)),
        ],
    )
    def test_wait_is_cut(self, error: errors.StepwireError, after: float, then: tuple[str, float]) -> None:
        """A WaitExecution that a proxy cuts is followed by shorter ones, and by plain pauses where those are too short,
        until after a while it is tried as before; the page comes when it would have come.
        """
        driven = polling()
        for _ in range(4):
            driven.ask(waited(0), after=2)
        cut_at = driven.now
        driven.ask(end=error, after=after)
        driven.ask(page(at=0))
        assert driven.now == pytest.approx(cut_at + 2)
        step = driven.machine.step(driven.now)
        assert isinstance(step, Ask)
        assert (step.method, step.timeout or step.wait) == then
        driven.now += 11
        driven.ask(waited(0) if step.method == "WaitExecution" else page(at=0))
        assert driven.ask(waited(0)).timeout == 2

    def test_a_hole_in_a_page(self) -> None:
        """A page with a hole is refused like a message of a stream: the rest is asked for again."""
        driven = polling()
        driven.ask(waited(3))
        driven.ask(page(event(1), event(3)))
        assert driven.taken() == [1]
        assert driven.ask(page(event(2), event(3))).after_sequence == 1
        assert driven.taken() == [2, 3]

    def test_a_hole_that_stays(self) -> None:
        """A hole that stays ends in StreamBroken: an answer without what was asked for is no progress."""
        driven = polling(patience=Patience(resume_failures=3, stream_delay=1e6))
        driven.ask(waited(3))
        for _ in range(3):
            driven.ask(page(event(2), event(3)))
        step = driven.machine.step(driven.now)
        assert isinstance(step, Refuse)
        assert isinstance(step.error, errors.StreamBroken)

    def test_duplicates(self) -> None:
        """What a page repeats is given once."""
        driven = polling(last=2)
        driven.ask(waited(3))
        driven.ask(page(event(1), event(2), event(3)))
        assert driven.taken() == [3]

    def test_filtered(self) -> None:
        """With a filter the ranges of the pages must join, not the events."""
        driven = polling(filtered=True)
        driven.ask(waited(9))
        made = page(event(3), last=9)
        made.after_sequence, made.sequence = 0, 9
        driven.ask(made)
        assert driven.taken() == [3]
        assert driven.machine.sequence == 9
        assert driven.ask(waited(9)).method == "WaitExecution"

    def test_lost_and_back(self) -> None:
        """A server that is away while a run polls is an outage like any other, and polling goes on when it is back."""
        driven = polling()
        driven.ask(waited(1))
        driven.ask(end=AWAY)
        assert driven.machine.outage == Outage(since=driven.now, draining=False)
        driven.ask(end=errors.Draining("going"))
        driven.now += 5
        driven.ask(page(event(1)))
        assert driven.machine.outage == Outage(since=driven.now, draining=False, polling=True)
        driven.ask(waited(1))

    def test_slow_line(self) -> None:
        """A page that does not come in time is asked for again, smaller; pages that come quickly grow again."""
        late = errors.CallFailed("late", status_code=code_pb2.DEADLINE_EXCEEDED)
        driven = polling()
        driven.ask(waited(9))
        sizes = [driven.ask(end=late, after=10).page_size for _ in range(2)]
        sizes.append(driven.ask(page(event(1), last=99), after=9).page_size)
        sizes += [driven.ask(page(event(n), last=99), after=1).page_size for n in range(2, 8)]
        assert sizes == [0, 128, 32, 32, 64, 128, 256, 0, 0]

    def test_the_smallest_page(self) -> None:
        """The smallest page is one event."""
        late = errors.CallFailed("late", status_code=code_pb2.DEADLINE_EXCEEDED)
        driven = polling(patience=Patience(resume_failures=99, resume_seconds=9999))
        driven.ask(waited(9))
        assert [driven.ask(end=late).page_size for _ in range(7)] == [0, 128, 32, 8, 2, 1, 1]

    def test_the_server_goes(self) -> None:
        """A question that a server refuses because it is going is asked again over a new connection."""
        driven = polling()
        driven.ask(waited(1))
        assert not driven.ask(end=errors.Draining("going")).fresh
        assert driven.ask(page(event(1))).fresh

    def test_lost_while_it_polls(self) -> None:
        """An outage that becomes another is told as that, and never as none in between: threads look at it."""
        told: list[Outage | None] = []

        class Watched(Resumption):
            def __setattr__(self, name: str, value: Any) -> None:
                if name == "outage":
                    told.append(value)
                super().__setattr__(name, value)

        driven = polling()
        driven.machine.__class__ = Watched
        driven.ask(waited(1))
        told.clear()
        driven.ask(end=AWAY)
        assert told == [Outage(since=driven.now, draining=False)]

    def test_budget(self) -> None:
        """A server that stays away ends in StreamBroken with the cursor; each answer fills the budget again."""
        driven = polling(last=7)
        for _ in range(3):
            driven.ask(waited(8))
            for _ in range(8):
                driven.ask(end=AWAY)
            driven.ask(page(at=7))
        driven.ask(waited(8))
        for _ in range(9):
            driven.ask(end=AWAY)
        step = driven.machine.step(driven.now)
        assert isinstance(step, Refuse)
        assert isinstance(step.error, errors.StreamBroken)
        assert (step.error.sequence, step.error.__cause__) == (7, AWAY)

    @pytest.mark.parametrize(
        "error", [errors.CursorExpired("gone"), errors.ExecutionNotFound("none"), errors.FilterInvalid("no")]
    )
    def test_refused(self, error: errors.StepwireError) -> None:
        """What the server refuses is raised as it is."""
        driven = Driven(execution_id=EXECUTION, delivery="poll")
        driven.ask(end=error)
        assert driven.machine.step(driven.now) == Refuse(error=error)

    def test_no_answer_and_ok(self) -> None:
        """A call that ends OK without its answer was not answered, and neither was one that ends badly after it."""
        driven = Driven(execution_id=EXECUTION, delivery="poll")
        driven.ask()
        driven.ask(page(event(1)), end=BROKEN)
        assert driven.taken() == []
        assert driven.ask(page(event(1))).wait == 0
        assert driven.taken() == [1]

    def test_late_answer(self) -> None:
        """A question that is not answered in its time goes over another connection."""
        driven = Driven(execution_id=EXECUTION, delivery="poll")
        driven.ask(end=errors.CallFailed("late", status_code=code_pb2.DEADLINE_EXCEEDED))
        assert driven.ask(page(event(1))).fresh

    def test_watch_from_the_end(self) -> None:
        """A watch from the end of an ended execution gives nothing, and is over."""
        driven = Driven(execution_id=EXECUTION, after_sequence=5, delivery="poll")
        driven.ask(page(at=5, state=6))
        assert driven.machine.step(driven.now) == Finish()

    def test_left(self) -> None:
        """A call that the caller ended is made again."""
        driven = polling()
        step = driven.machine.step(driven.now)
        driven.machine.opened(driven.now)
        driven.machine.suspend(driven.now)
        assert driven.machine.step(driven.now) == step

    def test_left_in_each_wait(self) -> None:
        """A reader that is interrupted in each wait gets its events: what it has waited counts, then a page is due."""
        driven = polling()
        step = driven.machine.step(driven.now)
        assert isinstance(step, Ask)
        assert step.timeout == 0.25
        driven.machine.opened(driven.now)
        driven.machine.suspend(driven.now + 0.2)
        step = driven.machine.step(driven.now + 0.2)
        assert isinstance(step, Ask)
        assert step.timeout == pytest.approx(0.05)
        driven.machine.opened(driven.now + 0.2)
        driven.machine.suspend(driven.now + 0.4)
        step = driven.machine.step(driven.now + 0.4)
        assert isinstance(step, Ask)
        assert (step.method, step.wait) == ("ListEvents", 0)


class TestTrials:
    def due(self) -> Driven:
        """One that polls, and that has been quiet until a trial is due."""
        driven = polling()
        while isinstance(driven.machine.step(driven.now), Ask):
            driven.ask(waited(0), after=2)
        return driven

    def test_works(self) -> None:
        """After a minute a stream is tried, and where it gives something new, streams are back."""
        driven = self.due()
        assert 160 <= driven.now < 164
        driven.stream(welcome(), end="open")
        assert driven.machine.outage is not None
        driven.machine.received(numbers(1), driven.now)
        assert driven.machine.outage is None
        driven.machine.ended(AWAY, driven.now)
        assert driven.stream(welcome(1), end="open").after_sequence == 1

    def test_fails(self) -> None:
        """A stream that fails is followed by polling at once, and the next is tried after twice the time."""
        driven = self.due()
        driven.stream(welcome(), end=AWAY, after=1)
        began = driven.now
        driven.ask(page(at=0))
        while isinstance(driven.machine.step(driven.now), Ask):
            driven.ask(waited(0), after=2)
        assert 120 <= driven.now - began < 124

    def test_has_little_time(self) -> None:
        """While a stream on trial is waited for nothing is asked, so it must begin within 3 s."""
        driven = self.due()
        began = driven.now
        driven.stream(end="silent")
        assert driven.now == began + 3


class Proxy:
    """A model of a server with a growing journal behind a proxy that treats streams badly."""

    def __init__(self, events: list[Event], manner: str, wanted: set[int] | None) -> None:
        self.events = events
        self.manner = manner
        self.wanted = wanted

    def kept(self, after: int, to: int) -> list[Event]:
        chosen = self.events[after:to]
        return [e for e in chosen if self.wanted is None or e.sequence in self.wanted or e is self.events[-1]]

    def stream(self, after: int, there: int) -> Iterator[EventBatch]:
        """What comes of a stream when `there` events are there, and the rest never."""
        if self.manner == "cuts":
            yield welcome(after)
            to = min(after + 2, there)
            if to > after:
                yield batch(*self.kept(after, to), after=after, to=to)
        elif self.manner == "leaks" and there > after:
            yield welcome(after)
            yield batch(*self.kept(after, after + 1), after=after, to=after + 1)

    def page(self, after: int, there: int, size: int) -> EventBatch:
        to = min(after + size, there)
        made = batch(*self.kept(after, to), after=after, to=to)
        made.execution.CopyFrom(self.snapshot(there))
        return made

    def snapshot(self, there: int) -> Execution:
        state = 6 if there == len(self.events) else 3
        return Execution(execution_id=EXECUTION, state=state, as_of_sequence=there)


@settings(deadline=None)  # the machine that runs this may be busy
@given(
    data=st.data(),
    manner=st.sampled_from(["buffers", "cuts", "refuses", "leaks", "unknown"]),
    count=st.integers(1, 30),
    filtered=st.booleans(),
    started=st.booleans(),
)
def test_every_event_once_and_in_order(
    data: st.DataObject, manner: str, count: int, filtered: bool, started: bool
) -> None:
    """Whatever a proxy does to streams, and though answers are lost: every event comes once and in order, and the end;
    and the server is not asked without a pause.
    """
    wanted = data.draw(st.sets(st.integers(1, count))) if filtered else None
    proxy = Proxy([*(event(n) for n in range(1, count)), completed(count)], manner, wanted)
    machine = Resumption(
        execution_id=EXECUTION if started else "",
        filtered=filtered,
        patience=Patience(resume_failures=10**6, resume_seconds=1e9, start_failures=10**6, start_seconds=1e9),
        random=lambda: data.draw(st.floats(0, 1)),
    )
    pace = data.draw(st.just(0) | st.floats(0.01, 3))
    now, calls, trouble = 0.0, 0, data.draw(st.integers(0, 10))
    seen: list[int] = []
    while True:
        given_event = machine.take()
        if given_event is not None:
            seen.append(given_event.sequence)
            continue
        step = machine.step(now)
        if isinstance(step, Finish):
            break
        assert isinstance(step, Open | Ask), step
        calls += 1
        assert calls < 2_000
        now += step.wait
        machine.opened(now)
        assert step.after_sequence == machine.sequence
        there = count if not pace else min(count, int(now / pace))
        lost = trouble > 0 and data.draw(st.booleans())
        trouble -= lost
        if isinstance(step, Open):
            for message in proxy.stream(step.after_sequence, there):
                if isinstance(machine.step(now), Read):
                    machine.received(message, now)
            if isinstance(read := machine.step(now), Read):
                match manner:
                    case "buffers" | "leaks" if machine.terminal is None:
                        now += read.seconds
                        machine.silent(now)
                    case "unknown":
                        machine.ended(UNKNOWN_METHOD, now)
                    case _:
                        now += 1
                        machine.ended(AWAY if manner == "cuts" else BROKEN, now)
        elif lost:
            now += 0.1
            machine.ended(AWAY, now)
        else:
            match step.method:
                case "StartExecution":
                    machine.received(StartExecutionResponse(execution=proxy.snapshot(there)), now)
                case "ListEvents":
                    machine.received(proxy.page(step.after_sequence, there, data.draw(st.integers(1, 9))), now)
                case "WaitExecution":
                    now += step.timeout
                    there = count if not pace else min(count, int(now / pace))
                    machine.received(WaitExecutionResponse(execution=proxy.snapshot(there)), now)
            machine.ended(None, now)
    assert seen == [n for n in range(1, count + 1) if wanted is None or n in wanted or n == count]
    assert machine.sequence == count
    assert calls < 60 + 8 * count + 3 * now
