"""Pause and resume: running steps end or stop at their places, none starts, and the log says so."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import ExecutionEnded, ExecutionNotFound
from stepwire.v1 import Event, ExecuteRequest, ExecutionOptions, ExecutionState, Retry
from stepwire_server import App, StepEnded
from stepwire_server.journal import Conflict

from .rig import (
    HANGS,
    Rig,
    about,
    failure_of,
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

PAUSED = ExecutionState.EXECUTION_STATE_PAUSED


class Paced:
    """An app whose steps say that they have begun and wait for a word: `let["id"].set()`."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.let: dict[str, asyncio.Event] = {}
        self.app = App("paced")

        @self.app.operation()
        async def wait(step) -> str:
            self.begun.append(step.id)
            await self.gate(step.id).wait()
            return step.id

    def gate(self, name: str) -> asyncio.Event:
        return self.let.setdefault(name, asyncio.Event())

    async def came(self, *ids: str) -> None:
        await until(lambda: set(ids) <= set(self.begun), f"{ids} begin")


async def pause(rig: Rig, execution_id: str) -> Any:
    return await rig.engine.pause(execution_id, actor="Ada", reason="lunch")


async def resume(rig: Rig, execution_id: str) -> Any:
    return await rig.engine.resume(execution_id, actor="Bob", reason="coffee is over")


async def no_start_while_paused(events: list[Event]) -> None:
    paused = False
    for event in events:
        kind = event.WhichOneof("kind")
        paused = kind == "plan_paused" or (paused and kind != "plan_resumed")
        assert not (paused and kind == "step_started"), event
        assert (event.execution_state == PAUSED) == (paused and kind not in ("plan_completed", "plan_failed"))


async def test_running_steps_end_and_none_starts():
    """While an execution is paused its running steps end and no other starts; resumed, it goes on where it was."""
    paced = Paced()
    async with Rig(paced.app) as rig:
        execution_id = await rig.start(
            request(step("a", "wait"), step("b", "wait"), step("c", "wait", depends_on=["a", "b"]))
        )
        await paced.came("a", "b")
        record = await pause(rig, execution_id)
        assert record.state == PAUSED
        paced.gate("a").set()
        paced.gate("b").set()
        await rig.durable(execution_id, "step_completed", count=2)
        await turns()
        assert paced.begun == ["a", "b"]
        paced.gate("c").set()
        record = await resume(rig, execution_id)
        assert record.state == ExecutionState.EXECUTION_STATE_RUNNING
        events = await rig.ended(execution_id)
    well_formed(events)
    await no_start_while_paused(events)
    (paused,) = of_kind(events, "plan_paused")
    assert (paused.plan_paused.actor, paused.plan_paused.reason) == ("Ada", "lunch")
    (resumed,) = of_kind(events, "plan_resumed")
    assert (resumed.plan_resumed.actor, resumed.plan_resumed.reason) == ("Bob", "coffee is over")
    assert output(events) == "c"


async def test_steps_that_became_ready_in_a_pause_start_in_plan_order():
    """After a pause the ready steps start in the plan's order, whichever became ready first."""
    paced = Paced()
    async with Rig(paced.app) as rig:
        execution_id = await rig.start(
            request(
                step("a", "wait"),
                step("b", "wait"),
                step("x", "wait", depends_on=["a"]),
                step("y", "wait"),
                options=ExecutionOptions(max_parallel_steps=2),
            )
        )
        await paced.came("a", "b")
        await pause(rig, execution_id)
        for number, name in enumerate("ba", start=1):
            paced.gate(name).set()
            await rig.durable(execution_id, "step_completed", count=number)
            await turns()
        await resume(rig, execution_id)
        paced.gate("x").set()
        paced.gate("y").set()
        await rig.ended(execution_id)
    assert paced.begun == ["a", "b", "x", "y"]


async def test_to_repeat_it_changes_nothing():
    """To pause what is paused, and to resume what runs, records nothing and returns the state."""
    paced = Paced()
    async with Rig(paced.app) as rig:
        execution_id = await rig.start(request(step("a", "wait")))
        await paced.came("a")
        assert (await resume(rig, execution_id)).state == ExecutionState.EXECUTION_STATE_RUNNING
        first, again = await pause(rig, execution_id), await pause(rig, execution_id)
        assert (again.state, again.last_sequence) == (first.state, first.last_sequence)
        first, again = await resume(rig, execution_id), await resume(rig, execution_id)
        assert (again.state, again.last_sequence) == (first.state, first.last_sequence)
        paced.gate("a").set()
        events = await rig.ended(execution_id)
    assert kinds(events).count("plan_paused") == kinds(events).count("plan_resumed") == 1


@pytest.mark.parametrize("act", [pause, resume], ids=["pause", "resume"])
async def test_what_is_ending_can_be_neither_paused_nor_resumed(act):
    """In an execution that is cancelling, or has ended, both raise ExecutionEnded with the state."""
    app = App("stubborn")
    told, go = asyncio.Event(), asyncio.Event()

    @app.operation()
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            told.set()
            await go.wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "stubborn")))
        await rig.durable(execution_id, "step_started")
        await rig.engine.cancel(execution_id, actor="", reason="")
        await told.wait()
        with pytest.raises(ExecutionEnded) as ending:
            await act(rig, execution_id)
        assert ending.value.metadata["state"] == "CANCELLING"
        go.set()
        events = await rig.ended(execution_id)
        with pytest.raises(ExecutionEnded) as ended:
            await act(rig, execution_id)
        assert ended.value.metadata["state"] == "CANCELLED"
        with pytest.raises(ExecutionNotFound):
            await act(rig, "nothing")
    assert not {"plan_paused", "plan_resumed"} & set(kinds(events))


async def test_a_paused_execution_whose_last_step_ends_ends():
    """Nothing is left to hold back when the last step has ended: the execution ends, paused as it is."""
    paced = Paced()
    async with Rig(paced.app) as rig:
        execution_id = await rig.start(request(step("a", "wait")))
        await paced.came("a")
        await pause(rig, execution_id)
        paced.gate("a").set()
        events = await rig.ended(execution_id)
    assert kinds(events)[-2:] == ["step_completed", "plan_completed"]
    assert "plan_resumed" not in kinds(events)


@pytest.mark.parametrize("resumed_first", [False, True])
async def test_a_pause_before_the_plan(resumed_first):
    """A planner goes on through a pause, and its plan's steps wait for the end of it; resumed before that, the
    execution is planning again.
    """
    paced = Paced()

    @paced.app.planner
    async def make(query: str) -> Any:
        await paced.gate("planner").wait()
        return plan(step("a", "wait"))

    paced.gate("a").set()
    async with Rig(paced.app) as rig:
        execution_id = await rig.start(ExecuteRequest(query="anything"))
        assert (await pause(rig, execution_id)).state == PAUSED
        if resumed_first:
            assert (await resume(rig, execution_id)).state == ExecutionState.EXECUTION_STATE_PLANNING
            paced.gate("planner").set()
        else:
            paced.gate("planner").set()
            started = await rig.durable(execution_id, "plan_started")
            assert started.execution_state == PAUSED
            await turns()
            assert paced.begun == []
            await resume(rig, execution_id)
        events = await rig.ended(execution_id)
    well_formed(events)
    await no_start_while_paused(events)
    assert state_of(events) == "COMPLETED"


@pytest.mark.parametrize("place", ["save", "pausepoint"])
async def test_a_step_stops_at_its_places(place):
    """A running step stops at `save` and at `pausepoint` until the execution is resumed; what it said before is
    durable, and the time does not count against its time limit.
    """
    app = App("stopping")
    before, went = asyncio.Event(), asyncio.Event()

    @app.operation(timeout=10)
    async def op(step) -> str:
        await before.wait()
        await (step.save(1) if place == "save" else step.pausepoint())
        went.set()
        await asyncio.Event().wait()
        return "never"

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await rig.durable(execution_id, "step_started")
        rig.clock.advance(4)
        await pause(rig, execution_id)
        before.set()
        await turns()
        rig.clock.advance(3600)
        await turns()
        assert not went.is_set()
        assert len(of_kind(await rig.events(execution_id), "step_saved")) == (place == "save")
        await resume(rig, execution_id)
        await went.wait()
        rig.clock.advance(5.9)
        await turns()
        assert rig.engine.running
        rig.clock.advance(0.2)
        events = await rig.ended(execution_id)
    assert failure_of(events, "a") == ("TIMEOUT", "the attempt took longer than 10 s")


async def test_a_place_to_stop_is_none_while_nothing_is_paused():
    """`pausepoint` returns at once in an execution that is not paused, also in a thread."""
    app = App("running")

    @app.operation()
    async def inside(step) -> str:
        await step.pausepoint()
        return "went on"

    @app.operation()
    def thread(step) -> str:
        step.pausepoint()
        return "went on"

    async with Rig(app) as rig:
        events = await rig.run(request(step("inside"), step("thread")))
    assert output(events) == {"inside": "went on", "thread": "went on"}


class Held:
    """An app whose step is held in its first save, and saves again when it is ended there."""

    def __init__(self) -> None:
        self.app = App("held")
        self.go = asyncio.Event()

        @self.app.operation()
        async def op(step) -> None:
            await self.go.wait()
            try:
                await step.save("first")
            finally:
                await step.save("cleaned up")

    async def hold(self, rig: Rig, execution_id: str) -> None:
        await rig.durable(execution_id, "step_started")
        await pause(rig, execution_id)
        self.go.set()
        await rig.durable(execution_id, "step_saved")
        await turns()
        assert kinds(await rig.events(execution_id)).count("step_saved") == 1


async def test_a_cancel_ends_what_is_held():
    """A step that is held is cancelled like any other, and is not held while it cleans up."""
    held = Held()
    async with Rig(held.app) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("b", "op", depends_on=["a"])))
        await held.hold(rig, execution_id)
        await rig.engine.cancel(execution_id, actor="", reason="")
        events = await rig.ended(execution_id)
    well_formed(events)
    assert state_of(events) == "CANCELLED"
    assert about(events, "a") == ["step_started", "step_saved", "step_saved", "step_cancelled"]
    assert about(events, "b") == ["step_skipped"]


async def test_another_attempt_waits_for_the_end_of_the_pause():
    """A retry whose time has come during a pause begins after it."""
    app = App("retrying")

    @app.operation(retry=Retry(attempts=2, initial_delay=Duration(seconds=5)))
    async def flaky(step) -> int:
        if step.attempt == 1:
            raise ValueError("not yet")
        return int(step.attempt)

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "flaky")))
        await rig.durable(execution_id, "step_retrying")
        await pause(rig, execution_id)
        rig.clock.advance(60)
        await turns()
        assert kinds(await rig.events(execution_id)).count("step_started") == 1
        await resume(rig, execution_id)
        events = await rig.ended(execution_id)
    await no_start_while_paused(events)
    assert output(events) == 2


@pytest.mark.parametrize("waiting", ["another attempt", "a place to stop"])
async def test_a_pause_that_follows_a_resume_at_once_holds(waiting):
    """What waits for the end of a pause goes on waiting where the execution is resumed and paused at once."""
    app = App("hasty")
    go, went = asyncio.Event(), asyncio.Event()

    @app.operation(retry=Retry(attempts=2, initial_delay=Duration(seconds=5)))
    async def op(step) -> int:
        if waiting == "another attempt" and step.attempt == 1:
            raise ValueError("not yet")
        await go.wait()
        await step.pausepoint()
        went.set()
        return int(step.attempt)

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await rig.durable(execution_id, "step_retrying" if waiting == "another attempt" else "step_started")
        await pause(rig, execution_id)
        rig.clock.advance(60)
        go.set()
        await turns()
        await asyncio.gather(resume(rig, execution_id), pause(rig, execution_id))
        await turns()
        assert not went.is_set()
        await no_start_while_paused(await rig.events(execution_id))
        await resume(rig, execution_id)
        events = await rig.ended(execution_id)
    await no_start_while_paused(events)
    assert state_of(events) == "COMPLETED"


async def test_a_time_limit_goes_on_through_a_pause():
    """An execution's time limit counts from its acceptance, paused or not; what is held then may clean up."""
    held = Held()
    async with Rig(held.app) as rig:
        options = ExecutionOptions(time_limit=Duration(seconds=10))
        execution_id = await rig.start(request(step("a", "op"), options=options))
        await held.hold(rig, execution_id)
        rig.clock.advance(11)
        events = await rig.ended(execution_id)
    assert failure_of(events)[0] == "TIME_LIMIT"
    assert about(events, "a") == ["step_started", "step_saved", "step_saved", "step_cancelled"]


async def test_a_pause_outlives_its_process():
    """A paused execution that another process takes over stays paused; resumed, it runs what has not completed."""
    paced = Paced()
    journal = None
    async with Rig(paced.app, leaves_tasks=True) as first:
        journal = first.journal
        execution_id = await first.start(
            request(step("a", "wait"), step("b", "wait", depends_on=["a"]), step("c", "wait", depends_on=["b"]))
        )
        paced.gate("a").set()
        await paced.came("a", "b")
        await pause(first, execution_id)
        live = first.engine._live[execution_id].fold
        async with Rig(paced.app, journal=journal, leaves_tasks=True, recover=True) as second:
            await second.durable(execution_id, "step_retrying")
            await turns()
            fold = await second.fold(execution_id)
            assert (fold.state, live.state) == (PAUSED, PAUSED)
            assert view(second.engine._live[execution_id].fold) == view(fold)
            assert paced.begun == ["a", "b"]
            paced.gate("b").set()
            paced.gate("c").set()
            await resume(second, execution_id)
            events = await second.ended(execution_id)
    well_formed(events)
    await no_start_while_paused(events)
    assert paced.begun == ["a", "b", "b", "c"]
    assert about(events, "a") == ["step_started", "step_completed"]


@pytest.mark.parametrize("resting", ["held", "between two attempts", "before the first"])
async def test_a_drain_does_not_wait_for_what_only_waits(resting):
    """A step that is held, or waits for its next attempt, is let go of at once when the server drains; the next start
    goes on with it.
    """
    paced = Paced()
    calls: list[int] = []

    @paced.app.operation(retry=Retry(attempts=2, initial_delay=Duration(seconds=5)))
    async def op(step) -> str:
        calls.append(step.attempt)
        if resting == "between two attempts" and step.attempt == 1:
            raise ValueError("not yet")
        await paced.gate("op").wait()
        await step.save("here")
        return step.saved

    async with Rig(paced.app, leaves_tasks=True) as first:
        if resting == "before the first":
            execution_id = await first.start(request(step("a", "wait"), step("b", "op", depends_on=["a"])))
            await paced.came("a")
            await pause(first, execution_id)
            paced.gate("a").set()
            await first.durable(execution_id, "step_completed")
        else:
            execution_id = await first.start(request(step("b", "op")))
            await until(lambda: calls)
            if resting == "held":
                await pause(first, execution_id)
                paced.gate("op").set()
                await first.durable(execution_id, "step_saved")
            else:
                await first.durable(execution_id, "step_retrying")
        await turns()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await first.engine.drain(HANGS)
        assert loop.time() - began < HANGS / 2
        paced.gate("op").set()
        async with Rig(paced.app, journal=first.journal, recover=True) as second:
            await resume(second, execution_id)
            events = await second.ended(execution_id)
    assert output(events) == "here"


async def test_a_drain_lets_a_step_go_on_to_its_next_place():
    """A running step that saves while the server drains is let go of there, and the next start finds what it saved."""
    app = App("draining")
    go, reached = asyncio.Event(), asyncio.Event()

    @app.operation()
    async def op(step) -> Any:
        if step.saved is not None:
            return step.saved
        reached.set()
        await go.wait()
        await step.save("half")
        raise AssertionError("it went on")

    async with Rig(app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await reached.wait()
        draining = asyncio.create_task(first.engine.drain(HANGS))
        await turns()
        go.set()
        async with asyncio.timeout(HANGS / 2):
            await draining
        async with Rig(app, journal=first.journal, recover=True) as second:
            events = await second.ended(execution_id)
    assert output(events) == "half"
    assert about(events, "a") == ["step_started", "step_saved", "step_retrying", "step_started", "step_completed"]


async def test_what_runs_at_most_once_is_not_held():
    """A step that runs at most once goes on at its places through a pause, and a drain lets it end: from there it could
    not come back.
    """
    app = App("once")
    go, saved = asyncio.Event(), asyncio.Event()

    @app.operation(at_most_once=True)
    async def charge(step) -> str:
        await step.save("begun")
        saved.set()
        await go.wait()
        await step.pausepoint()
        return "charged"

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "charge"), step("b", "charge", depends_on=["a"])))
        await saved.wait()
        await pause(rig, execution_id)
        draining = asyncio.create_task(rig.engine.drain(HANGS))
        await turns()
        go.set()
        await draining
        assert output(await rig.events(execution_id), "a") == "charged"
        assert "b" not in [event.step_id for event in await rig.events(execution_id)]


async def test_what_cleans_up_after_a_timeout_is_not_held():
    """An attempt that ran out of time and saves while it cleans up is not held in a pause: its step is tried again."""
    app = App("careful")
    began: list[int] = []

    @app.operation(timeout=10, retry=Retry(attempts=2, initial_delay=Duration()))
    async def careful(step) -> Any:
        began.append(step.attempt)
        if step.attempt == 2:
            return step.saved
        try:
            await asyncio.Event().wait()
        finally:
            await step.save("what was done")

    async with Rig(app, cancel_grace=5) as rig:
        execution_id = await rig.start(request(step("a", "careful")))
        await until(lambda: began)
        await pause(rig, execution_id)
        rig.clock.advance(10)
        await turns()
        rig.clock.advance(6)
        await rig.durable(execution_id, "step_retrying")
        await resume(rig, execution_id)
        await turns()
        rig.clock.advance(0)
        events = await rig.ended(execution_id)
    assert output(events) == "what was done"
    assert about(events, "a") == ["step_started", "step_saved", "step_retrying", "step_started", "step_completed"]


async def test_a_drain_does_not_break_off_the_parts_beside_one_that_saves():
    """Where an operation works in several tasks, one that saves while the server drains is held, and the others go on
    within the grace.
    """
    app = App("parts")
    begun, go = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    @app.operation()
    async def op(step) -> None:
        async def quick() -> None:
            await begun.wait()
            await step.save("quick")

        async def slow() -> None:
            begun.set()
            await go.wait()
            done.append("slow")

        await asyncio.gather(quick(), slow())

    async with Rig(app, leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await rig.durable(execution_id, "step_started")
        draining = asyncio.create_task(rig.engine.drain(HANGS))
        await rig.durable(execution_id, "step_saved")
        await turns()
        go.set()
        await turns()
        assert done == ["slow"]
        await rig.engine.cancel(execution_id, actor="", reason="the grace is long")
        await draining


class HeldThreads:
    """An app whose step is a plain function that is held in its thread, and says what it hears there."""

    def __init__(self) -> None:
        self.app = App("threads")
        self.heard: list[str] = []
        self.before = threading.Event()

        @self.app.operation()
        def op(step) -> str:
            self.before.wait(HANGS)
            try:
                step.pausepoint()
            except StepEnded:
                self.heard.append("ended")
                raise
            self.heard.append("went on")
            return "done"

    async def hold(self, rig: Rig) -> str:
        execution_id = await rig.start(request(step("a", "op")))
        await rig.durable(execution_id, "step_started")
        await pause(rig, execution_id)
        self.before.set()
        (runner,) = rig.engine._live[execution_id]._running.values()
        await until(lambda: runner._held, "the thread is held")
        return execution_id


async def test_a_cancel_ends_what_is_held_in_a_thread():
    """A plain function that is held when its execution is cancelled does not go on: its place to stop raises."""
    held = HeldThreads()
    async with Rig(held.app) as rig:
        execution_id = await held.hold(rig)
        await rig.engine.cancel(execution_id, actor="", reason="")
        events = await rig.ended(execution_id)
        assert rig.engine.abandoned == 0
    assert held.heard == ["ended"]
    assert about(events, "a") == ["step_started", "step_cancelled"]


async def test_a_drain_lets_go_of_what_is_held_in_a_thread():
    """A plain function that is held in its thread is let go of at once when the server drains."""
    held = HeldThreads()
    async with Rig(held.app) as rig:
        await held.hold(rig)
        async with asyncio.timeout(HANGS / 2):
            await rig.engine.drain(HANGS)
        await until(lambda: rig.engine.abandoned == 0, "its thread ends")
    assert held.heard == ["ended"]


async def test_a_lost_execution_frees_the_threads_that_it_held():
    """A plain function that is held in its thread when another process takes the execution over does not keep it."""
    held = HeldThreads()
    async with Rig(held.app) as rig:
        execution_id = await held.hold(rig)
        rig.engine._live[execution_id].recorder._lose(Conflict("another one has it"))
        await until(lambda: not rig.engine.running and rig.engine.abandoned == 0, "nothing is left")
    assert held.heard == ["ended"]


async def test_a_thread_beside_the_operation_s_own_does_not_end_the_step_in_a_drain():
    """What stops in a thread that an operation started is held, and the operation goes on within the grace."""
    app = App("pool")
    go, reached = threading.Event(), threading.Event()
    done: list[str] = []

    @app.operation()
    def op(step) -> None:
        reached.set()
        other = threading.Thread(target=contextvars.copy_context().run, args=(lambda: save(step),))
        other.start()
        go.wait(HANGS)
        done.append("own")
        other.join(HANGS)

    def save(step: Any) -> None:
        with suppress(StepEnded):
            step.save("other")

    async with Rig(app, leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await until(reached.is_set)
        await pause(rig, execution_id)
        (runner,) = rig.engine._live[execution_id]._running.values()
        await until(lambda: runner._held, "the other thread is held")
        draining = asyncio.create_task(rig.engine.drain(HANGS))
        await turns()
        assert runner._cause is None
        go.set()
        await until(lambda: done)
        await rig.engine.cancel(execution_id, actor="", reason="the grace is long")
        await draining
