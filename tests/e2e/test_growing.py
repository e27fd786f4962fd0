"""Plans that grow are watched, killed and shown like others."""

from __future__ import annotations

from pathlib import Path

from stepwire import Client, ProgressTracker, event_type
from stepwire.v1 import Event, StepState
from stepwire.values import to_python

from .serving import Gate, ServerProcess
from .test_restart import Watchers, has_started


def has_added(step_id: str, events: list[Event]) -> bool:
    """Tells whether the revision that added a step has been read."""
    return any(step.id == step_id for event in events for step in event.plan_revised.steps)


def test_a_plan_that_grows_outlives_its_server(tmp_path: Path, gate: Gate) -> None:
    """Killed with -9 between two revisions, a supervisor adds again what is there and then the rest; a mapped step goes
    on with the items that had not ended; and watchers see every event once.
    """
    trace = tmp_path / "trace"
    work = {"gate": gate.port, "bursts": [1], "trace": str(trace)}
    plan = {
        "steps": [
            {"id": "boss", "operation": "supervise", "input": {"gate": gate.port, "work": work}},
            {
                "id": "each",
                "operation": "paced",
                "input": {"gate": gate.port, "trace": str(trace)},
                "for_each": {"parameter": "bursts", "values": [[1], [2], [1]], "max_parallel": 2},
            },
            {
                "id": "no",
                "operation": "say",
                "depends_on": ["each"],
                "conditions": [{"output": {"step_id": "each", "json_pointer": "/1/reports"}, "above": 2}],
            },
        ]
    }
    with ServerProcess(tmp_path, app="sample:app") as server:
        with Client(server.address) as client:
            execution_id = client.start(plan=plan).execution_id
        watchers = Watchers(server.address, execution_id)
        gate.release("each-1")
        gate.release("first")
        watchers.have(lambda events: sum(event_type(event) == "step_completed" for event in events) == 2)
        gate.arrived("each-3")
        # What watchers have seen is on disk.
        watchers.have(lambda events: has_added("first", events) and has_started("each-3", events))
        server.kill()
        server.start()
        gate.arrived("boss", attempt=2)
        gate.arrived("each-2", attempt=2)
        gate.open()
        watchers.finish()
        with Client(server.address) as client:
            found = client.get(execution_id, full=True)
            kept = list(client.events(execution_id))
    assert watchers.events["sync"] == watchers.events["aio"] == kept
    assert [event.sequence for event in kept] == list(range(1, len(kept) + 1))
    assert event_type(kept[-1]) == "plan_completed"
    tracker = ProgressTracker()
    for event in kept:
        tracker.add_event(event)
    assert (tracker.total_steps, tracker.completed_steps, tracker.skipped_steps) == (8, 7, 1)
    assert tracker.percentage == 100
    assert [step.id for step in found.plan.steps][:3] == ["boss", "each", "no"]
    assert {step.id for step in found.plan.steps[3:]} == {"first", "second", "each-1", "each-2", "each-3"}
    started = [(event.step_id, event.attempt) for event in kept if event_type(event) == "step_started"]
    assert sorted(started) == [
        ("boss", 1),
        ("boss", 2),
        ("each", 1),
        ("each-1", 1),
        ("each-2", 1),
        ("each-2", 2),
        ("each-3", 1),
        ("each-3", 2),
        ("first", 1),
        ("second", 1),
    ]
    lines = trace.read_text("utf-8").splitlines()
    assert lines.count("each-1 1") == lines.count("first 1") == lines.count("second 1") == 1
    each = [event for event in kept if event.step_id == "each"]
    assert each[-1].step_state == StepState.STEP_STATE_COMPLETED
    assert [made["reports"] for made in to_python(each[-1].step_completed.output)] == [1, 2, 1]
