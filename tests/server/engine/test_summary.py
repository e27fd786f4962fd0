"""What an execution tells at its end: by the times of its events, and the same whoever reads them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf import struct_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.journal.scan import scanned

from stepwire.v1 import (
    Event,
    ExecuteRequest,
    ExecutionOptions,
    ExecutionState,
    Plan,
    PlanCall,
    Retry,
    StepState,
)
from stepwire_server import App, StepContext
from stepwire_server.engine.fold import Fold
from stepwire_server.engine.stamp import Stamp
from stepwire_server.engine.summary import SummaryReader, summary_of
from stepwire_server.journal import Chunk, ExecutionRecord, MemoryJournal, Outcome, Summary

from .rig import Rig, folded, plan, request, step, turns

SECOND = 10**9


class Workshop:
    """An app whose operations take the time that the test lets pass while they hold."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}
        self.app = App("workshop")

        async def hold(step: StepContext) -> str:
            await self.gates.setdefault(step.id, asyncio.Event()).wait()
            self.gates.pop(step.id)
            return step.id

        for name in ("cut", "glue", "paint"):
            self.app.operation(name)(hold)

        @self.app.operation("fail")
        async def fail(step: StepContext) -> None:
            await hold(step)
            raise ValueError("no")

        @self.app.operation("ask")
        async def ask(step: StepContext) -> Any:
            await hold(step)
            answer = await step.ask("Go on?", key="k")
            await hold(step)
            return answer

        @self.app.plan("chair")
        async def chair() -> Plan:
            return Plan(steps=[step("cut")], name="the function's own")

    async def after(self, rig: Rig, seconds: float, *names: str) -> None:
        """Lets time pass, then these steps go on."""
        await turns()
        rig.clock.advance(seconds)
        for name in names:
            self.gates[name].set()
        await turns()


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


async def told(rig: Rig, execution_id: str) -> Summary:
    """Returns what an ended execution tells: the same by its events, read anew, and by a scan."""
    events = await rig.ended(execution_id)
    record = await rig.engine.get(execution_id)
    found = summary_of(folded(record, events), ExecuteRequest.FromString(record.request))
    assert found is not None
    reader = SummaryReader(record)
    for chunk in await rig.journal.read(execution_id, after=0, max_events=1 << 30, max_bytes=1 << 30):
        reader.take(chunk)
    assert found == reader.summary() == scanned(record, events)
    return found


def times(found: Summary) -> list[tuple[str, float, float]]:
    """Returns operation, seconds and seconds of waiting of each step."""
    return [(step.operation, step.duration_ns / SECOND, step.wait_ns / SECOND) for step in found.steps]


async def test_durations_waits_and_the_critical_path(workshop):
    """A step takes from its start to its end, waits from when the last that it needs had ended, and is the bottleneck
    where it took longest of those that the end had to wait for.
    """
    async with Rig(workshop.app) as rig:
        steps = [step("a", "cut"), step("b", "glue"), step("c", "paint", depends_on=["a", "b"])]
        name = await rig.start(request(*steps, options=ExecutionOptions(max_parallel_steps=1)))
        await workshop.after(rig, 5, "a")
        await workshop.after(rig, 7, "b")
        await workshop.after(rig, 3, "c")
        found = await told(rig, name)
    assert times(found) == [("cut", 5, 0), ("glue", 7, 5), ("paint", 3, 0)]
    assert (found.outcome, found.bottleneck, found.duration_ns, found.wait_ns) == (
        Outcome.COMPLETED,
        "glue",
        15 * SECOND,
        0,
    )


async def test_what_runs_beside_is_no_bottleneck(workshop):
    """A step that takes long beside the critical path is not the bottleneck."""
    async with Rig(workshop.app) as rig:
        name = await rig.start(plan(step("a", "cut"), step("b", "glue", depends_on=["a"]), step("side", "paint")))
        await workshop.after(rig, 4, "a")
        await workshop.after(rig, 5, "side")
        await workshop.after(rig, 3, "b")
        found = await told(rig, name)
    assert times(found) == [("cut", 4, 0), ("glue", 8, 0), ("paint", 9, 0)]
    assert found.bottleneck == "glue"


async def test_retries_and_failures(workshop):
    """All attempts of a step are one duration, with the waits between them; what never started is not told of."""
    async with Rig(workshop.app) as rig:
        retry = Retry(attempts=2)
        name = await rig.start(
            plan(step("a", "fail", retry=retry), step("b", "cut", depends_on=["a"]), step("c", "cut"))
        )
        await workshop.after(rig, 2, "a")
        await workshop.after(rig, 1)
        await workshop.after(rig, 4, "a", "c")
        found = await told(rig, name)
    assert [(one.operation, one.outcome, one.retries) for one in found.steps] == [
        ("fail", Outcome.FAILED, 1),
        ("cut", Outcome.COMPLETED, 0),
    ]
    assert times(found)[0] == ("fail", 7, 0)
    assert found.outcome is Outcome.FAILED


async def test_people_do_not_count(workshop):
    """The time in which a step waits for a person is not the operation's."""
    async with Rig(workshop.app) as rig:
        name = await rig.start(plan(step("a", "ask")))
        await workshop.after(rig, 2, "a")
        await workshop.after(rig, 1000)
        fold = await rig.fold(name)
        (input_id,) = fold.questions.open
        await rig.engine.provide(name, input_id, struct_pb2.Value(bool_value=True), actor="")
        await workshop.after(rig, 3, "a")
        found = await told(rig, name)
    assert times(found) == [("ask", 5, 0)]
    assert found.duration_ns == 1005 * SECOND


async def test_pauses_do_not_count(workshop):
    """A pause that a step outlasts is neither its duration nor its waiting; one that ends in a pause ran through it."""
    async with Rig(workshop.app) as rig:
        name = await rig.start(plan(step("a", "cut"), step("b", "glue"), step("c", "paint", depends_on=["b"])))
        await workshop.after(rig, 2)
        await rig.engine.pause(name, actor="", reason="")
        await workshop.after(rig, 10, "b")
        await workshop.after(rig, 90)
        await rig.engine.resume(name, actor="", reason="")
        await workshop.after(rig, 1, "a", "c")
        found = await told(rig, name)
    assert times(found) == [("cut", 3, 0), ("glue", 12, 0), ("paint", 1, 0)]
    assert found.duration_ns == 103 * SECOND


async def test_a_cancel(workshop):
    """A step that is cancelled while it runs is told of as such."""
    async with Rig(workshop.app) as rig:
        name = await rig.start(plan(step("a", "cut"), step("b", "glue", depends_on=["a"])))
        await workshop.after(rig, 2)
        await rig.engine.cancel(name, actor="", reason="")
        found = await told(rig, name)
    assert (found.outcome, [(one.operation, one.outcome) for one in found.steps]) == (
        Outcome.CANCELLED,
        [("cut", Outcome.CANCELLED)],
    )


async def test_a_takeover_changes_nothing(workshop):
    """An execution that another process took over in the middle tells what its events say, and is counted once."""
    journal = MemoryJournal()
    await journal.open()
    async with Rig(workshop.app, journal=journal, leaves_tasks=True) as first:
        name = await first.start(plan(step("a", "cut"), step("b", "glue", depends_on=["a"])))
        await workshop.after(first, 4, "a")
        await workshop.after(first, 2)
        clock = first.clock
    workshop.gates.clear()
    async with Rig(workshop.app, journal=journal, clock=clock, recover=True) as second:
        await workshop.after(second, 5, "b")
        found = await told(second, name)
        kept = await journal.statistics(tenant="")
    assert [one.retries for one in found.steps] == [0, 1]
    assert times(found)[0] == ("cut", 4, 0)
    assert times(found)[1][1] >= 7
    assert (kept.plans[""].completed, kept.operations["glue"].completed, kept.operations["glue"].retries) == (1, 1, 1)


async def test_what_is_kept_is_not_told_again(workshop):
    """A retry tells of the steps that it ran, not of those that it keeps."""
    async with Rig(workshop.app) as rig:
        first = await rig.start(plan(step("a", "cut"), step("b", "fail", depends_on=["a"])))
        await workshop.after(rig, 1, "a")
        await workshop.after(rig, 1, "b")
        await rig.ended(first)
        again = await rig.engine.retry(first, step_ids=[], actor="", reason="")
        await workshop.after(rig, 6, "b")
        found = await told(rig, again.execution_id)
    assert times(found) == [("fail", 6, 0)]


async def test_names_of_plans(workshop):
    """A plan that was called has the name under which the app keeps it, also in a retry; another has its own."""
    async with Rig(workshop.app) as rig:
        called = await rig.start(ExecuteRequest(call=PlanCall(plan="chair")))
        await workshop.after(rig, 1, "cut")
        await rig.ended(called)
        again = await rig.engine.retry(called, step_ids=["cut"], actor="", reason="")
        await workshop.after(rig, 1, "cut")
        twice = await rig.engine.retry(again.execution_id, step_ids=["cut"], actor="", reason="")
        await workshop.after(rig, 1, "cut")
        own = await rig.start(Plan(steps=[step("x", "cut")], name="n" * 300))
        await workshop.after(rig, 1, "x")
        names = [(await told(rig, name)).plan for name in (called, again.execution_id, twice.execution_id)]
        assert names == ["chair"] * 3
        record = await rig.engine.get(own)
        found = summary_of(await rig.fold(own), ExecuteRequest.FromString(record.request))
    assert found is not None
    assert found.plan == "n" * 200


async def test_a_simulation_tells_nothing(workshop):
    """A simulated execution is not counted."""
    async with Rig(workshop.app) as rig:
        await rig.run(request(step("a", "cut"), options=ExecutionOptions(simulate=True)))
        assert (await rig.journal.statistics(tenant="")).plans == {}
        assert await rig.journal.typical(tenant="") == {}


async def test_a_bug_keeps_nothing_from_ending(workshop, monkeypatch, caplog):
    """Where a summary can't be made the execution ends all the same, and the log says so."""

    def bug(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("stepwire_server.engine.recorder.summary_of", bug)
    async with Rig(workshop.app) as rig:
        name = await rig.start(plan(step("a", "cut")))
        await workshop.after(rig, 1, "a")
        assert (await rig.ended(name))[-1].HasField("plan_completed")
    assert "it is not counted" in caplog.text


@pytest.mark.parametrize("data", [b"nothing", b"\x12\x02\x08\x01"])
def test_events_that_do_not_fit_are_not_counted(data, caplog):
    """A reader of what is no execution's events has no summary, and raises nothing."""
    reader = SummaryReader(ExecutionRecord(execution_id="e", request=b"", create_time_ns=1))
    reader.take(Chunk(first=1, data=data, ends=[len(data)], kinds=b"\x05"))
    assert reader.summary() is None
    assert SummaryReader(ExecutionRecord(execution_id="e", request=b"\xff", create_time_ns=1)).summary() is None


# -- against intervals


KINDS = st.sampled_from(["ask", "ask", "answer", "retry", "pause", "pause", "resume", "end", "cancel"])
GOING = (ExecutionState.EXECUTION_STATE_RUNNING, ExecutionState.EXECUTION_STATE_PAUSED)


@settings(max_examples=150)
@given(st.lists(st.tuples(KINDS, st.integers(0, 3), st.integers(0, 3)), min_size=15, max_size=30))
def test_any_order_of_pauses_and_questions(moves):
    """In whatever order pauses, questions, retries and ends come, durations and waits are those of the intervals."""
    start = 1_700_000_000 * SECOND
    fold = Fold(create_ns=start, planning=False)
    events: list[Event] = []
    now = start

    def record(kind: str, own: str = "", **more: Any) -> None:
        event = Event(step_id=own, **more)
        getattr(event, kind).SetInParent()
        fold.apply(event, kind, now)
        Stamp(event).write(fold, event.step_id)
        events.append(event)

    steps = [step(f"s{n}", f"op{n}", depends_on=[f"s{n - 2}"] if n > 1 else []) for n in range(4)]
    event = Event()
    event.plan_started.plan.steps.extend(steps)
    fold.apply(event, "plan_started", now)
    Stamp(event).write(fold, event.step_id)
    events.append(event)
    asked: dict[str, str] = {}

    def begin_ready() -> None:
        for index, found in enumerate(fold.steps):
            ready = index < 2 or fold.steps[index - 2].state == StepState.STEP_STATE_COMPLETED
            waits = found.state in (StepState.STEP_STATE_PENDING, StepState.STEP_STATE_STARTING)
            if ready and waits and fold.state == ExecutionState.EXECUTION_STATE_RUNNING:
                record("step_started", f"s{index}")

    begin_ready()
    for kind, which, passed in moves:
        now += passed
        own = f"s{which}"
        state = fold.steps[which].state
        live = state in (
            StepState.STEP_STATE_RUNNING,
            StepState.STEP_STATE_PROGRESS,
            StepState.STEP_STATE_WAITING,
        )
        match kind:
            case "ask" if live:
                asked[own] = f"q{len(events)}"
                event = Event(step_id=own)
                event.input_requested.input_id = asked[own]
                fold.apply(event, "input_requested", now)
                Stamp(event).write(fold, event.step_id)
                events.append(event)
            case "answer" if asked.get(own) in fold.questions.open:
                event = Event(step_id=own)
                event.input_received.input_id = asked[own]
                fold.apply(event, "input_received", now)
                Stamp(event).write(fold, event.step_id)
                events.append(event)
            case "retry" if live:
                record("step_retrying", own)
            case "pause" if fold.state == ExecutionState.EXECUTION_STATE_RUNNING:
                record("plan_paused")
            case "resume" if fold.state == ExecutionState.EXECUTION_STATE_PAUSED:
                record("plan_resumed")
            case "end" if live:
                record("step_completed", own)
            case "cancel" if len(events) > 12 and fold.state in GOING:
                record("plan_cancelling")
            case _:
                pass
        begin_ready()
    now += 1
    for index, found in enumerate(fold.steps):
        now += 1
        if found.state in (StepState.STEP_STATE_RUNNING, StepState.STEP_STATE_WAITING, StepState.STEP_STATE_STARTING):
            record("step_failed", f"s{index}")
        elif found.state == StepState.STEP_STATE_PENDING:
            record("step_skipped", f"s{index}")
    record("plan_failed" if fold.state in GOING else "plan_cancelled")
    record_ = ExecutionRecord(execution_id="e", request=b"", create_time_ns=start)
    assert summary_of(fold, ExecuteRequest()) == scanned(record_, events)
