"""What was asked outlives the attempt that asked it, and the process: later ones find the question and its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import (
    InputInvalid,
)
from stepwire.v1 import Retry, StepState

from .asking import answer, app_of, asked, crash, received
from .rig import (
    HANGS,
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
    view,
    well_formed,
)

# -- attempts


async def test_another_attempt_gets_the_answer_that_was_given():
    """An attempt that asks what an earlier one asked is given that answer at once; what is new is asked."""
    seen: dict[str, list[Any]] = {}

    async def op(step) -> None:
        answers = [await step.ask("First?"), await step.ask("Same?"), await step.ask("Same?")]
        seen[f"{step.id}, attempt {step.attempt}"] = answers
        if step.attempt == 1:
            raise ValueError("again")
        answers.append(await step.ask("More?"))

    app = app_of(op, retry=Retry(attempts=2, initial_delay=Duration(seconds=1)))
    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("b", "op")))
        for number in range(1, 4):
            await asked(rig, execution_id, count=2 * number)
            for event in of_kind(await rig.events(execution_id), "input_requested")[-2:]:
                await answer(rig, execution_id, f"{event.step_id}{number}", to=event.input_requested.input_id)
        await rig.durable(execution_id, "step_retrying", count=2)
        rig.clock.advance(5)
        await asked(rig, execution_id, count=8)
        assert seen == {
            f"{name}, attempt {attempt}": [f"{name}{number}" for number in (1, 2, 3)]
            for name in "ab"
            for attempt in (1, 2)
        }
        ids = [event.input_requested.input_id for event in of_kind(await rig.events(execution_id), "input_requested")]
        for input_id in ids[-2:]:
            await answer(rig, execution_id, "more", to=input_id)
        events = await rig.ended(execution_id)
    assert len(set(ids)) == 8
    assert [seen[f"{name}, attempt 2"][3] for name in "ab"] == ["more", "more"]
    assert state_of(events) == "COMPLETED"


async def test_a_key_makes_two_questions_one():
    """What has the same key is the same question, whatever its words, also within one attempt."""

    async def op(step) -> Any:
        first = await step.ask("Go on?", key="go") if step.attempt == 1 else None
        again = await step.ask(f"Really, in attempt {step.attempt}?", key="go")
        other = await step.ask("Go on?", key="other")
        without = await step.ask("Go on?")
        if step.attempt == 1:
            assert first == again
            raise ValueError("again")
        return [again, other, without]

    async with Rig(app_of(op, retry=Retry(attempts=2, initial_delay=Duration()))) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        for number in (1, 2, 3):
            await asked(rig, execution_id, count=number)
            await answer(rig, execution_id, number)
        await rig.durable(execution_id, "step_retrying")
        rig.clock.advance(1)
        events = await rig.ended(execution_id)
    assert output(events) == [1, 2, 3]
    assert kinds(events).count("input_requested") == 3


async def test_an_answer_that_no_longer_fits_is_asked_for_again():
    """An attempt that asks for something else than the one before under the same key asks again."""

    async def op(step) -> Any:
        choices = ["yes", "no"] if step.attempt == 1 else ["all", "none"]
        answer = await step.ask("How many?", choices=choices, key="many")
        if step.attempt == 1:
            raise ValueError("again")
        return answer

    async with Rig(app_of(op, retry=Retry(attempts=2, initial_delay=Duration(seconds=1)))) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        first = await asked(rig, execution_id)
        await answer(rig, execution_id, "yes")
        await rig.durable(execution_id, "step_retrying")
        rig.clock.advance(5)
        second = await asked(rig, execution_id, count=2)
        assert second.input_id == first.input_id
        with pytest.raises(InputInvalid):
            await answer(rig, execution_id, "yes")
        await answer(rig, execution_id, "all")
        events = await rig.ended(execution_id)
    assert output(events) == "all"
    assert received(events) == [("yes", False), ("all", False)]


async def test_an_answer_between_two_attempts():
    """A question stays open when its attempt fails: an answer that comes before the next one is what that one gets."""
    fail = asyncio.Event()

    async def op(step) -> Any:
        task = asyncio.create_task(step.ask("What?"))
        if step.attempt == 1:
            await fail.wait()
            task.add_done_callback(lambda task: task.exception())
            raise ValueError("again")
        return await task

    async with Rig(app_of(op, retry=Retry(attempts=2, initial_delay=Duration(seconds=1)))) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await asked(rig, execution_id)
        fail.set()
        await rig.durable(execution_id, "step_retrying")
        await answer(rig, execution_id, 1)
        rig.clock.advance(5)
        events = await rig.ended(execution_id)
    well_formed(events)
    assert output(events) == 1
    (given,) = of_kind(events, "input_received")
    assert (given.step_state, given.attempt) == (StepState.STEP_STATE_STARTING, 1)
    assert len(of_kind(events, "input_requested")) == 1


# -- crashes


@pytest.mark.parametrize("when", ["before it asks again", "after it has asked again"])
async def test_a_question_outlives_its_process(when):
    """A step that waits when its process ends asks again under the same id; an answer counts as soon as the next
    process serves, asked again or not; what is live is what the events give.
    """
    go = asyncio.Event()
    go.set()

    async def op(step) -> Any:
        await go.wait()
        return await step.ask("What?", choices=["yes", "no"])

    async with Rig(app_of(op), leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        question = await asked(first, execution_id)
        if when.startswith("before"):
            go.clear()
        async with Rig(app_of(op), journal=first.journal, leaves_tasks=True, recover=True) as second:
            await second.durable(execution_id, "step_started", count=2)
            if when.startswith("after"):
                assert await asked(second, execution_id, count=2) == question
            live = second.engine._live[execution_id].fold
            assert view(live) == view(await second.fold(execution_id))
            assert list(live.questions.open) == [question.input_id]
            with pytest.raises(InputInvalid):
                await answer(second, execution_id, "maybe")
            await answer(second, execution_id, "no")
            go.set()
            events = await second.ended(execution_id)
            assert view(live) == view(await second.fold(execution_id))
    well_formed(events)
    assert output(events) == "no"
    assert kinds(events).count("input_requested") == 1 + when.startswith("after")


async def test_an_answer_outlives_its_process():
    """What was answered in a process that is gone is not asked again."""
    hold = asyncio.Event()

    async def op(step) -> Any:
        answer = await step.ask("What?")
        await hold.wait()
        return answer

    async with Rig(app_of(op), leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await asked(first, execution_id)
        await answer(first, execution_id, {"n": [1]})
        async with Rig(app_of(op), journal=first.journal, leaves_tasks=True, recover=True) as second:
            hold.set()
            events = await second.ended(execution_id)
    assert output(events) == {"n": [1]}
    assert kinds(events).count("input_requested") == 1


async def test_a_drain_lets_go_of_what_waits():
    """A server that drains does not wait for people; the next one asks again and goes on."""

    async def op(step) -> Any:
        return await step.ask("What?")

    async with Rig(app_of(op), leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await asked(first, execution_id)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await first.engine.drain(HANGS)
        assert loop.time() - began < HANGS / 2
        assert first.clock.pending == []
        async with Rig(app_of(op), journal=first.journal, recover=True) as second:
            await asked(second, execution_id, count=2)
            await answer(second, execution_id, 1)
            events = await second.ended(execution_id)
    assert output(events) == 1
    assert received(events) == [(1, False)]


async def test_a_step_that_asks_during_a_drain_is_let_go_of():
    """A running step that asks while the server drains is let go of there, with its question asked."""
    go = asyncio.Event()

    async def op(step) -> Any:
        await go.wait()
        return await step.ask("What?")

    async with Rig(app_of(op), leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await first.durable(execution_id, "step_started")
        draining = asyncio.create_task(first.engine.drain(HANGS))
        await turns()
        go.set()
        async with asyncio.timeout(HANGS / 2):
            await draining
        assert about(await first.events(execution_id), "a") == ["step_started", "input_requested", "step_retrying"]
        async with Rig(app_of(op), journal=first.journal, recover=True) as second:
            await answer(second, execution_id, 1)
            assert output(await second.ended(execution_id)) == 1


async def test_a_crash_while_waiting_loses_nothing():
    """However often a process ends while a step waits, the step is not given up; its retries are left to it, too."""

    async def op(step) -> Any:
        answer = await step.ask("What?")
        if answer == "fail" and step.attempt < 9:
            raise ValueError("again")
        return step.attempt

    app = app_of(op, retry=Retry(attempts=3, initial_delay=Duration()))
    async with Rig(app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await asked(first, execution_id)
        last = await crash(app, first, execution_id, 6, "input_requested", 1)
        assert view(last.engine._live[execution_id].fold) == view(await last.fold(execution_id))
        await answer(last, execution_id, "fail")
        await last.durable(execution_id, "step_retrying", count=7)
        last.clock.advance(1)
        await last.durable(execution_id, "step_retrying", count=8)
        last.clock.advance(1)
        events = await last.ended(execution_id)
    assert output(events) == 9


async def test_a_step_that_loses_its_work_again_and_again_is_given_up():
    """A step whose process ends four times in a row while it works fails with RECOVERY_LIMIT; an answer, or a
    checkpoint that is new, begins the count anew, and the same checkpoint does not.
    """
    hold = asyncio.Event()

    async def op(step) -> Any:
        if step.attempt == 3:
            await step.ask("What?")
        if step.attempt in (6, 7, 8):
            await step.save("here")
        await hold.wait()

    app = app_of(op)
    async with Rig(app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await first.durable(execution_id, "step_started")
        rig = await crash(app, first, execution_id, 2, "step_started", 1)
        await asked(rig, execution_id)
        await answer(rig, execution_id, 1)
        rig = await crash(app, rig, execution_id, 3, "step_started", 3)
        await rig.durable(execution_id, "step_saved")
        rig = await crash(app, rig, execution_id, 3, "step_started", 6)
        async with Rig(app, journal=rig.journal, leaves_tasks=True, recover=True) as last:
            events = await last.ended(execution_id)
    assert failure_of(events, "a") == ("RECOVERY_LIMIT", "the process ended while the step ran, 4 times")
    assert kinds(events).count("step_started") == 9


async def test_what_runs_at_most_once_is_not_run_again_to_ask():
    """A step that runs at most once and waits when its process ends fails with OUTCOME_UNKNOWN, as any other."""

    async def op(step) -> Any:
        return await step.ask("What?")

    app = app_of(op, at_most_once=True)
    async with Rig(app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await asked(first, execution_id)
        async with Rig(app, journal=first.journal, leaves_tasks=True, recover=True) as second:
            events = await second.ended(execution_id)
    assert failure_of(events, "a")[0] == "OUTCOME_UNKNOWN"


async def test_crashes_while_waiting_are_not_counted_with_others():
    """Processes that end while a step waits do not count among those that end while it works, before or after."""
    hold = asyncio.Event()

    async def op(step) -> None:
        if 1 < step.attempt < 6:
            await step.ask("What?")
        await hold.wait()

    app = app_of(op)
    async with Rig(app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await first.durable(execution_id, "step_started")
        rig = await crash(app, first, execution_id, 4, "input_requested", 0)
        rig = await crash(app, rig, execution_id, 3, "step_started", 5)
        async with Rig(app, journal=rig.journal, leaves_tasks=True, recover=True) as last:
            events = await last.ended(execution_id)
    assert failure_of(events, "a") == ("RECOVERY_LIMIT", "the process ended while the step ran, 4 times")
    assert kinds(events).count("step_started") == 8


async def test_a_step_that_waits_is_not_given_up_for_what_it_lost_before():
    """A process that ends while a step waits is not the one too many, whatever was lost before."""
    hold = asyncio.Event()

    async def op(step) -> Any:
        if step.attempt < 4:
            await hold.wait()
        return await step.ask("What?")

    app = app_of(op)
    async with Rig(app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await first.durable(execution_id, "step_started")
        rig = await crash(app, first, execution_id, 2, "step_started", 1)
        rig = await crash(app, rig, execution_id, 3, "input_requested", 0)
        await answer(rig, execution_id, 1)
        assert output(await rig.ended(execution_id)) == 1


@pytest.mark.parametrize("at_once", [1, 8])
async def test_a_step_that_waits_does_not_pay_for_another_that_kills_the_server(at_once):
    """A step that ends its process again and again is given up; the one that waits beside it, in a slot or without, is
    charged with none of that, and goes on with its answer.
    """
    hold = asyncio.Event()

    async def op(step) -> Any:
        if step.id == "killer":
            await hold.wait()
        return await step.ask("What?")

    app = app_of(op)
    async with Rig(app, leaves_tasks=True, max_parallel_steps=at_once) as rig:
        execution_id = await rig.start(request(step("a", "op"), step("killer", "op")))
        for process in range(1, 5):
            await asked(rig, execution_id, count=process)
            await rig.durable(execution_id, "step_started", count=2 * process)
            rig = Rig(app, journal=rig.journal, leaves_tasks=True, recover=True, max_parallel_steps=at_once)
            await rig.__aenter__()
        await asked(rig, execution_id, count=5)
        assert failure_of(await rig.events(execution_id), "killer")[0] == "RECOVERY_LIMIT"
        waiting, _ = (await rig.fold(execution_id)).steps
        assert (waiting.state, waiting.recoveries, waiting.lost) == (StepState.STEP_STATE_WAITING, 4, 0)
        await answer(rig, execution_id, 1)
        assert output(await rig.ended(execution_id), "a") == 1


async def test_the_end_of_the_time_is_no_progress():
    """A default that is taken after the time does not begin the count of lost processes anew: it could for ever."""
    hold = asyncio.Event()

    async def op(step) -> Any:
        await step.ask(f"What, in attempt {step.attempt}?", expires_in=1, default=0)
        await hold.wait()

    app = app_of(op)
    async with Rig(app, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        rig = first
        for attempt in range(1, 5):
            if attempt > 1:
                rig = await crash(app, rig, execution_id, 1, "input_requested", attempt - 1)
            await asked(rig, execution_id, count=attempt)
            rig.clock.advance(100)
            await rig.durable(execution_id, "input_received", count=attempt)
        async with Rig(app, journal=rig.journal, leaves_tasks=True, recover=True) as last:
            events = await last.ended(execution_id)
    assert failure_of(events, "a")[0] == "RECOVERY_LIMIT"
    assert kinds(events).count("step_started") == 4
