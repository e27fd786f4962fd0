"""Checkpoints: what a step saves in one attempt, the next one goes on from."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from stepwire.errors import InputInvalid, JournalUnavailable, LimitSize
from stepwire.v1 import Retry
from stepwire.values import to_python
from stepwire_server import App, StepEnded, current_step

from .rig import (
    HeldJournal,
    Rig,
    about,
    failure_of,
    folded,
    kinds,
    of_kind,
    output,
    request,
    step,
    turns,
    until,
    view,
    well_formed,
)

AGAIN = Retry(attempts=3, initial_delay=Duration())


async def run(operation: Any, **rules: Any) -> list[Any]:
    """Returns the events of an execution of one step that calls the operation."""
    app = App("saving")
    app.operation("op", **rules)(operation)
    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        ended = asyncio.create_task(rig.ended(execution_id))
        while not ended.done():
            rig.clock.advance(0)
            await turns(1)
        events = ended.result()
        assert view(folded(await rig.engine.get(execution_id), events)) == view(await rig.fold(execution_id))
    well_formed(events)
    return events


async def test_the_next_attempt_has_what_was_saved_last():
    """A later attempt finds the newest saved state, whichever attempt saved it; the first one finds None."""
    seen: list[Any] = []

    async def op(step):
        seen.append(step.saved)
        if step.attempt == 1:
            await step.save({"page": 1})
            await step.save({"page": 2, "of": [1.5, None, "x"]})
        if step.attempt < 3:
            raise ValueError("not yet")
        return step.saved

    events = await run(op, retry=AGAIN)
    assert seen == [None, {"page": 2, "of": [1.5, None, "x"]}, {"page": 2, "of": [1.5, None, "x"]}]
    assert output(events) == {"page": 2, "of": [1.5, None, "x"]}
    assert [to_python(event.step_saved.state)["page"] for event in of_kind(events, "step_saved")] == [1, 2]


async def test_a_save_is_durable_when_it_returns():
    """`save` returns only when the journal has its event; other events do not wait for that."""
    app = App("saving")
    returned: list[str] = []

    @app.operation()
    async def op(step) -> None:
        journal.hold()
        await step.progress(10)
        returned.append("progress")
        await step.save(1)
        returned.append("save")

    journal = HeldJournal()
    await journal.open()
    async with Rig(app, journal=journal) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await until(lambda: returned)
        await turns()
        assert returned == ["progress"]
        journal.release()
        events = await rig.ended(execution_id)
    assert returned == ["progress", "save"]
    well_formed(events)


async def test_a_saved_state_outlives_its_process():
    """What was saved before a crash is there for the attempt after it; what was not durable is not."""
    seen: list[Any] = []
    held = asyncio.Event()
    journal = HeldJournal()
    await journal.open()

    def app() -> App:
        made = App("saving")

        @made.operation()
        async def op(step) -> Any:
            seen.append(step.saved)
            if step.attempt == 1:
                await step.save("durable")
                journal.hold()
                held.set()
                await step.save("lost")
            return step.saved

        return made

    async with Rig(app(), journal=journal, leaves_tasks=True) as first:
        execution_id = await first.start(request(step("a", "op")))
        await held.wait()
        await turns()
        # The next owner takes the execution over while the first one still waits for its append.
        journal.fails = [None]
        async with Rig(app(), journal=journal, leaves_tasks=True) as second:
            taking = asyncio.create_task(second.engine.recover())
            await taking
            journal.release()
            events = await second.ended(execution_id)
    assert seen == [None, "durable"]
    assert output(events) == "durable"
    assert about(events, "a") == ["step_started", "step_saved", "step_retrying", "step_started", "step_completed"]


async def test_a_step_that_can_t_save_ends():
    """Where the journal takes no more events from here, the operation is cancelled, and a save that a task or a thread
    of it waits for raises StepEnded.
    """
    app = App("saving")
    raised: list[BaseException] = []

    @app.operation()
    async def op(step) -> None:
        journal.fails = [None, JournalUnavailable("gone")]
        await step.progress(1)
        await turns()
        saving = asyncio.create_task(step.save(1))
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            raised.append(error)
            (lost,) = await asyncio.gather(saving, return_exceptions=True)
            raised.append(lost)
            raise

    journal = HeldJournal()
    await journal.open()
    async with Rig(app, journal=journal, leaves_tasks=True) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await until(lambda: len(raised) == 2 and not rig.engine.running)
        assert "step_saved" not in kinds(await rig.events(execution_id))
    assert isinstance(raised[0], asyncio.CancelledError)
    assert isinstance(raised[1], StepEnded)
    assert "takes no events" in str(raised[1])


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ({"x": object()}, InputInvalid),
        (float("nan"), InputInvalid),
        (2**60, InputInvalid),
        ("x" * (1 << 20), LimitSize),
    ],
    ids=["object", "nan", "large number", "large"],
)
async def test_what_can_t_be_saved_is_refused(state, error):
    """A state that is not JSON-like or too large is refused before anything is recorded, and the step may go on."""

    async def op(step):
        with pytest.raises(error):
            await step.save(state)
        assert step.saved is None
        return "done"

    events = await run(op)
    assert output(events) == "done"
    assert of_kind(events, "step_saved") == []


async def test_a_whole_number_stays_one():
    """A count that was saved can be counted on from: it comes back as an int."""

    async def op(step):
        await step.save(3)
        return list(range(step.saved or 0, 5))

    assert output(await run(op)) == [3, 4]


async def test_each_look_at_the_saved_state_is_a_copy():
    """Whoever changes what `saved` gave does not change what the next look gives."""

    async def op(step):
        await step.save({"list": [1]})
        step.saved["list"].append(2)
        return step.saved

    assert output(await run(op)) == {"list": [1]}


async def test_a_plain_function_saves():
    """In a thread, `save` blocks until the state is durable, and the next attempt has it."""

    def op(step):
        here = current_step()
        if here.attempt == 1:
            assert here.saved is None
            here.save([1, 2])
            raise ValueError("not yet")
        return here.saved

    app = App("saving")
    app.operation("op", retry=AGAIN)(op)
    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        await until(lambda: rig.clock.pending or not rig.engine.running)
        rig.clock.advance(0)
        events = await rig.ended(execution_id)
    assert output(events) == [1, 2]


async def test_nothing_is_kept_of_a_step_that_has_ended():
    """The fold lets go of a saved state when its step ends: no attempt will ask for it."""

    async def op(step):
        await step.save("x" * 100_000)
        raise ValueError("no")

    app = App("saving")
    app.operation("op")(op)
    async with Rig(app) as rig:
        execution_id = await rig.start(request(step("a", "op")))
        events = await rig.ended(execution_id)
        fold = await rig.fold(execution_id)
    assert failure_of(events, "a")[0] == "OPERATION_FAILED"
    assert fold.steps[0].saved is None
