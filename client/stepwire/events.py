"""What an event says, in plain Python: its type, what it means, and the event as a dict or a line of JSON."""

from __future__ import annotations

import base64
import json
from datetime import UTC
from typing import Any

from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2

from stepwire.errors import ExecutionCancelled, ExecutionFailed, reason_of
from stepwire.v1.event_pb2 import (
    EXECUTION_STATE_CANCELLED,
    EXECUTION_STATE_COMPLETED,
    EXECUTION_STATE_FAILED,
    Event,
    ExecutionState,
    StepState,
)
from stepwire.v1.execution_pb2 import Execution
from stepwire.values import to_python

__all__ = [
    "EVENT_TYPES",
    "TERMINAL",
    "UNKNOWN",
    "event_type",
    "execution_to_dict",
    "has_ended",
    "is_completed",
    "is_error",
    "is_terminal",
    "message_to_dict",
    "output_of",
    "state_name",
    "to_dict",
    "to_json",
]

EVENT_TYPES = frozenset(field.name for field in Event.DESCRIPTOR.oneofs_by_name["kind"].fields)
"""The names of all kinds of events that this release knows."""

UNKNOWN = "unknown"
"""The type of an event whose kind a newer server has and this client does not."""

TERMINAL = frozenset({"plan_completed", "plan_failed", "plan_cancelled"})
"""The types of the events that are an execution's last."""

_ERRORS = frozenset({"step_failed", "plan_failed", "error"})
_COMPLETED = frozenset({"step_completed", "plan_completed"})
_ENDED = frozenset({EXECUTION_STATE_COMPLETED, EXECUTION_STATE_FAILED, EXECUTION_STATE_CANCELLED})
_APART = frozenset({"error", "execution_time"})
"""Fields of a kind that `to_dict` has under a key of their own."""


def event_type(event: Event) -> str:
    """Returns the name of the event's kind, such as "step_completed"; UNKNOWN where this client does not know it."""
    return event.WhichOneof("kind") or UNKNOWN


def is_completed(event: Event) -> bool:
    """Tells whether a step or the whole has completed with this event."""
    return event.WhichOneof("kind") in _COMPLETED


def is_error(event: Event) -> bool:
    """Tells whether the event says that something went wrong for good: a step, the whole, or an error report."""
    return event.WhichOneof("kind") in _ERRORS


def is_terminal(event: Event) -> bool:
    """Tells whether the event is the execution's last."""
    return event.WhichOneof("kind") in TERMINAL


def has_ended(execution: Execution) -> bool:
    """Tells whether the snapshot is that of an ended execution."""
    return execution.state in _ENDED


def state_name(event: Event) -> str:
    """Returns the step's state after the event, or the execution's for an event that is about no step: "RUNNING"."""
    if event.step_id:
        return _enum_name(StepState.DESCRIPTOR, event.step_state)
    return _enum_name(ExecutionState.DESCRIPTOR, event.execution_state)


def to_dict(event: Event) -> dict[str, Any]:
    """Returns the event as a dict that JSON can carry.

    Always the same keys. `data` has what belongs to the event's kind, `error` is None or has `code`, `reason` and
    `message`, `timestamp` is ISO 8601 in UTC, times are in seconds, bytes are base64.
    """
    kind = event.WhichOneof("kind")
    progress = event.progress
    data: dict[str, Any] = {}
    error: dict[str, Any] | None = None
    execution_time: float | None = None
    if kind is not None:
        for field, value in getattr(event, kind).ListFields():
            if field.name not in _APART:
                data[field.name] = _plain(field, value)
            elif field.name == "error":
                error = _status(value)
            else:
                execution_time = _seconds(value)
    return {
        "type": kind or UNKNOWN,
        "event_id": f"{event.execution_id}/{event.sequence}",
        "execution_id": event.execution_id,
        "sequence": event.sequence,
        "timestamp": _iso(event.event_time) if event.HasField("event_time") else None,
        "step_id": event.step_id,
        "step_name": event.step_name,
        "attempt": event.attempt,
        "current_step": progress.current_step,
        "total_steps": progress.total_steps,
        "percentage": progress.percentage,
        "remaining": _seconds(progress.remaining) if progress.HasField("remaining") else None,
        "remaining_margin": _seconds(progress.remaining_margin) if progress.HasField("remaining_margin") else None,
        "state": state_name(event),
        "message": event.message,
        "data": data,
        "error": error,
        "execution_time": execution_time,
        "metadata": {key: event.metadata[key] for key in sorted(event.metadata)},
    }


def to_json(event: Event) -> str:
    """Returns `to_dict` as one line of JSON."""
    return json.dumps(to_dict(event), ensure_ascii=False, separators=(",", ":"))


def execution_to_dict(execution: Execution) -> dict[str, Any]:
    """Returns a snapshot as a dict that JSON can carry: the fields that are set, and `state` by its short name."""
    return {"execution_id": execution.execution_id, "state": "UNSPECIFIED", **message_to_dict(execution)}


def message_to_dict(message: Message) -> dict[str, Any]:
    """Returns the fields of a message that are set, in plain Python, by the names that they have in the contract."""
    return {field.name: _plain(field, value) for field, value in message.ListFields()}


def output_of(ending: Event | Execution) -> Any:
    """Returns the output that a terminal event or an ended execution's snapshot carries, in plain Python.

        execution = client.wait(client.start("...").execution_id)
        print(output_of(execution)["markdown"])

    Raises ExecutionFailed or ExecutionCancelled where it did not complete, ValueError where it has not ended. The
    snapshots of `client.list` come without their outputs.
    """
    identity = ending.execution_id
    if not (has_ended(ending) if isinstance(ending, Execution) else is_terminal(ending)):
        what = "The execution" if isinstance(ending, Execution) else "With this event the execution"
        raise ValueError(f"{what} has not ended: there is no output yet.")
    if isinstance(ending, Execution):
        if ending.state == EXECUTION_STATE_FAILED:
            raise _failed(ending.error, identity)
        if ending.state == EXECUTION_STATE_CANCELLED:
            raise ExecutionCancelled("The execution was cancelled.", execution_id=identity)
        return to_python(ending.output)
    match ending.WhichOneof("kind"):
        case "plan_failed":
            raise _failed(ending.plan_failed.error, identity)
        case "plan_cancelled":
            cancelled = ending.plan_cancelled
            by = f" by {cancelled.actor}" if cancelled.actor else ""
            why = f": {cancelled.reason}" if cancelled.reason else "."
            raise ExecutionCancelled(f"The execution was cancelled{by}{why}", execution_id=identity)
        case _:
            return to_python(ending.plan_completed.output)


def _failed(status: status_pb2.Status, execution_id: str) -> ExecutionFailed:
    text = status.message or "The execution failed."
    return ExecutionFailed(text, cause=reason_of(status), execution_id=execution_id)


def _plain(field: FieldDescriptor, value: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        item = field.message_type.fields_by_name["value"]
        return {key: _plain_one(item, value[key]) for key in sorted(value)}
    if isinstance(value, Message | str | bytes | int | float):
        return _plain_one(field, value)
    return [_plain_one(field, item) for item in value]


def _plain_one(field: FieldDescriptor, value: Any) -> Any:
    match value:
        case struct_pb2.Struct() | struct_pb2.Value() | struct_pb2.ListValue():
            return to_python(value)
        case timestamp_pb2.Timestamp():
            return _iso(value)
        case duration_pb2.Duration():
            return _seconds(value)
        case status_pb2.Status():
            return _status(value)
        case Message():
            return message_to_dict(value)
        case bytes():
            return base64.b64encode(value).decode()
        case int() if field.enum_type is not None:
            return _enum_name(field.enum_type, value)
        case _:
            return value


def _status(status: status_pb2.Status) -> dict[str, Any]:
    return {"code": status.code, "reason": reason_of(status), "message": status.message}


def _seconds(span: duration_pb2.Duration) -> float:
    return span.seconds + span.nanos / 1e9


def _iso(time: timestamp_pb2.Timestamp) -> str:
    return time.ToDatetime(tzinfo=UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _enum_name(enum: Any, number: int) -> str:
    """Returns a value's name without what all names of its enum begin with: RUNNING for STEP_STATE_RUNNING."""
    value = enum.values_by_number.get(number)
    if value is None:
        return str(number)
    shared = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return str(value.name).removeprefix(shared)
