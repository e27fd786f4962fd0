"""The state as what folding the events gives."""

from __future__ import annotations

import pytest
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from stepwire.errors import failure
from stepwire.v1 import Event, ExecutionState, StepSkipped, StepState
from stepwire_server.engine.fold import NEARLY, Fold
from stepwire_server.engine.stamp import Stamp
from stepwire_server.engine.states import TransitionError

from .rig import kind_of, plan, step, view


class Folding:
    """A fold of steps with these weights, and short words for events."""

    def __init__(self, *weights: float, planning: bool = False) -> None:
        self.fold = Fold(create_ns=1_000, planning=planning)
        self.time = 1_000
        event = Event()
        event.plan_started.plan.CopyFrom(plan(*[step(f"s{i}", weight=weight) for i, weight in enumerate(weights)]))
        self.apply(event)

    def apply(self, event: Event) -> Event:
        self.time += 10
        self.fold.apply(event, kind_of(event), self.time)
        Stamp(event).write(self.fold, event.step_id)
        return event

    def say(self, kind: str, step_id: str = "", **fields: object) -> Event:
        event = Event(step_id=step_id)
        arm = getattr(event, kind)
        arm.SetInParent()
        for name, value in fields.items():
            if isinstance(value, int | float):
                setattr(arm, name, value)
            else:
                getattr(arm, name).CopyFrom(value)
        return self.apply(event)


def test_the_weights_share_the_whole():
    """The percentage is the sum of weight times fraction over the sum of the weights."""
    folding = Folding(1, 3)
    folding.say("step_started", "s0")
    assert folding.say("step_progress", "s0", percentage=50).progress.percentage == 12.5
    assert folding.say("step_completed", "s0").progress.percentage == 25
    folding.say("step_started", "s1")
    assert folding.say("step_progress", "s1", percentage=100).progress.percentage == NEARLY
    assert folding.say("step_completed", "s1").progress.percentage == 100


def test_a_retry_does_not_take_the_percentage_back():
    """A retry and a step that reports less leave the high-water mark, and count again once they are above it."""
    folding = Folding(1, 1)
    folding.say("step_started", "s0")
    folding.say("step_progress", "s0", percentage=80)
    assert folding.say("step_progress", "s0", percentage=10).progress.percentage == 40
    assert folding.say("step_retrying", "s0").progress.percentage == 40
    folding.say("step_started", "s0")
    assert folding.say("step_progress", "s0", percentage=60).progress.percentage == 40
    assert folding.say("step_completed", "s0").progress.percentage == 50


def test_a_step_that_its_condition_skipped_counts_as_done():
    """Skipped by its own condition is done; by a failure, or by the end, is not."""
    folding = Folding(1, 1, 1)
    assert folding.say("step_skipped", "s0", cause=StepSkipped.CAUSE_CONDITION).progress.percentage == pytest.approx(
        100 / 3
    )
    assert folding.say("step_skipped", "s1", cause=StepSkipped.CAUSE_DEPENDENCY).progress.percentage < 34
    folding.say("step_started", "s2")
    assert folding.say("step_completed", "s2").progress.percentage < 67
    assert not folding.fold.all_done


def test_all_skipped_by_condition_is_complete():
    """100 is reached without any step that completes."""
    folding = Folding(2)
    assert folding.say("step_skipped", "s0", cause=StepSkipped.CAUSE_CONDITION).progress.percentage == 100
    assert folding.fold.all_done


def test_how_far_a_step_is_stands_beside_its_part():
    """Progress of a part moves its step to the percentage that stands beside it, and nothing does where none stands."""
    folding = Folding(1)
    folding.say("step_started", "s0")
    event = Event(step_id="s0")
    event.step_progress.substep.path = "never/declared"
    event.step_progress.substep.percentage = 90
    assert folding.apply(event).progress.percentage == 0
    event.step_progress.percentage = 40
    assert folding.apply(event).progress.percentage == 40
    assert folding.say("step_progress", "s0").step_state == StepState.STEP_STATE_PROGRESS
    assert folding.say("step_retrying", "s0").progress.percentage == 40
    assert folding.fold.steps[0].fraction == 0


def test_the_envelope_is_as_of_its_event():
    """Sequence, states, counts, place and times are those after the event."""
    folding = Folding(1, 1, 1)
    event = folding.say("step_started", "s2")
    assert (event.sequence, event.step_state) == (2, StepState.STEP_STATE_RUNNING)
    assert event.execution_state == ExecutionState.EXECUTION_STATE_RUNNING
    assert (event.progress.current_step, event.progress.total_steps) == (3, 3)
    assert event.progress.elapsed.ToNanoseconds() == 20
    assert event.event_time.ToNanoseconds() == 1_020
    folding.say("step_failed", "s2", error=failure("OPERATION_FAILED", "no"))
    folding.say("step_skipped", "s1", cause=StepSkipped.CAUSE_DEPENDENCY)
    event = folding.say("plan_failed")
    assert event.progress.current_step == 1
    assert (event.progress.failed_steps, event.progress.skipped_steps, event.progress.completed_steps) == (1, 1, 0)
    assert event.step_state == StepState.STEP_STATE_UNSPECIFIED


def test_attempts_and_recoveries_are_counted():
    """Each start is an attempt; a retry with the reason RECOVERED is a recovery, another is not."""
    folding = Folding(1)
    for reason in ("RECOVERED", "OPERATION_FAILED", "RECOVERED"):
        folding.say("step_started", "s0")
        folding.say("step_retrying", "s0", error=failure(reason, ""))
    assert (folding.fold.steps[0].attempt, folding.fold.steps[0].recoveries) == (3, 2)


def test_what_is_lost_without_coming_further_is_counted():
    """An attempt that the next process says has ended was lost; saved states that differ begin the count anew."""
    folding = Folding(1)
    (step,) = folding.fold.steps
    found = []
    for epoch, state in enumerate([None, None, "x", "x", "y"], start=2):
        folding.say("step_started", "s0")
        if state is not None:
            folding.say("step_saved", "s0", state=struct_pb2.Value(string_value=state))
        folding.say("plan_recovered", epoch=epoch)
        folding.say("step_retrying", "s0", error=failure("RECOVERED", ""))
        found.append(step.lost)
        folding.say("step_started", "s0")
        folding.say("step_retrying", "s0", error=failure("RECOVERED", ""))
    assert found == [1, 2, 1, 2, 1]


def test_what_does_not_fit_changes_nothing():
    """An event that is no transition raises, and leaves the fold as it was."""
    folding = Folding(1)
    before = view(folding.fold)
    for kind, step_id in [("step_completed", "s0"), ("plan_started", ""), ("plan_resumed", "")]:
        with pytest.raises(TransitionError):
            folding.say(kind, step_id)
        assert view(folding.fold) == before


def test_the_snapshot_has_what_events_change():
    """The snapshot has state, progress, times, count of takeovers, and output or error."""
    folding = Folding(1)
    folding.say("plan_recovered", epoch=2)
    folding.say("step_started", "s0")
    value = struct_pb2.Value(string_value="x")
    folding.say("step_completed", "s0", output=value)
    folding.say("plan_completed", output=value)
    snapshot = folding.fold.snapshot()
    assert snapshot.state == ExecutionState.EXECUTION_STATE_COMPLETED
    assert snapshot.output.string_value == "x"
    assert (snapshot.attempt_count, snapshot.as_of_sequence) == (2, 5)
    assert (snapshot.start_time.ToNanoseconds(), snapshot.end_time.ToNanoseconds()) == (1_010, 1_050)
    assert folding.fold.epoch == 2


def test_a_query_begins_as_planning():
    """An execution of a query begins in PLANNING, others in PENDING."""
    assert Fold(create_ns=1, planning=True).state == ExecutionState.EXECUTION_STATE_PLANNING
    assert Fold(create_ns=1, planning=False).state == ExecutionState.EXECUTION_STATE_PENDING


@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["go", "retry", "done"]), st.floats(0, 100)), max_size=60),
)
def test_the_percentage_never_falls_and_is_100_only_at_the_end(weights, moves):
    """Whatever the steps report, in whatever order: never less than before, below 100 until all is done, 100 then."""
    folding = Folding(*weights)
    last = 0.0
    for place, move, percentage in moves:
        step_id = f"s{place % len(weights)}"
        state = folding.fold.steps[place % len(weights)].state
        if state == StepState.STEP_STATE_COMPLETED:
            continue
        if state in (StepState.STEP_STATE_PENDING, StepState.STEP_STATE_STARTING):
            folding.say("step_started", step_id)
        match move:
            case "go":
                event = folding.say("step_progress", step_id, percentage=percentage)
            case "retry":
                event = folding.say("step_retrying", step_id)
            case _:
                event = folding.say("step_completed", step_id)
        assert last <= event.progress.percentage <= 100
        last = event.progress.percentage
        assert (last == 100) == folding.fold.all_done
