"""Steps with parts in parts: over a retry and kill -9, with the client, and on the terminal."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from tests.faults.parts import parts_of_steps

from stepwire import Client, ProgressTracker, event_type
from stepwire.v1 import Event, StepState

from .serving import PATIENCE, Gate, ServerProcess, command

ATTEMPT = [
    ("up", "RUNNING", 0),
    ("up/camp", "RUNNING", 0),
    ("up/camp/tent", "RUNNING", 0),
    ("up/camp/tent", "PROGRESS", 50),
]
"""What each attempt tells first, and last where the wind comes."""

FAILED = [("up/camp/tent", "FAILED", 50), ("up/camp", "FAILED", 50), ("up", "FAILED", 50)]

ON = [
    ("up/camp/tent", "COMPLETED", 100),
    ("up/camp", "PROGRESS", 100),
    ("up/camp", "COMPLETED", 100),
    ("up", "COMPLETED", 100),
    ("down", "RUNNING", 0),
    ("down/slope", "RUNNING", 0),
    ("down/slope/snow", "RUNNING", 0),
    ("down/slope/snow", "PROGRESS", 25),
]
ENDS = [(path, "COMPLETED", 100) for path in ("down/slope/snow", "down/slope", "down")]


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The app, for all tests of this module: they add executions to it, and one starts it again."""
    with ServerProcess(tmp_path_factory.mktemp("nested"), app="nested:app") as server:
        yield server


def told(events: list[Event], step: str, attempt: int) -> list[tuple[str, str, float]]:
    """Returns what an attempt tells of its parts."""
    parts = [event.step_progress.substep for event in events if (event.step_id, event.attempt) == (step, attempt)]
    return [
        (part.path, StepState.Name(part.state).removeprefix("STEP_STATE_"), part.percentage)
        for part in parts
        if part.path
    ]


def test_three_deep_over_a_retry_and_kill_9(nested: ServerProcess, gate: Gate) -> None:
    """A coroutine and a plain function that nest three deep tell each attempt's parts anew, after a retry and after
    kill -9; the whole never goes back, and who reads it from the beginning has the same parts as who saw it all.
    """
    steps = [{"id": name, "operation": name, "input": {"gate": gate.port}} for name in ("climb", "climb_in_a_thread")]
    with Client(nested.address) as client:
        run = client.execute(plan={"steps": steps})
        for step in ("climb", "climb_in_a_thread"):
            gate.arrived(step, attempt=2)
        seen = []
        while len(seen) < 2:
            if next(run).step_progress.substep.percentage == 25:
                seen.append(run.tracker.parts)
        assert [(part.name, part.percentage) for part in seen[1]["climb"]] == [("up", 100), ("down", 25)]
        nested.kill()
        nested.start()
        gate.open()
        assert run.result() == {"climb": 3, "climb_in_a_thread": 3}
        events = list(client.events(run.execution_id))
    assert list(parts_of_steps(events)) == []
    for step in ("climb", "climb_in_a_thread"):
        assert told(events, step, 1) == [*ATTEMPT, *FAILED]
        assert told(events, step, 2) == [*ATTEMPT, *ON]
        assert told(events, step, 3) == [*ATTEMPT, *ON, *ENDS]
    percentages = [event.progress.percentage for event in events]
    assert percentages == sorted(percentages)
    assert max(percentages[:-2]) < 100 == percentages[-1]
    tracker = ProgressTracker()
    for event in events:
        if event_type(event) == "plan_recovered":
            assert tracker.parts == seen[1]
        tracker.add_event(event)
    assert tracker.parts == {}


def test_a_rule_of_an_operation_s_own(nested: ServerProcess) -> None:
    """The percentages of an operation's own rule stand in the events."""
    with Client(nested.address) as client:
        run = client.execute(plan={"steps": [{"id": "a", "operation": "chart"}]})
        told = [event.step_progress for event in run if event_type(event) == "step_progress"]
    assert [report.percentage for report in told] == [5, 10, 0, 100]
    assert [report.HasField("percentage") for report in told] == [True, True, False, True]


def test_lines_of_parts(nested: ServerProcess, gate: Gate) -> None:
    """`stepwire run` names each part and what became of it."""
    gate.open()
    done = subprocess.run(
        [
            *(command("stepwire"), "--server", nested.address, "run", "--plain"),
            *("--step", "climb", "--input", f'{{"gate": {gate.port}}}'),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[2:12] == [
        "      0%: Parts: up, down",
        "      0%: up",
        "      0%: up > camp",
        "      0%: up > camp > tent",
        "     12%: up > camp > tent: Half of it stands",
        "     12%: up > camp > tent (failed: OSError: wind)",
        "     12%: up > camp (failed: OSError: wind)",
        "     12%: up (failed: OSError: wind)",
        "  Step 1/1: climb (tries again in 0.010s): OSError: wind",
        "  Step 1/1: climb (attempt 2)",
    ]
    assert "     44%: down > slope > snow: 1 of 4 turns" in lines
    assert "    100%: down (done)" in lines
