"""What a process records first when it takes an execution over from one that is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stepwire.errors import failure
from stepwire.v1 import Event, Step, StepState
from stepwire_server.engine.calling import AttemptFailed
from stepwire_server.engine.context import StepContext
from stepwire_server.engine.fold import StepFold
from stepwire_server.engine.operation import Catalog, Operation, Signature, Style
from stepwire_server.engine.recorder import Recorder
from stepwire_server.engine.states import LIVE_STEP

__all__ = ["MAX_RECOVERIES", "operation_of", "record_takeover"]

MAX_RECOVERIES = 3
"""How often in a row a step may be lost with its process before it fails for good: it may be what kills the server. One
that has saved something else, or got an answer, since it was lost last came further; one that waited for a person did
nothing; and one whose server stopped in order was not lost.
"""


def record_takeover(
    recorder: Recorder, *, epoch: int, stopping: bool, operation_of: Callable[[Step], Operation]
) -> None:
    """Records that another process runs the execution now, and what that means for each step that was running: another
    attempt, a failure where there may be none, or a cancel where the execution is ending.
    """
    fold = recorder.fold
    event = Event(message="Recovered: the execution goes on in another process")
    event.plan_recovered.epoch = epoch
    event.plan_recovered.state = fold.state
    recorder.record(event)
    if fold.graph is None:
        return
    for i, (step, state) in enumerate(zip(fold.graph.steps, fold.steps, strict=True)):
        # Of a mapped step nothing ran in the process: its items did.
        if state.state in LIVE_STEP and i not in fold.graph.items:
            recorder.record(_verdict(step, state, operation_of(step), stopping))


def _verdict(step: Step, fold: StepFold, operation: Operation, stopping: bool) -> Event:
    name = step.name or step.id
    event = Event(step_id=step.id, step_name=name, attempt=fold.attempt)
    lost = "the process ended while the step ran"
    if stopping:
        event.message = f"Cancelled: {name}: {lost}"
        event.step_cancelled.abandoned = True
    elif operation.at_most_once:
        event.message = f"Failed: {name}: {lost}"
        event.step_failed.error.CopyFrom(failure("OUTCOME_UNKNOWN", f"{lost}; the operation runs at most once"))
    elif fold.state != StepState.STEP_STATE_WAITING and (times := fold.lost_once_more()) > MAX_RECOVERIES:
        event.message = f"Failed: {name}: {lost}"
        event.step_failed.error.CopyFrom(failure("RECOVERY_LIMIT", f"{lost}, {times} times"))
    else:
        event.message = f"Retrying: {name}: {lost}"
        event.step_retrying.error.CopyFrom(failure("RECOVERED", lost))
        event.step_retrying.next_attempt = fold.attempt + 1
        event.step_retrying.delay.SetInParent()
    return event


def operation_of(catalog: Catalog, step: Step) -> Operation:
    """Returns a step's operation; one that fails where a recovered plan names one that the app no longer has."""
    known = catalog.operations.get(step.operation)
    return known or Operation(name=step.operation, function=_gone, signature=_ANYTHING, style=Style.COROUTINE)


async def _gone(step: StepContext, **_: Any) -> None:
    raise AttemptFailed(failure("OPERATION_NOT_FOUND", f"there is no operation {step.operation!r} any more"))


_ANYTHING = Signature(_gone, name="gone")
