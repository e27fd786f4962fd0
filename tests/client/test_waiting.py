"""How a wait for an end goes on, gets shorter, and gives up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.rpc import code_pb2

from stepwire import errors
from stepwire.patience import Patience
from stepwire.v1 import Execution
from stepwire.waiting import Waiting

AWAY = errors.CallFailed("away", status_code=code_pb2.UNAVAILABLE)
PATIENCE = Patience(start_failures=3, start_seconds=100, resume_failures=5, resume_seconds=100)
GOING = Execution(state=3)


def waiting(timeout: float | None = None, **settings: Any) -> Waiting:
    """One that begins at 0 s, and whose pauses are the longest they can be."""
    return Waiting(timeout, **{"now": 0.0, "grace": 10.0, "patience": PATIENCE, "random": lambda: 1.0, **settings})


def test_until_the_end() -> None:
    """It asks again and again until a snapshot says that the execution has ended."""
    made = waiting()
    assert made.ask(0) == 30
    assert not made.answered(GOING, 30)
    assert made.ask(30) == 30
    assert made.answered(Execution(state=6), 40)


def test_until_its_time_is_over() -> None:
    """With a time limit it is over after that, whatever the state is."""
    made = waiting(40)
    assert made.ask(0) == 30
    assert not made.answered(GOING, 30)
    assert made.ask(30) == 10
    assert made.answered(GOING, 40)


def test_cut() -> None:
    """A call that was cut makes the next ones shorter than that, until it is forgotten."""
    made = waiting()
    made.ask(0)
    assert made.failed(AWAY, 1) == 0.1
    assert made.ask(1) == 0.5
    made.answered(GOING, 1.5)
    assert made.ask(1.5) == 0.5
    made.answered(GOING, 62)
    assert made.ask(62) == 30


def test_no_connection() -> None:
    """A call that fails at once was not cut."""
    made = waiting()
    made.ask(0)
    made.failed(AWAY, 0.01)
    assert made.ask(0.11) == 30


@pytest.mark.parametrize(("reached", "failures"), [(False, 3), (True, 5)])
def test_patience(reached: bool, failures: int) -> None:
    """Before it has reached the server it has the patience of a start, afterwards that of resuming."""
    made = waiting()
    if reached:
        made.ask(0)
        made.answered(GOING, 0)
    pauses = []
    for _ in range(failures):
        made.ask(0)
        pauses.append(made.failed(AWAY, 0))
    assert None not in pauses[:-1]
    assert pauses[-1] is None


def test_answers_fill_the_patience() -> None:
    """An answer between them makes failures the first ones again."""
    made = waiting()
    for _ in range(20):
        made.ask(0)
        assert made.failed(AWAY, 1) == 0.1
        made.answered(GOING, 2)


def test_no_longer_than_asked_for() -> None:
    """With a time limit, failures are raised once it is over and an answer would have come."""
    made = waiting(5)
    made.ask(0)
    assert made.failed(AWAY, 14) == 0.1
    assert made.failed(AWAY, 15) is None


@pytest.mark.parametrize(
    ("error", "pause"),
    [
        (errors.ExecutionNotFound("none"), None),
        (errors.Draining("going"), 0.1),
        (errors.LimitCalls("full", retry_after=timedelta(seconds=3)), 3.1),
    ],
    ids=lambda value: getattr(value, "reason", None),
)
def test_errors(error: errors.StepwireError, pause: float | None) -> None:
    """What can't pass is raised; what can is waited for as long as the server says."""
    made = waiting()
    made.ask(0)
    assert made.failed(error, 0) == pause
