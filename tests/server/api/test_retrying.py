"""RetryExecution over the wire: what it answers, what it refuses, and what watchers of the new execution see."""

from __future__ import annotations

import asyncio

import grpc

from stepwire.v1 import (
    CancelExecutionRequest,
    CancelExecutionResponse,
    Event,
    EventFilter,
    Execution,
    ExecutionState,
    ExecutionView,
    RetryExecutionRequest,
    RetryExecutionResponse,
    WatchExecutionRequest,
)
from stepwire.values import to_python
from stepwire_server import plan_step
from stepwire_server.journal import Journal, Retention

from .conftest import Call, Serve
from .shop import BLOCKED, QUICK, Caller, Gate, plan

COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
CANCELLED = ExecutionState.EXECUTION_STATE_CANCELLED

HALF_DONE = plan(plan_step("a", "add", input={"a": 1, "b": 2}), plan_step("b", "wait", depends_on=["a"]))
"""Its second step waits for the gate."""


async def cancelled(caller: Caller, gate: Gate, **fields: object) -> Execution:
    """Returns an execution of HALF_DONE that was cancelled while its second step waited."""
    execution = await caller.start(HALF_DONE, **fields)
    await gate.waiting.wait()
    gate.waiting.clear()
    request = CancelExecutionRequest(execution_id=execution.execution_id)
    await caller.call("CancelExecution", request, CancelExecutionResponse)
    return await caller.ended(execution.execution_id)


async def retry(caller: Caller, execution_id: str, **fields: object) -> Execution:
    request = RetryExecutionRequest(execution_id=execution_id, **fields)  # type: ignore[arg-type]
    return (await caller.call("RetryExecution", request, RetryExecutionResponse)).execution


async def watched(caller: Caller, execution_id: str, after: int = 0, **fields: EventFilter) -> list[Event]:
    request = WatchExecutionRequest(execution_id=execution_id, after_sequence=after, **fields)
    return [event for batch in await caller.stream("WatchExecution", request) for event in batch.events]


async def test_retry(serve: Serve, call_with: Call, journal: Journal, gate: Gate) -> None:
    """RetryExecution answers with the new execution, what it keeps counted as done; that streams from 1, from any
    sequence and through a filter; the earlier one and its events stay, and after its purge the new one has everything.
    """
    caller = call_with(await serve(journal))
    first = await cancelled(caller, gate, labels={"team": "web"}, session_id="s")
    before = await caller.events(first.execution_id)
    again = await retry(caller, first.execution_id, reason="wrong button", actor="Ada")
    assert again.execution_id != first.execution_id
    assert (again.session_id, dict(again.labels), again.attempt_count) == ("s", {"team": "web"}, 1)
    assert (again.progress.completed_steps, again.progress.total_steps) == (1, 2)
    assert again.progress.percentage >= 50
    assert again.as_of_sequence >= 2
    gate.opened.set()
    assert to_python((await caller.ended(again.execution_id)).output) == "opened"
    assert await caller.get(first.execution_id) == first
    assert await caller.events(first.execution_id) == before
    await journal.purge(Retention(keep_executions=1))

    events = await watched(caller, again.execution_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [(event.WhichOneof("kind"), event.step_id) for event in events[:3]] == [
        ("plan_started", ""),
        ("step_completed", "a"),
        ("step_started", "b"),
    ]
    assert events[0].metadata == {"retry_of": first.execution_id, "actor": "Ada", "reason": "wrong button"}
    assert to_python(events[1].step_completed.output) == 3
    assert (events[1].attempt, events[1].metadata["kept_from"]) == (0, first.execution_id)
    assert await watched(caller, again.execution_id, 1) == events[1:]
    assert await watched(caller, again.execution_id, filter=EventFilter(step_ids=["a"])) == [events[1], events[-1]]
    full = await caller.get(again.execution_id, view=ExecutionView.EXECUTION_VIEW_FULL)
    assert full.plan == HALF_DONE


async def test_the_same_retry_attaches(caller: Caller, gate: Gate) -> None:
    """The same request sent again, or ten times at once, is one execution; another one with its id is refused."""
    first = await cancelled(caller, gate)
    gate.opened.set()
    answers = await asyncio.gather(*(retry(caller, first.execution_id, request_id="r") for _ in range(10)))
    assert len({execution.execution_id for execution in answers}) == 1
    await caller.ended(answers[0].execution_id)
    assert (await retry(caller, first.execution_id, request_id="r")).state == COMPLETED
    for other in (
        RetryExecutionRequest(execution_id=first.execution_id, request_id="r", reason="another"),
        RetryExecutionRequest(execution_id=first.execution_id, request_id="r", step_ids=["a"]),
    ):
        refused = await caller.refused("RetryExecution", other)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


async def test_what_runs_is_refused(caller: Caller, gate: Gate) -> None:
    """An execution that has not ended is refused with its state."""
    execution = await caller.start(BLOCKED)
    await gate.waiting.wait()
    refused = await caller.refused("RetryExecution", RetryExecutionRequest(execution_id=execution.execution_id))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTION_RUNNING")
    assert refused.error.metadata == {"state": "RUNNING", "execution_id": execution.execution_id}
    gate.opened.set()
    await caller.ended(execution.execution_id)


async def test_a_purged_execution_is_refused(serve: Serve, call_with: Call, journal: Journal, gate: Gate) -> None:
    """What was purged can't be retried, and neither can a retry by the request id of what was purged."""
    caller = call_with(await serve(journal))
    gone = await cancelled(caller, gate, request_id="gone")
    left = await cancelled(caller, gate)
    await journal.purge(Retention(keep_executions=1))
    for request in (
        RetryExecutionRequest(execution_id=gone.execution_id),
        RetryExecutionRequest(execution_id=left.execution_id, request_id="gone"),
    ):
        refused = await caller.refused("RetryExecution", request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED")


async def test_limits_of_starts_hold(serve: Serve, call_with: Call, gate: Gate) -> None:
    """A retry counts as a start: beyond the limit of executions RetryInfo says when to come again."""
    caller = call_with(await serve(max_executions=1))
    first = await cancelled(caller, gate)
    running = await retry(caller, first.execution_id)
    await gate.waiting.wait()
    refused = await caller.refused("RetryExecution", RetryExecutionRequest(execution_id=first.execution_id))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXECUTIONS")
    assert refused.error.retry_after is not None
    gate.opened.set()
    await caller.ended(running.execution_id)


async def test_starts_of_one_caller_are_bounded(serve: Serve, call_with: Call) -> None:
    """A retry takes one of its caller's places for starts."""
    server = await serve()
    caller = call_with(server)
    first = await caller.run(QUICK)
    object.__setattr__(server.admission.limits, "max_starts_per_caller", 0)
    request = RetryExecutionRequest(execution_id=first.execution_id, step_ids=["a"])
    refused = await caller.refused("RetryExecution", request)
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXECUTIONS")
