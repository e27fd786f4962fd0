"""Unary calls: what each returns, and how it refuses what the table of bad inputs can't say."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stepwire.v1 import (
    BuildPlanRequest,
    BuildPlanResponse,
    CancelExecutionRequest,
    CancelExecutionResponse,
    EventBatch,
    ExecuteRequest,
    ExecutionFilter,
    ExecutionState,
    ExecutionView,
    GetExecutionRequest,
    GetServerInfoRequest,
    GetServerInfoResponse,
    ListEventsRequest,
    ListExecutionsRequest,
    ListExecutionsResponse,
    ListOperationsRequest,
    ListOperationsResponse,
    PauseExecutionRequest,
    PauseExecutionResponse,
    ProvideInputRequest,
    ProvideInputResponse,
    ResumeExecutionRequest,
    ResumeExecutionResponse,
    StartExecutionRequest,
    StartExecutionResponse,
    WaitExecutionRequest,
    WaitExecutionResponse,
    WatchExecutionRequest,
)
from stepwire.v1.execution_service_pb2 import DESCRIPTOR
from stepwire.values import to_python, to_value
from stepwire_server import plan_step
from stepwire_server.api.server import Server
from stepwire_server.journal import Journal, Retention

from .conftest import Call, Serve, eventually
from .shop import BLOCKED, QUICK, Caller, Gate, plan, receive

COMPLETED = ExecutionState.EXECUTION_STATE_COMPLETED
CANCELLED = ExecutionState.EXECUTION_STATE_CANCELLED
CANCELLING = ExecutionState.EXECUTION_STATE_CANCELLING

METHODS = {method.name: method for method in DESCRIPTOR.services_by_name["ExecutionService"].methods}


async def info_of(caller: Caller) -> GetServerInfoResponse:
    return await caller.call("GetServerInfo", GetServerInfoRequest(), GetServerInfoResponse)


# -- what the server is


async def test_server_info(serve: Serve, call_with: Call, journal: Journal) -> None:
    """GetServerInfo says the version, the app, the journal, the start and the limits that are kept."""
    info = await info_of(call_with(await serve(journal, max_watchers=7, max_executions=5)))

    assert (info.version, info.app, info.journal) == ("1.2.3", "shop", journal.kind)
    assert info.start_time.seconds > 1_600_000_000
    assert (info.limits.max_watchers, info.limits.max_executions) == (7, 5)
    assert info.limits.max_plan_steps == 10_000
    assert info.limits.max_plan_bytes == 768 * 1024
    assert info.limits.max_query_characters == 10_000
    assert info.limits.max_request_bytes == 4 << 20
    assert info.limits.max_event_bytes == 1 << 20
    assert info.limits.cancel_grace == Duration(nanos=500_000_000)
    assert info.limits.max_parallel_steps == 32


@pytest.mark.parametrize("name", sorted(METHODS))
async def test_capabilities(name: str, caller: Caller) -> None:
    """Capabilities name every method of the contract, and each is built."""
    assert name in (await info_of(caller)).capabilities
    call = caller.open(name, b"")
    await receive(call)
    call.cancel()  # Without a request some of them go on for ever.
    assert await call.code() is not grpc.StatusCode.UNIMPLEMENTED


async def test_capabilities_are_methods(caller: Caller) -> None:
    """Every capability is the name of a method, once, in order."""
    capabilities = list((await info_of(caller)).capabilities)
    assert capabilities == sorted(set(capabilities))
    assert set(capabilities) <= set(METHODS)


async def test_list_operations(caller: Caller) -> None:
    """ListOperations gives every operation and plan by name, with its schema, and what the planner serves."""
    found = await caller.call("ListOperations", ListOperationsRequest(), ListOperationsResponse)

    assert [operation.name for operation in found.operations] == ["add", "ask", "chatter", "echo", "stubborn", "wait"]
    add = found.operations[0]
    assert add.description == "Add two numbers."
    assert add.input_schema["properties"]["a"]["type"] == "integer"
    assert list(add.input_schema["required"]) == ["a"]
    assert add.timeout == Duration(seconds=30)
    assert not add.HasField("retry")
    assert [plan.name for plan in found.plans] == ["greet"]
    assert found.plans[0].input_schema["properties"]["name"]["type"] == "string"
    assert found.has_planner
    assert "hello" in found.planner_description


async def test_build_plan(server: Server, caller: Caller) -> None:
    """BuildPlan gives the plan that would run, and runs nothing."""
    found = await caller.call("BuildPlan", BuildPlanRequest(query="hello"), BuildPlanResponse)

    assert [step.operation for step in found.plan.steps] == ["echo"]
    assert server.engine.running == 0


async def test_without_a_planner(serve: Serve, call_with: Call) -> None:
    """A server whose app has no planner says so to queries, of Execute and BuildPlan."""
    server = await serve()
    object.__setattr__(server.engine.catalog, "planner", None)
    caller = call_with(server)
    for method, request in (
        ("Execute", ExecuteRequest(query="hello")),
        ("StartExecution", StartExecutionRequest(query="hello")),
        ("BuildPlan", BuildPlanRequest(query="hello")),
    ):
        refused = await caller.refused(method, request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_PLANNER")
    assert not (await caller.call("ListOperations", ListOperationsRequest(), ListOperationsResponse)).has_planner


# -- starting, and snapshots


async def test_start_and_get(serve: Serve, call_with: Call, journal: Journal) -> None:
    """StartExecution returns at once with what is durable; GetExecution gives the snapshot, and its plan on request."""
    caller = call_with(await serve(journal))
    started = await caller.start(QUICK, request_id="r", session_id="s", labels={"a": "b"})
    assert (started.request_id, started.session_id, dict(started.labels)) == ("r", "s", {"a": "b"})
    assert started.attempt_count == 1
    assert started.HasField("create_time")

    ended = await caller.ended(started.execution_id)
    assert ended.state == COMPLETED
    assert ended.as_of_sequence == len(await caller.events(started.execution_id))
    assert not ended.HasField("plan")
    assert await caller.get(started.execution_id) == ended

    full = await caller.get(started.execution_id, view=ExecutionView.EXECUTION_VIEW_FULL)
    assert [step.id for step in full.plan.steps] == ["a", "b"]
    full.ClearField("plan")
    assert full == ended


async def test_a_query_that_is_not_understood_runs_and_fails(caller: Caller) -> None:
    """Planning is a part of the execution: a query that can't be planned is accepted, and ends in plan_failed."""
    batches = await caller.stream("Execute", ExecuteRequest(query="nonsense"))

    assert batches[-1].events[-1].WhichOneof("kind") == "plan_failed"
    assert "say hello" in batches[-1].events[-1].plan_failed.error.message


# -- waiting


async def test_wait_returns_at_the_end(caller: Caller, gate: Gate) -> None:
    """WaitExecution returns when the execution ends, with the ended snapshot in the view that was asked for."""
    execution = await caller.start(BLOCKED)
    request = WaitExecutionRequest(
        execution_id=execution.execution_id, timeout=Duration(seconds=60), view=ExecutionView.EXECUTION_VIEW_FULL
    )
    waiting = asyncio.ensure_future(caller.call("WaitExecution", request, WaitExecutionResponse))
    await gate.waiting.wait()
    assert not waiting.done()
    gate.opened.set()

    ended = (await waiting).execution
    assert ended.state == COMPLETED
    assert len(ended.plan.steps) == 2


@pytest.mark.parametrize("span", [Duration(), Duration(nanos=100_000_000)])
async def test_wait_returns_at_its_timeout(span: Duration, server: Server, caller: Caller, gate: Gate) -> None:
    """WaitExecution returns at its timeout with the snapshot so far."""
    execution = await caller.start(BLOCKED)
    await gate.waiting.wait()
    request = WaitExecutionRequest(execution_id=execution.execution_id, timeout=span)
    found = (await caller.call("WaitExecution", request, WaitExecutionResponse)).execution

    assert found.state == ExecutionState.EXECUTION_STATE_RUNNING
    assert server.streams.open == 0


# -- listing


async def listed(caller: Caller, **fields: object) -> tuple[list[str], list[int], list[int]]:
    """Returns all pages of a listing joined: ids, page sizes, total sizes."""
    ids: list[str] = []
    sizes: list[int] = []
    totals: list[int] = []
    token = ""
    while True:
        request = ListExecutionsRequest(page_token=token, **fields)  # type: ignore[arg-type]
        page = await caller.call("ListExecutions", request, ListExecutionsResponse)
        ids += [execution.execution_id for execution in page.executions]
        sizes.append(len(page.executions))
        totals.append(page.total_size)
        token = page.next_page_token
        if not token:
            return ids, sizes, totals


async def test_pages_join(serve: Serve, call_with: Call, journal: Journal) -> None:
    """Pages of every size join to the whole, newest first; a page token keeps its place while others start."""
    caller = call_with(await serve(journal))
    started = [(await caller.run(QUICK)).execution_id for _ in range(7)]
    newest_first = started[::-1]
    for size in (0, 1, 2, 3, 7, 8, 2**31 - 1):
        ids, sizes, totals = await listed(caller, page_size=size)
        assert ids == newest_first
        assert all(count <= (size or 50) for count in sizes)
        assert set(totals) == {7}
    first = await caller.call("ListExecutions", ListExecutionsRequest(page_size=3), ListExecutionsResponse)
    await caller.run(QUICK)
    request = ListExecutionsRequest(page_size=9, page_token=first.next_page_token)
    rest = await caller.call("ListExecutions", request, ListExecutionsResponse)
    assert [execution.execution_id for execution in rest.executions] == newest_first[3:]
    assert rest.total_size == 8


async def test_listing_selects(serve: Serve, call_with: Call, journal: Journal, gate: Gate) -> None:
    """Session, labels, states, ids and times each select, together and alone, and total_size counts what matches."""
    caller = call_with(await serve(journal))
    a = await caller.run(QUICK, session_id="one", labels={"x": "1", "y": "1"})
    b = await caller.run(QUICK, session_id="two", labels={"x": "1"})
    c = await caller.start(BLOCKED, session_id="one", labels={"x": "2"})
    await gate.waiting.wait()
    await eventually_running(caller, c.execution_id)
    after_a = Timestamp()
    after_a.FromNanoseconds(a.create_time.ToNanoseconds() + 1)
    for chosen, expected in (
        (ExecutionFilter(), [c, b, a]),
        (ExecutionFilter(session_id="one"), [c, a]),
        (ExecutionFilter(session_id="three"), []),
        (ExecutionFilter(labels={"x": "1"}), [b, a]),
        (ExecutionFilter(labels={"x": "1", "y": "1"}), [a]),
        (ExecutionFilter(session_id="one", labels={"x": "1"}), [a]),
        (ExecutionFilter(states=[COMPLETED]), [b, a]),
        (ExecutionFilter(states=[COMPLETED, ExecutionState.EXECUTION_STATE_RUNNING]), [c, b, a]),
        (ExecutionFilter(execution_ids=[a.execution_id, "nobody"]), [a]),
        (ExecutionFilter(created_from=after_a), [c, b]),
        (ExecutionFilter(created_before=after_a), [a]),
        (ExecutionFilter(created_from=Timestamp(seconds=253_402_300_799)), []),
        (ExecutionFilter(created_before=Timestamp(seconds=-62_135_596_800)), []),
    ):
        ids, _, totals = await listed(caller, filter=chosen, page_size=1)
        assert ids == [execution.execution_id for execution in expected], chosen
        assert set(totals) == {len(expected)}


async def eventually_running(caller: Caller, execution_id: str) -> None:
    async with asyncio.timeout(20):
        while (await caller.get(execution_id)).state != ExecutionState.EXECUTION_STATE_RUNNING:
            pass


async def test_views_of_a_listing(serve: Serve, call_with: Call, journal: Journal) -> None:
    """A listing has outputs and plans in the full view only."""
    caller = call_with(await serve(journal))
    await caller.run(QUICK)
    for view, whole in ((0, False), (1, False), (2, True)):
        request = ListExecutionsRequest(view=view)  # type: ignore[arg-type]
        page = await caller.call("ListExecutions", request, ListExecutionsResponse)
        [execution] = page.executions
        assert (execution.HasField("plan"), execution.HasField("output")) == (whole, whole)


async def test_a_listed_execution_without_events_has_its_query(
    serve: Serve, call_with: Call, journal: Journal, gate: Gate
) -> None:
    """An execution that is still planning is listed with its query."""
    caller = call_with(await serve(journal))
    started = await caller.call("StartExecution", StartExecutionRequest(query="slow"), StartExecutionResponse)
    await gate.waiting.wait()
    page = await caller.call("ListExecutions", ListExecutionsRequest(), ListExecutionsResponse)

    assert page.executions[0].query == "slow"
    assert page.executions[0] == started.execution


async def test_large_listings_are_cut(caller: Caller) -> None:
    """A page ends before it becomes larger than a caller takes; the token goes on where it ended."""
    text = "x" * 300_000
    plan = type(QUICK)(steps=QUICK.steps)
    plan.steps[1].input.update({"value": text})
    started = [(await caller.run(plan)).execution_id for _ in range(8)]
    ids, sizes, _ = await listed(caller, view=ExecutionView.EXECUTION_VIEW_FULL)

    assert ids == started[::-1]
    assert len(sizes) > 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(token=st.text(max_size=40) | st.binary(max_size=24).map(lambda raw: raw.hex()))
async def test_page_tokens_are_never_a_bug(token: str, caller: Caller) -> None:
    """Whatever stands in page_token, the answer is a page or PAGE_TOKEN_INVALID."""
    call = caller.open("ListExecutions", ListExecutionsRequest(page_token=token))
    await receive(call)
    assert await call.code() in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)


async def test_list_events(caller: Caller) -> None:
    """Pages of events join, have the execution, and the last one ends with the terminal event."""
    ended = await caller.run(QUICK)
    for size in (0, 1, 4, 512, 513, 2**31 - 1):
        cursor, found = 0, 0
        while cursor < ended.as_of_sequence:
            request = ListEventsRequest(execution_id=ended.execution_id, after_sequence=cursor, page_size=size)
            page = await caller.call("ListEvents", request, EventBatch)
            assert page.execution == ended
            assert page.after_sequence == cursor
            cursor, found = page.sequence, found + len(page.events)
        assert page.events[-1].WhichOneof("kind") == "plan_completed"
        assert found == cursor
    request = ListEventsRequest(execution_id=ended.execution_id, after_sequence=cursor)
    empty = await caller.call("ListEvents", request, EventBatch)
    assert (list(empty.events), empty.after_sequence, empty.sequence) == ([], cursor, cursor)


# -- control


async def test_pause_and_resume(serve: Serve, call_with: Call, journal: Journal, gate: Gate) -> None:
    """PauseExecution and ResumeExecution answer with the state once it is recorded, and again where nothing changes."""
    caller = call_with(await serve(journal))
    execution = await caller.start(plan(plan_step("a", "wait"), plan_step("b", "echo", depends_on=["a"])))
    await gate.waiting.wait()
    asked = {"execution_id": execution.execution_id, "reason": "why not", "actor": "Ada"}
    pause, resume = PauseExecutionRequest(**asked), ResumeExecutionRequest(**asked)
    found = [(await caller.call("PauseExecution", pause, PauseExecutionResponse)).execution for _ in range(2)]
    assert [execution.state for execution in found] == [ExecutionState.EXECUTION_STATE_PAUSED] * 2
    assert found[0].as_of_sequence == found[1].as_of_sequence
    found = [(await caller.call("ResumeExecution", resume, ResumeExecutionResponse)).execution for _ in range(2)]
    assert [execution.state for execution in found] == [ExecutionState.EXECUTION_STATE_RUNNING] * 2
    gate.opened.set()
    assert (await caller.ended(execution.execution_id)).state == COMPLETED
    for method, request in (("PauseExecution", pause), ("ResumeExecution", resume)):
        refused = await caller.refused(method, request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTION_ENDED")
        assert refused.error.metadata["state"] == "COMPLETED"
    events = [event for event in await caller.events(execution.execution_id) if "pause" in event.WhichOneof("kind")]
    assert [(event.plan_paused.actor, event.plan_paused.reason) for event in events] == [("Ada", "why not")]


async def test_provide_input(serve: Serve, call_with: Call, journal: Journal, gate: Gate) -> None:
    """ProvideInput answers once the answer is recorded, and again the same, also after the end; what does not fit, or
    comes too late, is refused with every place, and leaves no trace.
    """
    caller = call_with(await serve(journal))
    execution = await caller.start(plan(plan_step("a", "ask"), plan_step("b", "wait", depends_on=["a"])))
    waiting = WatchExecutionRequest(execution_id=execution.execution_id, filter={"kinds": ["input_requested"]})
    async for batch in caller.batches("WatchExecution", waiting):
        if batch.events:
            break
    question = batch.events[0].input_requested
    assert to_python(question.schema)["properties"] == {"amount": {"type": "number"}}

    def answer(value: Any = None, **more: Any) -> ProvideInputRequest:
        given = {"execution_id": execution.execution_id, "input_id": question.input_id, "actor": "Ada"} | more
        return ProvideInputRequest(**given, value=to_value(value))

    missing = ProvideInputRequest(execution_id=execution.execution_id, input_id=question.input_id)
    for request, fields in (
        (answer({"amount": "much"}), {"value.amount"}),
        (answer(5), {"value"}),
        (missing, {"value"}),
    ):
        refused = await caller.refused("ProvideInput", request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INPUT_INVALID")
        assert {field for field, _ in refused.error.violations} == fields
    refused = await caller.refused("ProvideInput", answer({"amount": 1}, input_id="another"))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INPUT_NOT_REQUESTED")
    refused = await caller.refused("ProvideInput", answer({"amount": 1}, execution_id="nobody"))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND")
    refused = await caller.refused("ProvideInput", answer({"text": "x" * (1 << 20)}))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_SIZE")

    first = (await caller.call("ProvideInput", answer({"amount": 2.5}), ProvideInputResponse)).execution
    assert (first.execution_id, first.state) == (execution.execution_id, ExecutionState.EXECUTION_STATE_RUNNING)
    await gate.waiting.wait()
    again = [(await caller.call("ProvideInput", answer({"amount": 2.5}), ProvideInputResponse)) for _ in range(2)]
    assert again[0] == again[1]
    refused = await caller.refused("ProvideInput", answer({"amount": 2}))
    assert refused.error.reason == "INPUT_NOT_REQUESTED"
    gate.opened.set()
    assert (await caller.ended(execution.execution_id)).state == COMPLETED
    late = (await caller.call("ProvideInput", answer({"amount": 2.5}), ProvideInputResponse)).execution
    assert late.state == COMPLETED
    refused = await caller.refused("ProvideInput", answer({"amount": 2}))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "EXECUTION_ENDED")
    events = [event for event in await caller.events(execution.execution_id) if event.HasField("input_received")]
    assert [(event.input_received.actor, to_python(event.input_received.value)) for event in events] == [
        ("Ada", {"amount": 2.5})
    ]


async def test_cancel(serve: Serve, call_with: Call, journal: Journal, gate: Gate) -> None:
    """CancelExecution answers when it is recorded, again while it is cancelling, and the end comes in the grace."""
    caller = call_with(await serve(journal))
    execution = await caller.start(plan(plan_step("a", "stubborn"), plan_step("b", "echo", depends_on=["a"])))
    await gate.waiting.wait()
    request = CancelExecutionRequest(execution_id=execution.execution_id, reason="why not", actor="Ada")
    found = [
        answer.execution.state
        for answer in await asyncio.gather(
            *(caller.call("CancelExecution", request, CancelExecutionResponse) for _ in range(5))
        )
    ]
    assert found == [CANCELLING] * 5
    gate.opened.set()

    ended = await caller.ended(execution.execution_id)
    assert ended.state == CANCELLED
    kinds = [(event.WhichOneof("kind"), event.sequence) for event in await caller.events(execution.execution_id)]
    names = [kind for kind, _ in kinds]
    assert names.count("plan_cancelling") == 1
    assert names[-1] == "plan_cancelled"
    cancelling = (await caller.events(execution.execution_id))[names.index("plan_cancelling")]
    assert (cancelling.plan_cancelling.actor, cancelling.plan_cancelling.reason) == ("Ada", "why not")

    refused = await caller.refused("CancelExecution", request)
    assert refused.error.reason == "EXECUTION_ENDED"
    assert refused.error.metadata["state"] == "CANCELLED"


# -- what was purged


async def test_a_purged_execution(serve: Serve, call_with: Call, journal: Journal) -> None:
    """Watching what was purged, or starting it again by its request id, is CURSOR_EXPIRED; else it is not there."""
    server = await serve(journal)
    caller = call_with(server)
    gone = await caller.run(QUICK, request_id="gone")
    kept = await caller.run(QUICK, request_id="kept")
    await journal.purge(Retention(keep_executions=1))
    for method, request in (
        ("WatchExecution", WatchExecutionRequest(execution_id=gone.execution_id)),
        ("WatchExecution", WatchExecutionRequest(execution_id=gone.execution_id, after_sequence=3)),
        ("ListEvents", ListEventsRequest(execution_id=gone.execution_id)),
        ("Execute", ExecuteRequest(plan=QUICK, request_id="gone")),
        ("StartExecution", StartExecutionRequest(plan=QUICK, request_id="gone")),
        ("Execute", ExecuteRequest(query="hello", request_id="gone")),
    ):
        refused = await caller.refused(method, request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "CURSOR_EXPIRED"), method
        assert refused.error.metadata["last_sequence"] == str(gone.as_of_sequence)
        assert refused.error.metadata["first_sequence"] == str(gone.as_of_sequence + 1)
    for method, request in (
        ("GetExecution", GetExecutionRequest(execution_id=gone.execution_id)),
        ("WaitExecution", WaitExecutionRequest(execution_id=gone.execution_id)),
        ("CancelExecution", CancelExecutionRequest(execution_id=gone.execution_id)),
    ):
        refused = await caller.refused(method, request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.NOT_FOUND, "EXECUTION_NOT_FOUND"), method
    assert await listed(caller) == ([kept.execution_id], [1], [1])
    assert server.engine.running == 0


# -- limits


async def test_limit_of_watchers(serve: Serve, call_with: Call, gate: Gate) -> None:
    """Streams and waits share one limit; beyond it RetryInfo says when to come again, and an end makes room."""
    server = await serve(max_watchers=2)
    caller = call_with(server)
    execution = await caller.start(BLOCKED)
    watch = WatchExecutionRequest(execution_id=execution.execution_id)
    calls = [caller.open("WatchExecution", watch) for _ in range(2)]
    for call in calls:
        await receive(call)
    for method, request in (
        ("WatchExecution", watch),
        ("Execute", ExecuteRequest(plan=QUICK)),
        ("WaitExecution", WaitExecutionRequest(execution_id=execution.execution_id)),
    ):
        refused = await caller.refused(method, request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_WATCHERS")
        assert refused.error.retry_after is not None
    assert server.engine.running == 1
    calls[0].cancel()
    await eventually(lambda: server.streams.open == 1)
    await caller.execute(QUICK)
    calls[1].cancel()


async def test_limit_of_executions(serve: Serve, call_with: Call, gate: Gate) -> None:
    """Beyond the limit of executions RetryInfo says when to come again, nothing is stored, and an end makes room."""
    server = await serve(max_executions=2)
    caller = call_with(server)
    first = await caller.start(BLOCKED, request_id="first")
    await caller.start(BLOCKED)
    for method, request in (
        ("StartExecution", StartExecutionRequest(plan=QUICK, request_id="other")),
        ("Execute", ExecuteRequest(plan=QUICK, request_id="other")),
    ):
        refused = await caller.refused(method, request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXECUTIONS")
        assert refused.error.retry_after is not None
    # Who is in already, may come back.
    assert (await caller.start(BLOCKED, request_id="first")).execution_id == first.execution_id
    assert (await listed(caller))[2] == [2]
    gate.opened.set()
    await caller.ended(first.execution_id)
    await eventually(lambda: server.engine.running < 2)
    await caller.run(QUICK, request_id="other")


async def test_a_burst_stays_below_the_limit(serve: Serve, call_with: Call) -> None:
    """A hundred starts at once never let more in than the limit."""
    server = await serve(max_executions=10)
    caller = call_with(server)

    async def start() -> bool:
        call = caller.open("StartExecution", StartExecutionRequest(plan=BLOCKED))
        await receive(call)
        return await call.code() is grpc.StatusCode.OK

    accepted = await asyncio.gather(*(start() for _ in range(100)))
    assert sum(accepted) == 10
    assert server.engine.running == 10
