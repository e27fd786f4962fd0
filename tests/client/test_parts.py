"""The parts of a step as their events tell of them, whoever tells."""

from __future__ import annotations

import math

import pytest

from stepwire import ProgressTracker, to_dict
from stepwire.parts import MAX_DEPTH, MAX_PARTS, Part, Parts, names_of, path_of
from stepwire.v1 import Event, StepState, Substep

from .scripted import event

RUNNING, PROGRESS = StepState.STEP_STATE_RUNNING, StepState.STEP_STATE_PROGRESS
COMPLETED, FAILED = StepState.STEP_STATE_COMPLETED, StepState.STEP_STATE_FAILED


def part(
    sequence: int,
    path: str,
    state: StepState.ValueType = PROGRESS,
    percentage: float = 0,
    *,
    weight: float = 1,
    message: str = "",
    attempt: int = 1,
) -> Event:
    """Returns an event about a part of the first step."""
    made = event(sequence, message=message, attempt=attempt)
    made.step_progress.substep.CopyFrom(
        Substep(path=path, name=path[-1:], weight=weight, percentage=percentage, state=state)
    )
    return made


def tracked(*events: Event) -> ProgressTracker:
    tracker = ProgressTracker()
    for made in events:
        tracker.add_event(made)
    return tracker


def shape(parts: tuple[Part, ...]) -> dict[str, object]:
    """Returns percentages by path, of the innermost parts, and of those that have parts what these are."""
    return {each.path: shape(each.parts) if each.parts else each.percentage for each in parts}


def test_a_tracker_keeps_parts() -> None:
    """A tracker has each step's parts as they are now, nested, with what they say, and as a dict."""
    tracker = tracked(
        part(1, "a", RUNNING), part(2, "a/b", RUNNING), part(3, "a/b", percentage=40, message="half", weight=3)
    )
    inner = Part(path="a/b", name="b", weight=3, percentage=40, state="PROGRESS", message="half", parts=())
    outer = Part(path="a", name="a", weight=1, percentage=40, state="RUNNING", message="", parts=(inner,))
    assert tracker.parts == {"s1": (outer,)}
    assert tracker.to_dict()["parts"] == {"s1": [outer.to_dict()]}
    assert outer.to_dict()["parts"][0] == {
        "path": "a/b",
        "name": "b",
        "weight": 3,
        "percentage": 40,
        "state": "PROGRESS",
        "message": "half",
        "parts": (),
    }
    assert to_dict(part(1, "a"))["data"]["substep"]["state"] == "PROGRESS"


def test_declared_parts() -> None:
    """Parts that are declared wait in their order, at 0, and count from the beginning."""
    declared = event(1)
    for path in ("b", "a"):
        declared.step_progress.declared.add(path=path, name=path.upper(), weight=1, state=StepState.STEP_STATE_PENDING)
    first, second = tracked(declared, part(2, "a", COMPLETED, 100)).parts["s1"]
    assert (first.name, first.state, first.percentage) == ("B", "PENDING", 0)
    assert (second.state, second.percentage) == ("COMPLETED", 100)


@pytest.mark.parametrize("kind", ["step_retrying", "step_completed"])
def test_parts_that_are_void(kind: str) -> None:
    """A retry voids the parts of its attempt, also where only the next attempt is seen; a step that is done has none;
    one that failed shows where.
    """
    begun = part(1, "a", RUNNING)
    assert tracked(begun, event(2, kind)).parts == {}
    assert shape(tracked(begun, part(2, "b", attempt=2)).parts["s1"]) == {"b": 0}
    assert tracked(begun, event(2, "step_started", attempt=2)).parts == {}
    assert shape(tracked(begun, event(2, "step_failed", attempt=1)).parts["s1"]) == {"a": 0}
    assert tracked(begun, part(1, "b")).parts.keys() == {"s1"}


def test_what_begins_anew_and_what_is_done_has_no_parts() -> None:
    """A part that begins, once more, or has completed, keeps no parts of its own; one that failed does."""
    begun = [part(1, "a", RUNNING), part(2, "a/b", RUNNING), part(3, "a/b", percentage=60)]
    assert shape(tracked(*begun, part(4, "a", RUNNING)).parts["s1"]) == {"a": 0}
    assert shape(tracked(*begun, part(4, "a", COMPLETED, 100)).parts["s1"]) == {"a": 100}
    assert shape(tracked(*begun, part(4, "a", FAILED, 60)).parts["s1"]) == {"a": {"a/b": 60}}


def test_from_the_middle_on() -> None:
    """A part whose parents were not seen gets them, with names of their own and a weight of 1."""
    parts = Parts()
    parts.apply(part(1, "x~1y/~01/c", percentage=50).step_progress)
    (outer,) = parts.tree()
    assert (outer.name, outer.parts[0].name, outer.parts[0].weight) == ("x/y", "~1", 1)
    assert parts.percentage() == 50
    assert parts.count == 3


@pytest.mark.parametrize("weight", [0, -1, math.nan, math.inf, 1e300, 5e-324])
@pytest.mark.parametrize("percentage", [-5, 400, math.nan, math.inf])
def test_nonsense_does_no_harm(weight: float, percentage: float) -> None:
    """Weights and percentages that can't be, and states that are not known, leave percentages within their bounds."""
    parts = Parts()
    for number in range(3):
        made = part(1, f"{number}", 77, percentage, weight=weight)  # type: ignore[arg-type]
        parts.apply(made.step_progress)
        parts.apply(part(1, f"{number}", weight=1 / (number + 1), percentage=number).step_progress)
    parts.apply(part(1, "last", 77, percentage, weight=weight).step_progress)  # type: ignore[arg-type]
    assert 0 <= parts.percentage() <= 100
    assert all(0 <= each.percentage <= 100 for each in parts.tree())
    assert parts.tree()[3].state == "77"


def test_bounds_of_what_is_kept() -> None:
    """Beyond 1,000 parts, or 16 deep, nothing is kept; what is there moves on, and what ends makes room."""
    parts = Parts()
    for number in range(MAX_PARTS + 50):
        parts.apply(part(1, f"a/{number}").step_progress)
    parts.apply(part(1, "a/7", percentage=80).step_progress)
    parts.apply(part(1, "/".join("x" * (MAX_DEPTH + 1))).step_progress)
    parts.apply(part(1, "").step_progress)
    assert (parts.count, parts.percentage("a/7"), parts.state("x")) == (MAX_PARTS, 80, None)
    parts.apply(part(1, "a", COMPLETED).step_progress)
    assert (parts.count, parts.percentage()) == (1, 100)
    parts.apply(part(1, "/".join("x" * (MAX_DEPTH + 1))).step_progress)
    assert parts.count == 1
    parts.apply(part(1, "/".join("x" * MAX_DEPTH)).step_progress)
    assert parts.count == MAX_DEPTH + 1


def test_paths() -> None:
    """A path's names are those that it was made of."""
    path = path_of(path_of("", "a/b"), "~0")
    assert path == "a~1b/~00"
    assert names_of(path) == ["a/b", "~0"]
    assert names_of("") == []
