"""A step that waits for a person: its slot and its time meanwhile, steering it, and its tasks and threads."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import (
    InputNotRequested,
)
from stepwire.v1 import ExecutionOptions, Retry, StepState
from stepwire.values import to_value
from stepwire_server import App, StepEnded, current_step

from .asking import answer, app_of, asked, received
from .rig import (
    HANGS,
    HeldJournal,
    Rig,
    about,
    failure_of,
    kinds,
    of_kind,
    output,
    request,
    state_of,
    step,
    turns,
    until,
    well_formed,
)

WAITING = StepState.STEP_STATE_WAITING


# -- slots and time


async def test_a_step_that_waits_leaves_its_slot_and_comes_back_before_others_start():
    """With one slot, another step runs while one waits; the answered step goes on when the slot is free again, before
    steps that are only ready; never do two run.
    """
    now: set[str] = set()
    order: list[str] = []
    gates = {name: asyncio.Event() for name in "abc"}

    async def op(step) -> None:
        def runs() -> None:
            now.add(step.id)
            order.append(step.id)
            assert len(now) == 1

        runs()
        if step.id == "a":
            now.discard("a")
            await step.ask("What?")
            runs()
        await gates[step.id].wait()
        now.discard(step.id)

    async with Rig(app_of(op)) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(step("a", "op"), step("b", "op"), step("c", "op"), options=one))
        await until(lambda: order == ["a", "b"], "b runs while a waits")
        await answer(rig, execution_id, 1)
        await turns()
        assert order == ["a", "b"]
        gates["b"].set()
        await until(lambda: order == ["a", "b", "a"], "a goes on")
        await turns()
        assert order == ["a", "b", "a"]
        gates["a"].set()
        gates["c"].set()
        events = await rig.ended(execution_id)
    assert order == ["a", "b", "a", "c"]
    assert state_of(events) == "COMPLETED"


async def test_many_wait_at_once_in_one_slot():
    """More steps than there are slots wait for people at once, and go on one after the other in the order in which they
    were answered.
    """
    order: list[str] = []
    inside = 0

    async def op(step) -> None:
        nonlocal inside
        await step.ask("What?")
        inside += 1
        assert inside == 1
        await turns(3)
        order.append(step.id)
        inside -= 1

    names = [f"s{i}" for i in range(20)]
    async with Rig(app_of(op)) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(*(step(name, "op") for name in names), options=one))
        await asked(rig, execution_id, count=20)
        ids = {event.step_id: event.input_requested.input_id for event in await rig.events(execution_id)}
        await asyncio.gather(*(answer(rig, execution_id, 1, to=ids[name]) for name in reversed(names)))
        events = await rig.ended(execution_id)
    assert order == names[::-1]
    assert max(event.progress.completed_steps for event in events) == 20


async def test_a_slot_that_was_taken_meanwhile_is_not_given_twice():
    """A step that is about to start when an answered one comes back into the last slot waits for the next."""
    journal = HeldJournal()
    go, gates = asyncio.Event(), {"a": asyncio.Event(), "b": asyncio.Event()}
    inside: list[str] = []

    async def op(step) -> None:
        if step.id == "a":
            await go.wait()
            await step.ask("What?")
        inside.append(step.id)
        assert len(inside) == 1
        await gates[step.id].wait()
        inside.remove(step.id)

    async with Rig(app_of(op), journal=journal, max_pending_bytes=1) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(step("a", "op"), step("b", "op"), options=one))
        await rig.durable(execution_id, "step_started")
        await rig.quiet()
        journal.hold()
        go.set()
        await rig.quiet()
        executor = rig.engine._live[execution_id]
        (input_id,) = executor.fold.questions.open
        executor.provide(input_id, to_value(1), actor="", verdict=None)
        await rig.quiet()
        journal.release()
        await until(lambda: inside == ["a"], "a goes on")
        await rig.quiet()
        gates["a"].set()
        gates["b"].set()
        events = await rig.ended(execution_id)
    assert state_of(events) == "COMPLETED"


async def test_an_operation_that_does_not_wait_for_its_slot_has_one_all_the_same():
    """A step whose operation stops waiting to come back goes on at once; nothing starts until there is room again."""
    stop, gates = asyncio.Event(), {name: asyncio.Event() for name in "abc"}
    inside: list[str] = []

    async def op(step) -> None:
        if step.id == "a":
            task = asyncio.create_task(step.ask("What?"))
            await stop.wait()
            task.cancel()
            await asyncio.wait({task})
        inside.append(step.id)
        await gates[step.id].wait()
        inside.remove(step.id)

    async with Rig(app_of(op)) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(*(step(name, "op") for name in "abc"), options=one))
        await until(lambda: inside == ["b"], "b starts")
        await answer(rig, execution_id, 1)
        await turns()
        stop.set()
        await until(lambda: inside == ["b", "a"], "a goes on")
        gates["b"].set()
        await until(lambda: inside == ["a"], "b ends")
        await turns()
        assert inside == ["a"]
        gates["a"].set()
        gates["c"].set()
        assert state_of(await rig.ended(execution_id)) == "COMPLETED"


async def test_what_has_ended_takes_no_slot():
    """A task that still asks when its step ends leaves the slots to the steps that come."""
    go = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def op(step) -> str:
        if step.id == "a":
            tasks.append(asyncio.create_task(step.ask("What?")))
            await go.wait()
        return "done"

    async with Rig(app_of(op)) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        chain = (
            step("b", "op", depends_on=["a"]),
            step("c", "op", depends_on=["b"]),
            step("d", "op", depends_on=["c"]),
        )
        execution_id = await rig.start(request(step("a", "op"), *chain, options=one))
        await asked(rig, execution_id)
        go.set()
        assert state_of(await rig.ended(execution_id)) == "COMPLETED"
        with pytest.raises(StepEnded):
            await tasks[0]


async def test_a_drain_leaves_the_parts_beside_one_that_asks_their_grace():
    """Where an operation works in several tasks, of which one waits for a person, the others go on while the server
    drains.
    """
    go, done = asyncio.Event(), asyncio.Event()

    async def op(step) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(step.ask("What?"))
            await go.wait()
            await step.save("the other part")
            done.set()

    async with Rig(app_of(op), leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        draining = asyncio.create_task(rig.engine.drain(HANGS))
        await turns()
        go.set()
        await rig.durable(execution_id, "step_saved")
        await rig.engine.cancel(execution_id, actor="", reason="the grace is long")
        await draining


async def test_what_runs_at_most_once_waits_for_its_answer_through_a_drain():
    """A step that runs at most once could not ask again: a draining server leaves it its grace, in which it may be
    answered and end, and a pause does not hold it then.
    """

    async def op(step) -> Any:
        return await step.ask("What?")

    async with Rig(app_of(op, at_most_once=True), leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        await rig.engine.pause(execution_id, actor="", reason="")
        draining = asyncio.create_task(rig.engine.drain(HANGS))
        await turns()
        await answer(rig, execution_id, 5)
        async with asyncio.timeout(HANGS / 2):
            await draining
        assert output(await rig.events(execution_id), "a") == 5


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
@pytest.mark.parametrize("waits", ["for an answer", "for a slot"])
async def test_a_drain_lets_go_of_what_waits_beside_what_works(kind, waits):
    """A step that waits for an answer, or for a slot afterwards, is let go of at once when the server drains, also
    where another one works on in the only slot.
    """
    ended: list[str] = []
    work = asyncio.Event()
    app = App("draining")

    @app.operation("coroutine")
    async def coroutine(step) -> None:
        try:
            await step.ask("What?")
        finally:
            ended.append(step.id)

    @app.operation("thread")
    def thread(step) -> None:
        try:
            step.ask("What?")
        finally:
            ended.append(step.id)

    @app.operation("works")
    async def works() -> None:
        await work.wait()

    async with Rig(app, leaves_tasks=True) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(step("a", kind), step("b", "works"), options=one))
        await rig.durable(execution_id, "step_started", count=2)
        if waits == "for a slot":
            await answer(rig, execution_id, 1)
            await turns()
        draining = asyncio.create_task(rig.engine.drain(HANGS))
        await until(lambda: ended, "it is let go of")
        assert not draining.done()
        work.set()
        await draining
        last = "input_received" if waits == "for a slot" else "input_requested"
        assert about(await rig.events(execution_id), "a")[-2:] == [last, "step_retrying"]


async def test_a_cancel_lets_all_come_back():
    """In an execution that ends, what was answered goes on to clean up although another step keeps the only slot."""
    stubborn, cleaned = asyncio.Event(), asyncio.Event()

    async def op(step) -> None:
        if step.id == "b":
            while not stubborn.is_set():
                try:
                    await stubborn.wait()
                except asyncio.CancelledError:
                    continue
            return
        task = asyncio.create_task(step.ask("What?"))
        try:
            await asyncio.Event().wait()
        finally:
            assert await task == 1
            cleaned.set()

    async with Rig(app_of(op), cancel_grace=5) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(step("a", "op"), step("b", "op"), options=one))
        await rig.durable(execution_id, "step_started", count=2)
        await answer(rig, execution_id, 1)
        await turns()
        await rig.engine.cancel(execution_id, actor="", reason="")
        await until(cleaned.is_set, "it has cleaned up")
        stubborn.set()
        assert state_of(await rig.ended(execution_id)) == "CANCELLED"


async def test_another_attempt_waits_for_a_slot():
    """An attempt that fails while a task of it asks has left its slot: the next attempt begins when there is one."""
    asking = asyncio.Event()
    gates = {"a": asyncio.Event(), "b": asyncio.Event()}

    async def op(step) -> None:
        if step.id == "a" and step.attempt == 1:
            task = asyncio.create_task(step.ask("What?"))
            await asking.wait()
            task.add_done_callback(lambda task: task.exception())
            raise ValueError("not yet")
        await gates[step.id].wait()

    app = app_of(op, retry=Retry(attempts=2, initial_delay=Duration(seconds=1)))
    async with Rig(app) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(step("a", "op"), step("b", "op"), options=one))
        await rig.durable(execution_id, "step_started", count=2)
        asking.set()
        await rig.durable(execution_id, "step_retrying")
        rig.clock.advance(2)
        await turns()
        assert about(await rig.events(execution_id), "a") == ["step_started", "input_requested", "step_retrying"]
        gates["b"].set()
        await rig.durable(execution_id, "step_started", count=3)
        gates["a"].set()
        assert state_of(await rig.ended(execution_id)) == "COMPLETED"


async def test_the_time_to_answer_is_not_the_steps():
    """A step's time limit stands still while it waits for an answer, and for a slot afterwards, and goes on then."""
    blocker = asyncio.Event()

    async def op(step) -> None:
        await step.ask("What?")
        await asyncio.Event().wait()

    app = app_of(op, timeout=10)

    @app.operation()
    async def block() -> None:
        await blocker.wait()

    async with Rig(app) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(step("a", "op"), step("b", "block"), options=one))
        await rig.durable(execution_id, "step_started", count=2)
        rig.clock.advance(3600)
        await turns()
        await answer(rig, execution_id, 1)
        rig.clock.advance(3600)
        await turns()
        blocker.set()
        await rig.durable(execution_id, "step_completed")
        await turns()
        rig.clock.advance(9.9)
        await turns()
        assert rig.engine.running
        rig.clock.advance(0.2)
        events = await rig.ended(execution_id)
    assert failure_of(events, "a") == ("TIMEOUT", "the attempt took longer than 10 s")


async def test_the_time_of_the_execution_goes_on():
    """An execution's time limit counts while a step waits, and ends it."""

    async def op(step) -> None:
        await step.ask("What?")

    async with Rig(app_of(op)) as rig:
        options = ExecutionOptions(time_limit=Duration(seconds=10))
        execution_id = await rig.start(request(step("a", "op"), options=options))
        await asked(rig, execution_id)
        rig.clock.advance(11)
        events = await rig.ended(execution_id)
    assert failure_of(events)[0] == "TIME_LIMIT"
    assert about(events, "a") == ["step_started", "input_requested", "step_cancelled"]


# -- steering


async def test_a_cancel_ends_what_waits():
    """A step that waits is cancelled like any other; its question is closed, and what it asks then ends with it."""
    last: list[BaseException] = []

    async def op(step) -> None:
        try:
            await step.ask("What?")
        finally:
            try:
                await step.ask("And now?")
            except BaseException as error:
                last.append(error)
                raise

    async with Rig(app_of(op), cancel_grace=5) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("b", "op", depends_on=["a"])))
        question = await asked(rig, execution_id)
        await rig.engine.cancel(execution_id, actor="", reason="")
        await asked(rig, execution_id, count=2)
        with pytest.raises(InputNotRequested):
            await answer(rig, execution_id, 1, to=question.input_id)
        rig.clock.advance(6)
        events = await rig.ended(execution_id)
        await until(lambda: last, "the operation ends")
    well_formed(events)
    assert state_of(events) == "CANCELLED"
    assert received(events) == []
    assert about(events, "a")[-1] == "step_cancelled"
    assert isinstance(last[0], StepEnded)


async def test_an_answer_in_a_pause():
    """A question can be answered while the execution is paused; its step goes on after the pause."""
    went = asyncio.Event()

    async def op(step) -> Any:
        answer = await step.ask("What?")
        went.set()
        return answer

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        await rig.engine.pause(execution_id, actor="", reason="")
        await answer(rig, execution_id, 1)
        await turns()
        assert not went.is_set()
        await rig.engine.resume(execution_id, actor="", reason="")
        assert output(await rig.ended(execution_id)) == 1


async def test_what_a_waiting_step_says_leaves_it_waiting():
    """Progress, content and checkpoints of another task of a step that waits are recorded, and it stays WAITING."""
    go = asyncio.Event()

    async def op(step) -> Any:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(step.ask("What?"))
            await go.wait()
            await step.progress(50)
            await step.save("half")
            await step.content("text")
        return task.result()

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        go.set()
        said = await rig.durable(execution_id, "content")
        assert said.step_state == WAITING
        await answer(rig, execution_id, 1)
        events = await rig.ended(execution_id)
    assert {event.step_state for event in events[2:6]} == {WAITING}
    assert events[3].progress.percentage == 50


# -- tasks and threads


async def test_questions_of_several_tasks_are_asked_one_after_the_other():
    """A step asks one question at a time: that of a second task comes when the first one has its answer."""

    async def op(step) -> Any:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step.ask(f"Question {i}?")) for i in range(3)]
        return [task.result() for task in tasks]

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        for number in range(3):
            question = await asked(rig, execution_id, count=number + 1)
            assert question.prompt == f"Question {number}?"
            await turns()
            assert kinds(await rig.events(execution_id)).count("input_requested") == number + 1
            await answer(rig, execution_id, number)
        assert output(await rig.ended(execution_id)) == [0, 1, 2]


async def test_an_operation_that_waits_no_longer_withdraws_its_question():
    """A question whose asking is cancelled by the operation itself is closed without an answer; the step goes on, in a
    slot, and may ask the same again, which is another question.
    """
    stop = asyncio.Event()

    async def op(step) -> Any:
        task = asyncio.create_task(step.ask("What?", expires_in=60, default="none"))
        await stop.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return await step.ask("What?")

    async with Rig(app_of(op)) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        question = await asked(rig, execution_id)
        stop.set()
        again = await asked(rig, execution_id, count=2)
        assert again.input_id != question.input_id
        with pytest.raises(InputNotRequested, match="or it asks no more"):
            await answer(rig, execution_id, 1, to=question.input_id)
        await answer(rig, execution_id, 2)
        events = await rig.ended(execution_id)
    assert output(events) == 2
    assert received(events) == [("-", True), (2, False)]
    withdrawn = of_kind(events, "input_received")[0]
    assert (withdrawn.message, withdrawn.step_state) == ("No longer asked", StepState.STEP_STATE_RUNNING)


async def test_an_operation_that_waits_no_longer_gets_a_slot_first():
    """A step whose operation stops waiting goes on when there is a slot for it, as one that was answered."""
    stop, block, went = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def op(step) -> None:
        if step.id == "b":
            await block.wait()
            return
        task = asyncio.create_task(step.ask("What?"))
        await stop.wait()
        task.cancel()
        await asyncio.wait({task})
        went.set()

    async with Rig(app_of(op)) as rig:
        one = ExecutionOptions(max_parallel_steps=1)
        execution_id = await rig.start(request(step("a", "op"), step("b", "op"), options=one))
        await rig.durable(execution_id, "step_started", count=2)
        stop.set()
        await rig.durable(execution_id, "input_received")
        await turns()
        assert not went.is_set()
        block.set()
        assert state_of(await rig.ended(execution_id)) == "COMPLETED"


async def test_an_operation_may_end_while_a_task_of_it_asks():
    """A step that completes while it waits is completed; its question is closed, and who asked gets StepEnded."""
    go = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def op(step) -> str:
        tasks.append(asyncio.create_task(step.ask("What?")))
        tasks.append(asyncio.create_task(step.ask("And that?")))
        await go.wait()
        return "done"

    app = app_of(op)
    hold = asyncio.Event()

    @app.operation()
    async def after() -> None:
        await hold.wait()

    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("b", "after", depends_on=["a"])))
        question = await asked(rig, execution_id)
        go.set()
        await rig.durable(execution_id, "step_started", count=2)
        with pytest.raises(InputNotRequested):
            await answer(rig, execution_id, 1, to=question.input_id)
        hold.set()
        events = await rig.ended(execution_id)
        for task in tasks:
            with pytest.raises(StepEnded):
                await task
    assert about(events, "a") == ["step_started", "input_requested", "step_completed"]


async def test_an_operation_may_end_just_when_a_task_of_it_is_answered():
    """Who asked gets StepEnded and no answer when the step ends before the answer is durable."""
    journal = HeldJournal()
    go = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def op(step) -> str:
        tasks.append(asyncio.create_task(step.ask("What?")))
        await go.wait()
        return "done"

    async with Rig(app_of(op), journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        journal.hold()
        told = asyncio.create_task(answer(rig, execution_id, 1))
        await turns()
        go.set()
        await turns()
        journal.release()
        await told
        await rig.ended(execution_id)
        with pytest.raises(StepEnded):
            await tasks[0]


async def test_a_plain_function_asks_too():
    """An operation in a thread asks and blocks; `current_step()` below it does, too."""

    def op(step) -> Any:
        return [step.ask("What?", choices=["yes"]), deeper()]

    def deeper() -> Any:
        step: Any = current_step()
        return step.ask("More?", schema={"type": "integer"})

    app = App("asking")
    app.operation("op")(op)
    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        await answer(rig, execution_id, "yes")
        await asked(rig, execution_id, count=2)
        await answer(rig, execution_id, 7)
        assert output(await rig.ended(execution_id)) == ["yes", 7]


@pytest.mark.parametrize("end", ["cancel", "drain"])
async def test_a_plain_function_that_waits_is_ended(end):
    """A thread that waits for an answer gets StepEnded when its step is cancelled, and when the server drains."""
    ended: list[BaseException] = []

    def op(step) -> Any:
        try:
            return step.ask("What?")
        except BaseException as error:
            ended.append(error)
            raise

    app = App("asking")
    app.operation("op")(op)
    async with Rig(app, leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        if end == "cancel":
            await rig.engine.cancel(execution_id, actor="", reason="")
            assert about(await rig.ended(execution_id), "a")[-1] == "step_cancelled"
        else:
            async with asyncio.timeout(HANGS / 2):
                await rig.engine.drain(HANGS)
            found = about(await rig.events(execution_id), "a")
            assert found == ["step_started", "input_requested", "step_retrying"]
        await until(lambda: ended, "the thread ends")
    assert isinstance(ended[0], StepEnded)
