"""The machine over the engine plays, and sees what is wrong."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from stepwire.v1 import ExecutionOptions, Plan
from stepwire_server import Retry, plan_step
from stepwire_server.engine.step_runner import StepRunner

from .machine import STEPS, EngineMachine, counts
from .machine_breaks import BREAKS, counts_the_time_that_it_holds, examples_until_found
from .rig import turns

LONG = bool(os.environ.get("FAULTS_LONG"))

FOUND_SOON = ["forgets_the_pause_at_a_takeover", "refuses_the_same_request"]
"""Found within a few examples: the short form of the test."""


@pytest.fixture
def quiet() -> Iterator[None]:
    """No log: it would be of what puppets do."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_it_would_see_an_operation_that_is_never_let_go_of(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine sees a cancel that does not end: where nothing is abandoned after the grace, it fails."""
    monkeypatch.setattr(StepRunner, "_give_up", lambda _: None)
    machine = EngineMachine()
    try:
        machine.start(Plan(steps=[plan_step("s0", "act")]), ExecutionOptions(), 60)
        machine.cancel(which=0, stubborn=True, turns_=60, seconds=10)
        with pytest.raises(AssertionError, match="e0"):
            machine.cancelled_ones_end_in_time()
    finally:
        machine.teardown()


def test_it_would_see_that_a_held_step_runs_out_of_time(quiet: None) -> None:
    """The machine sees a step that is held in a pause and times out there."""
    with counts_the_time_that_it_holds():
        machine = EngineMachine()
        try:
            machine.start(Plan(steps=[plan_step("s0", "act", timeout=4.0)]), ExecutionOptions(), 60)
            machine.pause(which=0, turns_=60)
            machine.come_to_a_place_to_stop(word="pausepoint", turns_=60)
            machine.advance(seconds=10.0)
            with pytest.raises(AssertionError, match="timed out while it was held"):
                machine.promises_hold()
        finally:
            machine.astray.clear()
            machine.teardown()


def test_an_attempt_of_a_process_that_was_lost_is_no_other_s(quiet: None) -> None:
    """What an attempt found whose process was lost unawares is not taken for what the next process' attempt of the same
    number found, also while that one is in the journal and has not yet begun.
    """
    retry = Retry(attempts=2)
    retry.initial_delay.FromSeconds(1)
    machine = EngineMachine()
    try:
        machine.start(Plan(steps=[plan_step("s0", "act", retry=retry, timeout=4.0)]), ExecutionOptions(), 60)
        machine.hold_the_journal(really=True)
        machine.come_to_a_place_to_stop(word="save", turns_=60)
        machine.advance(seconds=6.0)
        machine.crash()
        machine.advance(seconds=1.0)
        assert [(effect.attempt, effect.saved) for _, effect in machine.effects] == [(1, 0), (2, 1)]
        machine.journal.release()
        for _ in range(60):
            machine._run(turns(1))
            machine.promises_hold()
        assert [(effect.attempt, effect.saved) for _, effect in machine.effects] == [(1, 0), (2, 1), (2, 0)]
    finally:
        machine.teardown()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broken", BREAKS if LONG else FOUND_SOON)
def test_it_finds_what_is_broken(quiet: None, broken: str) -> None:
    """An engine that is broken in what concerns pauses, questions, retries and request ids is found out."""
    example, said = examples_until_found(BREAKS[broken], most=1_500)
    assert example, "it was not found"
    print(f"{broken}: in example {example}: {said}")


@pytest.mark.timeout(1800)
def test_the_promises_hold_whatever_comes(quiet: None) -> None:
    """In whatever order callers, operations, the journal, the clock and crashes come, every promise holds after each of
    them, and in the end everything has ended.
    """
    examples = int(os.environ.get("MACHINE_EXAMPLES") or (5_000 if LONG else 200))
    run_state_machine_as_test(
        EngineMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=[Phase.generate] if os.environ.get("MACHINE_NO_SHRINK") else list(Phase),
        ),
    )
    print(", ".join(f"{value:,} {name}" for name, value in counts.items()))
