"""The event of the benchmark: what every subject sends, built live as a server would, encoded about 208 bytes.

An execution of n events has n - 1 pieces of text and then its end. `as_json` is the same event as a service that
speaks JSON would send it: the same fields, under the short names that one would give them.
"""

from __future__ import annotations

import time
from typing import Any

from stepwire.v1 import Event, ExecutionState, StepState

__all__ = ["TEXT", "as_json", "build", "is_end", "json_is_end"]

TEXT = "The application for a permit is filed with the lower authority, in writing, with plans of the building."
"""The piece of text that an event carries: about as much as a sentence, or as a model gives in half a second."""

# A look-up by name costs as much as a field.
_RUNNING = ExecutionState.EXECUTION_STATE_RUNNING
_COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
_PROGRESS = StepState.STEP_STATE_PROGRESS

_EXECUTION_ID = "0199c2d41e7a7b53a1f0"
_STEP_ID = "answer"
_STEP_NAME = "Answer the query"


def build(number: int, *, end: bool = False) -> Event:
    """Returns the event with this number, as of now: a piece of text, or the end of the execution."""
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    if end:
        return Event(
            execution_id=_EXECUTION_ID,
            sequence=number,
            event_time={"seconds": seconds, "nanos": nanos},
            execution_state=_COMPLETED,
            progress={"percentage": 100.0, "current_step": 3, "total_steps": 3, "completed_steps": 3},
            plan_completed={"execution_time": {"seconds": 1}},
        )
    return Event(
        execution_id=_EXECUTION_ID,
        sequence=number,
        event_time={"seconds": seconds, "nanos": nanos},
        step_id=_STEP_ID,
        step_name=_STEP_NAME,
        attempt=1,
        step_state=_PROGRESS,
        execution_state=_RUNNING,
        progress={
            "percentage": 41.7,
            "current_step": 2,
            "total_steps": 3,
            "completed_steps": 1,
            "elapsed": {"seconds": 1, "nanos": 250_000_000},
        },
        content={"text": TEXT, "offset": number * len(TEXT)},
    )


def is_end(event: Event) -> bool:
    """Says whether nothing follows an event."""
    return event.execution_state == _COMPLETED


def as_json(number: int, *, end: bool = False) -> dict[str, Any]:
    """Returns the same event as a value for JSON."""
    if end:
        return {
            "execution": _EXECUTION_ID,
            "seq": number,
            "time_ns": time.time_ns(),
            "state": "completed",
            "progress": {"percent": 100.0, "current": 3, "total": 3, "completed": 3},
            "kind": "plan_completed",
            "execution_time": 1.0,
        }
    return {
        "execution": _EXECUTION_ID,
        "seq": number,
        "time_ns": time.time_ns(),
        "step": _STEP_ID,
        "name": _STEP_NAME,
        "attempt": 1,
        "step_state": "progress",
        "state": "running",
        "progress": {
            "percent": 41.7,
            "current": 2,
            "total": 3,
            "completed": 1,
            "elapsed": 1.25,
        },
        "kind": "content",
        "text": TEXT,
        "offset": number * len(TEXT),
    }


def json_is_end(event: dict[str, Any]) -> bool:
    """Says the same of an event as JSON."""
    return event["state"] == "completed"
