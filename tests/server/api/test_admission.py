"""Limits: for each kind of place, for each caller and in all; refused with what to do, and never a place lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import fields
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from stepwire.errors import LimitReached
from stepwire.v1 import (
    BuildPlanRequest,
    ExecuteRequest,
    ExecutionFilter,
    GetExecutionRequest,
    GetServerInfoRequest,
    GetServerInfoResponse,
    Load,
    StartExecutionRequest,
    WaitExecutionRequest,
    WatchExecutionRequest,
)
from stepwire_server.api.admission import Admission, Place, caller_of
from stepwire_server.api.server import Server
from stepwire_server.journal import ExecutionRecord, MemoryJournal
from stepwire_server.limits import CallLimits

from .conftest import Call, Serve, eventually
from .raw import RawCaller, framed
from .shop import BLOCKED, QUICK, Caller, Gate, chatter, receive

RESOURCE_EXHAUSTED = 8
SOMEBODY_ELSE = "127.0.0.2"


def test_the_log_tells_of_refusals(caplog: pytest.LogCaptureFixture) -> None:
    """The first call that a limit refuses has a line in the log that names the limit, and then one a minute at most."""
    now = 5.0
    admission = Admission(CallLimits(max_watchers_per_caller=1), clock=lambda: now)

    def refuse(times: int) -> int:
        caplog.clear()
        for _ in range(times):
            with pytest.raises(LimitReached), admission.admit(Place.STREAM, "192.0.2.7"):
                pass
        assert all("--max-watchers-per-caller" in line and "192.0.2.7" in line for line in caplog.messages)
        return len(caplog.messages)

    with admission.admit(Place.STREAM, "192.0.2.7"):
        assert refuse(3) == 1
        now = 64.0
        assert refuse(1) == 0
        now = 65.0
        assert refuse(2) == 1


@pytest.mark.parametrize(
    ("peer", "caller"),
    [
        ("ipv4:192.0.2.7:50123", "192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50123", "2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2::1]:50123", "2001:db8:1:2::/64"),
        ("ipv6:%5B::1%5D:50123", "::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:50123", "fe80::/64"),
        ("ipv6:%5B::ffff:192.0.2.7%5D:50123", "192.0.2.7"),
        ("ipv6:nonsense:1", "nonsense"),
        ("unix:", "local"),
        ("unix:/run/stepwire.sock", "local"),
        ("", "local"),
    ],
)
def test_who_is_who(peer: str, caller: str) -> None:
    """A caller is a host whatever its port, an IPv6 network whatever its hosts, and one for all without an address."""
    assert caller_of(peer) == caller


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(Place), st.sampled_from("ab"), st.sampled_from(["take", "take", "take", "end", "fail"])
        ),
        max_size=60,
    )
)
def test_no_place_is_lost(steps: list[tuple[Place, str, str]]) -> None:
    """Whatever comes and however it ends: a caller is refused just at a limit, and in the end all places are free."""
    most, mine = 3, 2
    limits = CallLimits(**{limit.name: mine if "per_caller" in limit.name else most for limit in fields(CallLimits)})
    admission = Admission(limits)
    held: dict[tuple[Place, str], list[ExitStack]] = {}
    count: Counter[Place] = Counter()
    for place, caller, what in steps:
        here = held.setdefault((place, caller), [])
        if what == "take":
            full = len(here) == mine or (count[place] == most and place is not Place.START)
            stack = ExitStack()
            try:
                stack.enter_context(admission.admit(place, caller))
            except LimitReached:
                assert full
                continue
            assert not full
            here.append(stack)
            count[place] += 1
        elif here:
            stack = here.pop()
            count[place] -= 1
            with suppress(ZeroDivisionError), stack:
                if what == "fail":
                    raise ZeroDivisionError
        assert all(admission.taken(kind) == count[kind] for kind in Place)
    for here in held.values():
        for stack in here:
            stack.close()
    assert all(admission.taken(kind) == 0 for kind in Place)
    assert admission.callers == 0


def empty(server: Server) -> bool:
    """Whether nothing is counted: for nobody, of no kind."""
    admissions = (server.admission, server._health.admission)
    return all(admission.callers == 0 == sum(map(admission.taken, Place)) for admission in admissions)


async def ended(call: Any) -> grpc.StatusCode:
    """Reads a call to its end."""
    while await receive(call) is not None:
        pass
    code: grpc.StatusCode = await call.code()
    return code


async def load_of(caller: Caller) -> Load:
    return (await caller.call("GetServerInfo", GetServerInfoRequest(), GetServerInfoResponse)).load


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        ({"max_half_open_calls": 3}, "--max-half-open-calls "),
        ({"max_half_open_calls_per_caller": 3}, "--max-half-open-calls-per-caller "),
    ],
)
async def test_half_open_calls(limits: dict[str, int], setting: str, serve: Serve) -> None:
    """A call beyond the limit of those without a request is refused at once, and the setting is named; a place comes
    back with the request, and with the caller's leaving.
    """
    server = await serve(**limits)
    async with RawCaller(server.address) as raw:
        for _ in range(3):
            raw.open("StartExecution", end=False)
        await eventually(lambda: server.admission.taken(Place.HALF_OPEN) == 3)
        code, error = await raw.open("GetServerInfo", framed(GetServerInfoRequest())).status()
        assert (code, error.reason) == (RESOURCE_EXHAUSTED, "LIMIT_CALLS")
        assert error.retry_after is not None
        assert setting in error.message
    await eventually(lambda: empty(server))
    async with RawCaller(server.address) as raw:
        for _ in range(10):
            assert (await raw.open("GetServerInfo", framed(GetServerInfoRequest())).status())[0] == 0
    assert server.admission.refused["LIMIT_CALLS"] == 1


async def test_one_callers_flood_leaves_room_for_another(serve: Serve) -> None:
    """A caller that has all its places is refused, and another host is served meanwhile."""
    server = await serve(max_half_open_calls_per_caller=20, max_half_open_calls=40)
    async with RawCaller(server.address) as flood, RawCaller(server.address, source=SOMEBODY_ELSE) as other:
        calls = [flood.open("StartExecution", end=False) for _ in range(100)]
        for call in calls[20:]:
            assert (await call.status())[0] == RESOURCE_EXHAUSTED
        refused, _ = await flood.open("GetServerInfo", framed(GetServerInfoRequest())).status()
        served, _ = await other.open("GetServerInfo", framed(GetServerInfoRequest())).status()
    assert (refused, served) == (RESOURCE_EXHAUSTED, 0)


@pytest.mark.parametrize(
    ("limits", "setting"),
    [({"max_calls": 2}, "--max-calls "), ({"max_calls_per_caller": 2}, "--max-calls-per-caller ")],
)
async def test_unary_calls(limits: dict[str, int], setting: str, serve: Serve, call_with: Call, gate: Gate) -> None:
    """A unary call beyond the limit is refused before it does anything; streams are counted apart, and go on."""
    server = await serve(**limits)
    caller = call_with(server)
    slow = [caller.open("BuildPlan", BuildPlanRequest(query="slow")) for _ in range(2)]
    await eventually(lambda: server.admission.taken(Place.CALL) == 2)
    refused = await caller.refused("StartExecution", StartExecutionRequest(plan=QUICK, request_id="r"))
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_CALLS")
    assert refused.error.retry_after is not None
    assert setting in refused.error.message
    assert (await server.engine.journal.list(ExecutionFilter(), tenant="", limit=1)).total == 0
    assert (await caller.execute(QUICK))[-1].events[-1].HasField("plan_completed")

    gate.opened.set()
    for call in slow:
        assert await ended(call) is grpc.StatusCode.OK
    await caller.start(QUICK, request_id="r")
    await eventually(lambda: empty(server))


@pytest.mark.parametrize(
    ("limits", "setting"),
    [({"max_watchers": 2}, "--max-watchers "), ({"max_watchers_per_caller": 2}, "--max-watchers-per-caller ")],
)
async def test_streams_and_waits(limits: dict[str, int], setting: str, serve: Serve, call_with: Call) -> None:
    """Streams and waits share a limit; beyond it nothing is accepted, and unary calls go on."""
    server = await serve(**limits)
    caller = call_with(server)
    execution = await caller.start(BLOCKED)
    watch = WatchExecutionRequest(execution_id=execution.execution_id)
    wait = WaitExecutionRequest(execution_id=execution.execution_id)
    open_calls = [caller.open("WatchExecution", watch), caller.open("WaitExecution", wait)]
    await eventually(lambda: server.streams.open == 2)
    for method, request in (
        ("Execute", ExecuteRequest(plan=QUICK)),
        ("WatchExecution", watch),
        ("WaitExecution", wait),
    ):
        refused = await caller.refused(method, request)
        assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_WATCHERS")
        assert setting in refused.error.message
    assert (await server.engine.journal.list(ExecutionFilter(), tenant="", limit=1)).total == 1
    await caller.get(execution.execution_id)
    for call in open_calls:
        call.cancel()
    await eventually(lambda: empty(server))


class SlowJournal(MemoryJournal):
    """Takes an execution in when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def create(self, record: ExecutionRecord) -> tuple[ExecutionRecord, bool]:
        await self.go.wait()
        return await super().create(record)


async def test_starts_of_one_caller(serve: Serve, call_with: Call) -> None:
    """One caller has so many starts under way and no more; another host's start is taken, and all of them end."""
    journal = SlowJournal()
    server = await serve(journal, max_starts_per_caller=2)
    caller = call_with(server)
    request = StartExecutionRequest(plan=QUICK)
    calls = [caller.open("StartExecution", request), caller.open("Execute", ExecuteRequest(plan=QUICK))]
    await eventually(lambda: server.admission.taken(Place.START) == 2)
    refused = await caller.refused("StartExecution", request)
    assert (refused.code, refused.error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXECUTIONS")
    assert "--max-starts-per-caller " in refused.error.message
    async with RawCaller(server.address, source=SOMEBODY_ELSE) as other:
        stream = other.open("StartExecution", framed(request))
        await eventually(lambda: server.admission.taken(Place.START) == 3)
        journal.go.set()
        assert (await stream.status())[0] == 0
    for call in calls:
        assert await ended(call) is grpc.StatusCode.OK
    await eventually(lambda: empty(server))


async def test_every_end_gives_the_place_back(serve: Serve, call_with: Call, gate: Gate) -> None:
    """After every way in which a call can end, many times and all at once, nothing is counted for anybody."""
    server = await serve(body_timeout=0.3, max_watchers_per_caller=60, max_half_open_calls_per_caller=150)
    caller = call_with(server)
    known = await caller.start(BLOCKED)
    watch = framed(WatchExecutionRequest(execution_id=known.execution_id))
    long = await caller.run(chatter(2_000, size=10_000))
    async with RawCaller(server.address) as raw:
        waited = []
        for _ in range(30):
            waited += [
                raw.open("GetServerInfo", framed(GetServerInfoRequest())),  # answered
                raw.open("GetServerInfo"),  # without a request
                raw.open("StartExecution", b"\0\0", end=False),  # never complete
                raw.open("StartExecution", framed(b"\xff\xff")),  # garbage
                raw.open("GetExecution", framed(GetExecutionRequest(execution_id="nobody"))),  # refused
                raw.open("Execute", framed(ExecuteRequest(plan=QUICK))),  # streamed to its end
            ]
            raw.open("WatchExecution", watch)  # dropped
            raw.open("StartExecution", end=False)  # dropped half-open
            raw.open("BuildPlan", framed(BuildPlanRequest(query="slow")))  # dropped while it runs
            caller.open("WatchExecution", watch[5:]).cancel()  # cancelled
        for call in waited:
            assert (await call.status())[0] >= 0
        async with RawCaller(server.address, reads=False) as stalled:
            stream = stalled.open("WatchExecution", framed(WatchExecutionRequest(execution_id=long.execution_id)))
            await stream.begun.wait()  # blocked in a write
    await eventually(lambda: empty(server))
    gate.opened.set()
    await caller.ended(known.execution_id)
    await eventually(lambda: empty(server))


async def test_health_answers_while_the_service_is_full(serve: Serve, call_with: Call, gate: Gate) -> None:
    """Health has places of its own: it answers where the service refuses everything, and a flood of health's own calls
    is refused without keeping the service's callers out.
    """
    server = await serve(max_calls=1, max_watchers=1, max_half_open_calls=2)
    caller = call_with(server)
    health = health_pb2_grpc.HealthStub(caller.channel)
    slow = caller.open("BuildPlan", BuildPlanRequest(query="slow"))
    await eventually(lambda: server.admission.taken(Place.CALL) == 1)
    assert (await caller.refused("GetServerInfo", GetServerInfoRequest())).error.reason == "LIMIT_CALLS"
    async with RawCaller(server.address) as raw:
        for _ in range(2):
            raw.open("Execute", end=False)
        await eventually(lambda: server.admission.taken(Place.HALF_OPEN) == 2)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    states = health.Watch(health_pb2.HealthCheckRequest())
    await states.read()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health.Watch(health_pb2.HealthCheckRequest()).read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    gate.opened.set()
    assert await ended(slow) is grpc.StatusCode.OK
    await load_of(caller)
    states.cancel()
    await eventually(lambda: empty(server))


async def test_load(serve: Serve, call_with: Call, gate: Gate) -> None:
    """GetServerInfo says what the server does now: executions, streams, calls with itself, half-open calls, operations
    that do not end, tasks, and how many calls ended with which reason.
    """
    server = await serve()
    caller = call_with(server)
    stubborn = await caller.start(BLOCKED)
    watch = caller.open("WatchExecution", WatchExecutionRequest(execution_id=stubborn.execution_id))
    await watch.read()
    for _ in range(2):
        await caller.refused("GetExecution", GetExecutionRequest(execution_id="nobody"))
    await caller.refused("GetExecution", GetExecutionRequest(execution_id="/"))
    async with RawCaller(server.address) as raw:
        raw.open("Execute", end=False)
        await eventually(lambda: server.admission.taken(Place.HALF_OPEN) == 1)
        found = await load_of(caller)
    assert found.tasks > 3
    found.tasks = 0
    assert found == Load(
        running_executions=1,
        open_streams=1,
        running_calls=1,
        half_open_calls=1,
        refused={"EXECUTION_NOT_FOUND": 2, "REQUEST_MALFORMED": 1},
    )
    gate.opened.set()
    await caller.ended(stubborn.execution_id)
    found = await load_of(caller)
    assert (found.running_executions, found.running_calls) == (0, 1)


async def test_limits_are_told(serve: Serve, call_with: Call) -> None:
    """GetServerInfo tells every limit as it is set."""
    set_to = {limit.name: number for number, limit in enumerate(fields(CallLimits), 21)}
    caller = call_with(await serve(**set_to))
    told = (await caller.call("GetServerInfo", GetServerInfoRequest(), GetServerInfoResponse)).limits
    assert told.body_timeout.ToMilliseconds() == 1_000 * set_to.pop("body_timeout")
    assert {name: getattr(told, name) for name in set_to} == set_to


async def test_the_defaults_suffice_for_one_machine(serve: Serve, call_with: Call) -> None:
    """By default one host may have 10,000 watchers and 1,000 starts at once, and no caller may have every place."""
    limits = CallLimits()
    assert limits.max_watchers_per_caller >= 10_000
    assert limits.max_half_open_calls_per_caller >= 10_000
    assert min(limits.max_calls_per_caller, limits.max_starts_per_caller) >= 1_000
    for name in ("max_watchers", "max_calls", "max_half_open_calls"):
        assert getattr(limits, f"{name}_per_caller") < getattr(limits, name)
    caller = call_with(await serve())
    found = await asyncio.gather(*(caller.execute(QUICK) for _ in range(300)))
    assert all(batches[-1].events[-1].HasField("plan_completed") for batches in found)
