"""Calls with one answer, and messages on their own."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from tests.conformance.case import Case, cancel, get
from tests.conformance.script import (
    EXECUTION,
    HOLD,
    answer,
    batch,
    called,
    completed,
    event,
    piece,
    refuse,
    welcome,
    with_unknown_kind,
)

from stepwire.errors import failure
from stepwire.v1 import (
    CancelExecutionResponse,
    EventBatch,
    Execution,
    GetExecutionResponse,
    Plan,
)
from stepwire.values import to_struct, to_value

__all__ = ["UNARY"]

_TIMEOUT = 4  # seconds: enough for a process that has just begun, on a busy machine, to bring its call to the server


def _decode(message: Message) -> Mapping[str, Any]:
    encoded = base64.b64encode(message.SerializeToString()).decode()
    return {"do": "decode", "type": message.DESCRIPTOR.full_name, "base64": encoded}


def _rich() -> EventBatch:
    """A message with something of every type that the contract has."""
    first = event(1, "plan_started")
    first.metadata.update({"b": "2", "a": "\u00e4"})
    first.event_time.FromNanoseconds(1_700_000_000_123_456_000)
    first.progress.percentage = 100 / 3
    first.progress.elapsed.FromNanoseconds(90_500_000_000)
    first.plan_started.plan.CopyFrom(
        Plan(name="house", steps=[{"id": "a", "operation": "dig", "weight": 0.5, "depends_on": ["b"]}])
    )
    first.plan_started.plan.steps[0].input.CopyFrom(to_struct({"deep": [1, 2.5, None, True, {"\u00fc": ""}]}))
    bytes_ = piece(2, bytes(range(250, 256)))
    bytes_.content.offset = 2**53 + 1
    last = completed(5, {"rooms": [{"name": "K\u00fcche", "area": 12.25}], "none": None})
    made = batch(first, bytes_, event(3, "step_progress", step_state=77), with_unknown_kind(event(4)), last)
    made.execution.CopyFrom(welcome(state=6).execution)
    made.execution.output.CopyFrom(to_value("done"))
    return made


_RICH = _rich()
_FAILED = event(7, "plan_failed", execution_state=7)
_FAILED.plan_failed.error.CopyFrom(failure("TIME_LIMIT", "It took more than 1 h."))

UNARY = (
    Case(
        name="get",
        rule="GetExecution gives the snapshot.",
        command=get(),
        calls=[
            called(
                "GetExecution",
                answer(
                    GetExecutionResponse(execution=Execution(execution_id=EXECUTION, state="EXECUTION_STATE_PAUSED"))
                ),
            )
        ],
        execution={"execution_id": EXECUTION, "state": "EXECUTION_STATE_PAUSED"},
        outcome="answered",
    ),
    Case(
        name="get-refused",
        rule="A unary call that is refused says so, with the reason.",
        command=get(),
        calls=[called("GetExecution", refuse("EXECUTION_NOT_FOUND", "There is no such execution."))],
        error={
            "kind": "refused",
            "code": "NOT_FOUND",
            "reason": "EXECUTION_NOT_FOUND",
            "message": "There is no such execution.",
        },
    ),
    Case(
        name="unanswered",
        rule="A unary call has a deadline.",
        command=get(timeout_seconds=_TIMEOUT),
        calls=[called("GetExecution", HOLD)],
        error={"kind": "refused", "code": "DEADLINE_EXCEEDED", "reason": ""},
    ),
    Case(
        name="cancel",
        rule="CancelExecution takes the reason along, and gives the snapshot.",
        command=cancel("The plot was sold."),
        calls=[
            called(
                "CancelExecution",
                answer(
                    CancelExecutionResponse(
                        execution=Execution(execution_id=EXECUTION, state="EXECUTION_STATE_CANCELLING")
                    )
                ),
                request={"reason": "The plot was sold."},
            )
        ],
        execution={"execution_id": EXECUTION, "state": "EXECUTION_STATE_CANCELLING"},
        outcome="answered",
    ),
    Case(
        name="cancel-refused",
        rule="To cancel what has ended is refused, with the state that it has.",
        command=cancel(),
        calls=[
            called(
                "CancelExecution",
                refuse("EXECUTION_ENDED", "It has ended.", metadata={"state": "EXECUTION_STATE_COMPLETED"}),
            )
        ],
        error={
            "kind": "refused",
            "code": "FAILED_PRECONDITION",
            "reason": "EXECUTION_ENDED",
            "metadata": {"state": "EXECUTION_STATE_COMPLETED"},
        },
    ),
    Case(
        name="decode",
        rule="A message means the same in every language: numbers, times, bytes, values of any shape, unknown fields.",
        command=_decode(_RICH),
        decoded=json_format.MessageToDict(_RICH),
        outcome="answered",
    ),
    Case(
        name="decode-status",
        rule="The status in an event has its details: an ErrorInfo with the reason.",
        command=_decode(_FAILED),
        decoded=json_format.MessageToDict(_FAILED),
        outcome="answered",
    ),
)
