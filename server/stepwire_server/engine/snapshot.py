"""An execution as callers see it, from what the journal keeps."""

from __future__ import annotations

from stepwire.v1 import EventBatch, ExecuteRequest, Execution, Plan
from stepwire_server.engine.states import KINDS
from stepwire_server.journal import ExecutionRecord, Journal

__all__ = ["first_snapshot", "fixed_part", "plan_of", "snapshot_of"]


def fixed_part(record: ExecutionRecord) -> Execution:
    """Returns what no event changes of an execution."""
    execution = Execution(
        execution_id=record.execution_id,
        request_id=record.request_id,
        session_id=record.session_id,
        labels=record.labels,
        query=ExecuteRequest.FromString(record.request).query,
    )
    execution.create_time.FromNanoseconds(record.create_time_ns)
    return execution


def snapshot_of(record: ExecutionRecord) -> Execution:
    """Returns the execution as of the record's last durable event, without its plan."""
    return Execution.FromString(record.snapshot)


def first_snapshot(record: ExecutionRecord) -> bytes:
    """Returns the encoded snapshot of an execution without events, to be stored with its record."""
    execution = fixed_part(record)
    execution.state = record.state
    execution.attempt_count = 1
    execution.progress.SetInParent()
    return execution.SerializeToString()


async def plan_of(journal: Journal, record: ExecutionRecord) -> Plan | None:
    """Returns the plan with all its revisions; None where there is none yet."""
    plan: Plan | None = None
    with journal.follow(record.execution_id, after=0) as follower:
        while follower.sequence < record.last_sequence:
            chunks = await follower.read(max_events=512, max_bytes=1 << 20)
            if not chunks:
                # The record came from the storage, and the event loop has yet to hear of its last events.
                await follower.wait()
            for chunk in chunks:
                for index, kind in enumerate(chunk.kinds):
                    if kind == KINDS["plan_started"]:
                        plan = EventBatch.FromString(chunk.frame(index)).events[0].plan_started.plan
                    elif kind == KINDS["plan_revised"] and plan is not None:
                        plan.steps.extend(EventBatch.FromString(chunk.frame(index)).events[0].plan_revised.steps)
    return plan
