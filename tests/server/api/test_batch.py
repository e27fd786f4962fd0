"""Several executions that are accepted together: all of them or none."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from stepwire.v1 import (
    BatchStartExecutionsRequest,
    BatchStartExecutionsResponse,
    Execution,
    ListExecutionsRequest,
    ListExecutionsResponse,
    Plan,
    StartExecutionRequest,
)
from stepwire_server import plan_step
from stepwire_server.journal import Journal, Retention

from .conftest import Call, Serve
from .shop import BLOCKED, QUICK, Caller, plan


def asked(count: int, *, of: Plan = QUICK, names: str = "r") -> list[StartExecutionRequest]:
    return [StartExecutionRequest(plan=of, request_id=f"{names}{number}") for number in range(count)]


async def batch(caller: Caller, requests: list[StartExecutionRequest]) -> list[Execution]:
    request = BatchStartExecutionsRequest(requests=requests)
    return list((await caller.call("BatchStartExecutions", request, BatchStartExecutionsResponse)).executions)


async def total(caller: Caller) -> int:
    return (await caller.call("ListExecutions", ListExecutionsRequest(), ListExecutionsResponse)).total_size


@pytest.fixture
async def on_disk(serve: Serve, call_with: Call, journal: Journal) -> Caller:
    return call_with(await serve(journal))


async def test_all_run(on_disk: Caller) -> None:
    """Each of the requests becomes an execution of its own, in their order, and runs."""
    requests = [StartExecutionRequest(plan=QUICK, session_id="s", labels={"n": str(number)}) for number in range(50)]
    started = await batch(on_disk, requests)
    assert [execution.labels["n"] for execution in started] == [str(number) for number in range(50)]
    for execution in started:
        assert (await on_disk.ended(execution.execution_id)).progress.percentage == 100


async def test_the_same_batch_again(on_disk: Caller) -> None:
    """A batch that is sent again, also twice at once or with more beside it, gives the executions that exist."""
    first, second = await asyncio.gather(batch(on_disk, asked(20)), batch(on_disk, asked(20)))
    names = [execution.execution_id for execution in first]
    assert [execution.execution_id for execution in second] == names
    more = await batch(on_disk, [*asked(2, names="new"), *asked(20)])
    assert [execution.execution_id for execution in more[2:]] == names
    assert await total(on_disk) == 22


NONE = plan(plan_step("a", "no_such"))
CYCLE = Plan(steps=[plan_step("a", "echo", depends_on=["b"]), plan_step("b", "echo", depends_on=["a"])])
LATE = plan(plan_step("a", "add", input={"a": "one"}))


@pytest.mark.parametrize(
    ("bad", "code", "reason", "field"),
    [
        (StartExecutionRequest(plan=NONE), "NOT_FOUND", "OPERATION_NOT_FOUND", "requests[2].plan.steps[0].operation"),
        (StartExecutionRequest(plan=LATE), "INVALID_ARGUMENT", "INPUT_INVALID", "requests[2].plan.steps[0].input.a"),
        (StartExecutionRequest(), "INVALID_ARGUMENT", "REQUEST_MALFORMED", "requests[2].work"),
        (
            StartExecutionRequest(plan=QUICK, request_id="r1"),
            "INVALID_ARGUMENT",
            "REQUEST_MALFORMED",
            "requests[2].request_id",
        ),
        (
            StartExecutionRequest(plan=BLOCKED, request_id="taken"),
            "ALREADY_EXISTS",
            "REQUEST_ID_REUSED",
            "requests[2]",
        ),
    ],
)
async def test_one_that_is_wrong(
    on_disk: Caller, bad: StartExecutionRequest, code: str, reason: str, field: str
) -> None:
    """Where one can't be accepted none is, and the violation names it by its index."""
    await on_disk.start(QUICK, request_id="taken")
    refused = await on_disk.refused(
        "BatchStartExecutions", BatchStartExecutionsRequest(requests=[*asked(2), bad, *asked(2, names="x")])
    )
    assert (refused.code.name, refused.error.reason) == (code, reason)
    assert refused.error.violations[0].field == field
    assert await total(on_disk) == 1


async def test_a_purged_one(on_disk: Caller, journal: Journal) -> None:
    """A request id whose execution was purged keeps the whole batch from running, and is named."""
    for name in ("old", "kept"):
        await on_disk.ended((await on_disk.start(QUICK, request_id=name)).execution_id)
    await journal.purge(Retention(keep_days=0, keep_executions=1))
    requests = [*asked(2), StartExecutionRequest(plan=QUICK, request_id="old")]
    refused = await on_disk.refused("BatchStartExecutions", BatchStartExecutionsRequest(requests=requests))
    assert refused.error.reason == "CURSOR_EXPIRED"
    assert refused.error.violations[0].field == "requests[2]"
    assert await total(on_disk) == 1


@pytest.mark.parametrize("count", [0, 1_001])
async def test_how_many(caller: Caller, count: int) -> None:
    """A batch has 1 to 1,000 requests."""
    refused = await caller.refused(
        "BatchStartExecutions", BatchStartExecutionsRequest(requests=[StartExecutionRequest(query="hello")] * count)
    )
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_MALFORMED")


async def test_it_has_to_fit(caller: Caller) -> None:
    """A batch whose answer might not fit into a message is refused."""
    requests = [StartExecutionRequest(query="x" * 9_999)] * 400
    refused = await caller.refused("BatchStartExecutions", BatchStartExecutionsRequest(requests=requests))
    assert refused.error.reason == "LIMIT_SIZE"


async def test_limits_count_each(serve: Serve, call_with: Call) -> None:
    """Each request of a batch counts for the executions that may run, but for those that run already."""
    caller = call_with(await serve(max_executions=5))
    await batch(caller, asked(3, of=BLOCKED))
    await full(caller, asked(3, of=BLOCKED, names="more"))
    assert await total(caller) == 3
    await batch(caller, [*asked(3, of=BLOCKED), *asked(2, of=BLOCKED, names="y")])
    assert await total(caller) == 5


async def test_starts_count_each(serve: Serve, call_with: Call) -> None:
    """Each request of a batch counts as a start of its caller, while the batch is being accepted."""
    caller = call_with(await serve(max_starts_per_caller=7))
    await full(caller, asked(8))
    assert len(await batch(caller, asked(7))) == 7
    assert len(await batch(caller, asked(7, names="again"))) == 7


async def full(caller: Caller, requests: list[StartExecutionRequest]) -> None:
    refused = await caller.refused("BatchStartExecutions", BatchStartExecutionsRequest(requests=requests))
    assert refused.error.reason == "LIMIT_EXECUTIONS"
    assert refused.error.retry_after is not None
