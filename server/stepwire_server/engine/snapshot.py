"""An execution as callers see it, from what the journal keeps."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from stepwire.errors import ExecutionNotFound
from stepwire.v1 import Event, EventBatch, ExecuteRequest, Execution, InputReceived, Plan
from stepwire_server.engine.rerun import plan_name_of, query_of
from stepwire_server.engine.states import KINDS
from stepwire_server.journal import ExecutionRecord, Journal

__all__ = ["answer_of", "first_snapshot", "fixed_part", "not_found", "plan_of", "record_to_read", "snapshot_of"]


def fixed_part(record: ExecutionRecord) -> Execution:
    """Returns what no event changes of an execution."""
    request = ExecuteRequest.FromString(record.request)
    execution = Execution(
        execution_id=record.execution_id,
        request_id=record.request_id,
        session_id=record.session_id,
        labels=record.labels,
        query=query_of(request),
        plan_name=plan_name_of(request),
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


def not_found(execution_id: str) -> ExecutionNotFound:
    """Returns the error for an execution that is not there."""
    return ExecutionNotFound(f"there is no execution {execution_id[:80]!r}")


async def record_to_read(journal: Journal, execution_id: str) -> ExecutionRecord:
    """Returns the record of an execution whose events are to be read. Raises CursorExpired where they were purged, and
    ExecutionNotFound.
    """
    record = await journal.get(execution_id)
    if record is not None:
        return record
    stone = await journal.tombstone(execution_id)
    raise not_found(execution_id) if stone is None else stone.expired()


async def plan_of(journal: Journal, record: ExecutionRecord) -> Plan | None:
    """Returns the plan with all its revisions; None where there is none yet."""
    plan: Plan | None = None
    async with aclosing(_events_of(journal, record, "plan_started", "plan_revised")) as events:
        async for event in events:
            if event.HasField("plan_started"):
                plan = event.plan_started.plan
            elif plan is not None:
                plan.steps.extend(event.plan_revised.steps)
    return plan


async def answer_of(journal: Journal, record: ExecutionRecord, input_id: str) -> InputReceived | None:
    """Returns how a question was closed last; None where there is no such question, or it was asked again since."""
    answer: InputReceived | None = None
    async with aclosing(_events_of(journal, record, "input_requested", "input_received")) as events:
        async for event in events:
            if event.input_requested.input_id == input_id:
                answer = None
            elif event.input_received.input_id == input_id:
                answer = event.input_received
    return answer


async def _events_of(journal: Journal, record: ExecutionRecord, *kinds: str) -> AsyncGenerator[Event, None]:
    """Gives the events of these kinds, up to the record's last one."""
    wanted = {KINDS[kind] for kind in kinds}
    with journal.follow(record.execution_id, after=0) as follower:
        while follower.sequence < record.last_sequence:
            chunks = await follower.read(max_events=512, max_bytes=1 << 20)
            if not chunks:
                # The record came from the storage, and the event loop has yet to hear of its last events.
                await follower.wait()
            for chunk in chunks:
                for index, kind in enumerate(chunk.kinds):
                    if kind in wanted:
                        yield EventBatch.FromString(chunk.frame(index)).events[0]
