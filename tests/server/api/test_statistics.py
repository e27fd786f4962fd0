"""What GetStatistics says, as a caller sees it on the wire."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.v1 import (
    CancelExecutionRequest,
    CancelExecutionResponse,
    ExecuteRequest,
    GetStatisticsRequest,
    GetStatisticsResponse,
    Plan,
    PlanCall,
    StartExecutionRequest,
    StartExecutionResponse,
)
from stepwire_server import plan_step
from stepwire_server.api.statistics import answer_of
from stepwire_server.journal import Journal, Outcome, Statistics, Summary, Tally
from stepwire_server.journal.statistics import Kind, tallies

from .conftest import Call, Serve
from .shop import BLOCKED, QUICK, Caller, Gate

HOUR = 3600


async def asked(caller: Caller, **fields: Any) -> GetStatisticsResponse:
    return await caller.call("GetStatistics", GetStatisticsRequest(**fields), GetStatisticsResponse)


async def test_what_ended_is_told(serve: Serve, call_with: Call, journal: Journal, gate: Gate) -> None:
    """Statistics have every operation and plan of which something ended, over whole hours."""
    caller = call_with(await serve(journal))
    for _ in range(2):
        await caller.run()
    call = StartExecutionRequest(call=PlanCall(plan="greet", input={"name": "Ada"}))  # type: ignore[arg-type]
    named = await caller.call("StartExecution", call, StartExecutionResponse)
    ended = await caller.ended(named.execution.execution_id)
    await caller.run(Plan(name="own", steps=[plan_step("a", "echo")]))
    blocked = await caller.start(BLOCKED)
    await gate.waiting.wait()
    cancel = CancelExecutionRequest(execution_id=blocked.execution_id)
    await caller.call("CancelExecution", cancel, CancelExecutionResponse)
    await caller.ended(blocked.execution_id)

    found = await asked(caller)

    assert [(one.operation, one.count, one.cancelled) for one in found.operations] == [
        ("add", 2, 0),
        ("echo", 4, 0),
        ("wait", 0, 1),
    ]
    assert [(one.plan, one.completed, one.cancelled) for one in found.plans] == [
        ("", 2, 1),
        ("greet", 1, 0),
        ("own", 1, 0),
    ]
    assert (found.completed_executions, found.failed_executions, found.cancelled_executions) == (4, 0, 1)
    add, _, wait = found.operations
    assert 0 < add.p50.ToNanoseconds() <= add.p95.ToNanoseconds() <= add.p99.ToNanoseconds()
    assert add.HasField("mean_wait")
    assert [wait.HasField("p50"), wait.HasField("mean_wait")] == [False, False]
    assert (wait.bottleneck, found.plans[1].bottleneck, found.plans[1].bottleneck_count) == (1, "echo", 1)
    assert found.from_time.seconds % HOUR == found.before_time.seconds % HOUR == 0
    assert found.from_time.seconds <= ended.end_time.seconds < found.before_time.seconds


async def test_names_select(caller: Caller) -> None:
    """Only what is named is told; what is named and unknown has no entry; totals are those of all."""
    await caller.run()
    await caller.run(Plan(name="own", steps=[plan_step("a", "echo")]))
    found = await asked(caller, operations=["add", "no such"], plans=["own"])
    assert [one.operation for one in found.operations] == ["add"]
    assert [one.plan for one in found.plans] == ["own"]
    assert found.completed_executions == 2
    assert [one.plan for one in (await asked(caller, plans=[""])).plans] == [""]


async def test_a_span_selects(caller: Caller) -> None:
    """What ended outside of the hours that the span touches is not told; the response says which hours these are."""
    ended = (await caller.run()).end_time
    hour = ended.seconds // HOUR * HOUR
    within = await asked(caller, from_time=ended, before_time=Timestamp(seconds=ended.seconds + 1))
    assert within.completed_executions == 1
    assert within.from_time.seconds == hour
    assert within.before_time.seconds in (hour + HOUR, hour + 2 * HOUR)
    before = await asked(caller, before_time=Timestamp(seconds=hour))
    assert before.completed_executions == 0
    assert not before.operations
    assert not before.HasField("from_time")
    assert before.before_time.seconds == hour
    ever = await asked(
        caller, from_time=Timestamp(seconds=-62_135_596_800), before_time=Timestamp(seconds=253_402_300_799)
    )
    assert ever.completed_executions == 1


async def test_nothing_has_ended(caller: Caller) -> None:
    """Of an empty journal there is nothing to tell, and no span."""
    assert await asked(caller) == GetStatisticsResponse()


@pytest.mark.parametrize("simulate", [False, True])
async def test_a_simulation_is_not_counted(caller: Caller, simulate: bool) -> None:
    """A simulated execution is not in the statistics."""
    request = ExecuteRequest(plan=QUICK)
    request.options.simulate = simulate
    await caller.run(QUICK, options=request.options)
    assert (await asked(caller)).completed_executions == (not simulate)


def found(*summaries: Summary) -> Statistics:
    plans: dict[str, Tally] = {}
    for summary in summaries:
        for key, tally in tallies(summary, tenant="").items():
            if key.period.kind is Kind.PLAN and key.period.width == HOUR:
                plans.setdefault(key.name, Tally()).merge(tally)
    return Statistics(from_time=None, before_time=None, operations={}, plans=plans, damaged=3)


def ended(plan: str, outcome: Outcome = Outcome.COMPLETED) -> Summary:
    return Summary(outcome=outcome, plan=plan, end_time_ns=1, duration_ns=10**9, wait_ns=None, bottleneck="", steps=[])


def test_an_answer_is_bounded() -> None:
    """Of more than 1,000 plans those come of which most executions ended, by name, and how many are left out."""
    busy = [ended(f"busy{n}") for n in range(10) for _ in range(2)]
    answer = answer_of(found(*busy, *(ended(f"p{n}") for n in range(1_500))), GetStatisticsRequest())
    names = [one.plan for one in answer.plans]
    assert (len(names), answer.omitted_plans) == (1_000, 510)
    assert names == sorted(names)
    assert {f"busy{n}" for n in range(10)} <= set(names)
    assert answer.completed_executions == 1_520


def test_rates() -> None:
    """A failure rate is the share of what failed in what completed or failed; what was cancelled is no part of it."""
    outcomes = [Outcome.FAILED, Outcome.COMPLETED, Outcome.COMPLETED, Outcome.COMPLETED, Outcome.CANCELLED]
    answer = answer_of(found(*(ended("p", outcome) for outcome in outcomes)), GetStatisticsRequest())
    (plan,) = answer.plans
    assert (plan.failed, plan.failure_rate, plan.cancelled) == (1, 0.25, 1)
    assert plan.p50.ToNanoseconds() == pytest.approx(10**9, rel=0.01)
    assert answer.damaged_tallies == 3
