"""The envelope that is filled anew for each event."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stepwire.v1 import Event, StepState
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.stamp import Stamp
from stepwire_server.engine.states import LIVE_STEP, SAID, STEP, TransitionError

from .rig import plan, step

OF_PLANS = ["plan_paused", "plan_resumed", "plan_cancelling", "plan_failed", "plan_recovered"]


def event(kind: str, step_id: str, percentage: float) -> Event:
    made = Event() if kind.startswith("plan_") else Event(step_id=step_id)
    getattr(made, kind).SetInParent()
    if kind == "step_progress":
        made.step_progress.percentage = percentage
    return made


def begun() -> Fold:
    fold = Fold(create_ns=1_000, planning=False)
    started = Event()
    started.plan_started.plan.CopyFrom(plan(step("a", weight=1), step("b", weight=3)))
    fold.apply(started, "plan_started", 2_000)
    return fold


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["step_started", "content"]) | st.sampled_from(OF_PLANS) | st.sampled_from([*STEP]),
            st.sampled_from(["a", "b"]),
            st.integers(0, 100),
            st.none() | st.tuples(st.integers(0, 10**12), st.integers(0, 10**12)),
        ),
        max_size=40,
    )
)
def test_a_stamp_writes_what_a_new_one_would(moves: list[tuple[str, str, int, tuple[int, int] | None]]) -> None:
    """Whatever was written before, and whatever of it is left as it was, an event gets the envelope of its own."""
    fold, reused = begun(), Stamp(Event(execution_id="e"))
    for number, (kind, step_id, percentage, remaining) in enumerate(moves):
        said = event(kind, step_id, percentage)
        try:
            fold.apply(said, kind, 3_000 + number * 700_000_000)
        except TransitionError:
            continue
        fold.remaining = remaining
        new = Stamp(Event(execution_id="e"))
        new.write(fold, said.step_id)
        reused.write(fold, said.step_id)
        assert reused.event == new.event
        if fold.ended:
            return


@given(st.sampled_from(sorted(SAID)), st.sampled_from(sorted(StepState.values())))
def test_what_only_says_something_changes_nothing(kind: str, state: StepState.ValueType) -> None:
    """Such an event fits the states that an attempt runs in, and leaves them and all that was counted."""
    fold = begun()
    fold.steps[0].state = state
    before = fold.changes, fold.percentage, fold.snapshot().progress
    try:
        fold.apply(event(kind, "a", 0), kind, 2_000)
    except TransitionError:
        assert state not in LIVE_STEP
    else:
        assert state in LIVE_STEP
        assert STEP[kind] == {live: live for live in LIVE_STEP}
        assert (fold.changes, fold.percentage, fold.snapshot().progress) == before
        assert (fold.steps[0].state, fold.sequence) == (state, 2)
