"""Events in plain Python."""

from __future__ import annotations

import json

import pytest

from stepwire import errors, event_type, is_completed, is_error, is_terminal, to_dict, to_json
from stepwire.events import EVENT_TYPES, UNKNOWN, execution_to_dict, output_of
from stepwire.v1 import Event, Execution, Step
from stepwire.values import to_struct, to_value

from .scripted import EXECUTION, completed, event

KEYS = {
    *("type", "step_id", "step_name", "current_step", "total_steps", "percentage", "state", "message", "data", "error"),
    *("timestamp", "event_id", "execution_time", "metadata", "execution_id", "sequence", "attempt"),
    *("remaining", "remaining_margin"),
}


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_every_kind(kind: str) -> None:
    """An event of each kind becomes a dict with the same keys, and a line of JSON that says the same."""
    made = event(1, kind)
    told = to_dict(made)
    assert set(told) == KEYS
    assert told["type"] == event_type(made) == kind
    assert json.loads(to_json(made)) == told
    assert "\n" not in to_json(made)


def test_progress() -> None:
    """Progress of a step, in full."""
    made = event(7)
    made.step_progress.percentage = 50
    made.step_progress.stage = "reading"
    made.step_progress.data.CopyFrom(to_struct({"files": 3}))
    made.metadata["agent"] = "ada"
    assert to_dict(made) == {
        "type": "step_progress",
        "event_id": "e-1/7",
        "execution_id": EXECUTION,
        "sequence": 7,
        "timestamp": "2023-11-14T22:13:27.000000Z",
        "step_id": "s1",
        "step_name": "First",
        "attempt": 1,
        "current_step": 1,
        "total_steps": 2,
        "percentage": 70.0,
        "remaining": None,
        "remaining_margin": None,
        "state": "PROGRESS",
        "message": "event 7",
        "data": {"percentage": 50.0, "stage": "reading", "data": {"files": 3}},
        "error": None,
        "execution_time": None,
        "metadata": {"agent": "ada"},
    }


def test_completion() -> None:
    """A step's output is in data, its time in seconds beside it."""
    made = event(3, "step_completed", step_state=5)
    made.step_completed.output.CopyFrom(to_value([1, {"a": None}]))
    made.step_completed.execution_time.FromMilliseconds(1500)
    told = to_dict(made)
    assert (told["data"], told["execution_time"], told["state"]) == ({"output": [1, {"a": None}]}, 1.5, "COMPLETED")


def test_failure() -> None:
    """An error has its code, its reason and its text."""
    made = event(3, "step_failed", step_state=6)
    made.step_failed.error.CopyFrom(errors.status_from_error(errors.LimitSize("too large")))
    assert to_dict(made)["error"] == {"code": 8, "reason": "LIMIT_SIZE", "message": "too large"}


def test_nested() -> None:
    """Messages, lists, maps, enums, times and bytes inside a kind become plain too."""
    started = event(1, "plan_started")
    step = Step(id="a", operation="o", depends_on=["b"], weight=2)
    step.input_from["x"].step_id = "b"
    step.timeout.FromSeconds(3)
    started.plan_started.plan.steps.append(step)
    assert to_dict(started)["data"]["plan"]["steps"] == [
        {
            "id": "a",
            "operation": "o",
            "input_from": {"x": {"step_id": "b"}},
            "depends_on": ["b"],
            "weight": 2.0,
            "timeout": 3.0,
        }
    ]
    content = event(2, "content")
    content.content.data = b"\x00\xff"
    assert to_dict(content)["data"] == {"data": "AP8="}
    agent = event(3, "agent")
    agent.agent.kind = 1
    assert to_dict(agent)["data"] == {"kind": "THINK"}


def test_unknown_kind() -> None:
    """An event of an unknown kind still says what its envelope says."""
    newer = Event.FromString(event(4, "").SerializeToString() + b"\xfa\x3f\x00")
    told = to_dict(newer)
    assert (told["type"], told["message"], told["state"]) == (UNKNOWN, "event 4", "RUNNING")
    assert not is_terminal(newer)


def test_unknown_state() -> None:
    """A state of a newer server is given by its number."""
    assert to_dict(event(1, step_state=99))["state"] == "99"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("step_completed", (True, False, False)),
        ("plan_completed", (True, False, True)),
        ("step_failed", (False, True, False)),
        ("plan_failed", (False, True, True)),
        ("plan_cancelled", (False, False, True)),
        ("error", (False, True, False)),
        ("step_retrying", (False, False, False)),
        ("step_progress", (False, False, False)),
    ],
)
def test_what_it_means(kind: str, told: tuple[bool, bool, bool]) -> None:
    """An event says whether it is a completion, an error, the end."""
    made = event(1, kind)
    assert (is_completed(made), is_error(made), is_terminal(made)) == told


def test_output() -> None:
    """The output is the same from the terminal event and from the snapshot."""
    assert output_of(completed(1, {"a": 1})) == {"a": 1}
    assert output_of(Execution(state=6, output=to_value({"a": 1}))) == {"a": 1}


def test_no_output() -> None:
    """What failed or was cancelled raises, from the snapshot too."""
    status = errors.status_from_error(errors.QueryNotUnderstood("no"))
    with pytest.raises(errors.ExecutionFailed) as caught:
        output_of(Execution(execution_id=EXECUTION, state=7, error=status))
    assert (caught.value.cause, caught.value.execution_id) == ("QUERY_NOT_UNDERSTOOD", EXECUTION)
    with pytest.raises(errors.ExecutionCancelled):
        output_of(Execution(state=8))


@pytest.mark.parametrize("what", [Execution(state=3), event(1, "step_completed")], ids=["snapshot", "event"])
def test_output_before_the_end(what: Execution | Event) -> None:
    """Where nothing has ended there is no output: that is an error, not None."""
    with pytest.raises(ValueError, match="has not ended"):
        output_of(what)


def test_snapshot() -> None:
    """A snapshot has its id and state always, and what else is set."""
    assert execution_to_dict(Execution(execution_id="a", state=3, labels={"k": "v"})) == {
        "execution_id": "a",
        "state": "RUNNING",
        "labels": {"k": "v"},
    }
