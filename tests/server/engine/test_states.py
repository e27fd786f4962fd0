"""The tables of states, as rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepwire.v1 import ExecutionState, StepState
from stepwire_server.engine.states import (
    ENDED_EXECUTION,
    ENDED_STEP,
    EXECUTION,
    KINDS,
    LIVE_STEP,
    STEP,
    TERMINAL,
    TransitionError,
    next_execution_state,
    next_step_state,
)
from stepwire_server.journal import ENDED
from stepwire_server.journal.chunk import TERMINAL_KINDS

E = ExecutionState
S = StepState
EXECUTION_STATES = [value for value in E.values() if value]
STEP_STATES = [value for value in S.values() if value]


def after(state, kind):
    """Returns the next state of an execution; None where the event does not fit."""
    try:
        return next_execution_state(state, kind)
    except TransitionError:
        return None


def step_after(state, kind):
    """Returns the next state of a step; None where the event does not fit."""
    try:
        return next_step_state(state, kind)
    except TransitionError:
        return None


@given(st.lists(st.sampled_from(sorted(KINDS)), max_size=60), st.booleans())
def test_a_sequence_has_at_most_one_terminal_event_and_it_is_the_last(tried, planning):
    """Whatever is tried in whatever order, what fits has at most one terminal event, and nothing after it."""
    state = E.EXECUTION_STATE_PLANNING if planning else E.EXECUTION_STATE_PENDING
    taken = []
    for kind in tried:
        then = after(state, kind)
        if then is not None:
            state = then
            taken.append(kind)
    ends = [kind in TERMINAL for kind in taken]
    assert ends in ([False] * len(taken), [False] * (len(taken) - 1) + [True])
    assert (state in ENDED_EXECUTION) == any(ends)


@given(st.lists(st.sampled_from(sorted(KINDS)), max_size=60))
def test_a_step_ends_once(tried):
    """Whatever is tried, a step takes nothing after its end, and starts as often as it is tried again, plus once."""
    state = S.STEP_STATE_PENDING
    taken = []
    for kind in tried:
        then = step_after(state, kind)
        if then is not None:
            assert state not in ENDED_STEP
            state = then
            taken.append(kind)
    assert 0 <= taken.count("step_started") - taken.count("step_retrying") <= 1
    if "step_started" in taken:
        assert "step_skipped" not in taken
        assert taken[0] == "step_started"
    else:
        assert taken in ([], ["step_skipped"])


@pytest.mark.parametrize("state", sorted(ENDED_EXECUTION))
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_nothing_follows_the_end(state, kind):
    """An execution that has ended takes no event."""
    with pytest.raises(TransitionError, match=kind):
        next_execution_state(state, kind)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_only_a_cancel_ends_what_is_being_cancelled(kind):
    """After plan_cancelling only plan_cancelled ends the execution."""
    then = after(E.EXECUTION_STATE_CANCELLING, kind)
    assert then in (None, E.EXECUTION_STATE_CANCELLING) or kind == "plan_cancelled"
    assert after(E.EXECUTION_STATE_CANCELLING, "plan_cancelled") == E.EXECUTION_STATE_CANCELLED


@pytest.mark.parametrize("state", [value for value in EXECUTION_STATES if value not in ENDED_EXECUTION])
def test_every_live_execution_can_be_recovered_and_reach_an_end(state):
    """From each state that is no end, a recovery keeps it, and an end can be reached."""
    assert after(state, "plan_recovered") == state
    reached = {state}
    while True:
        more = {then for now in reached for kind in EXECUTION if (then := after(now, kind)) is not None} - reached
        if not more:
            break
        reached |= more
    assert reached & ENDED_EXECUTION


@pytest.mark.parametrize("kind", ["stage", "agent", "supervisor", "input_requested", "input_received", "error"])
def test_some_events_may_be_about_the_execution(kind):
    """Stages, minds, people and errors need no step, in every state but the ended ones."""
    for state in EXECUTION_STATES:
        assert after(state, kind) == (None if state in ENDED_EXECUTION else state)


def test_what_may_precede_the_plan():
    """Before plan_started come no steps, and no revision."""
    for state in (E.EXECUTION_STATE_PENDING, E.EXECUTION_STATE_PLANNING):
        fits = {kind for kind in KINDS if after(state, kind) is not None}
        assert fits == {
            "plan_started", "plan_paused", "plan_recovered", "plan_cancelling", "plan_failed",
            "stage", "agent", "supervisor", "input_requested", "input_received", "error",
        }  # fmt: skip


def test_the_tables_name_events_that_exist():
    """Every event type is in one table or the other, and no other name is."""
    assert set(EXECUTION) | set(STEP) == set(KINDS)
    assert not set(EXECUTION) & set(STEP)


def test_one_source_for_what_is_terminal():
    """The journal, which knows numbers only, agrees with the engine about the end."""
    assert {KINDS[kind] for kind in TERMINAL} == TERMINAL_KINDS
    assert ENDED == ENDED_EXECUTION
    assert {then for kind in TERMINAL for then in EXECUTION[kind].values()} == ENDED_EXECUTION


def test_a_step_reports_only_while_it_runs():
    """What an attempt says fits only while one runs."""
    for kind in ("step_progress", "content", "artifact", "agent", "supervisor", "stage", "error", "step_saved"):
        assert {state for state in STEP_STATES if step_after(state, kind) is not None} <= LIVE_STEP


def test_a_step_waits_from_its_question_to_the_answer():
    """A question makes a running step WAITING, and whatever it says keeps it so until the answer makes it RUNNING; an
    answer that comes when the step does not wait changes nothing; what has not begun, or has ended, has no questions.
    """
    for state in (S.STEP_STATE_RUNNING, S.STEP_STATE_PROGRESS, S.STEP_STATE_WAITING):
        assert step_after(state, "input_requested") == S.STEP_STATE_WAITING
    for kind in ("step_progress", "content", "artifact", "agent", "supervisor", "stage", "error", "step_saved"):
        assert step_after(S.STEP_STATE_WAITING, kind) == S.STEP_STATE_WAITING
    assert step_after(S.STEP_STATE_WAITING, "input_received") == S.STEP_STATE_RUNNING
    for state in (S.STEP_STATE_STARTING, S.STEP_STATE_RUNNING, S.STEP_STATE_PROGRESS):
        assert step_after(state, "input_received") == state
    for state in {S.STEP_STATE_PENDING, *ENDED_STEP}:
        assert step_after(state, "input_requested") is None
        assert step_after(state, "input_received") is None
    ends = {"step_completed": S.STEP_STATE_COMPLETED, "step_failed": S.STEP_STATE_FAILED}
    ends |= {"step_cancelled": S.STEP_STATE_CANCELLED, "step_retrying": S.STEP_STATE_STARTING}
    for kind, then in ends.items():
        assert step_after(S.STEP_STATE_WAITING, kind) == then


def test_what_has_begun_is_not_skipped():
    """Only a step that never started is skipped; one that waits for another attempt is cancelled or fails."""
    assert [state for state in STEP_STATES if step_after(state, "step_skipped")] == [S.STEP_STATE_PENDING]
    assert step_after(S.STEP_STATE_STARTING, "step_cancelled") == S.STEP_STATE_CANCELLED
    assert step_after(S.STEP_STATE_STARTING, "step_failed") == S.STEP_STATE_FAILED
