"""A retry of an ended execution: what is kept, what runs again, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import (
    AtMostOnce,
    CursorExpired,
    ExecutionEnded,
    ExecutionNotFound,
    ExecutionRunning,
    InputInvalid,
    JournalUnavailable,
    LimitExecutions,
    OperationNotFound,
    PlanInvalid,
    PlanNotFound,
    RequestIdReused,
    RequestMalformed,
)
from stepwire.v1 import Event, ExecuteRequest, ExecutionOptions, ExecutionState, Plan, StepSkipped
from stepwire.values import to_value
from stepwire_server import App, output_of
from stepwire_server.engine import graph
from stepwire_server.engine.earlier import Earlier, read_earlier
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.recorder import MAX_EVENT_BYTES, frame
from stepwire_server.engine.snapshot import plan_of, snapshot_of
from stepwire_server.engine.states import KINDS, TransitionError
from stepwire_server.journal import Chunk, ExecutionRecord, Journal, MemoryJournal, Retention, SqliteJournal
from stepwire_server.journal.retention import DAY_NS
from stepwire_server.journal_commands import journal as journal_commands

from .rig import (
    HANGS,
    START_NS,
    HeldJournal,
    Rig,
    about,
    failure_of,
    folded,
    kind_of,
    kinds,
    of_kind,
    output,
    plan,
    request,
    state_of,
    step,
    turns,
    until,
    view,
    well_formed,
)

RUNNING = ExecutionState.EXECUTION_STATE_RUNNING


class Shop:
    """An app whose operations fail, or wait, for as long as they are told to."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failing: set[str] = set()
        self.waiting: set[str] = set()
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.wall = START_NS
        """The time by which the journal purges, in a test that does."""
        self.journal: Journal = MemoryJournal()
        self.opened = False
        """Whether the test opens the journal and closes it, for several engines."""
        self.app = self.new_app()

    def new_app(self) -> App:
        app = App("shop")
        app.operation("work")(self._work)
        app.operation("once", at_most_once=True)(self._work)

        @app.operation()
        async def ask(step) -> Any:
            self.calls.append(step.id)
            answer = await step.ask("Go on?")
            await self._fail(step.id)
            return answer

        @app.operation()
        async def saving(step) -> Any:
            self.calls.append(step.id)
            found = step.saved
            await step.save("saved")
            await self._fail(step.id)
            return found

        @app.planner
        async def planner(query: str) -> Plan:
            self.calls.append("planner")
            await self._wait("planner")
            await self._fail("planner")
            return plan(step("a", "work"), step("b", "work", depends_on=["a"]))

        @app.plan()
        def named() -> Plan:
            self.calls.append("named")
            return plan(step("a", "work"), step("b", "work", depends_on=["a"]))

        return app

    async def _work(self, step, value: Any = None) -> Any:
        self.calls.append(step.id)
        await step.content("said")
        await self._wait(step.id)
        await self._fail(step.id)
        return [step.id, value, sorted(step.results)]

    async def _wait(self, name: str) -> None:
        if name in self.waiting:
            self.begun.set()
            await self.gate.wait()

    async def _fail(self, name: str) -> None:
        if name in self.failing:
            raise ValueError(f"{name} fails")

    def rig(self, **more: Any) -> Rig:
        rig = Rig(self.app, journal=self.journal, **more)
        rig._opens &= not self.opened
        return rig

    def called(self) -> list[str]:
        """Returns what was called since it was asked last."""
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
async def shop() -> Shop:
    return Shop()


@pytest.fixture(params=["memory", "sqlite"])
async def stored(request: pytest.FixtureRequest, shop: Shop, tmp_path: Path) -> AsyncIterator[Shop]:
    """The shop, over a journal of either kind, whose clock is the test's."""
    if request.param == "sqlite":
        shop.journal = SqliteJournal(tmp_path / "j.db", now_ns=lambda: shop.wall, bite_seconds=0.0)
    else:
        shop.journal = MemoryJournal(now_ns=lambda: shop.wall)
    await shop.journal.open()
    shop.opened = True
    yield shop
    await shop.journal.close()


DIAMOND = plan(
    step("a", "work"),
    step("b", "work", input={"value": output_of("a", "/0")}),
    step("c", "work", depends_on=["a"]),
    step("d", "work", depends_on=["b", "c"]),
    step("e", "work"),
)


async def retry(rig: Rig, execution_id: str, *step_ids: str, **more: Any) -> ExecutionRecord:
    more = {"actor": "ada", "reason": "again"} | more
    return await rig.engine.retry(execution_id, step_ids=step_ids, **more)


async def retried(rig: Rig, execution_id: str, *step_ids: str, **more: Any) -> list[Event]:
    """Returns all events of a retry, once it has ended, and that they are what every execution's are."""
    record = await retry(rig, execution_id, *step_ids, **more)
    events = await rig.ended(record.execution_id)
    well_formed(events)
    return events


async def failed(rig: Rig, shop: Shop, *names: str, of: Plan | ExecuteRequest = DIAMOND) -> str:
    """Returns an execution in which these steps failed; from then on they do not."""
    shop.failing = set(names)
    execution_id = await rig.start(of)
    await rig.ended(execution_id)
    shop.failing = set()
    shop.called()
    return execution_id


def kept(events: list[Event]) -> list[str]:
    """Returns the steps that are kept, in the order of their events."""
    return [event.step_id for event in events if "kept_from" in event.metadata]


async def test_what_did_not_complete_runs_and_the_rest_is_kept(stored):
    """Without names the steps that failed or were skipped run, on the kept outputs; no kept one is called, each has one
    event, which has all that its end had; the events are dense, and the earlier execution is what it was.
    """
    async with stored.rig() as rig:
        first = await failed(rig, stored, "b")
        before = await rig.events(first)
        record = await rig.engine.get(first)
        events = await retried(rig, first)
        assert sorted(stored.called()) == ["b", "d"]
        assert kept(events) == [e.step_id for e in of_kind(before, "step_completed")]
        assert set(kept(events)) == {"a", "c", "e"}
        assert [about(events, name) for name in "ace"] == [["step_completed"]] * 3
        assert [about(events, name) for name in "bd"] == [["step_started", "content", "step_completed"]] * 2
        assert output(events) == {"d": ["d", None, ["b", "c"]], "e": ["e", None, []]}
        assert output(events, "b") == ["b", "a", ["a"]]
        for event in of_kind(events, "step_completed"):
            if event.step_id in kept(events):
                (end,) = [e for e in of_kind(before, "step_completed") if e.step_id == event.step_id]
                assert event.step_completed == end.step_completed
                assert (event.attempt, event.metadata["kept_from"], event.step_name) == (0, first, end.step_name)
        assert await rig.events(first) == before
        assert await rig.engine.get(first) == record


async def test_the_first_events_tell_of_the_retry(shop):
    """plan_started has the plan as it ran, what is retried, who asked and why; all that is kept follows at once and
    counts as done.
    """
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b")
        events = await retried(rig, first, actor="ada", reason="the bank is back")
    assert kinds(events)[:5] == ["plan_started", *["step_completed"] * 3, "step_started"]
    assert events[0].plan_started.plan == DIAMOND
    assert events[0].metadata == {"retry_of": first, "actor": "ada", "reason": "the bank is back"}
    assert events[0].message == f"Execution started: 5 steps, 3 kept of {first}"
    assert [event.progress.completed_steps for event in events[:4]] == [0, 1, 2, 3]
    assert [round(event.progress.percentage) for event in events[:5]] == [0, 20, 40, 60, 60]
    assert events[0].progress.total_steps == 5


async def test_a_plain_start_has_no_more_events_than_before(shop):
    """A plan that nobody retries has its own events alone, and nothing in them speaks of a retry."""
    async with shop.rig() as rig:
        events = await rig.run(plan(step("a", "work"), step("b", "work")))
    assert len(events) == 2 + 3 * 2
    assert not any(event.metadata for event in events)


@pytest.mark.parametrize(
    ("named", "run"),
    [
        (["b"], ["b", "d"]),
        (["c"], ["b", "c", "d"]),
        (["a"], ["a", "b", "c", "d"]),
        (["e", "e"], ["b", "d", "e"]),
        (["d"], ["b", "d"]),
    ],
)
async def test_what_is_named_runs_again_with_all_that_depends_on_it(shop, named, run):
    """A named step runs, also where it had completed; so does all that depends on it, and what had not completed."""
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b")
        events = await retried(rig, first, *named)
        assert sorted(shop.called()) == run
        assert sorted(kept(events)) == sorted(set("abcde") - set(run))


async def test_a_cancelled_execution_is_retried(shop):
    """What was cancelled, or had no turn before the end, runs."""
    async with shop.rig() as rig:
        shop.waiting = {"b"}
        first = await rig.start(DIAMOND)
        await shop.begun.wait()
        await rig.engine.cancel(first, actor="", reason="")
        await rig.ended(first)
        shop.waiting = set()
        shop.called()
        events = await retried(rig, first)
    assert sorted(shop.called()) == ["b", "d"]
    assert state_of(events) == "COMPLETED"


async def test_a_completed_execution_is_retried_where_steps_are_named(shop):
    """An execution that completed has nothing to retry, unless steps are named."""
    async with shop.rig() as rig:
        first = await failed(rig, shop)
        with pytest.raises(ExecutionEnded) as refused:
            await retry(rig, first)
        assert refused.value.metadata == {"state": "COMPLETED", "execution_id": first}
        await retried(rig, first, "c")
    assert sorted(shop.called()) == ["c", "d"]


async def test_an_execution_that_was_cancelled_with_all_done_completes(shop):
    """Where everything had completed, the new execution keeps it all and completes, and calls nothing."""
    async with shop.rig() as rig:
        shop.waiting = {"a"}
        first = await rig.start(request(step("a", "work")))
        await shop.begun.wait()
        # It is cancelled in the same turn in which the step ends.
        shop.gate.set()
        await until(lambda: rig.engine._live[first].fold.completed)
        rig.engine._live[first].cancel(actor="", reason="")
        assert state_of(await rig.ended(first)) == "CANCELLED"
        shop.called()
        events = await retried(rig, first)
    assert kinds(events) == ["plan_started", "step_completed", "plan_completed"]
    assert shop.called() == []
    assert output(events) == ["a", None, []]


async def test_what_still_runs_is_refused(shop):
    """An execution that has not ended is refused, with its state."""
    async with shop.rig() as rig:
        shop.waiting = {"a"}
        first = await rig.start(DIAMOND)
        await shop.begun.wait()
        await rig.durable(first, "step_started")
        with pytest.raises(ExecutionRunning) as refused:
            await retry(rig, first)
        assert refused.value.metadata == {"state": "RUNNING", "execution_id": first}
        shop.gate.set()
        await rig.ended(first)


async def test_a_name_that_is_no_steps_is_refused(shop):
    """Each name that is none of the execution's steps is told with its place, and so is each that could be none."""
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b")
        with pytest.raises(RequestMalformed) as refused:
            await retry(rig, first, "b", "x", "y")
        assert [field for field, _ in refused.value.violations] == ["step_ids[1]", "step_ids[2]"]
        assert (
            refused.value.message
            == f"step_ids[1] is 'x'; execution {first} has no such step; it has a, b, c, d, e (and 1 more)"
        )
        with pytest.raises(RequestMalformed) as refused:
            await retry(rig, first, "b", "no id", request_id="/")
        assert [field for field, _ in refused.value.violations] == ["request_id", "step_ids[1]"]
        with pytest.raises(RequestMalformed) as refused:
            await retry(rig, first, *["b"] * 10_001)
        assert [field for field, _ in refused.value.violations] == ["step_ids"]
        assert rig.engine.running == 0
        assert shop.called() == []


async def test_what_is_not_there_is_refused(shop):
    """An execution that never was, and one of another tenant, is not found."""
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b")
        with pytest.raises(ExecutionNotFound):
            await retry(rig, "never")
        with pytest.raises(ExecutionNotFound):
            await retry(rig, first, tenant="another")


# -- what runs at most once


@pytest.mark.parametrize("how", ["unknown", "cancelled"])
async def test_what_may_have_run_once_runs_again_only_when_it_is_named(shop, how):
    """A step that runs at most once, and of which nobody knows whether it did, keeps a retry from being accepted, until
    it is named.
    """
    shop.waiting = {"a"}
    await shop.journal.open()
    async with shop.rig(leaves_tasks=True) as rig:
        first = await rig.start(plan(step("a", "once"), step("b", "work", depends_on=["a"])))
        await shop.begun.wait()
        if how == "cancelled":
            await rig.engine.cancel(first, actor="", reason="")
            await rig.ended(first)
    async with shop.rig(recover=True) as rig:
        events = await rig.ended(first)
        assert about(events, "a")[-1] == {"unknown": "step_failed", "cancelled": "step_cancelled"}[how]
        shop.waiting = set()
        shop.called()
        for named in ([], ["b"]):
            with pytest.raises(AtMostOnce) as refused:
                await retry(rig, first, *named)
            ((field, text),) = refused.value.violations
            assert field == "step_ids"
            assert text.startswith("does not name 'a', which runs at most once: nobody knows whether it did run")
        await turns()
        assert shop.called() == []
        await retried(rig, first, "a")
        assert shop.called() == ["a", "b"]


async def test_what_ran_once_runs_again_only_when_it_is_named(shop):
    """A step that runs at most once and completed is not run again because of a step that it depends on, unless it is
    named too.
    """
    async with shop.rig() as rig:
        chain = plan(step("a", "work"), step("b", "once", depends_on=["a"]), step("c", "work", depends_on=["b"]))
        first = await failed(rig, shop, "c", of=chain)
        with pytest.raises(AtMostOnce, match="'b', which runs at most once: it has completed"):
            await retry(rig, first, "a")
        await retried(rig, first)
        assert shop.called() == ["c"]
        again = await retry(rig, first, "a", "b")
        await rig.ended(again.execution_id)
        assert shop.called() == ["a", "b", "c"]


async def test_what_failed_at_its_one_attempt_runs_again(shop):
    """A step that runs at most once, and that says itself that it failed, is retried as any other; one that never began
    is, too.
    """
    async with shop.rig() as rig:
        chain = plan(step("a", "once"), step("b", "once", depends_on=["a"]))
        first = await failed(rig, shop, "a", of=chain)
        events = await retried(rig, first)
    assert shop.called() == ["a", "b"]
    assert state_of(events) == "COMPLETED"


# -- what a step that runs again begins with


async def test_a_step_that_runs_again_begins_anew(shop):
    """A step that runs again has nothing saved, all its attempts, and asks again; one that is kept asks nobody."""
    async with shop.rig() as rig:
        asking = plan(step("asked", "ask"), step("asks", "ask"), step("saves", "saving"))
        shop.failing = {"asks", "saves"}
        first = await rig.start(asking)
        for number in (1, 2):
            question = await rig.durable(first, "input_requested", count=number)
            await rig.engine.provide(first, question.input_requested.input_id, to_value("yes"), actor="")
        await rig.ended(first)
        shop.failing = set()
        shop.called()
        record = await retry(rig, first)
        question = await rig.durable(record.execution_id, "input_requested")
        assert question.step_id == "asks"
        await rig.engine.provide(record.execution_id, question.input_requested.input_id, to_value("no"), actor="")
        events = await rig.ended(record.execution_id)
    assert sorted(shop.called()) == ["asks", "saves"]
    assert output(events) == {"asked": "yes", "asks": "no", "saves": None}
    assert {event.attempt for event in of_kind(events, "step_started")} == {1}
    assert len(of_kind(events, "input_requested")) == 1


# -- which plan


@pytest.mark.parametrize("work", ["query", "call"])
async def test_the_plan_is_the_one_that_ran(shop, work):
    """What was planned is not planned anew; the query stays the execution's, in its snapshot and its plan_started."""
    async with shop.rig() as rig:
        asked = ExecuteRequest(query="do it") if work == "query" else ExecuteRequest()
        if work == "call":
            asked.call.plan = "named"
        first = await failed(rig, shop, "b", of=asked)
        record = await retry(rig, first)
        events = await rig.ended(record.execution_id)
        assert shop.called() == ["b"]
        assert [item.id for item in events[0].plan_started.plan.steps] == ["a", "b"]
        assert snapshot_of(record).query == asked.query == events[0].plan_started.query
        assert await plan_of(rig.journal, record) == events[0].plan_started.plan


async def test_what_had_no_plan_begins_anew(stored):
    """An execution whose planner failed is planned again, however often; names are refused, and so is a retry on a
    server without the planner.
    """
    async with stored.rig() as rig:
        first = await failed(rig, stored, "planner", of=ExecuteRequest(query="do it", labels={"team": "web"}))
        with pytest.raises(RequestMalformed, match="ended before it had a plan"):
            await retry(rig, first, "a")
        stored.failing = {"planner"}
        again = await retry(rig, first)
        events = await rig.ended(again.execution_id)
        assert failure_of(events)[0] == "PLANNER_FAILED"
        assert folded(again, events).state == events[-1].execution_state
        stored.failing = set()
        await stored.journal.purge(Retention(keep_days=0, keep_executions=1))
        record = await retry(rig, again.execution_id)
        events = await rig.ended(record.execution_id)
        assert stored.called() == ["planner", "planner", "a", "b"]
        assert snapshot_of(record).query == events[0].plan_started.query == "do it"
        assert (dict(record.labels), events[0].metadata["retry_of"]) == ({"team": "web"}, again.execution_id)
        assert events[0].message == f"Execution started: 2 steps, none kept of {again.execution_id}"


async def test_nobody_waits_for_a_planner(shop):
    """A retry that is planned again is answered while it is PLANNING, and can be cancelled."""
    async with shop.rig() as rig:
        first = await failed(rig, shop, "planner", of=ExecuteRequest(query="do it"))
        shop.waiting = {"planner"}
        async with asyncio.timeout(HANGS):
            record = await retry(rig, first)
        await shop.begun.wait()
        assert snapshot_of(record).state == ExecutionState.EXECUTION_STATE_PLANNING
        await rig.engine.cancel(record.execution_id, actor="", reason="")
        assert kinds(await rig.ended(record.execution_id)) == ["plan_cancelling", "plan_cancelled"]


async def test_an_operation_that_is_gone_is_refused(shop):
    """What is to run must be there and fit, as in a start; what is kept need not."""
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b", of=plan(step("a", "saving"), step("b", "work", input={"value": 3})))
    other = App("other")

    @other.operation()
    async def work(step, value: str) -> str:
        return value

    async with Rig(other, journal=shop.journal) as rig:
        with pytest.raises(InputInvalid) as refused:
            await retry(rig, first)
        assert [field for field, _ in refused.value.violations] == ["plan.steps[1].input.value"]
        with pytest.raises(OperationNotFound) as missing:
            await retry(rig, first, "a")
        assert [field for field, _ in missing.value.violations] == ["plan.steps[0].operation"]


async def test_a_plan_that_grew_too_large_is_refused(shop, monkeypatch):
    """A plan that would not be accepted as it stands now is not begun anew."""
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b")
        monkeypatch.setattr(graph, "MAX_PLAN_BYTES", 10)
        with pytest.raises(PlanInvalid, match=r"has \d+ bytes"):
            await retry(rig, first)


async def test_nobody_else_can_ask_for_what_a_record_of_a_retry_says(shop):
    """The request that a retry's record keeps is refused when it is sent to start something."""
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b")
        record = await retry(rig, first)
        await rig.ended(record.execution_id)
        with pytest.raises(PlanNotFound):
            await rig.engine.accept(ExecuteRequest.FromString(record.request))


# -- what is copied, and what a start is


async def test_labels_session_and_options_are_the_earlier_ones(shop):
    """The new execution is found where the earlier one is, and runs as it did; it has a request id of its own."""
    async with shop.rig() as rig:
        options = ExecutionOptions(max_parallel_steps=1, simulate=True, time_limit=Duration(seconds=7))
        asked = request(*DIAMOND.steps, session_id="s", labels={"team": "web"}, options=options, request_id="first")
        first = await rig.start(asked)
        await rig.ended(first)
        record = await retry(rig, first, "e", request_id="second")
        await rig.ended(record.execution_id)
    assert (record.session_id, dict(record.labels), record.request_id) == ("s", {"team": "web"}, "second")
    assert ExecuteRequest.FromString(record.request).options == options
    snapshot = snapshot_of(record)
    assert (snapshot.session_id, dict(snapshot.labels), snapshot.request_id) == ("s", {"team": "web"}, "second")
    assert shop.called() == []


async def test_the_same_retry_is_one_execution(stored):
    """With one request id there is one retry, however many ask at once or later, also after the earlier execution was
    purged; another retry, and a start, are refused.
    """
    async with stored.rig() as rig:
        first = await failed(rig, stored, "b")
        asked = [retry(rig, first, *names, request_id="r") for names in [("b", "c")] * 10 + [("c", "b", "b")] * 10]
        records = await asyncio.gather(*asked)
        assert len({record.execution_id for record in records}) == 1
        await rig.ended(records[0].execution_id)
        assert sorted(stored.called()) == ["b", "c", "d"]
        for other in (
            retry(rig, first, "b", request_id="r"),
            retry(rig, first, "b", "c", request_id="r", reason="another"),
            retry(rig, first, "b", "c", request_id="r", actor="bob"),
            retry(rig, records[0].execution_id, "b", "c", request_id="r"),
            rig.engine.accept(request(*DIAMOND.steps, request_id="r")),
        ):
            with pytest.raises(RequestIdReused) as refused:
                await other
            assert refused.value.metadata == {"execution_id": records[0].execution_id}
        await rig.ended(await rig.start(request(step("a", "work"), request_id="start")))
        with pytest.raises(RequestIdReused):
            await retry(rig, first, request_id="start")
        await stored.journal.purge(Retention(keep_days=0, keep_executions=2))
        with pytest.raises(CursorExpired):
            await retry(rig, first)
        assert (await retry(rig, first, "b", "c", request_id="r")).execution_id == records[0].execution_id


async def test_a_retry_is_a_start(shop):
    """Where as many run as may, a retry is refused and leaves no trace; a known one is attached all the same."""
    async with shop.rig(max_executions=1) as rig:
        first = await failed(rig, shop, "b")
        shop.waiting = {"b"}
        record = await retry(rig, first, request_id="r")
        with pytest.raises(LimitExecutions):
            await retry(rig, first)
        assert (await retry(rig, first, request_id="r")).execution_id == record.execution_id
        shop.gate.set()
        await rig.ended(record.execution_id)


# -- what is durable, and what happens in between


async def test_the_answer_comes_when_all_that_is_kept_is_durable(shop):
    """A retry is answered when what it keeps is in the journal, and its record counts that."""
    journal = shop.journal = HeldJournal()
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b", "e")
        journal.hold()
        asked = asyncio.create_task(retry(rig, first))
        await turns()
        assert rig.engine.running == 1
        assert not asked.done()
        journal.release()
        record = await asked
        progress = snapshot_of(record).progress
        assert progress.completed_steps >= 2
        assert progress.percentage >= 40
        await rig.ended(record.execution_id)


async def test_what_is_kept_stays_when_the_earlier_one_is_purged(stored):
    """After a purge of the earlier execution another process goes on with the retry, and folds it to the same; nothing
    that is kept is called.
    """
    async with stored.rig(leaves_tasks=True) as rig:
        first = await failed(rig, stored, "c")
        stored.waiting = {"c"}
        record = await retry(rig, first)
        await stored.begun.wait()
        await rig.durable(record.execution_id, "content")
        stored.wall += 31 * DAY_NS
        assert (await stored.journal.purge(Retention())).executions == 1
    stored.waiting.clear()
    async with stored.rig(recover=True) as rig:
        live = rig.engine._live[record.execution_id].fold
        events = await rig.ended(record.execution_id)
        assert view(await rig.fold(record.execution_id)) == view(live)
    well_formed(events)
    assert stored.called() == ["c", "c", "d"]
    assert output(events) == {"d": ["d", None, ["b", "c"]], "e": ["e", None, []]}
    assert of_kind(events, "plan_recovered")


@pytest.mark.parametrize("stored_events", [0, 1, 2, 3])
async def test_a_process_that_ends_while_it_keeps_leaves_the_rest_to_the_next(shop, stored_events):
    """Whatever of it was durable when its process ended, a retry keeps all that it was to keep, once, and in order."""
    journal = shop.journal = HeldJournal()
    await journal.open()
    async with shop.rig(leaves_tasks=True, max_pending_bytes=1) as rig:
        first = await failed(rig, shop, "d")
        journal.fails = [*[None] * stored_events, JournalUnavailable("the process ends")]
        with pytest.raises(JournalUnavailable):
            await retry(rig, first, request_id="r")
        (left,) = await journal.unfinished()
        assert left.last_sequence == stored_events
        before = await rig.events(first)
    async with shop.rig(recover=True) as rig:
        events = await rig.ended(left.execution_id)
        assert (await retry(rig, first, request_id="r")).execution_id == left.execution_id
    well_formed(events)
    assert kept(events) == [event.step_id for event in of_kind(before, "step_completed")]
    assert shop.called() == ["d"]
    started = [kind for kind in kinds(events) if kind != "plan_recovered"]
    assert started[:6] == ["plan_started", *["step_completed"] * 4, "step_started"]
    assert kinds(events).index("plan_recovered") == stored_events


@pytest.mark.parametrize("stored_events", [0, 2])
async def test_a_retry_whose_source_is_gone_fails(shop, stored_events):
    """Where the earlier execution was purged before a retry that lost its process had kept all, it fails and calls
    nothing; and neither does a retry of that.
    """
    journal = shop.journal = HeldJournal(now_ns=lambda: shop.wall)
    await journal.open()
    async with shop.rig(leaves_tasks=True, max_pending_bytes=1) as rig:
        first = await failed(rig, shop, "d")
        journal.fails = [*[None] * stored_events, JournalUnavailable("the process ends")]
        with pytest.raises(JournalUnavailable):
            await retry(rig, first)
        (left,) = await journal.unfinished()
    shop.wall += 31 * DAY_NS
    assert (await journal.purge(Retention())).executions == 1
    async with shop.rig(recover=True) as rig:
        events = await rig.ended(left.execution_id)
        well_formed(events)
        text = "the execution that it retries was gone before all was kept of it"
        assert failure_of(events) == ("PLAN_NOT_FOUND", text)
        for names in ([], ["a"]):
            with pytest.raises(CursorExpired):
                await retry(rig, left.execution_id, *names)
    assert shop.called() == []


async def test_a_cancel_takes_away_nothing_that_is_kept(shop):
    """A retry that is cancelled at once has its plan and all that it keeps, so that a retry of it keeps that, too."""
    async with shop.rig(max_pending_bytes=1) as rig:
        first = await failed(rig, shop, "d")
        asked = asyncio.create_task(retry(rig, first))
        await until(lambda: rig.engine.running)
        (second,) = rig.engine._live
        assert not rig.engine._live[second].inherited.is_set()
        await rig.engine.cancel(second, actor="", reason="")
        await asked
        events = await rig.ended(second)
        well_formed(events)
        assert state_of(events) == "CANCELLED"
        assert sorted(kept(events)) == ["a", "b", "c", "e"]
        assert about(events, "d") == ["step_skipped"]
        events = await retried(rig, second)
        assert sorted(kept(events)) == ["a", "b", "c", "e"]
        assert shop.called() == ["d"]


async def test_a_paused_retry_starts_nothing(shop):
    """A pause that comes while a retry keeps what it keeps holds afterwards, until it is resumed."""
    async with shop.rig(max_pending_bytes=1) as rig:
        first = await failed(rig, shop, "d")
        asked = asyncio.create_task(retry(rig, first))
        await until(lambda: rig.engine.running)
        (second,) = rig.engine._live
        await rig.engine.pause(second, actor="", reason="")
        await asked
        await turns()
        assert shop.called() == []
        await rig.engine.resume(second, actor="", reason="")
        assert state_of(await rig.ended(second)) == "COMPLETED"
        assert shop.called() == ["d"]


async def test_a_server_that_goes_leaves_a_retry_to_the_next(shop):
    """A drain that comes while a retry keeps what it keeps ends it there; the next server goes on."""
    journal = shop.journal = HeldJournal()
    journal.turns = lambda: 20
    await journal.open()
    async with shop.rig(max_pending_bytes=1, leaves_tasks=True) as rig:
        first = await failed(rig, shop, "d")
        asked = asyncio.create_task(retry(rig, first))
        await until(lambda: rig.engine.running)
        await rig.engine.drain(0)
        record = await asked
        assert shop.called() == []
        assert len(kept(await rig.events(record.execution_id))) < 4
    async with shop.rig(recover=True) as rig:
        events = await rig.ended(record.execution_id)
    well_formed(events)
    assert len(kept(events)) == 4
    assert shop.called() == ["d"]


async def test_a_retry_of_a_retry(shop):
    """What a retry keeps goes on to a retry of it, and still says where it ran; what ran there says so."""
    async with shop.rig() as rig:
        first = await failed(rig, shop, "b")
        shop.failing = {"d"}
        second = await retry(rig, first)
        await rig.ended(second.execution_id)
        shop.failing = set()
        shop.called()
        events = await retried(rig, second.execution_id)
    assert shop.called() == ["d"]
    ran = {event.step_id: event.metadata["kept_from"] for event in events if event.step_id in kept(events)}
    assert ran == {"a": first, "c": first, "e": first, "b": second.execution_id}
    assert events[0].metadata["retry_of"] == second.execution_id
    assert output(events) == {"d": ["d", None, ["b", "c"]], "e": ["e", None, []]}


async def test_the_largest_output_is_kept(shop):
    """An output that just had room in its event where it ran has room where it is kept."""

    @shop.app.operation()
    async def large(size: int) -> str:
        return "x" * size

    def asked(size: int) -> Plan:
        return plan(step("l", "large", input={"size": size}), step("b", "work", depends_on=["l"]))

    async with shop.rig() as rig:
        shop.failing = {"b"}
        size = MAX_EVENT_BYTES - 2048
        while failure := of_kind(await rig.run(asked(size)), "step_failed")[0].step_failed.error:
            if "b fails" in failure.message:
                break
            size -= 1
        first = await failed(rig, shop, "b", of=asked(size))
        for _ in range(2):
            events = await retried(rig, first, "b")
            assert about(events, "l") == ["step_completed"]
            assert len(output(events, "l")) == size
            first = events[0].execution_id
    assert shop.called() == ["b"] * 2


async def test_a_retry_alone_goes_into_another_journal(shop, tmp_path):
    """A retry that has not ended, exported without what it retries, goes on from another journal, and can be retried
    there when it has ended.
    """

    def say(*words: object) -> None:
        said = CliRunner().invoke(journal_commands, [str(word) for word in words])
        assert said.exit_code == 0, said.output

    shop.journal = SqliteJournal(tmp_path / "here.db")
    async with shop.rig(leaves_tasks=True) as rig:
        first = await failed(rig, shop, "d")
        shop.waiting, shop.failing = {"d"}, {"d"}
        second = (await retry(rig, first)).execution_id
        await shop.begun.wait()
    await asyncio.to_thread(say, "export", tmp_path / "here.db", second, "--output", tmp_path / "retry.jsonl")
    await asyncio.to_thread(say, "import", tmp_path / "there.db", tmp_path / "retry.jsonl", "--with-unfinished")
    shop.journal, shop.waiting = SqliteJournal(tmp_path / "there.db"), set()
    async with shop.rig(recover=True) as rig:
        with pytest.raises(ExecutionNotFound):
            await rig.engine.get(first)
        assert failure_of(await rig.ended(second))[0] == "STEP_FAILED"
        shop.failing = set()
        shop.called()
        events = await retried(rig, second)
        assert shop.called() == ["d"]
        assert output(events) == {"d": ["d", None, ["b", "c"]], "e": ["e", None, []]}


# -- what the events tell


async def earlier_of(*events: Event) -> Earlier:
    """Returns what these events, in a journal, tell of an execution that ended with them."""
    journal = MemoryJournal()
    await journal.open()
    asked = ExecutionRecord(execution_id="first", request=b"", create_time_ns=1, state=RUNNING)
    await journal.create(asked)
    for sequence, event in enumerate(events, 1):
        data = frame(event.SerializeToString())
        chunk = Chunk(first=sequence, data=data, ends=[len(data)], kinds=bytes([KINDS[kind_of(event)]]))
        await journal.append("first", epoch=1, chunk=chunk, state=RUNNING, snapshot=b"")
    earlier = await read_earlier(journal, replace(asked, last_sequence=len(events)))
    await journal.close()
    return earlier


async def test_a_plan_that_grew_is_kept_as_it_grew():
    """Steps that were added while the plan ran are steps of the retry's plan."""
    started, revised, done = Event(), Event(), Event(step_id="b")
    started.plan_started.plan.CopyFrom(plan(step("a", "work")))
    revised.plan_revised.steps.extend([step("b", "work", depends_on=["a"])])
    done.step_completed.SetInParent()
    earlier = await earlier_of(started, revised, done)
    assert earlier.inheritance([]).plan == plan(step("a", "work"), step("b", "work", depends_on=["a"]))


async def test_what_its_own_condition_skipped_is_done():
    """A step that was skipped by its own condition is kept as that, and what depends on it is not run because of it;
    one that was skipped for any other reason runs, and all that is kept folds as it ended.
    """
    started = Event()
    started.plan_started.plan.CopyFrom(
        plan(step("a", "work"), step("b", "work", depends_on=["a"]), step("c", "work"), step("d", "work"))
    )
    skipped, completed, ended, late = (Event(step_id=name) for name in "abcd")
    skipped.step_skipped.cause = StepSkipped.CAUSE_CONDITION
    completed.step_completed.output.CopyFrom(to_value(1))
    ended.step_skipped.cause = StepSkipped.CAUSE_ENDED
    late.step_skipped.cause = StepSkipped.CAUSE_DEPENDENCY
    inheritance = (await earlier_of(started, skipped, completed, ended, late)).inheritance([])
    assert [event.step_id for event in inheritance.events] == ["a", "b"]
    fold = Fold(create_ns=0, planning=False)
    for event in (started, *inheritance.events):
        fold.apply(event, kind_of(event), 1)
    assert (fold.kept, fold.completed, fold.skipped, fold.percentage) == (2, 1, 1, 50)


async def test_a_step_is_kept_before_any_starts():
    """A fold takes what is kept only as long as no step has started, and only for a step that has not ended."""
    fold = Fold(create_ns=0, planning=False)
    begun, again, began = Event(), Event(step_id="a", metadata={"kept_from": "first"}), Event(step_id="b")
    begun.plan_started.plan.CopyFrom(plan(step("a", "work"), step("b", "work"), step("c", "work")))
    again.step_completed.SetInParent()
    began.step_started.SetInParent()
    fold.apply(begun, "plan_started", 1)
    fold.apply(again, "step_completed", 1)
    with pytest.raises(TransitionError):
        fold.apply(again, "step_completed", 1)
    fold.apply(began, "step_started", 1)
    again.step_id = "c"
    with pytest.raises(TransitionError, match="after another has started"):
        fold.apply(again, "step_completed", 1)
    assert (fold.kept, fold.completed, fold.sequence) == (1, 1, 3)
