"""The state machine of resumed streams: each rule by a table, and all of them against streams that break at random."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.rpc import code_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from stepwire import errors
from stepwire.patience import Patience, backoff, can_pass, pause_before
from stepwire.resume import Resumption
from stepwire.steps import Finish, Open, Outage, Read, Refuse, Step
from stepwire.v1 import Event, EventBatch

from .scripted import EXECUTION, batch, completed, draining, event, heartbeat, numbers, welcome

PATIENCE = Patience(start_failures=3, start_seconds=100, resume_failures=4, resume_seconds=100)
SILENT = "The server was silent for too long"
AWAY = errors.CallFailed("away", status_code=code_pb2.UNAVAILABLE)


def machine(**settings: Any) -> Resumption:
    """A state machine that never polls, and whose random number is always 1: each wait is the longest it can be."""
    return Resumption(**{"patience": PATIENCE, "random": lambda: 1.0, "delivery": "stream", **settings})


def watch_again(after: int, *, wait: float, fresh: bool = False) -> Open:
    """The step that resumes."""
    return Open(execute=False, after_sequence=after, wait=wait, fresh=fresh, wait_for_ready=True)


def opened(*messages: EventBatch, **settings: Any) -> Resumption:
    """One that has opened its first call at 0 s and has received these messages."""
    made = machine(**settings)
    made.step(0.0)
    made.opened(0.0)
    for message in messages:
        made.received(message, 0.0)
    return made


def taken(made: Resumption) -> list[int]:
    """All events that it has to give."""
    sequences = []
    while (given_event := made.take()) is not None:
        sequences.append(given_event.sequence)
    return sequences


def refused(step: Step) -> errors.StepwireError:
    assert isinstance(step, Refuse), step
    return step.error


class TestCursor:
    def test_begins_with_execute(self) -> None:
        """Without an execution it begins with Execute, at once."""
        assert machine().step(0) == Open(execute=True, after_sequence=0, wait=0, fresh=False)

    def test_begins_with_watch(self) -> None:
        """With an execution it begins with WatchExecution after the cursor."""
        made = machine(execution_id=EXECUTION, after_sequence=7)
        assert made.step(0) == Open(execute=False, after_sequence=7, wait=0, fresh=False)

    def test_moves_when_asked_for_the_next(self) -> None:
        """The cursor is what the caller has processed, not what was received or given."""
        made = opened(welcome(), numbers(1, 2))
        assert made.sequence == 0
        made.take()
        assert made.sequence == 0
        made.take()
        assert made.sequence == 1
        assert made.take() is None
        assert made.sequence == 2

    def test_put_back(self) -> None:
        """An event that was put back is the next one again, and does not move the cursor."""
        made = opened(welcome(), numbers(1, 2, 3))
        made.take()
        second = made.take()
        assert second is not None
        made.untake(second)
        assert made.sequence == 1
        assert made.take() is second
        assert made.sequence == 1
        assert taken(made) == [3]

    def test_moves_over_what_the_filter_left_out(self) -> None:
        """With a filter the cursor follows the range that a message covers."""
        made = opened(welcome(), batch(event(3), after=0, to=9), filtered=True)
        assert taken(made) == [3]
        assert made.sequence == 9

    def test_resumes_after_what_was_given(self) -> None:
        """What was received is given before another call is opened, and that one begins after it."""
        made = opened(welcome(), numbers(1, 2))
        made.ended(AWAY, 0)
        assert taken(made) == [1, 2]
        assert made.step(0) == watch_again(2, wait=0.1)


class TestHoles:
    @pytest.mark.parametrize(
        ("messages", "filtered", "given_first", "missing"),
        [
            ([numbers(2)], False, [], "1 to 1"),
            ([numbers(1), numbers(3)], False, [1], "2 to 2"),
            ([numbers(1, 3)], False, [1], "2 is missing"),
            ([numbers(2, 1)], False, [], "1 to 1"),
            ([batch(event(1), to=3)], False, [1], "2 to 3"),
            ([batch(event(1), event(2), after=0, to=1)], False, [1], "2 is out of place"),
            ([heartbeat(2)], False, [], "1 to 2"),
            ([batch(after=0, to=2)], False, [], "1 to 2"),
            ([batch(event(3), after=2, to=3)], True, [], "1 to 2"),
            ([batch(event(3), after=0, to=2)], True, [], "3 is out of place"),
        ],
    )
    def test_refused(self, messages: list[EventBatch], filtered: bool, given_first: list[int], missing: str) -> None:
        """What came before a hole is given; then another call is opened from there, as after a failure."""
        made = opened(welcome(), *messages, filtered=filtered)
        assert taken(made) == given_first
        step = made.step(0)
        assert isinstance(step, Open)
        assert (step.execute, step.after_sequence, step.wait) == (False, len(given_first), 0.1)

    def test_that_stays(self) -> None:
        """A hole that does not go away ends in StreamBroken, with the place to go on from and what is missing."""
        made = opened(welcome(), numbers(2))
        for _ in range(3):
            assert isinstance(made.step(0), Open)
            made.opened(0)
            made.received(numbers(2), 0)
        error = refused(made.step(0))
        assert isinstance(error, errors.StreamBroken)
        assert (error.execution_id, error.sequence) == (EXECUTION, 0)
        assert "1 to 1 are missing" in str(error)

    @pytest.mark.parametrize(
        ("messages", "filtered"),
        [
            ([numbers(1, 2), numbers(1, 2, 3)], False),
            ([numbers(1), numbers(1), numbers(2, 2, 3)], False),
            ([numbers(1, 2, 3), welcome()], False),
            ([numbers(1, 2), batch(event(1), event(2), event(3), after=0, to=3)], True),
        ],
    )
    def test_duplicates_are_none(self, messages: list[EventBatch], filtered: bool) -> None:
        """An event at or below the last one is dropped, and the stream goes on."""
        made = opened(welcome(), *messages, filtered=filtered)
        assert taken(made) == [1, 2, 3]
        assert isinstance(made.step(0), Read)

    def test_unknown_kind(self) -> None:
        """An event of an unknown kind is an event."""
        assert taken(opened(welcome(), batch(event(1, "")))) == [1]


class TestEnd:
    def test_after_terminal(self) -> None:
        """After the terminal event its call may end as it likes."""
        for error in (None, AWAY, errors.InternalError("late")):
            made = opened(welcome(), batch(completed(1)))
            assert taken(made) == [1]
            made.ended(error, 0)
            assert made.step(0) == Finish()

    def test_that_does_not_come(self) -> None:
        """The status after the terminal event is waited for a second."""
        made = opened(welcome(), batch(completed(1)))
        assert made.step(0) == Read(seconds=1.0)
        made.silent(1)
        assert made.step(1) == Finish()

    @pytest.mark.parametrize("late", [[batch(completed(1), event(2))], [batch(completed(1)), numbers(2)]])
    def test_event_after_terminal(self, late: list[EventBatch]) -> None:
        """An event after the terminal one is raised, once the terminal one has been given."""
        made = opened(welcome(), *late)
        assert taken(made) == [1]
        assert "after the terminal" in str(refused(made.step(0)))

    def test_notice_after_terminal(self) -> None:
        """A message without new events after the terminal one is nothing."""
        made = opened(welcome(), batch(completed(1)), heartbeat(1))
        assert isinstance(made.step(0), Read)

    def test_ok_without_terminal(self) -> None:
        """OK without a terminal event is watched again."""
        made = opened(welcome())
        made.ended(None, 0)
        assert made.step(0) == watch_again(0, wait=0.1)

    def test_ok_and_nothing_left(self) -> None:
        """OK from an execution that ended at or before the cursor is the end."""
        made = opened(welcome(5, state=7, last=5), execution_id=EXECUTION, after_sequence=5)
        made.ended(None, 0)
        assert made.step(0) == Finish()

    def test_ok_and_something_left(self) -> None:
        """OK from an ended execution with events after the cursor is not the end."""
        made = opened(welcome(5, state=7, last=6), execution_id=EXECUTION, after_sequence=5)
        made.ended(None, 0)
        assert isinstance(made.step(0), Open)


class TestNotices:
    def test_draining(self) -> None:
        """DRAINING opens again at once, on a new connection."""
        made = opened(welcome(), numbers(1), draining(1))
        assert taken(made) == [1]
        assert made.step(0) == watch_again(1, wait=0, fresh=True)

    def test_draining_again(self) -> None:
        """DRAINING without an event between waits longer each time, and never spends the budget."""
        made = opened(welcome())
        waits = []
        for _ in range(9):
            made.received(draining(0), 0)
            step = made.step(0)
            assert isinstance(step, Open)
            waits.append(round(step.wait, 3))
            made.opened(0)
        assert waits == [0, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5]

    def test_terminal_and_draining(self) -> None:
        """DRAINING in the message of the terminal event changes nothing."""
        made = opened(welcome(), batch(completed(1), notice=EventBatch.NOTICE_DRAINING))
        assert isinstance(made.step(0), Read)

    def test_silence(self) -> None:
        """A call is dead after two heartbeat intervals and a second without a message."""
        made = opened(welcome(), heartbeat=2.0)
        assert made.step(0) == Read(seconds=5.0)
        made.received(heartbeat(0), 4)
        assert made.step(4) == Read(seconds=5.0)
        assert made.step(9) == Read(seconds=0)
        made.silent(9)
        step = made.step(9)
        assert isinstance(step, Open)
        assert step.fresh

    def test_silence_that_nobody_listened_to(self) -> None:
        """A silence that is noticed late is none yet: what has come meanwhile has yet to be read."""
        made = opened(welcome(), heartbeat=2.0)
        made.step(0)
        made.silent(60)
        assert made.step(60) == Read(seconds=1.0)
        made.received(heartbeat(0), 60)
        assert (made.step(60), made.outage) == (Read(seconds=5.0), None)

    def test_draining_as_a_status(self) -> None:
        """A call that a server refuses because it is going is made again over a new connection."""
        made = opened(welcome())
        made.ended(errors.Draining("going"), 0)
        assert made.step(0) == watch_again(0, wait=0.1, fresh=True)

    def test_silence_at_the_beginning(self) -> None:
        """A call that does not begin is dead after its own time."""
        assert opened(opening=3.0).step(1) == Read(seconds=2.0)


class TestOutage:
    def test_lost_and_back(self) -> None:
        """An outage lasts from the loss of the connection to the first message over another."""
        made = opened(welcome(), numbers(1))
        assert made.outage is None
        made.ended(AWAY, 5)
        made.opened(6)
        made.ended(AWAY, 7)
        assert made.outage == Outage(since=5, draining=False)
        made.opened(8)
        assert made.outage is not None
        made.received(welcome(1), 9)
        assert made.outage is None

    @pytest.mark.parametrize("end", [draining(1), errors.Draining("going")], ids=["notice", "status"])
    def test_draining(self, end: EventBatch | errors.StepwireError) -> None:
        """A server that goes says so, and what follows until another answers is the same outage."""
        made = opened(welcome(), numbers(1))
        made.received(end, 5) if isinstance(end, EventBatch) else made.ended(end, 5)
        made.opened(5)
        made.ended(AWAY, 6)
        assert made.outage == Outage(since=5, draining=True)
        made.opened(7)
        made.received(draining(1), 7)
        assert made.outage == Outage(since=5, draining=True)

    def test_silence(self) -> None:
        """A server that is silent for too long is lost."""
        made = opened(welcome())
        made.silent(31)
        assert made.outage == Outage(since=31, draining=False)

    def test_none_at_the_start(self) -> None:
        """Before the first message nothing can be lost."""
        made = machine()
        made.opened(0)
        made.ended(AWAY, 0)
        assert made.outage is None

    def test_none_when_left(self) -> None:
        """A call that the caller ended is not lost, and neither is one whose execution has ended."""
        made = opened(welcome(5, state=7, last=5), execution_id=EXECUTION, after_sequence=5)
        made.suspend(0)
        assert made.outage is None
        made.opened(0)
        made.ended(AWAY, 0)
        made.opened(1)
        made.ended(None, 1)
        assert (made.step(1), made.outage) == (Finish(), None)


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "passes"),
        [
            (errors.CallFailed("", status_code=code_pb2.UNAVAILABLE), True),
            (errors.CallFailed("", status_code=code_pb2.CANCELLED), True),
            (errors.CallFailed("", status_code=code_pb2.UNKNOWN), True),
            (errors.CallFailed("", status_code=code_pb2.INTERNAL), True),
            (errors.CallFailed("", status_code=code_pb2.DEADLINE_EXCEEDED), True),
            (errors.CallFailed("", status_code=code_pb2.UNIMPLEMENTED), False),
            (errors.CallFailed("", status_code=code_pb2.UNAUTHENTICATED), False),
            (errors.CallFailed("", status_code=code_pb2.RESOURCE_EXHAUSTED), False),
            (errors.CallFailed("", status_code=code_pb2.RESOURCE_EXHAUSTED, retry_after=timedelta(1)), True),
            (errors.LimitWatchers("", retry_after=timedelta(seconds=1)), True),
            (errors.LimitWatchers(""), False),
            (errors.Draining(""), True),
            (errors.JournalUnavailable(""), True),
            (errors.InternalError(""), False),
            (errors.CursorExpired(""), False),
            (errors.CursorAhead(""), False),
            (errors.ExecutionNotFound(""), False),
            (errors.PlanInvalid(""), False),
            (errors.RequestIncomplete(""), False),
            (errors.JournalDamaged(""), False),
        ],
    )
    def test_which_pass(self, error: errors.StepwireError, passes: bool) -> None:
        """What says nothing about the request is tried again, all else is raised as it is."""
        assert can_pass(error) == passes
        made = opened(welcome())
        made.ended(error, 0)
        step = made.step(0)
        assert isinstance(step, Open) if passes and error.retry_after != timedelta(1) else refused(step)

    def test_raised_as_it_is(self) -> None:
        """An error that can't pass is raised, after what came before it."""
        error = errors.CursorExpired("gone")
        made = opened(welcome(), numbers(1))
        made.ended(error, 0)
        assert taken(made) == [1]
        assert refused(made.step(0)) is error

    def test_start_budget(self) -> None:
        """Before the first message the budget is the start's, and the last error is raised."""
        made = machine()
        for _ in range(2):
            made.opened(0)
            made.ended(AWAY, 0)
            step = made.step(0)
            assert isinstance(step, Open)
            assert step.execute
        made.opened(0)
        made.ended(AWAY, 0)
        assert refused(made.step(0)) is AWAY

    def test_first_connection_of_a_watch(self) -> None:
        """A watch, too, has the start's budget until its first message."""
        made = machine(execution_id=EXECUTION)
        for _ in range(3):
            made.opened(0)
            made.ended(AWAY, 0)
        assert refused(made.step(0)) is AWAY

    def test_resume_budget(self) -> None:
        """After the first message the budget is the other one, begins full, and ends in StreamBroken with its cause."""
        made = machine()
        for _ in range(2):
            made.opened(0)
            made.ended(AWAY, 0)
        made.opened(0)
        made.received(welcome(), 0)
        made.received(numbers(1), 0)
        for _ in range(3):
            made.ended(AWAY, 0)
            assert isinstance(made.step(0), Open)
            made.opened(0)
        made.ended(AWAY, 0)
        error = refused(made.step(0))
        assert isinstance(error, errors.StreamBroken)
        assert (error.execution_id, error.sequence, error.__cause__) == (EXECUTION, 1, AWAY)

    @pytest.mark.parametrize("progress", [[numbers(2)], [heartbeat(1)]])
    def test_progress_fills_the_budget(self, progress: list[EventBatch]) -> None:
        """A new event fills the budget again, and a heartbeat, which takes a healthy interval, does too."""
        made = opened(welcome(), numbers(1))
        for index in range(20):
            made.ended(AWAY, index)
            assert isinstance(made.step(index), Open)
            made.opened(index)
            for message in [numbers(index + 2)] if progress[0].events else progress:
                made.received(message, index)

    def test_no_progress(self) -> None:
        """A first message alone, or an event that is known, does not fill the budget."""
        made = opened(welcome(), numbers(1))
        for _ in range(3):
            made.ended(AWAY, 0)
            assert isinstance(made.step(0), Open)
            made.opened(0)
            made.received(welcome(1), 0)
            made.received(numbers(1), 0)
        made.ended(AWAY, 0)
        assert isinstance(refused(made.step(0)), errors.StreamBroken)

    def test_time(self) -> None:
        """The budget is spent, too, when too much time has passed since the first failure in a row."""
        made = opened(welcome())
        made.ended(AWAY, 1000)
        made.opened(1000)
        made.ended(AWAY, 1101)
        assert isinstance(refused(made.step(1101)), errors.StreamBroken)

    def test_time_away(self) -> None:
        """The time in which nobody asked is not held against the server; its failures before are."""
        made = opened(welcome())
        made.ended(AWAY, 0)
        made.suspend(0)
        made.step(1000)
        made.opened(1000)
        made.ended(AWAY, 1000)
        assert isinstance(made.step(1000), Open)
        made.opened(1000)
        made.ended(AWAY, 1000)
        made.opened(1000)
        made.ended(AWAY, 1000)
        assert isinstance(refused(made.step(1000)), errors.StreamBroken)

    @pytest.mark.parametrize("lost", [True, False])
    def test_interrupted_again_and_again(self, lost: bool) -> None:
        """A reader that is interrupted before any call is answered gives up after the budget's seconds of asking, be
        the connection lost or the server silent; the time between does not count.
        """
        made = opened(welcome())
        now = 0.0
        if lost:
            made.ended(AWAY, now)
        else:
            made.suspend(now)
        for _ in range(100):
            assert isinstance(made.step(now), Open)
            made.opened(now)
            made.suspend(now + 1)
            now += 1000
        assert isinstance(made.step(now), Open)
        made.opened(now)
        made.suspend(now + 1)
        error = refused(made.step(now + 1))
        assert isinstance(error, errors.StreamBroken)
        assert str(error) == ("Gave up after 1 failures in a row: away" if lost else "Gave up: " + SILENT)

    def test_interrupted_and_answered(self) -> None:
        """A reader that is interrupted again and again, and whose calls are answered, goes on, after a failure too."""
        made = opened(welcome())
        made.ended(AWAY, 0)
        for now in range(0, 1000, 30):
            assert isinstance(made.step(now), Open)
            made.opened(now)
            made.received(welcome(), now)
            made.suspend(now + 30)
        assert isinstance(made.step(1000), Open)

    def test_the_server_says_when(self) -> None:
        """A wait is at least what RetryInfo says."""
        made = opened(welcome())
        made.ended(errors.LimitWatchers("full", retry_after=timedelta(seconds=7)), 0)
        step = made.step(0)
        assert isinstance(step, Open)
        assert step.wait == pytest.approx(7.1)

    def test_a_wait_goes_on_while_events_are_given(self) -> None:
        """The time that the caller takes for what was received counts towards the wait."""
        made = opened(welcome(), numbers(1))
        made.ended(AWAY, 0)
        step = made.step(0.04)
        assert isinstance(step, Open)
        assert step.wait == pytest.approx(0.06)

    def test_another_execution(self) -> None:
        """A stream that turns out to be of another execution is raised."""
        made = opened(welcome(), execution_id="other")
        assert "e-1" in str(refused(made.step(0)))

    def test_nameless(self) -> None:
        """A first message that does not say which execution it is about is as good as none."""
        made = opened(EventBatch())
        assert isinstance(made.step(0), Open)

    def test_suspended(self) -> None:
        """A stream whose call the caller ended goes on where it was, at once."""
        made = opened(welcome(), numbers(1, 2))
        made.take()
        made.suspend(0)
        assert taken(made) == [2]
        assert made.step(0) == watch_again(2, wait=0)


class TestBackoff:
    def test_doubles_up_to_a_maximum(self) -> None:
        """Waits double from 100 ms up to 5 s; each is a random share of that."""
        longest = [backoff(n, patience=Patience(), random=lambda: 1.0) for n in (1, 2, 3, 6, 7, 1000)]
        assert longest == [0.1, 0.2, 0.4, 3.2, 5, 5]
        assert backoff(3, patience=Patience(), random=lambda: 0.25) == pytest.approx(0.1)

    @pytest.mark.parametrize(
        ("error", "failures", "remaining", "pause"),
        [
            (AWAY, 1, 1.0, 0.1),
            (AWAY, 2, 1.0, 0.2),
            (AWAY, 1, 0.05, None),
            (AWAY, 3, 9.0, None),
            (errors.Draining(""), 1, 1.0, 0.1),
            (errors.Draining("", retry_after=timedelta(seconds=0.5)), 1, 1.0, 0.6),
            (errors.Draining("", retry_after=timedelta(seconds=0.95)), 1, 1.0, None),
            (errors.CallFailed("", status_code=code_pb2.INTERNAL), 1, 1.0, None),
            (errors.ExecutionNotFound(""), 1, 1.0, None),
        ],
    )
    def test_unary(self, error: errors.StepwireError, failures: int, remaining: float, pause: float | None) -> None:
        """A unary call is sent again while the server is away, within the budget and before the deadline."""
        found = pause_before(error, failures=failures, left=remaining, patience=PATIENCE, random=lambda: 1.0)
        assert found == pause


class Server:
    """A model of a server that has a journal, and that does what the drawn faults say."""

    def __init__(self, events: list[Event], wanted: set[int] | None) -> None:
        self.events = events
        self.wanted = wanted

    def stream(self, after: int, sizes: list[int]) -> list[EventBatch]:
        messages = [welcome(after)]
        for size in sizes:
            chunk = self.events[after : after + size]
            if not chunk:
                break
            kept = [e for e in chunk if self.wanted is None or e.sequence in self.wanted or e is self.events[-1]]
            messages.append(batch(*kept, after=after, to=chunk[-1].sequence))
            after = chunk[-1].sequence
        return messages


@settings(deadline=None)  # the machine that runs this may be busy
@given(data=st.data(), count=st.integers(1, 30), filtered=st.booleans())
def test_every_event_once_and_in_order(data: st.DataObject, count: int, filtered: bool) -> None:
    """Whatever is cut, doubled, lost, drained or silent: the caller gets every event once and in order, and the end."""
    endless = Patience(resume_failures=10**6, resume_seconds=1e9, start_failures=10**6, start_seconds=1e9)
    wanted = data.draw(st.sets(st.integers(1, count))) if filtered else None
    server = Server([*(event(n, "content") for n in range(1, count)), completed(count)], wanted)
    made = machine(filtered=filtered, patience=endless)
    now = 0.0
    seen: list[int] = []
    trouble = data.draw(st.integers(0, 25))
    for _ in range(10_000):
        given_event = made.take()
        if given_event is not None:
            seen.append(given_event.sequence)
            assert made.sequence < given_event.sequence
            continue
        step = made.step(now)
        if isinstance(step, Finish):
            break
        assert not isinstance(step, Refuse), step
        if isinstance(step, Read):
            # Only reached when a script did not end its call.
            now += step.seconds
            made.silent(now)
            continue
        now += step.wait
        assert step.after_sequence == max([0, made.sequence])
        made.opened(now)
        messages = server.stream(step.after_sequence, data.draw(st.lists(st.integers(1, 6), max_size=8)))
        if trouble:
            trouble -= 1
            fault = data.draw(st.sampled_from(["cut", "double", "lose", "drain", "silence", "unknown", "ok", "refuse"]))
            at = data.draw(st.integers(0, len(messages)))
            match fault:
                case "cut":
                    messages = messages[:at]
                case "double":
                    messages = [m for index, m in enumerate(messages) for m in [m] * (2 if index == at else 1)]
                case "lose":
                    messages = messages[:1] + [m for index, m in enumerate(messages[1:]) if index != at]
                case "drain":
                    messages = [*messages[:at], draining(messages[at - 1].sequence)] if at else messages
                case "refuse":
                    messages = []
        else:
            fault = "none"
            messages = server.stream(step.after_sequence, [7] * 6)
        for message in messages:
            if not isinstance(made.step(now), Read):
                break
            made.received(message, now)
            if data.draw(st.booleans()):
                while (given_event := made.take()) is not None:
                    seen.append(given_event.sequence)
        if isinstance(made.step(now), Read) and fault != "silence":
            ending = None if fault in ("ok", "none") or made.terminal is not None else AWAY
            made.ended(ending, now)
    assert seen == [n for n in range(1, count + 1) if wanted is None or n in wanted or n == count]
    assert made.terminal is not None
    assert made.sequence == count
