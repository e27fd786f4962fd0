"""What another process makes of an execution that it takes over."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import JournalDamaged, StorageFull, reason_of
from stepwire.v1 import ExecuteRequest, ExecutionState, Plan, Retry
from stepwire_server import App
from stepwire_server.journal import Chunk, ExecutionRecord, Journal

from .rig import (
    HeldJournal,
    Rig,
    about,
    failure_of,
    folded,
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


class Crashing:
    """An app whose operations wait at a gate, and engines for it over one journal, each of which dies when told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.begun = asyncio.Event()
        self.calls: list[tuple[str, int]] = []
        self.app = self.new_app()
        self.journal = HeldJournal()

    def new_app(self) -> App:
        app = App("crashing")

        @app.operation()
        async def wait(step) -> str:
            await self._work(step)
            return step.id

        @app.operation(at_most_once=True)
        async def once(step) -> str:
            await self._work(step)
            return step.id

        @app.operation()
        async def noop(step) -> list[str]:
            return sorted(step.results)

        return app

    async def _work(self, step: Any) -> None:
        self.calls.append((step.id, step.attempt))
        self.begun.set()
        await self.gate.wait()

    def engine(self, **more: Any) -> Rig:
        """Returns an engine that recovers what there is."""
        self.begun.clear()
        return Rig(self.app, journal=self.journal, recover=True, leaves_tasks=True, **more)


async def test_completed_steps_keep_their_outputs():
    """A step that completed before the crash is not run again, and its output is there for what follows."""
    crashing = Crashing()
    await crashing.journal.open()
    async with crashing.engine() as first:
        execution_id = await first.start(
            request(step("a", "noop"), step("b", "wait", depends_on=["a"]), step("c", "noop", depends_on=["a", "b"]))
        )
        await crashing.begun.wait()
        await first.durable(execution_id, "step_started", count=2)
    crashing.gate.set()
    async with crashing.engine() as second:
        events = await second.ended(execution_id)
    well_formed(events)
    assert about(events, "a") == ["step_started", "step_completed"]
    assert about(events, "b") == ["step_started", "step_retrying", "step_started", "step_completed"]
    assert output(events) == ["a", "b"]
    (recovered,) = of_kind(events, "plan_recovered")
    assert recovered.plan_recovered.epoch == 2
    assert recovered.plan_recovered.state == ExecutionState.EXECUTION_STATE_RUNNING
    (retrying,) = of_kind(events, "step_retrying")
    assert reason_of(retrying.step_retrying.error) == "RECOVERED"
    assert retrying.step_retrying.next_attempt == 2


async def test_a_recovery_does_not_count_against_the_retries():
    """An attempt that was lost with its process leaves the step all its own attempts."""
    crashing = Crashing()

    @crashing.app.operation(retry=Retry(attempts=2, initial_delay=Duration()))
    async def flaky(step):
        await crashing._work(step)
        raise ValueError(f"attempt {step.attempt}")

    await crashing.journal.open()
    async with crashing.engine() as first:
        execution_id = await first.start(request(step("a", "flaky")))
        await crashing.begun.wait()
    crashing.gate.set()
    async with crashing.engine() as second:
        await until(lambda: second.clock.pending or not second.engine.running)
        second.clock.advance(0)
        events = await second.ended(execution_id)
    assert crashing.calls == [("a", 1), ("a", 2), ("a", 3)]
    assert failure_of(events, "a")[1] == "ValueError: attempt 3"


async def test_a_step_is_recovered_three_times_at_most():
    """A step that was lost with its process a fourth time fails with RECOVERY_LIMIT."""
    crashing = Crashing()
    await crashing.journal.open()
    async with AsyncExitStack() as lost:
        # Each engine goes on while the next one takes its execution away: as good as dead.
        rig = await lost.enter_async_context(crashing.engine())
        execution_id = await rig.start(request(step("a", "wait"), step("b", "noop", depends_on=["a"])))
        await crashing.begun.wait()
        # Nobody knows of an attempt that has begun in the first process and is not on disk.
        await rig.durable(execution_id, "step_started")
        for _ in range(3):
            await lost.enter_async_context(crashing.engine())
            await crashing.begun.wait()
        async with crashing.engine() as last:
            events = await last.ended(execution_id)
    well_formed(events)
    assert crashing.calls == [("a", 1), ("a", 2), ("a", 3), ("a", 4)]
    assert failure_of(events, "a") == ("RECOVERY_LIMIT", "the process ended while the step ran, 4 times")
    assert about(events, "b") == ["step_skipped"]
    assert events[-1].execution_state == ExecutionState.EXECUTION_STATE_FAILED
    assert (await last.engine.get(execution_id)).epoch == 5


@pytest.mark.parametrize("saves", ["further each time", "the same each time"])
async def test_a_step_that_comes_further_is_recovered_each_time(saves):
    """Only a step that has saved nothing else since it was lost before counts as lost again."""
    crashing = Crashing()

    @crashing.app.operation()
    async def saving(step) -> Any:
        await step.save(step.attempt if saves == "further each time" else "begun")
        await crashing._work(step)
        return step.saved

    await crashing.journal.open()
    async with AsyncExitStack() as lost:
        rig = await lost.enter_async_context(crashing.engine())
        execution_id = await rig.start(request(step("a", "saving")))
        await crashing.begun.wait()
        for _ in range(3):
            await lost.enter_async_context(crashing.engine())
            await crashing.begun.wait()
        rig = await lost.enter_async_context(crashing.engine())
        if saves == "the same each time":
            events = await rig.ended(execution_id)
            assert failure_of(events, "a") == ("RECOVERY_LIMIT", "the process ended while the step ran, 4 times")
        else:
            await crashing.begun.wait()
            crashing.gate.set()
            assert output(await rig.ended(execution_id)) == 5


@pytest.mark.parametrize("style", ["coroutine", "thread"])
async def test_a_server_that_stops_in_order_counts_for_nothing(style):
    """A step that a server interrupts when it stops is not lost: it is recovered however often that happens."""
    crashing = Crashing()

    @crashing.app.operation()
    async def cleaning(step) -> str:
        try:
            await crashing._work(step)
        finally:
            await turns(5)
        return "done"

    @crashing.app.operation()
    def threaded(step) -> str:
        crashing.calls.append((step.id, step.attempt))
        step.progress(10)
        while not crashing.gate.is_set():
            step.progress(20)
        return "done"

    await crashing.journal.open()
    async with crashing.engine() as first:
        execution_id = await first.start(request(step("a", "cleaning" if style == "coroutine" else "threaded")))
        await until(lambda: crashing.calls)
    for _ in range(5):
        crashing.calls.clear()
        async with crashing.engine():
            await until(lambda: crashing.calls)
    crashing.gate.set()
    async with crashing.engine() as last:
        events = await last.ended(execution_id)
        fold = await last.fold(execution_id)
    assert (fold.steps[0].recoveries, fold.steps[0].lost) == (6, 0)
    assert {event.step_retrying.error.message for event in of_kind(events, "step_retrying")} == {
        "the server stopped while the step ran"
    }


async def test_what_runs_at_most_once_is_not_run_again():
    """A step that runs at most once and was lost with its process fails with OUTCOME_UNKNOWN, uncalled."""
    crashing = Crashing()
    await crashing.journal.open()
    async with crashing.engine() as first:
        execution_id = await first.start(request(step("a", "once")))
        await crashing.begun.wait()
    crashing.gate.set()
    async with crashing.engine() as second:
        events = await second.ended(execution_id)
    assert crashing.calls == [("a", 1)]
    assert failure_of(events, "a")[0] == "OUTCOME_UNKNOWN"


async def test_a_cancel_is_not_forgotten():
    """An execution that was being cancelled when its process ended is cancelled, and no step of it starts again."""
    crashing = Crashing()

    @crashing.app.operation()
    async def stubborn(step):
        crashing.calls.append((step.id, step.attempt))
        crashing.begun.set()
        while not crashing.gate.is_set():
            try:
                await crashing.gate.wait()
            except asyncio.CancelledError:
                continue

    await crashing.journal.open()
    async with crashing.engine(cancel_grace=100) as first:
        execution_id = await first.start(request(step("a", "stubborn"), step("b", "wait", depends_on=["a"])))
        await crashing.begun.wait()
        await first.engine.cancel(execution_id, actor="me", reason="enough")
        await first.engine.drain(0)
        async with crashing.engine() as second:
            events = await second.ended(execution_id)
        crashing.gate.set()
    well_formed(events)
    assert kinds(events)[-4:] == ["plan_recovered", "step_cancelled", "step_skipped", "plan_cancelled"]
    assert of_kind(events, "step_cancelled")[0].step_cancelled.abandoned
    assert events[-1].plan_cancelled.actor == "me"
    assert crashing.calls == [("a", 1)]


async def test_a_step_that_waits_to_go_on_is_cancelled_with_the_rest():
    """A recovered step whose next attempt has not started when the execution is cancelled has an end, too."""
    crashing = Crashing()
    await crashing.journal.open()
    async with crashing.engine() as first:
        asked = request(step("a", "wait"), step("b", "wait"))
        execution_id = await first.start(asked)
        await until(lambda: len(crashing.calls) == 2)
    async with crashing.engine(max_parallel_steps=1) as second:
        await until(lambda: len(crashing.calls) == 3)
        await second.engine.cancel(execution_id, actor="", reason="")
        events = await second.ended(execution_id)
    well_formed(events)
    assert about(events, "b") == ["step_started", "step_retrying", "step_cancelled"]


async def test_a_crash_before_the_plan_plans_again():
    """An execution whose process ended while it planned is planned again, in the state PLANNING."""
    crashing = Crashing()
    planned: list[str] = []

    @crashing.app.planner
    async def planner(query: str) -> Plan:
        planned.append(query)
        crashing.begun.set()
        await crashing.gate.wait()
        return plan(step("a", "noop"))

    await crashing.journal.open()
    async with crashing.engine() as first:
        execution_id = await first.start(ExecuteRequest(query="do it"))
        await crashing.begun.wait()
    async with crashing.engine() as second:
        recovered = await second.durable(execution_id, "plan_recovered")
        assert recovered.execution_state == ExecutionState.EXECUTION_STATE_PLANNING
        crashing.gate.set()
        events = await second.ended(execution_id)
    assert planned == ["do it", "do it"]
    assert kinds(events)[:2] == ["plan_recovered", "plan_started"]
    assert state_of(events) == "COMPLETED"


async def test_an_operation_that_is_gone_fails_its_step():
    """A recovered plan that names an operation which the app no longer has fails in that step, and says so."""
    crashing = Crashing()
    await crashing.journal.open()
    async with crashing.engine() as first:
        execution_id = await first.start(request(step("a", "wait"), step("b", "noop")))
        await crashing.begun.wait()
        await first.durable(execution_id, "step_completed")
    crashing.app = App("another")
    async with crashing.engine() as second:
        events = await second.ended(execution_id)
    well_formed(events)
    assert failure_of(events, "a") == ("OPERATION_NOT_FOUND", "there is no operation 'wait' any more")
    assert about(events, "b") == ["step_started", "step_completed"]


async def test_a_failure_before_the_crash_is_a_failure_after_it():
    """What failed before the crash still skips its dependants and fails the execution."""
    crashing = Crashing()

    @crashing.app.operation()
    async def fail():
        raise ValueError("no")

    await crashing.journal.open()
    async with crashing.engine() as first:
        execution_id = await first.start(
            request(step("a", "fail"), step("b", "wait"), step("c", "noop", depends_on=["b"]))
        )
        await crashing.begun.wait()
        await first.durable(execution_id, "step_failed")
    crashing.gate.set()
    async with crashing.engine() as second:
        events = await second.ended(execution_id)
    well_formed(events)
    assert failure_of(events) == ("STEP_FAILED", "1 of 3 steps failed: a (ValueError: no)")
    assert about(events, "c") == ["step_started", "step_completed"]


class Damaged(HeldJournal):
    """A journal in which one execution's events can't be understood."""

    def __init__(self) -> None:
        super().__init__()
        self.how: Any = None
        self.of = ""

    async def read(self, execution_id: str, **more: Any) -> Any:
        if execution_id == self.of:
            return self.how()
        return await Journal.read(self, execution_id, **more)


def _unknown() -> Any:
    return [Chunk(first=1, data=b"\x12\x00", ends=[2], kinds=b"\x14")]


def _garbage() -> Any:
    return [Chunk(first=1, data=b"\x12\x7f", ends=[2], kinds=b"\x14")]


@pytest.mark.parametrize("how", [list, _unknown, _garbage], ids=["missing", "unknown", "garbage"])
async def test_one_execution_that_can_t_be_read_does_not_stop_the_others(how, caplog):
    """An execution whose events are missing or not understood is left as it is and logged; the others go on."""
    crashing = Crashing()
    crashing.journal = journal = Damaged()
    await journal.open()
    async with crashing.engine() as first:
        bad = await first.start(request(step("a", "wait")))
        good = await first.start(request(step("a", "wait")))
        await until(lambda: len(crashing.calls) == 2)
        await turns()
    crashing.gate.set()
    journal.of, journal.how = bad, how
    async with Rig(crashing.app, journal=journal) as second:
        assert await second.engine.recover() == 1
        assert state_of(await second.ended(good)) == "COMPLETED"
        assert second.engine.running == 0
    assert any(bad in entry.getMessage() for entry in caplog.records)


@pytest.mark.parametrize("how", [list, _unknown, _garbage], ids=["missing", "unknown", "garbage"])
@pytest.mark.parametrize("method", ["cancel", "pause", "resume"])
async def test_control_of_what_was_left_out_asks_nobody_to_try_again(how, method):
    """Who controls an execution that the start could not take over is told so, and not to try again in a second."""
    crashing = Crashing()
    crashing.journal = journal = Damaged()
    await journal.open()
    async with crashing.engine() as first:
        bad = await first.start(request(step("a", "wait")))
        await until(lambda: len(crashing.calls) == 1)
        await turns()
    journal.of, journal.how = bad, how
    async with Rig(crashing.app, journal=journal) as second:
        assert await second.engine.recover() == 0
        with pytest.raises(JournalDamaged, match="could not be taken over") as refused:
            await getattr(second.engine, method)(bad, actor="", reason="")
        assert refused.value.retry_after is None


class Filling(HeldJournal):
    """A journal that has room for so many more claims."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 1_000

    async def claim(self, execution_id: str, *, epoch: int) -> ExecutionRecord:
        self.room -= 1
        if self.room < 0:
            raise StorageFull("the disk is full")
        return await super().claim(execution_id, epoch=epoch)


async def test_a_start_that_fails_has_begun_nothing():
    """Where the disk is full before every execution was taken over, none goes on: nobody would end it."""
    crashing = Crashing()
    crashing.journal = journal = Filling()
    await journal.open()
    async with crashing.engine() as first:
        for _ in range(2):
            await first.start(request(step("a", "wait")))
        await until(lambda: len(crashing.calls) == 2)
    async with Rig(crashing.app, journal=journal) as second:
        journal.room = 1
        with pytest.raises(StorageFull):
            await second.engine.recover()
        await turns()
        assert second.engine.running == 0
    assert len(crashing.calls) == 2


async def test_the_state_after_a_restart_is_the_fold_of_the_events():
    """What another engine starts from is what folding the durable events gives."""
    crashing = Crashing()
    await crashing.journal.open()
    async with crashing.engine() as first:
        execution_id = await first.start(request(*[step(f"s{i}", "wait" if i % 2 else "noop") for i in range(6)]))
        await until(lambda: len(crashing.calls) == 3)
        await first.engine.drain(0)
        record = await first.engine.get(execution_id)
        claimed = await crashing.journal.claim(execution_id, epoch=2)
        events = await first.events(execution_id)
        assert view(await first.engine._fold(claimed)) == view(folded(record, events))
