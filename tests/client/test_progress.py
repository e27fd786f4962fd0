"""Trackers fold events; callbacks are told of them and break nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stepwire import Patience, ProgressCallback, ProgressTracker
from stepwire.progress import are_plain
from stepwire.run import BaseRun, Source
from stepwire.v1 import Event, Progress, StepState

from .scripted import EXECUTION, batch, completed, event, welcome


class TestTracker:
    def test_nothing_yet(self) -> None:
        """Without an event all figures are zero."""
        tracker = ProgressTracker()
        assert (tracker.percentage, tracker.total_steps, tracker.completed_steps) == (0, 0, 0)
        assert (tracker.start_time, tracker.remaining, tracker.elapsed) == (None, None, timedelta())
        assert not tracker.is_completed
        assert not tracker.has_ended
        assert not tracker.has_failures
        assert tracker.state == "UNSPECIFIED"

    def test_figures(self) -> None:
        """The figures are those of the newest event."""
        tracker = ProgressTracker()
        tracker.add_event(event(1, "plan_started"))
        progress = Progress(
            percentage=40, current_step=2, total_steps=3, completed_steps=1, failed_steps=1, skipped_steps=1
        )
        progress.elapsed.FromSeconds(5)
        progress.remaining.FromSeconds(7)
        tracker.add_event(event(2, progress=progress))
        assert (tracker.percentage, tracker.current_step, tracker.total_steps) == (40, 2, 3)
        assert (tracker.completed_steps, tracker.failed_steps, tracker.skipped_steps) == (1, 1, 1)
        assert (tracker.elapsed, tracker.remaining) == (timedelta(seconds=5), timedelta(seconds=7))
        assert tracker.has_failures
        assert tracker.state == "RUNNING"
        assert tracker.start_time is not None
        assert tracker.start_time.timestamp() == 1_700_000_001

    def test_a_plan_that_grows(self) -> None:
        """A revision adds to the steps in all, and the percentage is less of more; both are what the event says."""
        tracker = ProgressTracker()
        tracker.add_event(event(1, "plan_started", progress=Progress(total_steps=2)))
        tracker.add_event(event(2, "step_completed", progress=Progress(total_steps=2, percentage=50)))
        tracker.add_event(event(3, "plan_revised", progress=Progress(total_steps=5, percentage=20)))
        assert (tracker.total_steps, tracker.percentage, tracker.state) == (5, 20, "RUNNING")
        tracker.add_event(event(4, "step_started", progress=Progress(total_steps=5, percentage=20, current_step=4)))
        assert (tracker.current_step, tracker.total_steps) == (4, 5)

    def test_end_is_no_step(self) -> None:
        """The end of the plan is not one more completed step."""
        tracker = ProgressTracker()
        tracker.add_event(completed(1))
        assert (tracker.completed_steps, tracker.total_steps) == (2, 2)
        assert tracker.is_completed
        assert tracker.has_ended
        assert not tracker.has_failures

    @pytest.mark.parametrize(("kind", "fails"), [("plan_failed", True), ("plan_cancelled", False)])
    def test_other_ends(self, kind: str, fails: bool) -> None:
        """What failed or was cancelled has ended and is not completed."""
        tracker = ProgressTracker()
        tracker.add_event(event(1, kind))
        assert tracker.has_ended
        assert not tracker.is_completed
        assert tracker.has_failures == fails

    def test_same_event_twice(self) -> None:
        """An event that is added again changes nothing."""
        tracker = ProgressTracker()
        for sequence in (1, 2, 2, 1):
            tracker.add_event(event(sequence))
        for sequence in (1, 2):
            tracker._add_plain(event(sequence))
        assert tracker.event_count == 2
        assert [kept.sequence for kept in tracker.events] == [1, 2]

    def test_questions(self) -> None:
        """What is asked is open until its answer, another question of its step, the step's end, or the end of all."""

        def asks(sequence: int, step: str, input_id: str) -> Event:
            made = event(sequence, "input_requested")
            made.step_id, made.step_state, made.input_requested.input_id = step, 9, input_id
            return made

        def of(kind: str, sequence: int, step: str, state: StepState.ValueType, input_id: str = "") -> Event:
            made = event(sequence, kind)
            made.step_id, made.step_state = step, state
            if input_id:
                made.input_received.input_id = input_id
            return made

        tracker = ProgressTracker()
        told: list[list[str]] = []
        for made in (
            asks(1, "a", "a1"),
            asks(2, "b", "b1"),
            of("step_progress", 3, "a", StepState.STEP_STATE_WAITING),
            of("step_retrying", 4, "a", StepState.STEP_STATE_STARTING),
            asks(5, "a", "a1"),
            asks(6, "c", "c1"),
            of("input_received", 7, "b", StepState.STEP_STATE_RUNNING, "b1"),
            of("input_received", 8, "b", StepState.STEP_STATE_RUNNING, "b0"),
            asks(9, "a", "a2"),
            of("step_failed", 10, "a", StepState.STEP_STATE_FAILED),
            completed(11),
        ):
            tracker.add_event(made)
            told.append([question.input_requested.input_id for question in tracker.questions])
        assert told == [
            *(["a1"], ["a1", "b1"], ["a1", "b1"], ["a1", "b1"], ["b1", "a1"]),
            *(["b1", "a1", "c1"], ["a1", "c1"], ["a1", "c1"], ["c1", "a2"], ["c1"], []),
        ]

    def test_questions_in_a_dict(self) -> None:
        """A tracker's dict has what is open, as events are written."""
        tracker = ProgressTracker()
        made = event(1, "input_requested")
        made.input_requested.prompt = "What?"
        tracker.add_event(made)
        (told,) = json.loads(json.dumps(tracker.to_dict()))["questions"]
        assert told["data"]["prompt"] == "What?"

    def test_history_is_bounded(self) -> None:
        """Only the last events are kept; the figures are those of all."""
        tracker = ProgressTracker(history=3)
        for sequence in range(1, 10):
            tracker.add_event(event(sequence))
        assert [kept.sequence for kept in tracker.events] == [7, 8, 9]
        assert tracker.event_count == 9
        assert ProgressTracker().events.maxlen == 1000

    def test_to_dict(self) -> None:
        """A tracker becomes a dict that JSON can carry."""
        tracker = ProgressTracker()
        tracker.add_event(event(1))
        told = json.loads(json.dumps(tracker.to_dict()))
        assert told["start_time"] == "2023-11-14T22:13:21Z"
        assert told["percentage"] == 10
        assert told["events"][0]["event_id"] == "e-1/1"


def question(sequence: int) -> Event:
    """A step asks something."""
    made = event(sequence, "input_requested", step_id="s1", step_name="First", attempt=1, step_state=5)
    made.input_requested.input_id = f"q{sequence}"
    return made


def answered(sequence: int) -> Event:
    """Somebody has answered what was asked two events before."""
    made = event(sequence, "input_received")
    made.input_received.input_id = f"q{sequence - 2}"
    return made


def part(sequence: int) -> Event:
    """A part of a step has come further."""
    made = event(sequence)
    made.step_progress.substep.path = made.step_progress.substep.name = "a"
    return made


KINDS: dict[str, Callable[[int], Event]] = {
    "content": lambda sequence: event(sequence, "content"),
    "saved": lambda sequence: event(sequence, "step_saved"),
    "unknown": lambda sequence: event(sequence, ""),
    "question": question,
    "answered": answered,
    "part": part,
    "step completed": lambda sequence: event(sequence, "step_completed", step_state=6),
}


class TestRun:
    """The tracker of a run, which looks at most events a message at a time."""

    @settings(deadline=None)
    @given(
        kinds=st.lists(st.sampled_from(sorted(KINDS)), max_size=25),
        messages=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2), st.booleans()), max_size=25),
    )
    @example(kinds=["content", "question", "content", "answered"], messages=[])
    @example(kinds=["content", "question", "content", "answered"], messages=[(2, 0, False), (1, 0, True)])
    @example(kinds=["content", "part", "content", "step completed"], messages=[(1, 0, True)] * 4)
    @example(kinds=["content", "content", "content"], messages=[(2, 0, True), (1, 2, True)])
    def test_is_as_if_each_event_was_added(self, kinds: list[str], messages: list[tuple[int, int, bool]]) -> None:
        """At each event a run's tracker says what one says to which every event was added, however they came."""
        # A message has so many new events and so many of before, and is read before the next comes, or with it.
        events = [*(KINDS[kind](number) for number, kind in enumerate(kinds, 1)), completed(len(kinds) + 1)]
        run = BaseRun(
            Source(execution_id=EXECUTION),
            on_event=None,
            history=3,
            opening=10.0,
            delivery="stream",
            patience=Patience(),
            random=lambda: 0.5,
        )
        machine, expected = run._resumption, ProgressTracker(history=3)
        machine.step(0.0)
        machine.opened(0.0)
        machine.received(welcome(), 0.0)
        sent = seen = 0
        for new, again, read in [*messages, (len(events), 0, True)]:
            if sent < len(events):
                machine.received(batch(*events[max(0, sent - again) : sent + new]), 0.0)
                sent += new
            while read and (given_event := run._take()) is not None:
                expected.add_event(events[seen])
                assert given_event == events[seen]
                assert run.tracker.to_dict() == expected.to_dict()
                seen += 1
        assert seen == len(events)
        assert run.terminal == events[-1]

    @pytest.mark.parametrize("last", [2, 4, 2**63])
    def test_what_is_not_plain(self, last: int) -> None:
        """Events are plain only as exactly those that a message says it has."""
        events = [event(number, "content") for number in (1, 2, 3)]
        assert are_plain(events, first=1, last=3)
        assert not are_plain(events, first=1, last=last)
        assert not are_plain([events[0], events[2], events[1]], first=1, last=3)
        assert not are_plain([], first=1, last=0)


class TestCallback:
    def test_all(self) -> None:
        """Handlers are told in the order in which they were added."""
        told: list[str] = []
        callback = ProgressCallback(lambda _: told.append("a"), lambda _: told.append("b"))
        callback(event(1))
        assert told == ["a", "b"]

    def test_types(self) -> None:
        """A handler with types is told of those only."""
        told: list[int] = []
        callback = ProgressCallback()
        callback.add(lambda e: told.append(e.sequence), types=["step_failed", "plan_failed"])
        for sequence, kind in enumerate(["step_started", "step_failed", "plan_failed", ""]):
            callback(event(sequence, kind))
        assert told == [1, 2]

    def test_one_type(self) -> None:
        """A single type may be given as it is."""
        told: list[int] = []
        callback = ProgressCallback()
        callback.add(lambda e: told.append(e.sequence), types="error")
        callback(event(1, "error"))
        assert told == [1]

    def test_no_such_type(self) -> None:
        """A type that does not exist is refused with those that do."""
        with pytest.raises(ValueError, match="step_failed"):
            ProgressCallback().add(print, types=["step_faild"])

    def test_failing(self, caplog: pytest.LogCaptureFixture) -> None:
        """A handler that raises is logged, and the others are told all the same."""
        told: list[int] = []

        def broken(_event: Any) -> None:
            raise RuntimeError("no disk")

        ProgressCallback(broken, lambda e: told.append(e.sequence))(event(5))
        assert told == [5]
        assert "no disk" in caplog.text
        assert "e-1/5" in caplog.text

    def test_remove(self) -> None:
        """A removed handler is told no more."""
        told: list[Any] = []
        callback = ProgressCallback(told.append)
        callback.remove(told.append)
        callback.remove(print)
        callback(event(1))
        assert told == []

    async def test_coroutine_functions(self, caplog: pytest.LogCaptureFixture) -> None:
        """send waits for coroutine functions; a plain call refuses them."""
        told: list[int] = []

        async def handler(told_event: Any) -> None:
            told.append(told_event.sequence)
            raise RuntimeError("late")

        callback = ProgressCallback(handler, lambda e: told.append(-e.sequence))
        assert callback.needs_loop
        await callback.send(event(3))
        assert told == [3, -3]
        assert "late" in caplog.text
        with pytest.raises(TypeError, match="send"):
            callback(event(4))
