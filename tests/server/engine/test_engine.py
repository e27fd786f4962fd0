"""All executions of a process: accepting, control, draining, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import (
    Draining,
    ExecutionEnded,
    ExecutionNotFound,
    InputInvalid,
    JournalUnavailable,
    LimitExecutions,
    NoPlanner,
    OperationNotFound,
    PlanInvalid,
    PlanNotFound,
    QueryNotUnderstood,
    RequestIdReused,
    RequestMalformed,
    reason_of,
)
from stepwire.v1 import (
    EventFilter,
    ExecuteRequest,
    Execution,
    ExecutionFilter,
    ExecutionOptions,
    ExecutionState,
    Plan,
    PlanCall,
)
from stepwire_server import App, plan_step
from stepwire_server.engine import acceptance
from stepwire_server.engine.engine import Engine
from stepwire_server.engine.graph import violations
from stepwire_server.journal import MemoryJournal

from .rig import (
    HANGS,
    HeldJournal,
    Rig,
    kinds,
    of_kind,
    output,
    plan,
    request,
    state_of,
    step,
    turns,
    until,
    well_formed,
)


class Gated:
    """An app whose operation waits until it is told to go on."""

    def __init__(self) -> None:
        self.app = App("gated")
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.calls = 0
        self.app.operation("wait")(self._wait)
        self.app.operation("noop")(self._noop)

    async def _wait(self, step) -> str:
        self.calls += 1
        self.begun.set()
        await self.gate.wait()
        return step.id

    async def _noop(self) -> None:
        return None


# -- accepting


async def test_a_hundred_requests_with_one_id_give_one_execution():
    """One request id, one execution, however many ask at once and later."""
    gated = Gated()
    async with Rig(gated.app) as rig:
        asked = request(step("a", "wait"), request_id="r")
        records = await asyncio.gather(*(rig.engine.accept(asked) for _ in range(100)))
        assert len({record.execution_id for record in records}) == 1
        assert rig.engine.running == 1
        gated.gate.set()
        await rig.ended(records[0].execution_id)
        assert (await rig.engine.accept(asked)).execution_id == records[0].execution_id
    assert gated.calls == 1


async def test_a_request_id_is_not_taken_for_another_request():
    """The same id with another request is refused, also while the first is being stored, and names the execution."""
    gated = Gated()
    journal = HeldJournal()
    async with Rig(gated.app, journal=journal) as rig:
        gated.gate.set()
        journal.create_gate.clear()
        both = [
            asyncio.create_task(rig.engine.accept(request(step(name, "wait"), request_id="r"))) for name in ("a", "b")
        ]
        await turns()
        journal.create_gate.set()
        done = await asyncio.gather(*both, return_exceptions=True)
        (record,) = [item for item in done if not isinstance(item, BaseException)]
        (refused,) = [item for item in done if isinstance(item, BaseException)]
        assert isinstance(refused, RequestIdReused)
        assert refused.metadata == {"execution_id": record.execution_id}
        await rig.ended(record.execution_id)
        with pytest.raises(RequestIdReused):
            await rig.engine.accept(request(step("c", "wait"), request_id="r"))


async def test_what_does_not_make_another_request():
    """The order of labels, the filter and the heartbeat make no difference; a label's value does."""
    gated = Gated()
    gated.gate.set()

    def asked(**labels: str) -> ExecuteRequest:
        return request(step("a", "wait"), request_id="r", labels=labels)

    async with Rig(gated.app) as rig:
        first = await rig.engine.accept(asked(x="1", y="2", z="3"))
        assert (await rig.engine.accept(asked(z="3", y="2", x="1"))).execution_id == first.execution_id
        other = asked(x="1", y="2", z="3")
        other.filter.CopyFrom(EventFilter(kinds=["content"]))
        other.heartbeat_interval.seconds = 3
        assert (await rig.engine.accept(other)).execution_id == first.execution_id
        with pytest.raises(RequestIdReused):
            await rig.engine.accept(asked(x="1", y="2", z="4"))
        await rig.ended(first.execution_id)


async def test_requests_without_an_id_are_different_executions():
    """Without a request id each call is an execution of its own."""
    gated = Gated()
    gated.gate.set()
    async with Rig(gated.app) as rig:
        made = [await rig.start(request(step("a", "wait"))) for _ in range(3)]
        assert len(set(made)) == 3
        for execution_id in made:
            await rig.ended(execution_id)


async def test_too_many_executions_are_refused():
    """Beyond the limit a start is refused with a time to come again, and accepted when one has ended; a known id is
    attached all the same.
    """
    gated = Gated()
    async with Rig(gated.app, max_executions=2) as rig:
        asked = [request(step("a", "wait"), request_id=f"r{i}") for i in range(3)]
        first = await rig.start(asked[0])
        await rig.start(asked[1])
        with pytest.raises(LimitExecutions) as refused:
            await rig.start(asked[2])
        assert refused.value.retry_after is not None
        assert await rig.start(asked[0]) == first
        gated.gate.set()
        await rig.ended(first)
        await rig.ended(await rig.start(asked[2]))


async def test_the_limit_holds_while_executions_are_being_stored():
    """Starts that wait for the journal count."""
    gated = Gated()
    gated.gate.set()
    journal = HeldJournal()
    async with Rig(gated.app, journal=journal, max_executions=2) as rig:
        journal.create_gate.clear()
        starts = [asyncio.create_task(rig.start(request(step("a", "wait")))) for _ in range(5)]
        await turns()
        journal.create_gate.set()
        done = await asyncio.gather(*starts, return_exceptions=True)
        assert sum(isinstance(item, LimitExecutions) for item in done) == 3
        for item in done:
            if isinstance(item, str):
                await rig.ended(item)


def _query(text: str) -> ExecuteRequest:
    return ExecuteRequest(query=text)


def _call(name: str) -> ExecuteRequest:
    asked = ExecuteRequest()
    asked.call.plan = name
    return asked


REFUSED = {
    "nothing": (ExecuteRequest(), RequestMalformed),
    "request id": (request(step("a", "noop"), request_id="a b"), RequestMalformed),
    "session id": (request(step("a", "noop"), session_id="/"), RequestMalformed),
    "label": (request(step("a", "noop"), labels={"a b": "c"}), RequestMalformed),
    "labels": (request(step("a", "noop"), labels={f"l{i}": "" for i in range(33)}), RequestMalformed),
    "label's value": (request(step("a", "noop"), labels={"a": "x" * 257}), RequestMalformed),
    "parallel": (request(step("a", "noop"), options=ExecutionOptions(max_parallel_steps=-1)), RequestMalformed),
    "limit": (request(step("a", "noop"), options=ExecutionOptions(time_limit=Duration())), RequestMalformed),
    "unwatched": (
        request(step("a", "noop"), options=ExecutionOptions(cancel_if_unwatched_for=Duration(seconds=-1))),
        RequestMalformed,
    ),
    "policy": (request(step("a", "noop"), options=ExecutionOptions(failure_policy=9)), RequestMalformed),  # type: ignore[arg-type]
    "no planner": (_query("do it"), NoPlanner),
    "plan": (_call("nobody"), PlanNotFound),
    "operation": (request(step("a", "nobody")), OperationNotFound),
    "cycle": (request(step("a", "noop", depends_on=["a"])), PlanInvalid),
    "input": (request(step("a", "noop", input={"x": 1})), InputInvalid),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused_leaves_no_trace(case):
    """A refused request is refused by its reason, and neither the engine nor the journal knows of it."""
    asked, error = REFUSED[case]
    async with Rig(Gated().app) as rig:
        with pytest.raises(error) as refused:
            await rig.engine.accept(asked)
        assert refused.value.message
        assert (await rig.journal.list(ExecutionFilter(), tenant="", limit=1)).total == 0
        assert rig.engine.running == 0


async def test_a_caller_that_is_gone_leaves_no_orphan():
    """A caller that is cancelled while its execution is being stored cancels nothing: the execution runs."""
    gated = Gated()
    gated.gate.set()
    journal = HeldJournal()
    async with Rig(gated.app, journal=journal) as rig:
        journal.create_gate.clear()
        call = asyncio.create_task(rig.start(request(step("a", "wait"), request_id="r")))
        await turns()
        call.cancel()
        await asyncio.wait({call})
        journal.create_gate.set()
        await until(lambda: gated.calls == 1)
        events = await rig.ended(await rig.start(request(step("a", "wait"), request_id="r")))
    assert state_of(events) == "COMPLETED"
    assert gated.calls == 1


async def test_a_journal_that_fails_to_store_is_told_to_the_caller():
    """What `create` raises reaches the caller, and nothing is left."""
    gated = Gated()
    journal = HeldJournal()
    async with Rig(gated.app, journal=journal) as rig:
        await journal.close()
        with pytest.raises(JournalUnavailable):
            await rig.start(request(step("a", "wait")))
        assert rig.engine.running == 0
        assert not rig.engine._intake._tasks


# -- planning


@pytest.mark.parametrize(("steps", "in_a_thread"), [(200, False), (201, True)])
async def test_a_large_plan_is_never_checked_in_the_event_loop(monkeypatch, steps, in_a_thread):
    """Wherever a large plan comes from, a thread checks it; a small one is not worth that."""
    app = App("large")
    large = plan(*[step(f"s{i}", "noop") for i in range(steps)])
    found: list[bool] = []

    def check(given: Plan, *more: Any) -> Any:
        found.append(threading.get_ident() != here)
        return violations(given, *more)

    @app.operation()
    async def noop() -> None: ...

    @app.planner
    async def planner(query: str) -> Plan:
        return large

    here = threading.get_ident()
    monkeypatch.setattr(acceptance, "violations", check)
    async with Rig(app) as rig:
        await rig.engine.build_plan("plan it")
        assert found == [in_a_thread]
        for work in (ExecuteRequest(plan=large), ExecuteRequest(query="plan it")):
            execution_id = await rig.start(work)
            await rig.durable(execution_id, "plan_started")
            await rig.engine.cancel(execution_id, actor="", reason="")
            await rig.ended(execution_id)
    # BuildPlan; the plan that was given, where it is accepted; the planner's.
    assert found == [in_a_thread] * 3


async def test_build_plan_runs_nothing():
    """BuildPlan returns the planner's plan, and tells what it raises; a plan that can't run is PLAN_INVALID."""
    app = App("plans")

    @app.operation()
    async def noop():
        raise AssertionError

    @app.planner
    def planner(query: str) -> Any:
        match query:
            case "good":
                return plan(step("a", "noop"))
            case "bad":
                return plan(step("a", "nobody"))
            case "exit":
                raise SystemExit(1)
            case "stop":
                raise StopIteration
            case "nonsense":
                return 7
            case _:
                raise QueryNotUnderstood("ask for good")

    async with Rig(app) as rig:
        assert (await rig.engine.build_plan("good")).steps[0].id == "a"
        with pytest.raises(PlanInvalid, match="nobody"):
            await rig.engine.build_plan("bad")
        with pytest.raises(RuntimeError, match="SystemExit"):
            await rig.engine.build_plan("exit")
        with pytest.raises(RuntimeError, match="StopIteration"):
            await rig.engine.build_plan("stop")
        with pytest.raises(PlanInvalid, match="returned int, not Plan"):
            await rig.engine.build_plan("nonsense")
        with pytest.raises(QueryNotUnderstood, match="ask for good"):
            await rig.engine.build_plan("else")
        for empty in ("", "  \n", "x" * 10_001, "a\0b"):
            with pytest.raises(RequestMalformed):
                await rig.engine.build_plan(empty)
    async with Rig(Gated().app) as rig:
        with pytest.raises(NoPlanner):
            await rig.engine.build_plan("good")


async def test_build_plan_ends_although_its_planner_does_not(caplog):
    """A caller who leaves BuildPlan is waited for as long as the grace, however the planner takes its cancel; then its
    task is abandoned, and the log says so.
    """
    app = App("stubborn")
    begun, told, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @app.planner
    async def planner(query: str) -> Plan:
        begun.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                told.set()
                if query == "obey":
                    raise
        raise RuntimeError("too late for anybody")

    async with Rig(app, cancel_grace=3) as rig:
        try:
            for query in ("obey", "swallow"):
                begun.clear()
                told.clear()
                call = asyncio.create_task(rig.engine.build_plan(query))
                await begun.wait()
                call.cancel()
                await told.wait()
                await turns()
                assert call.done() == (query == "obey")
            rig.clock.advance(2.9)
            await turns()
            assert not call.done()
            rig.clock.advance(0.1)
            await turns()
            assert call.cancelled()
            assert rig.engine.abandoned == 1
        finally:
            go.set()
        await until(lambda: rig.engine.abandoned == 0)
    assert any("planner does not end" in entry.getMessage() for entry in caplog.records)


class Planning:
    """An app whose plain planner and plan say what they are called with, and hang where they are asked to."""

    def __init__(self) -> None:
        self.app = App("planning")
        self.begun, self.free = threading.Semaphore(0), threading.Event()

        @self.app.operation()
        async def report() -> None:
            await asyncio.to_thread(self.hang)

        @self.app.operation("hang")
        def _hang() -> None:
            self.hang()

        @self.app.operation()
        async def noop() -> None: ...

        @self.app.plan()
        def named() -> Plan:
            return self.large

        @self.app.planner
        def planner(query: str) -> Plan:
            if query == "hang":
                self.hang()
            return self.large

    @property
    def large(self) -> Plan:
        return Plan(steps=[plan_step(f"s{i}", "noop") for i in range(acceptance.LARGE_PLAN + 1)])

    def hang(self) -> None:
        self.begun.release()
        self.free.wait(HANGS)

    async def hangs(self) -> None:
        await until(lambda: self.begun.acquire(blocking=False), "it hangs")


async def test_operations_in_threads_shut_out_no_plan_and_no_planner():
    """Where operations have all threads, asyncio's and the engine's, large plans are checked and planners called."""
    app = Planning()
    with ThreadPoolExecutor(1) as asyncio_s:
        asyncio.get_running_loop().set_default_executor(asyncio_s)
        async with Rig(app.app, threads=1) as rig:
            try:
                hanging = await rig.start(Plan(steps=[plan_step("a", "report"), plan_step("b", "hang")]))
                await app.hangs()
                await app.hangs()
                async with asyncio.timeout(HANGS / 2):
                    assert state_of(await rig.run(app.large)) == "COMPLETED"
                    assert await rig.engine.build_plan("it") == app.large
                    assert state_of(await rig.run(ExecuteRequest(query="it"))) == "COMPLETED"
                    assert state_of(await rig.run(ExecuteRequest(call=PlanCall(plan="named")))) == "COMPLETED"
            finally:
                app.free.set()
            await rig.ended(hanging)


async def test_a_plain_planner_that_hangs_keeps_no_thread_when_its_caller_leaves(monkeypatch, caplog):
    """The thread of a planner that hangs is replaced when its caller has left or its execution is cancelled, and counts
    as abandoned; while its caller stays, the log says that the planners' threads are taken.
    """
    monkeypatch.setattr("stepwire_server.engine.engine._PLANNERS", 1)
    app = Planning()
    async with Rig(app.app) as rig:
        try:
            call = asyncio.create_task(rig.engine.build_plan("hang"))
            await app.hangs()
            call.cancel()
            await until(call.done)
            execution_id = await rig.start(ExecuteRequest(query="hang"))
            await app.hangs()
            waits = asyncio.create_task(rig.engine.build_plan("it"))
            await turns()
            assert "planner: all 1 threads are taken" in caplog.text
            await rig.engine.cancel(execution_id, actor="", reason="")
            assert state_of(await rig.ended(execution_id)) == "CANCELLED"
            async with asyncio.timeout(HANGS / 2):
                assert await waits == app.large
            assert rig.engine.abandoned == 2
        finally:
            app.free.set()
        await until(lambda: rig.engine.abandoned == 0)


async def test_a_draining_engine_asks_no_planner():
    """BuildPlan is refused with DRAINING where the server is going."""
    app = Planning()
    async with Rig(app.app) as rig:
        await rig.engine.drain(0)
        with pytest.raises(Draining):
            await rig.engine.build_plan("it")


# -- control


async def test_cancel_is_recorded_at_once_and_twice_is_once():
    """A cancel returns the record with plan_cancelling; a second one changes nothing; the end follows."""
    gated = Gated()
    async with Rig(gated.app) as rig:
        execution_id = await rig.start(request(step("a", "wait"), step("b", "noop", depends_on=["a"])))
        await gated.begun.wait()
        both = await asyncio.gather(
            rig.engine.cancel(execution_id, actor="me", reason="enough"),
            rig.engine.cancel(execution_id, actor="you", reason="too"),
        )
        assert {ExecutionState.Name(record.state) for record in both} <= {
            "EXECUTION_STATE_CANCELLING",
            "EXECUTION_STATE_CANCELLED",
        }
        events = await rig.ended(execution_id)
        well_formed(events)
        (cancelling,) = of_kind(events, "plan_cancelling")
        assert (cancelling.plan_cancelling.actor, cancelling.plan_cancelling.reason) == ("me", "enough")
        assert kinds(events)[-3:] == ["step_cancelled", "step_skipped", "plan_cancelled"]
        assert events[-1].plan_cancelled.actor == "me"
        with pytest.raises(ExecutionEnded, match="CANCELLED") as refused:
            await rig.engine.cancel(execution_id, actor="", reason="")
        assert refused.value.metadata["state"] == "CANCELLED"
        with pytest.raises(ExecutionNotFound):
            await rig.engine.cancel("nobody", actor="", reason="")


async def test_a_cancel_before_anything_has_begun():
    """An execution can be cancelled in the moment in which it is accepted."""
    gated = Gated()
    async with Rig(gated.app) as rig:
        starting = asyncio.create_task(rig.start(request(step("a", "wait"))))
        while not rig.engine._live:  # noqa: ASYNC110 - it must be this very turn
            await asyncio.sleep(0)
        [executor] = rig.engine._live.values()
        executor.cancel(actor="", reason="")
        events = await rig.ended(await starting)
    assert state_of(events) == "CANCELLED"
    assert gated.calls == 0


async def test_an_ended_execution_can_t_be_cancelled():
    """A cancel after the end is refused with the state."""
    gated = Gated()
    gated.gate.set()
    async with Rig(gated.app) as rig:
        execution_id = await rig.start(request(step("a", "wait")))
        await rig.ended(execution_id)
        with pytest.raises(ExecutionEnded, match="COMPLETED"):
            await rig.engine.cancel(execution_id, actor="", reason="")


async def test_nobody_is_told_of_an_end_that_is_not_durable():
    """A cancel that comes after the end, before that is on disk, waits until it is."""
    gated = Gated()
    gated.gate.set()
    journal = HeldJournal()
    async with Rig(gated.app, journal=journal) as rig:
        journal.hold()
        execution_id = await rig.start(request(step("a", "wait")))
        fold = rig.engine._live[execution_id].fold
        await until(lambda: fold.ended)
        call = asyncio.create_task(rig.engine.cancel(execution_id, actor="", reason=""))
        await turns()
        assert not call.done()
        journal.release()
        with pytest.raises(ExecutionEnded):
            await call
        await rig.ended(execution_id)


async def test_an_execution_that_runs_elsewhere_is_not_called_ended():
    """A cancel of an execution that has not ended, and that this process does not run, is refused as unavailable."""
    gated = Gated()
    async with Rig(gated.app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "wait")))
        await gated.begun.wait()
        async with Rig(gated.app, journal=first.journal) as second:
            with pytest.raises(JournalUnavailable, match="not run by this server"):
                await second.engine.cancel(execution_id, actor="", reason="")
        await first.engine.drain(0)
        with pytest.raises(Draining):
            await first.engine.cancel(execution_id, actor="", reason="")


# -- watchers


async def test_an_unwatched_execution_is_cancelled_if_it_asked_for_it():
    """Without a watcher for as long as it said, an execution is cancelled; a watcher in time stops the count, and when
    the last one leaves it begins anew.
    """
    gated = Gated()
    async with Rig(gated.app) as rig:
        execution_id = await rig.start(
            request(step("a", "wait"), options=ExecutionOptions(cancel_if_unwatched_for=Duration(seconds=10)))
        )
        await gated.begun.wait()
        rig.clock.advance(9)
        with rig.engine.watched(execution_id):
            with rig.engine.watched(execution_id):
                rig.clock.advance(100)
            rig.clock.advance(100)
            assert rig.clock.pending == []
        rig.clock.advance(9)
        await turns()
        assert rig.engine.running == 1
        rig.clock.advance(1)
        events = await rig.ended(execution_id)
    assert events[-1].plan_cancelled.actor == "stepwire"
    assert events[-1].plan_cancelled.reason == "nobody watched for 10 s"


async def test_an_end_takes_the_count_back():
    """An execution that ends unwatched leaves no timer."""
    gated = Gated()
    gated.gate.set()
    async with Rig(gated.app) as rig:
        await rig.run(
            request(step("a", "wait"), options=ExecutionOptions(cancel_if_unwatched_for=Duration(seconds=10)))
        )
        rig.nothing_is_left()


async def test_without_the_option_nobody_has_to_watch():
    """Losing the last watcher cancels nothing unless it was asked for."""
    gated = Gated()
    async with Rig(gated.app) as rig:
        execution_id = await rig.start(request(step("a", "wait")))
        with rig.engine.watched(execution_id):
            pass
        rig.clock.advance(10**6)
        await turns()
        assert rig.engine.running == 1
        gated.gate.set()
        assert state_of(await rig.ended(execution_id)) == "COMPLETED"


# -- life


async def test_drain_stops_where_it_stands_and_another_engine_goes_on():
    """Draining starts no step, records no end, refuses new work, attaches to known work; a later engine goes on."""
    gated = Gated()
    async with Rig(gated.app, leaves_tasks=True) as first:
        asked = request(step("a", "wait"), step("b", "noop", depends_on=["a"]), request_id="r")
        execution_id = await first.start(asked)
        await gated.begun.wait()
        await first.engine.drain(0)
        assert first.engine.running == 0
        assert kinds(await first.events(execution_id)) == ["plan_started", "step_started", "step_retrying"]
        with pytest.raises(Draining):
            await first.start(request(step("a", "wait")))
        assert await first.start(asked) == execution_id
        gated.gate.set()
        async with Rig(gated.app, journal=first.journal, clock=first.clock) as second:
            assert await second.engine.recover() == 1
            events = await second.ended(execution_id)
    well_formed(events)
    assert kinds(events) == [
        "plan_started",
        "step_started",
        "step_retrying",
        "plan_recovered",
        "step_started",
        "step_completed",
        "step_started",
        "step_completed",
        "plan_completed",
    ]
    assert gated.calls == 2


async def test_running_steps_may_end_while_the_server_drains():
    """A step that ends within the drain's grace is recorded; no further one starts."""
    gated = Gated()
    async with Rig(gated.app, leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "wait"), step("b", "noop", depends_on=["a"])))
        await gated.begun.wait()
        drain = asyncio.create_task(rig.engine.drain(20))
        await turns()
        assert not drain.done()
        gated.gate.set()
        await drain
        assert kinds(await rig.events(execution_id)) == ["plan_started", "step_started", "step_completed"]


async def test_an_execution_that_is_stored_while_the_server_drains_waits_for_the_next():
    """An execution whose record becomes durable after the drain began is not begun here, and is recovered later."""
    gated = Gated()
    gated.gate.set()
    journal = HeldJournal()
    async with Rig(gated.app, journal=journal) as first:
        journal.create_gate.clear()
        call = asyncio.create_task(first.start(request(step("a", "wait"))))
        await turns()
        drain = asyncio.create_task(first.engine.drain(0))
        await turns()
        journal.create_gate.set()
        execution_id = await call
        await drain
        await turns()
        assert gated.calls == 0
        async with Rig(gated.app, journal=journal, recover=True) as second:
            assert output(await second.ended(execution_id)) == "a"


async def test_drain_ends_although_the_disk_is_full():
    """A full disk does not hold the server's end up; what was not durable is not missed."""
    gated = Gated()
    gated.gate.set()
    journal = HeldJournal()
    async with Rig(gated.app, journal=journal, leaves_tasks=True) as first:
        journal.full = True
        execution_id = await first.start(request(*[step(f"s{i}", "wait") for i in range(3)]))
        await until(lambda: first.clock.pending)
        await first.engine.drain(0)
        assert first.engine.running == 0
        assert first.engine.abandoned == 0
        journal.full = False
        async with Rig(gated.app, journal=journal, clock=first.clock, recover=True) as second:
            assert state_of(await second.ended(execution_id)) == "COMPLETED"


async def test_drain_ends_although_an_operation_does_not():
    """An operation that swallows its cancel, in the loop or in a thread, does not hold the server's end up."""
    app = App("stubborn")
    free = threading.Event()
    begun = threading.Event()

    @app.operation()
    def hang() -> None:
        begun.set()
        free.wait(20)

    async with Rig(app, leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "hang")))
        await until(begun.is_set)
        await rig.engine.drain(0)
        assert rig.engine.running == 0
        assert rig.engine.abandoned == 1
        # The attempt ends with the process, by its own word: else the next one would count it among those that died.
        told = await rig.events(execution_id)
        assert kinds(told) == ["plan_started", "step_started", "step_retrying"]
        assert reason_of(told[-1].step_retrying.error) == "RECOVERED"
        free.set()
        await until(lambda: rig.engine.abandoned == 0)
        assert await rig.events(execution_id) == told


@pytest.mark.parametrize("turns_between", [0, 2])
async def test_drain_ends_although_an_operation_reports_on(turns_between):
    """An operation that swallows each cancel and goes on reporting does not hold the server's end up."""
    app = App("stubborn")
    over = asyncio.Event()

    @app.operation()
    async def stubborn(step) -> None:
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await step.progress(1)
                await turns(turns_between)

    async with Rig(app, leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "stubborn")))
        await rig.durable(execution_id, "step_progress", count=3)
        try:
            async with asyncio.timeout(HANGS):
                await rig.engine.drain(0)
        finally:
            over.set()
        assert rig.engine.running == 0
        assert kinds(await rig.events(execution_id))[-1] == "step_retrying"


async def test_an_ended_execution_leaves_nothing_behind():
    """After the end the engine refers to nothing of an execution: no fold, no task, no timer."""
    gated = Gated()
    gated.gate.set()
    async with Rig(gated.app) as rig:
        gone = []
        for i in range(20):
            execution_id = await rig.start(
                request(
                    step("a", "wait", timeout=100),
                    options=ExecutionOptions(
                        time_limit=Duration(seconds=100), cancel_if_unwatched_for=Duration(seconds=50)
                    ),
                )
            )
            with rig.engine.watched(execution_id):
                executor = rig.engine._live[execution_id]
                gone.append(weakref.ref(executor))
                if i % 2:
                    await rig.engine.cancel(execution_id, actor="", reason="")
                del executor
                await rig.ended(execution_id)
        rig.nothing_is_left()
        await turns()
        rig.clock.advance(1_000)
        gc.collect()
        assert [ref() for ref in gone if ref() is not None] == []


async def test_a_record_s_state_follows_the_events():
    """The journal's record has the state and the snapshot of the last event."""
    gated = Gated()
    gated.gate.set()
    async with Rig(gated.app) as rig:
        execution_id = await rig.start(request(step("a", "wait"), session_id="s", labels={"k": "v"}))
        events = await rig.ended(execution_id)
        record = await rig.engine.get(execution_id)
        snapshot = Execution.FromString(record.snapshot)
        assert record.last_sequence == snapshot.as_of_sequence == len(events)
        assert snapshot.output.string_value == "a"
        assert snapshot.progress.percentage == 100
        with pytest.raises(ExecutionNotFound):
            await rig.engine.get("nobody")


async def test_tasks_do_not_pile_up():
    """Hundreds of executions end without a task left."""
    gated = Gated()
    gated.gate.set()
    async with Rig(gated.app) as rig:
        before = len(asyncio.all_tasks())
        made = [await rig.start(Plan(steps=[step(f"s{i}", "wait") for i in range(3)])) for _ in range(100)]
        for execution_id in made:
            await rig.ended(execution_id)
        await turns()
        assert len(asyncio.all_tasks()) == before


async def test_what_was_accepted_stays_accepted_when_the_app_has_changed():
    """A request id that is known attaches, also where the app no longer has the plan's operation."""
    journal = MemoryJournal()
    await journal.open()
    before, after = App("before"), App("after")

    @before.operation()
    async def gone() -> None: ...

    asked = ExecuteRequest(plan=Plan(steps=[plan_step("a", "gone")]), request_id="once")
    first = Engine(before.catalog(), journal)
    accepted = await first.accept(asked)
    second = Engine(after.catalog(), journal)
    assert (await second.accept(asked)).execution_id == accepted.execution_id
    await first.drain(0)
    await second.drain(0)
