"""The terminal events, and those of steps that never run: what an execution says at its end."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import duration_pb2, struct_pb2
from google.rpc import status_pb2

from stepwire.errors import ExecutionEnded, ExecutionRunning, LimitSize
from stepwire.v1 import Event, ExecutionState, StepSkipped, StepState
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.recorder import Recorder

__all__ = [
    "ended",
    "record_cancelled",
    "record_completed",
    "record_failed",
    "record_not_met",
    "record_skipped",
    "running",
    "skip",
    "what_failed",
]

_NOT_RUN = frozenset({StepState.STEP_STATE_PENDING, StepState.STEP_STATE_STARTING})


def ended(execution_id: str, state: ExecutionState.ValueType) -> ExecutionEnded:
    """Returns the error for a call that comes too late."""
    name = ExecutionState.Name(state).removeprefix("EXECUTION_STATE_")
    what = "is being cancelled" if state == ExecutionState.EXECUTION_STATE_CANCELLING else f"has ended: {name}"
    return ExecutionEnded(f"execution {execution_id} {what}", metadata={"state": name, "execution_id": execution_id})


def running(execution_id: str, state: ExecutionState.ValueType) -> ExecutionRunning:
    """Returns the error for a call that comes too early."""
    name = ExecutionState.Name(state).removeprefix("EXECUTION_STATE_")
    return ExecutionRunning(
        f"execution {execution_id} has not ended: {name}", metadata={"state": name, "execution_id": execution_id}
    )


def what_failed(fold: Fold, failed: Sequence[str]) -> str:
    """Returns why an execution failed whose steps have ended; `failed` are the ids of those that failed, in order."""
    total = len(fold.steps)
    if not failed or fold.graph is None:
        return f"{total - fold.completed} of {total} steps did not complete"
    first, *others = failed[:5]
    more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
    pairs = zip(fold.graph.steps, fold.steps, strict=True)
    error = next(found.error for step, found in pairs if step.id == first)
    why = f" ({error})" if error else ""
    return f"{len(failed)} of {total} steps failed: {', '.join([first + why, *others])}{more}"


def record_completed(recorder: Recorder) -> None:
    """Records that every step completed."""
    fold = recorder.fold
    skipped = f", {fold.skipped} skipped by conditions" if fold.skipped else ""
    event = Event(message=f"Execution completed: {fold.completed}/{len(fold.steps)} steps succeeded{skipped}")
    _time(recorder, event.plan_completed.execution_time)
    assert fold.graph is not None
    sinks = fold.graph.sinks()
    output = fold.steps[sinks[0]].output if len(sinks) == 1 else _outputs(fold)
    if output is not None:
        event.plan_completed.output.CopyFrom(output)
    try:
        recorder.record(event)
    except LimitSize:
        event.plan_completed.ClearField("output")
        event.message += "; its outputs together are above 1 MiB, read them from step_completed"
        recorder.record(event)


def record_failed(recorder: Recorder, status: status_pb2.Status) -> None:
    """Records that the execution failed, with the outputs of the steps that did complete."""
    event = Event(message=f"Execution failed: {status.message[:1000]}")
    event.plan_failed.error.CopyFrom(status)
    _time(recorder, event.plan_failed.execution_time)
    output = _outputs(recorder.fold)
    if output is not None:
        event.plan_failed.output.CopyFrom(output)
    try:
        recorder.record(event)
    except LimitSize:
        event.plan_failed.ClearField("output")
        event.plan_failed.error.message = event.plan_failed.error.message[:100_000]
        recorder.record(event)


def record_cancelled(recorder: Recorder) -> None:
    """Records that the execution ended because someone asked for it."""
    actor, reason = recorder.fold.cancelled_by
    event = Event(message=f"Execution cancelled{': ' + reason if reason else ''}")
    event.plan_cancelled.actor = actor
    event.plan_cancelled.reason = reason
    _time(recorder, event.plan_cancelled.execution_time)
    recorder.record(event)


async def skip(recorder: Recorder, index: int, *, culprit: str) -> None:
    """Does what `record_skipped` does, where the step has not run and does not run now. Waits for room."""
    if recorder.fold.steps[index].state in _NOT_RUN:
        await recorder.room()
        record_skipped(recorder, index, culprit=culprit)


def record_skipped(recorder: Recorder, index: int, *, culprit: str) -> None:
    """Records that a step will not run: because of the step `culprit`, or, where that is empty, of the end. One that
    has run, and would have run again, is recorded as cancelled.
    """
    fold = recorder.fold
    assert fold.graph is not None
    step, state = fold.graph.steps[index], fold.steps[index]
    event = Event(step_id=step.id, step_name=step.name or step.id)
    if state.state == StepState.STEP_STATE_STARTING:
        event.attempt = state.attempt
        event.message = f"Cancelled: {event.step_name}"
        event.step_cancelled.SetInParent()
    else:
        why = f"{culprit} did not complete" if culprit else "the execution is ending"
        event.message = f"Skipped: {why}"
        event.step_skipped.cause = StepSkipped.CAUSE_DEPENDENCY if culprit else StepSkipped.CAUSE_ENDED
        event.step_skipped.failed_step_id = culprit
    recorder.record(event)


def record_not_met(recorder: Recorder, index: int, *, why: str) -> None:
    """Records that a step does not run because of its own conditions: it is done."""
    fold = recorder.fold
    assert fold.graph is not None
    step = fold.graph.steps[index]
    event = Event(step_id=step.id, step_name=step.name or step.id, message=f"Skipped: {why}")
    event.step_skipped.cause = StepSkipped.CAUSE_CONDITION
    recorder.record(event)


def _outputs(fold: Fold) -> struct_pb2.Value | None:
    """Returns the outputs of the steps that nothing depends on, by step id; None where there is none."""
    if fold.graph is None:
        return None
    value = struct_pb2.Value()
    for i in fold.graph.sinks():
        output = fold.steps[i].output
        if output is not None:
            value.struct_value.fields[fold.graph.steps[i].id].CopyFrom(output)
    return value if value.HasField("struct_value") else None


def _time(recorder: Recorder, target: duration_pb2.Duration) -> None:
    target.FromNanoseconds(recorder.now_ns() - recorder.fold.create_ns)
